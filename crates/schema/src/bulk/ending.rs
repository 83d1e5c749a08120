//! Ends of stored rows in bulk: a stream into a table of the session's own, from which one statement ends the rows.

use super::{BulkError, Encoding};
use crate::{Column, Dialect, End, Kind, Sink, TableDef, Value};

/// A stream of ends of rows of one table: the key and the values of the `End` columns.
#[derive(Debug)]
pub struct Ending<E> {
    table: &'static TableDef,
    columns: Vec<(&'static Column, usize)>,
    out: Vec<u8>,
    next: usize,
    error: Option<BulkError>,
    encoding: std::marker::PhantomData<E>,
}

impl<E: Encoding> Ending<E> {
    /// An empty stream for a table whose rows end.
    pub fn new(table: &'static TableDef) -> Self {
        Ending {
            table,
            columns: table.ends().map(|c| (c, E::limit(table, c))).collect(),
            out: E::HEADER.to_vec(),
            next: 0,
            error: None,
            encoding: std::marker::PhantomData,
        }
    }

    /// Adds the end of the row with that key. An end that is refused, or is of another table, leaves nothing in the stream.
    pub fn push(&mut self, key: i64, end: &End) -> Result<(), BulkError> {
        let start = self.out.len();
        E::begin_row(&mut self.out, self.columns.len() + 1);
        E::value(&mut self.out, 0, Kind::Big, Value::Int(key));
        self.next = 0;
        end.put(self);
        let (count, columns) = (self.next, self.columns.len());
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

    /// The stream with its end.
    pub fn finish(mut self) -> Vec<u8> {
        self.out.extend_from_slice(E::TRAILER);
        self.out
    }
}

impl<E: Encoding> Sink for Ending<E> {
    fn put(&mut self, value: Value<'_>) {
        let index = self.next;
        self.next += 1;
        // A value too many is found when the row ends.
        let Some(&(column, limit)) = self.columns.get(index) else {
            return;
        };
        if self.error.is_some() {
            return;
        }
        let spelled;
        let value = match value {
            Value::Text(text) if text.contains('\0') => {
                spelled = text.replace('\0', "\\x00");
                Value::Text(&spelled)
            }
            value => value,
        };
        match super::fits(self.table, column, limit, value) {
            Ok(()) => E::value(&mut self.out, index + 1, column.kind, value),
            Err(error) => self.error = Some(error),
        }
    }
}

impl Dialect {
    /// The name of the session's own table that ends of this table's rows go through.
    pub fn ending_name(self, table: &TableDef) -> String {
        format!("ending_{}", table.name)
    }

    /// The statement that makes that table. `None` for a table whose rows do not end.
    pub fn create_ending(self, table: &TableDef) -> Option<String> {
        if !table.is_interval() {
            return None;
        }
        let columns: Vec<String> =
            table.ends().map(|c| format!("{} {}", c.name, self.type_name(c))).collect();
        let (temporary, tail) = match self {
            Dialect::Mysql => ("TEMPORARY", " CHARACTER SET utf8mb4 COLLATE utf8mb4_bin"),
            Dialect::Postgres => ("TEMPORARY", " ON COMMIT DELETE ROWS"),
            Dialect::Sqlite => ("TEMP", ""),
        };
        let name = self.ending_name(table);
        Some(format!(
            "CREATE {temporary} TABLE IF NOT EXISTS {name} (k bigint PRIMARY KEY, {}){tail}",
            columns.join(", ")
        ))
    }

    /// The statement that announces the stream of [`Ending`]; on MariaDB and MySQL it reads the local file `file`.
    pub fn load_ending(self, table: &TableDef, file: &str) -> String {
        let columns: Vec<&str> = ["k"].into_iter().chain(table.ends().map(|c| c.name)).collect();
        let (name, columns) = (self.ending_name(table), columns.join(", "));
        match self {
            Dialect::Postgres => format!("COPY {name} ({columns}) FROM STDIN (FORMAT binary)"),
            _ => super::load_data::statement(file, &name, &columns),
        }
    }

    /// The query for the keys of that table whose rows the batch did not end.
    pub fn unended(self, table: &TableDef, host: i64, batch: i64) -> String {
        let (stored, ending, key) = (self.stored_name(table), self.ending_name(table), table.key);
        format!(
            "SELECT e.k FROM {ending} AS e LEFT JOIN {stored} AS t ON t.host = {host} AND t.{key} = e.k AND t.dbatch = {batch} WHERE t.host IS NULL ORDER BY e.k"
        )
    }

    /// The statement that ends the rows; a row that has ended is left alone.
    pub fn end_many(self, table: &TableDef, host: i64, batch: i64) -> String {
        let (stored, ending, key) = (self.stored_name(table), self.ending_name(table), table.key);
        // PostgreSQL wants the columns that are set without their table.
        let set = |prefix: &str| {
            let set: Vec<String> = table.ends().map(|c| format!("{prefix}{0} = e.{0}", c.name)).collect();
            format!("{}, {prefix}dbatch = {batch}", set.join(", "))
        };
        match self {
            Dialect::Postgres => format!(
                "UPDATE {stored} AS t SET {} FROM {ending} AS e WHERE t.host = {host} AND t.{key} = e.k AND t.destroyed IS NULL",
                set("")
            ),
            _ => format!(
                "UPDATE {ending} AS e STRAIGHT_JOIN {stored} AS t ON t.host = {host} AND t.{key} = e.k SET {} WHERE t.destroyed IS NULL",
                set("t.")
            ),
        }
    }
}
