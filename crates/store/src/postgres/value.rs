//! Values out of PostgreSQL: binary for luarm itself, text for those who ask.

use std::error::Error;

use luarm_schema::{NUMBERS_EPOCH, Time};
use tokio_postgres::types::{FromSql, Type};

use crate::{Cell, remote::Datum};

/// PostgreSQL counts from 2000-01-01.
const EPOCH: i64 = NUMBERS_EPOCH - 7305 * 86_400_000_000;

impl FromSql<'_> for Datum {
    fn from_sql(kind: &Type, raw: &[u8]) -> Result<Self, Box<dyn Error + Sync + Send>> {
        Ok(match *kind {
            Type::BOOL => Datum::Int(bool::from_sql(kind, raw)?.into()),
            Type::INT2 => Datum::Int(i16::from_sql(kind, raw)?.into()),
            Type::INT4 => Datum::Int(i32::from_sql(kind, raw)?.into()),
            Type::INT8 => Datum::Int(i64::from_sql(kind, raw)?),
            Type::FLOAT8 => Datum::Real(f64::from_sql(kind, raw)?),
            Type::TIMESTAMP => {
                let raw: [u8; 8] = raw.try_into()?;
                Datum::Time(Time(i64::from_be_bytes(raw).saturating_add(EPOCH)))
            }
            _ => Datum::Text(String::from_utf8(raw.to_vec())?),
        })
    }

    fn from_sql_null(_: &Type) -> Result<Self, Box<dyn Error + Sync + Send>> {
        Ok(Datum::Null)
    }

    fn accepts(_: &Type) -> bool {
        true
    }
}

/// How the values of a column are shown.
pub(super) enum Kind {
    Text,
    Integer,
    Real,
    Decimal,
    Bool,
    Instant,
    Bytes,
}

impl Kind {
    pub(super) fn of(kind: &Type) -> Self {
        match *kind {
            Type::INT2 | Type::INT4 | Type::INT8 | Type::OID => Kind::Integer,
            Type::FLOAT4 | Type::FLOAT8 => Kind::Real,
            Type::NUMERIC => Kind::Decimal,
            Type::BOOL => Kind::Bool,
            Type::TIMESTAMP => Kind::Instant,
            Type::BYTEA => Kind::Bytes,
            _ => Kind::Text,
        }
    }

    /// Writes what the engine's own text is not: an instant with all six digits, bytes.
    pub(super) fn write(&self, text: Option<&str>, own: &mut Vec<u8>) {
        own.clear();
        match (self, text) {
            (Kind::Instant, Some(text)) => {
                own.extend_from_slice(text.as_bytes());
                // 2026-01-02 03:04:05.1 is short of five zeros; what is no such instant stays as it is.
                if own.len() == 19 {
                    own.push(b'.');
                }
                if (20..26).contains(&own.len()) && own[19] == b'.' {
                    own.resize(26, b'0');
                }
            }
            (Kind::Bytes, Some(text)) => {
                let digits = text.strip_prefix("\\x").unwrap_or_default().as_bytes();
                own.extend(digits.chunks_exact(2).filter_map(|pair| {
                    let pair = str::from_utf8(pair).ok()?;
                    u8::from_str_radix(pair, 16).ok()
                }));
            }
            _ => {}
        }
    }

    pub(super) fn cell<'a>(&self, text: Option<&'a str>, own: &'a [u8]) -> Cell<'a> {
        let Some(text) = text else {
            return Cell::Null;
        };
        match self {
            Kind::Text => Cell::Text(text),
            Kind::Integer => text.parse().map_or(Cell::Text(text), Cell::Integer),
            Kind::Real => match text.parse::<f64>() {
                Ok(x) if x.is_finite() => Cell::Real(x),
                _ => Cell::Text(text),
            },
            Kind::Decimal => crate::query::decimal(text),
            Kind::Bool => Cell::Integer((text == "t").into()),
            Kind::Instant => Cell::Text(str::from_utf8(own).unwrap_or(text)),
            Kind::Bytes => Cell::Blob(own),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_engines_text_becomes_what_the_other_engines_say() {
        let shown = |kind: Kind, text: &str| {
            let mut own = Vec::new();
            kind.write(Some(text), &mut own);
            format!("{:?}", kind.cell(Some(text), &own))
        };
        assert_eq!(shown(Kind::Instant, "2026-01-02 03:04:05"), "Text(\"2026-01-02 03:04:05.000000\")");
        assert_eq!(shown(Kind::Instant, "2026-01-02 03:04:05.1"), "Text(\"2026-01-02 03:04:05.100000\")");
        assert_eq!(shown(Kind::Instant, "infinity"), "Text(\"infinity\")");
        assert_eq!(shown(Kind::Bytes, "\\x00ff"), "Blob([0, 255])");
        assert_eq!(shown(Kind::Decimal, "12"), "Integer(12)");
        assert_eq!(shown(Kind::Decimal, "12.50"), "Real(12.5)");
        assert_eq!(shown(Kind::Decimal, "99999999999999999999"), "Text(\"99999999999999999999\")");
        assert_eq!(shown(Kind::Bool, "t"), "Integer(1)");
        assert_eq!(shown(Kind::Real, "NaN"), "Text(\"NaN\")");
        assert_eq!(EPOCH, 946_684_800_000_000);
    }
}
