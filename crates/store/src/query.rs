//! Answers, as they stream out of a store.

use std::io;

/// One value of an answer.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Cell<'a> {
    /// SQL's NULL.
    Null,
    /// An integer.
    Integer(i64),
    /// A double.
    Real(f64),
    /// Text.
    Text(&'a str),
    /// Bytes; also a text that is not UTF-8, which only a cast can make.
    Blob(&'a [u8]),
}

/// Takes an answer as it comes; an error ends the query.
pub trait RowSink {
    /// The names of the columns: comes once, before any row.
    fn columns(&mut self, names: &[String]) -> io::Result<()>;
    /// The next row.
    fn row(&mut self, cells: &[Cell<'_>]) -> io::Result<()>;
}

/// A question that somebody writes down as his own.
#[derive(Debug, Clone, Copy)]
pub struct Note<'a> {
    /// `queryinfo.kind`.
    pub kind: &'a str,
    /// The host that the tables are limited to, by name or machine id.
    pub host: Option<&'a str>,
    /// The statement, or its begin, as columns spell it.
    pub statement: &'a str,
    /// How many bytes it has.
    pub bytes: u64,
    /// Its SHA-256, where that is its begin.
    pub sha256: Option<&'a str>,
}

/// How it ended.
#[derive(Debug, Clone, Copy)]
pub struct NoteEnd<'a> {
    /// `queryinfo.ended`.
    pub ended: &'a str,
    /// Rows that went out.
    pub rows: u64,
    /// What was said where it failed.
    pub error: Option<&'a str>,
}

/// An audited computer in a store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Host {
    /// Its number in this store.
    pub number: i64,
    /// Its latest name.
    pub name: String,
    /// Its machine id.
    pub machine_id: String,
}

/// A decimal number in text: an integer where it is one that fits, else a double.
pub(crate) fn decimal(text: &str) -> Cell<'_> {
    if let Ok(n) = text.parse() {
        return Cell::Integer(n);
    }
    match text.parse::<f64>() {
        Ok(x) if text.contains('.') => Cell::Real(x),
        _ => Cell::Text(text),
    }
}
