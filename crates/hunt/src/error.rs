//! What can go wrong in the console.

use std::io;

use luarm_store::QueryError;

/// A statement was not answered, or the console cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum HuntError {
    /// The store did not answer.
    #[error(transparent)]
    Query(#[from] QueryError),
    /// A client word asked for a table that there is not.
    #[error("no table {name:?}: `show tables` lists them")]
    NoTable {
        /// What was asked for.
        name: String,
    },
    /// A client word without what it needs, or with more.
    #[error("{given:?} is incomplete or has too many words: {usage}")]
    Usage {
        /// What was typed.
        given: String,
        /// How it is written.
        usage: &'static str,
    },
    /// Not a format.
    #[error("no format {name:?}: choose table, vertical, csv, json or jsonl")]
    NoFormat {
        /// What was asked for.
        name: String,
    },
    /// The statements could not be read.
    #[error("cannot read statements: {0}")]
    Input(#[source] io::Error),
    /// The answer could not be written.
    #[error("cannot write the answer: {0}")]
    Output(#[source] io::Error),
    /// The line editor failed.
    #[error("cannot read from the terminal: {0}")]
    Terminal(String),
}

impl HuntError {
    /// Whether the one who read the answers has gone, as `| head` does: an end, not a failure.
    pub(crate) fn is_broken_pipe(&self) -> bool {
        match self {
            HuntError::Output(e) | HuntError::Query(QueryError::Output(e)) => {
                e.kind() == io::ErrorKind::BrokenPipe
            }
            _ => false,
        }
    }
}
