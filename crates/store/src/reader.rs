//! Answering queries, from whichever engine.

use std::fmt;

use luarm_schema::Dialect;

use crate::{
    Host, Note, NoteEnd, QueryError, RowSink, StoreError, StoreUrl,
    mysql::Mysql,
    postgres::Postgres,
    remote::{Asker, Cancel},
    sqlite,
};

/// Bytes of the longest value that a query makes of a file's.
const LONGEST: usize = 256 << 20;

/// The one who asks. It cannot write, whatever the statement, and does not stop a writer.
///
/// It blocks, and must not be called from within an asynchronous task.
#[derive(Debug)]
pub struct Reader(Engine);

#[derive(Debug)]
enum Engine {
    Sqlite(Box<sqlite::Reader>),
    Mysql(Box<Asker<Mysql>>),
    Postgres(Box<Asker<Postgres>>),
}

/// Ends the running query of a [`Reader`], from another thread.
#[derive(Clone)]
pub struct Interrupt(Interrupting);

#[derive(Clone)]
enum Interrupting {
    Sqlite(sqlite::Interrupt),
    Mysql(Cancel<Mysql>),
    Postgres(Cancel<Postgres>),
}

impl Interrupt {
    /// Ends the query that runs now, if one does; it returns [`QueryError::Interrupted`]. On a server's database this takes a connection.
    pub fn interrupt(&self) {
        match &self.0 {
            Interrupting::Sqlite(interrupt) => interrupt.interrupt(),
            Interrupting::Mysql(cancel) => cancel.cancel(),
            Interrupting::Postgres(cancel) => cancel.cancel(),
        }
    }
}

impl fmt::Debug for Interrupt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Interrupt")
    }
}

impl Reader {
    /// Opens the store for reading; recorders and servers may write it meanwhile.
    pub fn open(url: &StoreUrl) -> Result<Self, StoreError> {
        Self::open_bounded(url, LONGEST)
    }

    /// The same for somebody who is not to use up this process's memory: no value of an answer has more bytes (in a file), or no row (on MariaDB and
    /// MySQL). PostgreSQL's client takes what the engine sends, up to a gigabyte for a row.
    pub fn open_bounded(url: &StoreUrl, longest: usize) -> Result<Self, StoreError> {
        Ok(Reader(match url {
            StoreUrl::Sqlite(path) => Engine::Sqlite(Box::new(sqlite::Reader::open(path, longest)?)),
            StoreUrl::Mysql(_) if longest < LONGEST => {
                Engine::Mysql(Box::new(Asker::open(&url.with_longest_packet(longest))?))
            }
            StoreUrl::Mysql(_) => Engine::Mysql(Box::new(Asker::open(url)?)),
            StoreUrl::Postgres(_) => Engine::Postgres(Box::new(Asker::open(url)?)),
        }))
    }

    /// Opens the views of one host on a server's database, by an account that may see nothing else ([`crate::Account::Analyst`] with a host): then it is the
    /// engine that keeps a query to them. An account that may see more is refused. A value or row as in [`Reader::open_bounded`].
    pub fn open_host(url: &StoreUrl, longest: usize) -> Result<Self, StoreError> {
        Ok(Reader(match url {
            StoreUrl::Sqlite(_) => {
                return Err(StoreError::OnlyServers { url: url.clone(), what: "an account for one host" });
            }
            StoreUrl::Mysql(_) => {
                Engine::Mysql(Box::new(Asker::open_host(&url.with_longest_packet(longest))?))
            }
            StoreUrl::Postgres(_) => Engine::Postgres(Box::new(Asker::open_host(url)?)),
        }))
    }

    /// Asks one statement, in the engine's SQL; the answer goes to the sink as it comes. Returns the number of rows.
    pub fn query(&mut self, sql: &str, sink: &mut dyn RowSink) -> Result<u64, QueryError> {
        match &mut self.0 {
            Engine::Sqlite(reader) => reader.query(sql, sink),
            Engine::Mysql(reader) => reader.query(sql, sink),
            Engine::Postgres(reader) => reader.query(sql, sink),
        }
    }

    /// In whose SQL it is asked.
    pub fn dialect(&self) -> Dialect {
        match &self.0 {
            Engine::Sqlite(_) => Dialect::Sqlite,
            Engine::Mysql(_) => Dialect::Mysql,
            Engine::Postgres(_) => Dialect::Postgres,
        }
    }

    /// What ends this reader's queries.
    pub fn interrupt(&self) -> Interrupt {
        Interrupt(match &self.0 {
            Engine::Sqlite(reader) => Interrupting::Sqlite(reader.interrupt()),
            Engine::Mysql(reader) => Interrupting::Mysql(reader.interrupt()),
            Engine::Postgres(reader) => Interrupting::Postgres(reader.interrupt()),
        })
    }

    /// The audited computers in the store, in the order of their numbers.
    pub fn hosts(&mut self) -> Result<Vec<Host>, QueryError> {
        match &mut self.0 {
            Engine::Sqlite(reader) => reader.hosts(),
            Engine::Mysql(reader) => reader.hosts(),
            Engine::Postgres(reader) => reader.hosts(),
        }
    }

    /// How many rows each table has: in a file as its last row number says, in a server's database as the server estimates, where there are many.
    pub fn row_counts(&mut self) -> Result<Vec<(&'static str, i64)>, QueryError> {
        match &mut self.0 {
            Engine::Sqlite(reader) => reader.row_counts(),
            Engine::Mysql(reader) => reader.row_counts(),
            Engine::Postgres(reader) => reader.row_counts(),
        }
    }

    /// From now on the tables hold only what this host recorded; it is named by its name or its machine id.
    pub fn use_host(&mut self, name: &str) -> Result<Host, QueryError> {
        match &mut self.0 {
            Engine::Sqlite(reader) => reader.use_host(name),
            Engine::Mysql(reader) => reader.use_host(name),
            Engine::Postgres(reader) => reader.use_host(name),
        }
    }

    /// From now on the tables hold what all hosts recorded.
    pub fn use_all(&mut self) -> Result<(), QueryError> {
        match &mut self.0 {
            Engine::Sqlite(reader) => reader.use_all(),
            Engine::Mysql(reader) => reader.use_all(),
            Engine::Postgres(reader) => reader.use_all(),
        }
    }

    /// Writes down a question; see [`crate::Source::note`].
    pub fn note(&mut self, note: &Note<'_>) -> Result<Option<i64>, QueryError> {
        match &mut self.0 {
            Engine::Sqlite(_) => Ok(None),
            Engine::Mysql(reader) => reader.note(note).map(Some),
            Engine::Postgres(reader) => reader.note(note).map(Some),
        }
    }

    /// Writes down how it ended; see [`crate::Source::noted`].
    pub fn noted(&mut self, number: i64, host: Option<&str>, end: &NoteEnd<'_>) -> Result<(), QueryError> {
        match &mut self.0 {
            Engine::Sqlite(_) => Ok(()),
            Engine::Mysql(reader) => reader.noted(number, host, end),
            Engine::Postgres(reader) => reader.noted(number, host, end),
        }
    }

    /// Bytes that the store takes on disk; 0 where a server does not tell.
    pub fn size(&mut self) -> u64 {
        match &mut self.0 {
            Engine::Sqlite(reader) => reader.size(),
            Engine::Mysql(reader) => reader.size(),
            Engine::Postgres(reader) => reader.size(),
        }
    }
}
