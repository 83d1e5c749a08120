//! One connection to an engine.

use std::io;

use luarm_schema::{Dialect, TableDef, Time, Value, bulk::Encoding};

use super::{Address, Failure};
use crate::RowSink;

/// A value that an engine gave back.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Datum {
    Null,
    Int(i64),
    Real(f64),
    Text(String),
    Time(Time),
}

impl Datum {
    pub(crate) fn int(&self) -> Option<i64> {
        match self {
            Datum::Int(n) => Some(*n),
            _ => None,
        }
    }

    pub(crate) fn text(&self) -> Option<&str> {
        match self {
            Datum::Text(text) => Some(text),
            _ => None,
        }
    }

    pub(crate) fn value(&self) -> Value<'_> {
        match self {
            Datum::Null => Value::Null,
            Datum::Int(n) => Value::Int(*n),
            Datum::Real(x) => Value::Real(*x),
            Datum::Text(text) => Value::Text(text),
            Datum::Time(time) => Value::Time(*time),
        }
    }
}

/// Why an answer was not given to its end.
#[derive(Debug)]
pub(crate) enum StreamError {
    /// The engine failed.
    Failed(Failure),
    /// The taker of the rows failed.
    Output(io::Error),
}

impl From<Failure> for StreamError {
    fn from(failure: Failure) -> Self {
        StreamError::Failed(failure)
    }
}

/// Whether the name or address is this machine's own.
pub(crate) fn is_loopback(host: &str) -> bool {
    let address = host.trim_start_matches('[').trim_end_matches(']').parse::<std::net::IpAddr>();
    host == "localhost" || address.is_ok_and(|address| address.is_loopback())
}

/// A connection to an engine. All methods but [`Session::stream`] run statements of luarm's own.
pub(crate) trait Session: Sized {
    /// How the engine says things.
    const DIALECT: Dialect;
    /// Whether statements that change the schema are undone with their transaction.
    const TRANSACTIONAL_DDL: bool;
    /// How rows are loaded in bulk.
    type Encoding: Encoding;
    /// What ends a running statement from elsewhere.
    type Cancel: Clone + Send + Sync + 'static;

    /// Connects, to the database of the address; `writes` says whether rows are to be appended.
    async fn connect(address: &Address, writes: bool) -> Result<Self, Failure>;

    /// Whether the URL leads over a network.
    fn is_exposed(url: &str) -> bool;

    /// Makes the database of the address, where the engine lets a client do so.
    async fn create_database(address: &Address) -> Result<(), Failure>;

    /// Whether the server is one of several nodes to which anybody may write.
    fn is_clustered(&self) -> bool {
        false
    }

    /// Runs statements without an answer. Gives the number of rows that the last one changed.
    async fn run(&mut self, sql: &str) -> Result<u64, Failure>;

    /// Asks a short question. Each `?` stands for one of the texts.
    async fn ask(&mut self, sql: &str, texts: &[&str]) -> Result<Vec<Vec<Datum>>, Failure>;

    /// Runs one statement without an answer. Each `?` stands for one of the texts. Gives the number of rows that it changed.
    async fn change(&mut self, sql: &str, texts: &[&str]) -> Result<u64, Failure>;

    /// The same, each `?` for bytes or NULL.
    async fn put(&mut self, sql: &str, bytes: &[Option<&[u8]>]) -> Result<u64, Failure>;

    /// Loads a stream of `rows` rows into the table. The class of the failure is `Row` if the engine refused or changed any: then the caller goes
    /// back to its savepoint.
    async fn load(&mut self, table: &'static TableDef, stream: Vec<u8>, rows: u64) -> Result<(), Failure>;

    /// Ends rows of the table by a stream of `rows` ends of different rows. Gives how many were ended.
    async fn end(
        &mut self,
        table: &'static TableDef,
        host: i64,
        batch: i64,
        stream: Vec<u8>,
        rows: u64,
    ) -> Result<u64, Failure>;

    /// Asks one statement of somebody else's in a transaction that only reads; the answer goes to the sink as it comes.
    async fn stream(&mut self, sql: &str, sink: &mut dyn RowSink) -> Result<u64, StreamError>;

    /// From now on names of tables without more mean those of this place; `None` for those of the store itself.
    async fn look_at(&mut self, url: &str, place: Option<&str>) -> Result<(), Failure>;

    /// Takes leave of the server.
    async fn close(self);

    /// What ends the running statement.
    fn cancel(&self) -> Self::Cancel;

    /// Ends the running statement of another session.
    async fn cancel_by(cancel: Self::Cancel) -> Result<(), Failure>;

    /// The identifier, quoted.
    fn quoted(name: &str) -> String {
        match Self::DIALECT {
            Dialect::Mysql => format!("`{}`", name.replace('`', "``")),
            _ => format!("\"{}\"", name.replace('"', "\"\"")),
        }
    }
}
