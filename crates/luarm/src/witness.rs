//! Tells the recorder that writes a store what is asked of it, so that each question is a row of `queryinfo`, in the chain of the host.

use std::path::{Path, PathBuf};

use luarm_link::statement::{self, Statement};
use luarm_store::{Cell, Host, QueryError, RowSink, Source, StoreUrl};

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
    /// Why the last question was not recorded.
    trouble: Option<String>,
}

impl Witness {
    /// Whoever serves that data directory, if it writes that store.
    pub(crate) fn new(data: &Path, store: &StoreUrl) -> Self {
        let store = match store {
            // A relative path means something else to others.
            StoreUrl::Sqlite(path) => {
                format!("sqlite:{}", path.canonicalize().as_ref().unwrap_or(path).display())
            }
            url => url.to_string(),
        };
        Witness { data: data.to_owned(), store, trouble: None }
    }

    /// Tells of a question before it is asked. Whoever cannot be told is no reason not to answer; but it is said, once.
    pub(crate) fn ask(&mut self, kind: &str, host: Option<&str>, sql: &str) -> Option<Told> {
        let Statement { text, bytes, sha256 } = Statement::of(sql);
        let (store, kind, host) = (self.store.clone(), kind.to_owned(), host.map(str::to_owned));
        let asked = Asked { store, kind, host, statement: text, bytes, sha256 };
        match control::question(&self.data, &asked) {
            Ok(told) => {
                self.trouble = None;
                Some(told)
            }
            Err(error) => {
                let trouble = error.to_string();
                if self.trouble.as_ref() != Some(&trouble) {
                    tracing::warn!("what is asked is not recorded in queryinfo: {trouble}");
                    self.trouble = Some(trouble);
                }
                None
            }
        }
    }
}

/// Tells how a question ended, if it was told.
pub(crate) fn ended<T>(told: Option<Told>, result: &Result<T, QueryError>, rows: u64) {
    let Some(told) = told else { return };
    let (how, error) = match result {
        Ok(_) => (How::Answered, None),
        // Whoever read the answer has gone.
        Err(QueryError::Interrupted | QueryError::Output(_)) => (How::Interrupted, None),
        Err(error) => (How::Failed, Some(statement::error(&error.to_string()))),
    };
    told.ended(&Ended { how, rows: Some(rows), error });
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
        let told = self.witness.ask("sql", self.host.as_deref(), sql);
        let mut counted = Counted { sink, rows: 0 };
        let result = self.source.query(sql, &mut counted);
        ended(told, &result, counted.rows);
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
