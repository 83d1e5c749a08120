//! `LOAD DATA LOCAL INFILE` of MariaDB and MySQL: one line a row, values separated by tabs, a backslash before what would
//! be taken for a separator, `\N` for NULL.

use std::io::Write as _;

use super::{Encoding, LoadData};
use crate::{Column, Kind, TableDef, Value};

/// The encoding of [`LoadData`].
#[derive(Debug)]
pub enum LoadDataInfile {}

impl LoadData {
    /// The statement that loads the stream from a file, whose path has no backslash in it; a client with a handler for local files may
    /// stream under any name.
    ///
    /// With `LOCAL` the engine only *warns* of values that it cut and of keys that it passed over as doubled: after it, the number of
    /// records must be the number of rows and the number of warnings 0, or the transaction must not be committed.
    pub fn statement(table: &TableDef, file: &str) -> String {
        let columns: Vec<&str> = table.stored().map(|c| c.name).collect();
        statement(file, table.name, &columns.join(", "))
    }
}

pub(super) fn statement(file: &str, table: &str, columns: &str) -> String {
    // Separators in hexadecimal: what a backslash means in a string depends on the session's sql_mode.
    format!(
        "LOAD DATA LOCAL INFILE '{}' INTO TABLE {table} CHARACTER SET utf8mb4 FIELDS TERMINATED BY x'09' ENCLOSED BY '' ESCAPED BY x'5c' \
         LINES STARTING BY '' TERMINATED BY x'0a' ({columns})",
        file.replace('\'', "''"),
    )
}

impl Encoding for LoadDataInfile {
    const HEADER: &'static [u8] = b"";
    const TRAILER: &'static [u8] = b"";

    fn limit(_: &TableDef, column: &Column) -> usize {
        match column.kind {
            Kind::Name => 1024,
            _ => 0xff_ffff,
        }
    }

    fn begin_row(_: &mut Vec<u8>, _: usize) {}

    fn value(out: &mut Vec<u8>, index: usize, _: Kind, value: Value<'_>) {
        if index > 0 {
            out.push(b'\t');
        }
        // Writing to a Vec cannot fail.
        let _ = match value {
            Value::Null => out.write_all(b"\\N"),
            Value::Int(n) => write!(out, "{n}"),
            Value::Real(x) => write!(out, "{x:e}"),
            Value::Time(t) => out.write_all(&t.format()),
            Value::Text(s) => {
                text(out, s.as_bytes());
                Ok(())
            }
        };
    }

    fn end_row(out: &mut Vec<u8>) {
        out.push(b'\n');
    }
}

/// None of the special bytes occurs within a longer UTF-8 character.
fn text(out: &mut Vec<u8>, bytes: &[u8]) {
    let mut rest = bytes;
    while let Some(at) = rest.iter().position(|b| matches!(b, b'\\' | b'\t' | b'\n')) {
        out.extend_from_slice(&rest[..at]);
        out.extend_from_slice(match rest[at] {
            b'\t' => b"\\t",
            b'\n' => b"\\n",
            _ => b"\\\\",
        });
        rest = &rest[at + 1..];
    }
    out.extend_from_slice(rest);
}
