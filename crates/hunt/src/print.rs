//! How answers look.

mod csv;
mod json;
mod table;
mod vertical;
pub(crate) mod visible;

use std::{
    fmt,
    io::{self, Write},
    str::FromStr,
    time::Duration,
};

use luarm_store::{Cell, RowSink};

use crate::HuntError;

/// How answers look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Format {
    /// Boxes, as in the seed.
    #[default]
    Table,
    /// One line per value, as after `\G`.
    Vertical,
    /// Comma-separated values (RFC 4180, but lines end with a line feed alone), names first. NULL is nothing, an empty text `""`.
    Csv,
    /// An array of objects.
    Json,
    /// An object per line.
    Jsonl,
}

impl Format {
    /// Every format with its name.
    pub const ALL: [(&'static str, Format); 5] = [
        ("table", Format::Table),
        ("vertical", Format::Vertical),
        ("csv", Format::Csv),
        ("json", Format::Json),
        ("jsonl", Format::Jsonl),
    ];
}

impl FromStr for Format {
    type Err = HuntError;

    fn from_str(name: &str) -> Result<Self, HuntError> {
        let found = Self::ALL.iter().find(|(n, _)| *n == name);
        found.map(|(_, format)| *format).ok_or_else(|| HuntError::NoFormat { name: name.to_owned() })
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let found = Self::ALL.iter().find(|(_, format)| format == self);
        f.write_str(found.map_or("", |(name, _)| name))
    }
}

/// Writes one answer.
pub(crate) trait Printer: RowSink {
    /// Comes once, after the last row.
    fn finish(&mut self, rows: u64, elapsed: Duration) -> io::Result<()>;
}

/// The printer of a format. On a terminal no captured byte may act on it.
pub(crate) fn printer<'w>(format: Format, out: &'w mut dyn Write, terminal: bool) -> Box<dyn Printer + 'w> {
    match format {
        Format::Table => Box::new(table::Table::new(out)),
        Format::Vertical => Box::new(vertical::Vertical::new(out)),
        Format::Csv => Box::new(csv::Csv::new(out, terminal)),
        Format::Json => Box::new(json::Json::array(out)),
        Format::Jsonl => Box::new(json::Json::lines(out)),
    }
}

/// The line beneath an answer.
fn write_summary(out: &mut dyn Write, rows: u64, elapsed: Duration) -> io::Result<()> {
    let seconds = elapsed.as_secs_f64();
    match rows {
        0 => writeln!(out, "Empty set ({seconds:.2} sec)"),
        1 => writeln!(out, "1 row in set ({seconds:.2} sec)"),
        _ => writeln!(out, "{rows} rows in set ({seconds:.2} sec)"),
    }
}

/// A cell as people read it, on one line.
fn write_visible(out: &mut String, cell: &Cell<'_>) {
    match cell {
        Cell::Null => out.push_str("NULL"),
        Cell::Text(text) => visible::push(out, text),
        other => write_plain(out, other),
    }
}

/// A cell as programs read it. NULL is nothing, bytes are hexadecimal digits after `0x`.
fn write_plain(out: &mut String, cell: &Cell<'_>) {
    use fmt::Write as _;
    let _ = match cell {
        Cell::Null => Ok(()),
        Cell::Integer(n) => write!(out, "{n}"),
        // With a point or an exponent always, so that it is no integer.
        Cell::Real(x) => write!(out, "{x:?}"),
        Cell::Text(text) => out.write_str(text),
        Cell::Blob(bytes) => {
            out.push_str("0x");
            bytes.iter().try_for_each(|b| write!(out, "{b:02X}"))
        }
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_read_back_their_names() {
        for (name, format) in Format::ALL {
            assert_eq!(name.parse::<Format>().unwrap(), format);
            assert_eq!(format.to_string(), name);
        }
        assert!("xml".parse::<Format>().unwrap_err().to_string().contains("jsonl"));
    }
}
