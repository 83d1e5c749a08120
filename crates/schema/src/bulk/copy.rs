//! `COPY … FROM STDIN (FORMAT binary)` of PostgreSQL: a header, for each row the number of its values and for each value its
//! length and bytes in network order, and a trailer. [PostgreSQL 15, SQL COPY, binary format.]

use super::{CopyBinary, Encoding};
use crate::{Column, Dialect, Kind, TableDef, Value};

/// The encoding of [`CopyBinary`].
#[derive(Debug)]
pub enum Copy {}

/// PostgreSQL counts microseconds from 2000-01-01T00:00:00Z.
const EPOCH: i64 = 946_684_800_000_000;

/// What one value may have: PostgreSQL holds less than 1 GiB in one allocation, its own header included.
const LONGEST: usize = 0x3fff_ff00;

/// What a value in an index may have, so that with another column beside it the entry fits a third of a page, where B-trees end.
const LONGEST_INDEXED: usize = 2600;

impl CopyBinary {
    /// The statement that the stream follows.
    pub fn statement(table: &TableDef) -> String {
        let columns: Vec<&str> = table.stored().map(|c| c.name).collect();
        format!(
            "COPY {} ({}) FROM STDIN (FORMAT binary)",
            Dialect::Postgres.stored_name(table),
            columns.join(", ")
        )
    }
}

impl Encoding for Copy {
    const HEADER: &'static [u8] = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";
    const TRAILER: &'static [u8] = &(-1_i16).to_be_bytes();

    fn limit(table: &TableDef, column: &Column) -> usize {
        match column.kind {
            Kind::Name => 1024,
            _ if table.indexes.iter().any(|i| i.contains(&column.name)) => LONGEST_INDEXED,
            _ => LONGEST,
        }
    }

    fn begin_row(out: &mut Vec<u8>, columns: usize) {
        out.extend((columns as i16).to_be_bytes());
    }

    fn value(out: &mut Vec<u8>, _: usize, kind: Kind, value: Value<'_>) {
        match value {
            Value::Null => out.extend((-1_i32).to_be_bytes()),
            Value::Int(n) => match kind {
                Kind::Small => field(out, &(n as i16).to_be_bytes()),
                Kind::Int => field(out, &(n as i32).to_be_bytes()),
                _ => field(out, &n.to_be_bytes()),
            },
            Value::Real(x) => field(out, &x.to_be_bytes()),
            Value::Text(s) => field(out, s.as_bytes()),
            Value::Time(t) => field(out, &(t.storable().0 - EPOCH).to_be_bytes()),
        }
    }

    fn end_row(_: &mut Vec<u8>) {}
}

fn field(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend((bytes.len() as i32).to_be_bytes());
    out.extend_from_slice(bytes);
}
