//! Values as they pass from a row to a store: five kinds, each with one meaning in every dialect.

use std::fmt;

use jiff::{Timestamp, civil::DateTime, tz::TimeZone};

/// An instant: microseconds since 1970-01-01T00:00:00Z.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Time(pub i64);

/// A text that is not an instant in the form `YYYY-MM-DD HH:MM:SS.ffffff`.
#[derive(Debug)]
pub struct TimeError(String);

impl fmt::Display for TimeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "not a time of the form YYYY-MM-DD HH:MM:SS.ffffff: {:?}", self.0)
    }
}

impl std::error::Error for TimeError {}

impl Time {
    /// The wall clock's present instant.
    pub fn now() -> Self {
        Time(Timestamp::now().as_microsecond())
    }

    /// Reads what [`fmt::Display`] wrote.
    pub fn parse(text: &str) -> Result<Self, TimeError> {
        let wrong = || TimeError(text.to_owned());
        let civil: DateTime = text.parse().map_err(|_| wrong())?;
        let zoned = TimeZone::UTC.to_timestamp(civil).map_err(|_| wrong())?;
        Ok(Time(zoned.as_microsecond()))
    }

    /// Reads what [`Time::format`] wrote, and no other spelling of an instant.
    pub fn parse_exact(text: &[u8]) -> Option<Self> {
        let text: &[u8; 26] = text.try_into().ok()?;
        let marks = [(4, b'-'), (7, b'-'), (10, b' '), (13, b':'), (16, b':'), (19, b'.')];
        if marks.iter().any(|(at, mark)| text[*at] != *mark) {
            return None;
        }
        let number = |from: usize, to: usize| {
            text[from..to].iter().try_fold(0i64, |n, digit| match digit {
                b'0'..=b'9' => Some(10 * n + i64::from(digit - b'0')),
                _ => None,
            })
        };
        let (year, month, day) = (number(0, 4)?, number(5, 7)?, number(8, 10)?);
        let (hour, minute, second) = (number(11, 13)?, number(14, 16)?, number(17, 19)?);
        let is_leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
        let days = match month {
            2 => 28 + i64::from(is_leap),
            4 | 6 | 9 | 11 => 30,
            1..=12 => 31,
            _ => return None,
        };
        if year == 0 || !(1..=days).contains(&day) || hour > 23 || minute > 59 || second > 59 {
            return None;
        }
        // Years begin in March here, so that the day in question stands last.
        let (y, m) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
        let day = 365 * y + y / 4 - y / 100 + y / 400 + (153 * m + 2) / 5 + day - 1 - 719_468;
        let seconds = ((24 * day + hour) * 60 + minute) * 60 + second;
        Some(Time(1_000_000 * seconds + number(20, 26)?))
    }

    /// The first instant that every engine can hold: the year 1 begins.
    pub const FIRST: Time = Time(-62_135_596_800_000_000);
    /// The last one: the year 9999 ends in all time zones but those west of Greenwich.
    pub const LAST: Time = Time(253_402_207_199_999_999);

    /// The instant itself, or the nearest that every engine can hold.
    pub fn storable(self) -> Self {
        self.clamp(Time::FIRST, Time::LAST)
    }

    /// The instant as the 26 bytes `YYYY-MM-DD HH:MM:SS.ffffff` in UTC, [`Time::storable`] first.
    pub fn format(self) -> [u8; 26] {
        let civil = match Timestamp::from_microsecond(self.storable().0) {
            Ok(t) => TimeZone::UTC.to_datetime(t),
            Err(_) => DateTime::ZERO,
        };
        let mut out = *b"0000-00-00 00:00:00.000000";
        let mut digits = |from: usize, to: usize, mut n: u32| {
            for place in (from..to).rev() {
                out[place] = b'0' + (n % 10) as u8;
                n /= 10;
            }
        };
        digits(0, 4, civil.year().unsigned_abs().into());
        digits(5, 7, civil.month().unsigned_abs().into());
        digits(8, 10, civil.day().unsigned_abs().into());
        digits(11, 13, civil.hour().unsigned_abs().into());
        digits(14, 16, civil.minute().unsigned_abs().into());
        digits(17, 19, civil.second().unsigned_abs().into());
        digits(20, 26, civil.subsec_nanosecond().unsigned_abs() / 1000);
        out
    }
}

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(std::str::from_utf8(&self.format()).unwrap_or_default())
    }
}

/// A host name, compared without regard to trailing blanks (as the seed's queries expect of their engine).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct HostName(pub String);

/// A text that is one of few: what kind of thing a row is, how it began, how it ended.
pub type Word = std::borrow::Cow<'static, str>;

/// What a column holds; each dialect has one type for each kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A 64-bit signed integer.
    Big,
    /// A 32-bit signed integer.
    Int,
    /// A 16-bit signed integer (the derived parts of an instant).
    Small,
    /// A double.
    Real,
    /// Text of any length; bytes that are not UTF-8 are written as [`crate::escape`] says.
    Text,
    /// A [`HostName`].
    Name,
    /// A [`Time`].
    Time,
}

/// One value on its way into a store.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Value<'a> {
    /// SQL's NULL.
    Null,
    /// An integer of any width.
    Int(i64),
    /// A double.
    Real(f64),
    /// Text, names included.
    Text(&'a str),
    /// An instant.
    Time(Time),
}

/// What takes the values of a row in the order of its columns: a prepared statement, a COPY stream, a digest.
pub trait Sink {
    /// Takes the next value.
    fn put(&mut self, value: Value<'_>);
}

/// What gives the values of a stored row back, in the order of its columns.
pub trait Source {
    /// The next value; text and instants as text.
    fn take(&mut self) -> Value<'_>;
}

/// A Rust type that can stand in a table's declaration.
pub trait Field: Sized {
    /// The kind of its column.
    const KIND: Kind;
    /// Whether the column may be NULL.
    const NULL: bool = false;
    /// Its value.
    fn value(&self) -> Value<'_>;
    /// The field that has this value; `None` if none has.
    fn read(value: Value<'_>) -> Option<Self>;
}

fn text(value: Value<'_>) -> Option<&str> {
    match value {
        Value::Text(text) => Some(text),
        _ => None,
    }
}

macro_rules! integer_fields {
    ($($ty:ty => $kind:ident),*) => {$(
        impl Field for $ty {
            const KIND: Kind = Kind::$kind;
            fn value(&self) -> Value<'_> {
                Value::Int(i64::from(*self))
            }
            fn read(value: Value<'_>) -> Option<Self> {
                match value {
                    Value::Int(n) => n.try_into().ok(),
                    _ => None,
                }
            }
        }
    )*};
}

integer_fields!(u16 => Int, i32 => Int, u32 => Big, i64 => Big);

impl Field for u64 {
    const KIND: Kind = Kind::Big;
    fn value(&self) -> Value<'_> {
        Value::Int(i64::try_from(*self).unwrap_or(i64::MAX))
    }
    fn read(value: Value<'_>) -> Option<Self> {
        i64::read(value)?.try_into().ok()
    }
}

/// What is no number is NULL and minus zero is zero, because engines disagree about both.
impl Field for f64 {
    const KIND: Kind = Kind::Real;
    fn value(&self) -> Value<'_> {
        if self.is_finite() { Value::Real(*self + 0.0) } else { Value::Null }
    }
    fn read(value: Value<'_>) -> Option<Self> {
        match value {
            Value::Real(x) => Some(x),
            Value::Int(n) => Some(n as f64),
            _ => None,
        }
    }
}

impl Field for String {
    const KIND: Kind = Kind::Text;
    fn value(&self) -> Value<'_> {
        Value::Text(self)
    }
    fn read(value: Value<'_>) -> Option<Self> {
        text(value).map(str::to_owned)
    }
}

impl Field for std::sync::Arc<str> {
    const KIND: Kind = Kind::Text;
    fn value(&self) -> Value<'_> {
        Value::Text(self)
    }
    fn read(value: Value<'_>) -> Option<Self> {
        text(value).map(Into::into)
    }
}

impl Field for Word {
    const KIND: Kind = Kind::Text;
    fn value(&self) -> Value<'_> {
        Value::Text(self)
    }
    fn read(value: Value<'_>) -> Option<Self> {
        text(value).map(|text| Word::Owned(text.to_owned()))
    }
}

impl Field for HostName {
    const KIND: Kind = Kind::Name;
    fn value(&self) -> Value<'_> {
        Value::Text(&self.0)
    }
    fn read(value: Value<'_>) -> Option<Self> {
        text(value).map(|text| HostName(text.to_owned()))
    }
}

impl Field for Time {
    const KIND: Kind = Kind::Time;
    fn value(&self) -> Value<'_> {
        Value::Time(self.storable())
    }
    fn read(value: Value<'_>) -> Option<Self> {
        match value {
            Value::Time(time) => Some(time),
            other => Time::parse(text(other)?).ok(),
        }
    }
}

impl<T: Field> Field for Option<T> {
    const KIND: Kind = T::KIND;
    const NULL: bool = true;
    fn value(&self) -> Value<'_> {
        self.as_ref().map_or(Value::Null, Field::value)
    }
    fn read(value: Value<'_>) -> Option<Self> {
        if value == Value::Null { Some(None) } else { T::read(value).map(Some) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_is_written_as_utc_with_microseconds() {
        assert_eq!(Time(0).to_string(), "1970-01-01 00:00:00.000000");
        assert_eq!(Time(1_304_579_533_000_042).to_string(), "2011-05-05 07:12:13.000042");
        assert_eq!(Time(-1).to_string(), "1969-12-31 23:59:59.999999");
        assert_eq!(Time(i64::MIN).to_string(), "0001-01-01 00:00:00.000000");
        assert_eq!(Time(i64::MAX).to_string(), "9999-12-30 21:59:59.999999");
    }

    #[test]
    fn only_one_spelling_of_an_instant_is_exact() {
        for text in [
            "2026-11-23 10:00:00.5",
            "2026-11-23T10:00:00.500000",
            "2026-02-29 10:00:00.500000",
            "2026-11-31 10:00:00.500000",
            "2026-13-01 10:00:00.500000",
            "2026-11-23 24:00:00.000000",
            "2026-11-23 10:00:60.000000",
            "0000-11-23 10:00:00.000000",
            "2026-11-23 10:00:00.00000 ",
            "",
        ] {
            assert_eq!(Time::parse_exact(text.as_bytes()), None, "{text}");
        }
        assert!(Time::parse_exact(b"2024-02-29 23:59:59.999999").is_some());
    }

    proptest::proptest! {
        #[test]
        fn time_reads_back_what_it_wrote(us in Time::FIRST.0..=Time::LAST.0) {
            proptest::prop_assert_eq!(Time::parse(&Time(us).to_string()).unwrap(), Time(us));
            proptest::prop_assert_eq!(Time::parse_exact(&Time(us).format()), Some(Time(us)));
        }

        #[test]
        fn time_of_any_number_is_26_bytes(us: i64) {
            proptest::prop_assert!(Time::parse(&Time(us).to_string()).is_ok());
        }
    }
}
