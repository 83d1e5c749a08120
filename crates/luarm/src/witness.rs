//! Tells the recorder that writes a store what is asked of it, so that each question is a row of `queryinfo`, in the chain of the host. Where no recorder can be
//! told, the store of a server's database is.

use std::path::{Path, PathBuf};

use luarm_link::statement::{self, Statement};
use luarm_schema::escape::escape;
use luarm_store::{Cell, Host, Note, NoteEnd, QueryError, RowSink, Source, StoreUrl};

use crate::control::{self, Asked, Ended, How, Told};

/// A source whose questions are told.
#[derive(Debug)]
pub(crate) struct Witnessed {
    source: Box<dyn Source>,
    witness: Witness,
    /// The host that the tables are limited to.
    host: Option<String>,
}

/// Whom questions are told to.
#[derive(Debug)]
pub(crate) struct Witness {
    data: PathBuf,
    store: String,
    /// Whether the store is a server's, where an account can write down its own questions.
    far: bool,
    /// Why the last question was not recorded.
    trouble: Option<String>,
}

/// A question that was told of.
#[derive(Debug)]
pub(crate) enum Heard {
    /// To a recorder.
    Recorder(Told),
    /// To the store: its number, and the host that it is limited to.
    Store(i64, Option<String>),
}

impl Witness {
    /// Whoever serves that data directory, if it writes that store; else the store itself.
    pub(crate) fn new(data: &Path, store: &StoreUrl) -> Self {
        let name = match store {
            // A relative path means something else to others.
            StoreUrl::Sqlite(path) => {
                format!("sqlite:{}", path.canonicalize().as_ref().unwrap_or(path).display())
            }
            url => url.to_string(),
        };
        let far = !matches!(store, StoreUrl::Sqlite(_));
        Witness { data: data.to_owned(), store: name, far, trouble: None }
    }

    /// Tells of a question before it is asked. That nobody can be told is no reason not to answer; but it is said, once.
    pub(crate) fn ask(
        &mut self,
        source: &mut dyn Source,
        (kind, host): (&str, Option<&str>),
        sql: &str,
    ) -> Option<Heard> {
        let Statement { text, bytes, sha256 } = Statement::of(sql);
        let (store, kind, host) = (self.store.clone(), kind.to_owned(), host.map(str::to_owned));
        let asked = Asked { store, kind, host, statement: text, bytes, sha256 };
        let unheard = match control::question(&self.data, &asked) {
            Ok(told) => {
                self.trouble = None;
                return Some(Heard::Recorder(told));
            }
            Err(error) => error.to_string(),
        };
        let trouble = match self.note(source, &asked) {
            Some(Ok(number)) => {
                self.trouble = None;
                return Some(Heard::Store(number, asked.host));
            }
            Some(Err(error)) => format!("this account cannot write it down ({error})"),
            None => unheard,
        };
        if self.trouble.as_ref() != Some(&trouble) {
            tracing::warn!("what is asked is not recorded in queryinfo: {trouble}");
            self.trouble = Some(trouble);
        }
        None
    }

    /// Has the store write it down, where it can.
    fn note(&self, source: &mut dyn Source, asked: &Asked) -> Option<Result<i64, QueryError>> {
        if !self.far {
            return None;
        }
        let statement = escape(asked.statement.as_bytes());
        let note = Note {
            kind: &asked.kind,
            host: asked.host.as_deref(),
            statement: &statement,
            bytes: asked.bytes,
            sha256: asked.sha256.as_deref(),
        };
        source.note(&note).transpose()
    }
}

/// Tells how a question ended, if it was told.
pub(crate) fn ended<T>(
    source: &mut dyn Source,
    heard: Option<Heard>,
    result: &Result<T, QueryError>,
    rows: u64,
) {
    let Some(heard) = heard else { return };
    let (how, error) = match result {
        Ok(_) => (How::Answered, None),
        // Whoever read the answer has gone.
        Err(QueryError::Interrupted | QueryError::Output(_)) => (How::Interrupted, None),
        Err(error) => (How::Failed, Some(statement::error(&error.to_string()))),
    };
    match heard {
        Heard::Recorder(told) => told.ended(&Ended { how, rows: Some(rows), error }),
        Heard::Store(number, host) => {
            let error = error.map(|error| escape(error.as_bytes()));
            let end = NoteEnd { ended: how.word(), rows, error: error.as_deref() };
            if let Err(error) = source.noted(number, host.as_deref(), &end) {
                tracing::warn!("how the question ended is not recorded in queryinfo: {error}");
            }
        }
    }
}

impl Witnessed {
    /// That source, with a witness.
    pub(crate) fn new(source: Box<dyn Source>, witness: Witness) -> Self {
        Witnessed { source, witness, host: None }
    }
}

/// Counts rows on their way.
struct Counted<'s> {
    sink: &'s mut dyn RowSink,
    rows: u64,
}

impl RowSink for Counted<'_> {
    fn columns(&mut self, names: &[String]) -> std::io::Result<()> {
        self.sink.columns(names)
    }

    fn row(&mut self, cells: &[Cell<'_>]) -> std::io::Result<()> {
        self.sink.row(cells)?;
        self.rows += 1;
        Ok(())
    }
}

impl Source for Witnessed {
    fn query(&mut self, sql: &str, sink: &mut dyn RowSink) -> Result<u64, QueryError> {
        let heard = self.witness.ask(&mut *self.source, ("sql", self.host.as_deref()), sql);
        let mut counted = Counted { sink, rows: 0 };
        let result = self.source.query(sql, &mut counted);
        ended(&mut *self.source, heard, &result, counted.rows);
        result
    }

    fn interrupter(&self) -> Box<dyn Fn() + Send> {
        self.source.interrupter()
    }

    fn hosts(&mut self) -> Result<Vec<Host>, QueryError> {
        self.source.hosts()
    }

    fn row_counts(&mut self) -> Result<Vec<(&'static str, i64)>, QueryError> {
        self.source.row_counts()
    }

    fn use_host(&mut self, name: &str) -> Result<Host, QueryError> {
        let host = self.source.use_host(name)?;
        self.host = Some(host.name.clone());
        Ok(host)
    }

    fn use_all(&mut self) -> Result<(), QueryError> {
        self.source.use_all()?;
        self.host = None;
        Ok(())
    }

    fn size(&mut self) -> Result<u64, QueryError> {
        self.source.size()
    }
}
