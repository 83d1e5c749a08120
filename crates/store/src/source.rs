//! Whoever answers questions.

use std::fmt;

use luarm_schema::Dialect;

use crate::{Host, Note, NoteEnd, QueryError, Reader, RowSink};

/// Answers questions about recorded history: a store that is read here, or a server that reads its own. It cannot write, whatever the statement.
///
/// All methods block, and must not be called from within an asynchronous task.
pub trait Source: fmt::Debug + Send {
    /// Asks one statement, in the engine's SQL; the answer goes to the sink as it comes. Returns the number of rows.
    fn query(&mut self, sql: &str, sink: &mut dyn RowSink) -> Result<u64, QueryError>;

    /// In whose SQL it is asked; `None` where only the engine behind a server knows.
    fn dialect(&self) -> Option<Dialect> {
        None
    }

    /// What ends the query that runs when it is called, if one does, from another thread: it returns [`QueryError::Interrupted`].
    fn interrupter(&self) -> Box<dyn Fn() + Send>;

    /// The audited computers, in the order of their numbers.
    fn hosts(&mut self) -> Result<Vec<Host>, QueryError>;

    /// How many rows each table has, perhaps estimated.
    fn row_counts(&mut self) -> Result<Vec<(&'static str, i64)>, QueryError>;

    /// From now on the tables hold only what this host recorded; it is named by its name or its machine id.
    fn use_host(&mut self, name: &str) -> Result<Host, QueryError>;

    /// From now on the tables hold what all hosts recorded.
    fn use_all(&mut self) -> Result<(), QueryError>;

    /// Bytes that the store takes on disk; 0 where that is not told.
    fn size(&mut self) -> Result<u64, QueryError>;

    /// Writes down a question in `queryinfo`, as one of this account's own, before it is asked: by a routine of the store's owner, which is all that an account which
    /// only selects can write by. Gives its number; `None` where that is nothing that this source does.
    fn note(&mut self, _: &Note<'_>) -> Result<Option<i64>, QueryError> {
        Ok(None)
    }

    /// Writes down how the question of that number ended.
    fn noted(&mut self, _: i64, _: Option<&str>, _: &NoteEnd<'_>) -> Result<(), QueryError> {
        Ok(())
    }
}

impl Source for Reader {
    fn query(&mut self, sql: &str, sink: &mut dyn RowSink) -> Result<u64, QueryError> {
        self.query(sql, sink)
    }

    fn dialect(&self) -> Option<Dialect> {
        Some(self.dialect())
    }

    fn interrupter(&self) -> Box<dyn Fn() + Send> {
        let interrupt = self.interrupt();
        Box::new(move || interrupt.interrupt())
    }

    fn hosts(&mut self) -> Result<Vec<Host>, QueryError> {
        self.hosts()
    }

    fn row_counts(&mut self) -> Result<Vec<(&'static str, i64)>, QueryError> {
        self.row_counts()
    }

    fn use_host(&mut self, name: &str) -> Result<Host, QueryError> {
        self.use_host(name)
    }

    fn use_all(&mut self) -> Result<(), QueryError> {
        self.use_all()
    }

    fn size(&mut self) -> Result<u64, QueryError> {
        Ok(self.size())
    }

    fn note(&mut self, note: &Note<'_>) -> Result<Option<i64>, QueryError> {
        self.note(note)
    }

    fn noted(&mut self, number: i64, host: Option<&str>, end: &NoteEnd<'_>) -> Result<(), QueryError> {
        self.noted(number, host, end)
    }
}

impl From<Reader> for Box<dyn Source> {
    fn from(reader: Reader) -> Self {
        Box::new(reader)
    }
}
