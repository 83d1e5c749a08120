//! Bulk load: many rows of one table in one stream, in the encoding that the engine reads fastest.
//!
//! [`LoadData`] is for MariaDB and MySQL, [`CopyBinary`] for PostgreSQL. Each gives the statement that announces the stream, and is a
//! [`Sink`] that takes the values of [`TableDef::stored`] row by row. Derived columns are not in the stream: the engine computes them.
//! SQLite has no such thing; its rows go through a prepared insert.

mod copy;
mod ending;
mod load_data;

use crate::{Column, Kind, Row, Sink, TableDef, Value, canonical::Canonical};

pub use copy::Copy;
pub use ending::Ending;
pub use load_data::LoadDataInfile;

/// The stream of MariaDB and MySQL.
pub type LoadData = Bulk<LoadDataInfile>;

/// The stream of PostgreSQL.
pub type CopyBinary = Bulk<Copy>;

/// Why a row cannot stand in a stream. The engine would refuse or cut it, and take the rest of the stream with it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BulkError {
    /// A text longer than its column or the column's index holds.
    #[error("{table}.{column}: {length} bytes of text, and the engine holds {limit}")]
    TooLong {
        /// The table.
        table: &'static str,
        /// The column.
        column: &'static str,
        /// Bytes of the text.
        length: usize,
        /// Bytes that fit.
        limit: usize,
    },
    /// A value of another kind than its column, NULL where there must be a value, an integer out of the column's range, a number that is
    /// none, or a text with NUL in it ([`Row::stored`] gives no such text).
    #[error("{table}.{column}: {value} is no value for this column")]
    Misfit {
        /// The table.
        table: &'static str,
        /// The column.
        column: &'static str,
        /// The value, in short.
        value: String,
    },
    /// More or fewer values than the table has stored columns.
    #[error("{table}: {count} values for {columns} columns")]
    Count {
        /// The table.
        table: &'static str,
        /// Values that were put.
        count: usize,
        /// Stored columns.
        columns: usize,
    },
}

/// How an engine wants a stream of rows.
pub trait Encoding {
    /// What stands before the first row.
    const HEADER: &'static [u8];
    /// What stands after the last row.
    const TRAILER: &'static [u8];

    /// Bytes of text that the column holds.
    fn limit(table: &TableDef, column: &Column) -> usize;

    /// Opens a row.
    fn begin_row(out: &mut Vec<u8>, columns: usize);

    /// Writes the value number `index`, which fits its column.
    fn value(out: &mut Vec<u8>, index: usize, kind: Kind, value: Value<'_>);

    /// Closes a row.
    fn end_row(out: &mut Vec<u8>);
}

/// A stream of rows of one table.
///
/// Bytes may be taken away at any time with [`bytes`](Self::bytes) and [`clear`](Self::clear), so that a stream of any length passes in
/// bounded memory; engines do not mind where a stream is divided.
#[derive(Debug)]
pub struct Bulk<E> {
    table: &'static TableDef,
    columns: Vec<(&'static Column, usize)>,
    out: Vec<u8>,
    digested: Canonical,
    /// Where the present row starts in `out`, once it has a value.
    row: Option<usize>,
    count: usize,
    error: Option<BulkError>,
    encoding: std::marker::PhantomData<E>,
}

impl<E: Encoding> Bulk<E> {
    /// An empty stream for the table.
    pub fn new(table: &'static TableDef) -> Self {
        Bulk {
            table,
            columns: table.stored().map(|c| (c, E::limit(table, c))).collect(),
            out: E::HEADER.to_vec(),
            digested: Canonical::default(),
            row: None,
            count: 0,
            error: None,
            encoding: std::marker::PhantomData,
        }
    }

    /// Adds a row of this table. A row that is refused leaves nothing in the stream.
    pub fn push(&mut self, host: i64, batch: i64, row: &Row) -> Result<(), BulkError> {
        let mut digested = std::mem::take(&mut self.digested);
        row.stored(host, batch, self, &mut digested);
        self.digested = digested;
        self.end_row()
    }

    /// Ends the row whose values were put. A row that is refused leaves nothing in the stream.
    pub fn end_row(&mut self) -> Result<(), BulkError> {
        let start = self.row.take().unwrap_or(self.out.len());
        let count = std::mem::take(&mut self.count);
        let columns = self.columns.len();
        let result = match self.error.take() {
            Some(error) => Err(error),
            None if count != columns => Err(BulkError::Count { table: self.table.name, count, columns }),
            None => Ok(()),
        };
        match result {
            Ok(()) => E::end_row(&mut self.out),
            Err(_) => self.out.truncate(start),
        }
        result
    }

    /// The bytes that have not been cleared: between rows, a whole number of them.
    pub fn bytes(&self) -> &[u8] {
        &self.out
    }

    /// Forgets the bytes, which the caller has passed on. Only between rows.
    pub fn clear(&mut self) {
        debug_assert!(self.row.is_none(), "the stream is cleared inside a row");
        self.out.clear();
    }

    /// The bytes that have not been cleared, and the end of the stream.
    pub fn finish(mut self) -> Vec<u8> {
        self.out.extend_from_slice(E::TRAILER);
        self.out
    }
}

/// Whether the value fits its column, which holds texts of `limit` bytes.
fn fits(
    table: &'static TableDef,
    column: &'static Column,
    limit: usize,
    value: Value<'_>,
) -> Result<(), BulkError> {
    let fits = match (column.kind, value) {
        (_, Value::Null) => column.null,
        (Kind::Big, Value::Int(_)) | (Kind::Time, Value::Time(_)) => true,
        (Kind::Int, Value::Int(n)) => i32::try_from(n).is_ok(),
        (Kind::Small, Value::Int(n)) => i16::try_from(n).is_ok(),
        (Kind::Real, Value::Real(x)) => x.is_finite(),
        (Kind::Text | Kind::Name, Value::Text(s)) if s.len() > limit => {
            let (table, column, length) = (table.name, column.name, s.len());
            return Err(BulkError::TooLong { table, column, length, limit });
        }
        (Kind::Text | Kind::Name, Value::Text(s)) => !s.contains('\0'),
        _ => false,
    };
    if fits {
        return Ok(());
    }
    let value = match value {
        Value::Text(_) => "this text".to_owned(),
        value => format!("{value:?}"),
    };
    Err(BulkError::Misfit { table: table.name, column: column.name, value })
}

impl<E: Encoding> Sink for Bulk<E> {
    fn put(&mut self, value: Value<'_>) {
        let index = self.count;
        self.count += 1;
        if self.row.is_none() {
            self.row = Some(self.out.len());
            E::begin_row(&mut self.out, self.columns.len());
        }
        if self.error.is_some() {
            return;
        }
        // A value too many is found when the row ends.
        let Some(&(column, limit)) = self.columns.get(index) else {
            return;
        };
        match fits(self.table, column, limit, value) {
            Ok(()) => E::value(&mut self.out, index, column.kind, value),
            Err(error) => self.error = Some(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Time, tables::RenameInfo};

    fn rename(application: &str) -> RenameInfo {
        RenameInfo {
            renameid: -2,
            psentity: i64::MAX,
            username: "nobody".into(),
            loginname: None,
            pid: 7,
            application: application.to_owned(),
            oldapplication: String::new(),
            auid: Some(0),
            session: None,
            created: Time(946_684_800_000_001),
            end: None,
        }
    }

    #[test]
    fn load_data_is_lines_of_escaped_text() {
        let mut stream = LoadData::new(RenameInfo::TABLE);
        stream.push(1, 3, &rename("a\tb\\N\nc\0").into()).unwrap();
        let line = String::from_utf8(stream.finish()).unwrap();
        let values: Vec<&str> = line.strip_suffix('\n').unwrap().split('\t').collect();
        let md5sum = values[11];
        assert_eq!(
            values,
            [
                "1",
                "-2",
                "9223372036854775807",
                "nobody",
                "\\N",
                "7",
                "a\\tb\\\\N\\nc\\\\x00",
                "",
                "0",
                "\\N",
                "2000-01-01 00:00:00.000001",
                md5sum,
                "3"
            ]
        );
        assert_eq!(md5sum.len(), 32);
    }

    #[test]
    fn copy_is_a_header_tuples_and_a_trailer() {
        let mut stream = CopyBinary::new(RenameInfo::TABLE);
        stream.push(1, 3, &rename("x").into()).unwrap();
        let bytes = stream.finish();
        let (header, rest) = bytes.split_at(19);
        assert_eq!(header, b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0");
        let start = b"\0\x0d\0\0\0\x04\0\0\0\x01\0\0\0\x08\xff\xff\xff\xff\xff\xff\xff\xfe";
        assert_eq!(&rest[..start.len()], start);
        let end = b"\xff\xff\xff\xff\0\0\0\x08\0\0\0\0\0\0\0\x01\0\0\0\x20";
        let at = rest.len() - 2 - 12 - 32 - end.len();
        assert_eq!(&rest[at..at + end.len()], end);
        assert_eq!(&rest[rest.len() - 14..], b"\0\0\0\x08\0\0\0\0\0\0\0\x03\xff\xff");
    }

    #[test]
    fn ends_are_lines_of_key_and_values() {
        use crate::tables::{CoverageInfo, CoverageInfoEnd, RenameInfoEnd};
        let mut stream = Ending::<LoadDataInfile>::new(CoverageInfo::TABLE);
        let end = |ended: &str| {
            crate::End::CoverageInfo(CoverageInfoEnd { destroyed: Time(0), ended: ended.to_owned().into() })
        };
        stream.push(-3, &end("a\tb\0")).unwrap();
        let long = "x".repeat(0x100_0000);
        assert!(matches!(stream.push(4, &end(&long)), Err(BulkError::TooLong { column: "ended", .. })));
        let other = crate::End::RenameInfo(RenameInfoEnd {});
        assert!(matches!(stream.push(5, &other), Err(BulkError::Count { count: 0, columns: 2, .. })));
        stream.push(6, &end("stop")).unwrap();
        let bytes = String::from_utf8(stream.finish()).unwrap();
        let time = "1970-01-01 00:00:00.000000";
        assert_eq!(bytes, format!("-3\t{time}\ta\\tb\\\\x00\n6\t{time}\tstop\n"));
    }

    #[test]
    fn a_refused_row_leaves_nothing() {
        fn refuses<E: Encoding>() {
            let table = RenameInfo::TABLE;
            let mut stream = Bulk::<E>::new(table);
            stream.push(1, 1, &rename("x").into()).unwrap();
            let before = stream.bytes().to_vec();
            let column = "host";
            let error = stream.push(1 << 40, 1, &rename("x").into()).unwrap_err();
            assert_eq!(error.to_string(), "renameinfo.host: Int(1099511627776) is no value for this column");

            for value in [Value::Null, Value::Real(f64::NAN), Value::Text("1")] {
                stream.put(value);
                let error = stream.end_row().unwrap_err();
                assert!(matches!(error, BulkError::Misfit { column: c, .. } if c == column), "{error}");
            }
            for count in [0, 1, 14] {
                for n in 0..count {
                    let text = [3, 4, 6, 7, 11].contains(&n);
                    stream.put(match n {
                        10 => Value::Time(Time(0)),
                        _ if text => Value::Text("x"),
                        _ => Value::Int(1),
                    });
                }
                let error = stream.end_row().unwrap_err();
                assert_eq!(error, BulkError::Count { table: table.name, count, columns: 13 });
            }
            stream.put(Value::Int(1));
            stream.put(Value::Int(1));
            stream.put(Value::Int(1));
            stream.put(Value::Text("nul\0"));
            assert!(matches!(stream.end_row(), Err(BulkError::Misfit { column: "username", .. })));
            assert_eq!(stream.bytes(), before);
            stream.push(1, 1, &rename("x").into()).unwrap();
            assert!(stream.bytes().len() > before.len());
        }
        refuses::<LoadDataInfile>();
        refuses::<Copy>();
    }

    #[test]
    fn text_that_an_engine_would_cut_or_refuse_is_refused_here() {
        let long = "x".repeat(0x100_0000);
        let error = LoadData::new(RenameInfo::TABLE).push(1, 1, &rename(&long).into()).unwrap_err();
        let (table, column) = ("renameinfo", "application");
        assert_eq!(error, BulkError::TooLong { table, column, length: 0x100_0000, limit: 0xff_ffff });
        CopyBinary::new(RenameInfo::TABLE).push(1, 1, &rename(&long).into()).unwrap();
    }
}
