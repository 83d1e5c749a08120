//! Appending batches of many hosts: what a server does.

use std::fmt;

use luarm_schema::Batch;

use crate::{HostIdentity, Refused, StoreError, StoreUrl, Writer, sqlite, writer::checked};

/// A database server gets one connection for each of so many hosts; those who delivered last keep theirs.
const CONNECTIONS: usize = 16;

/// The one who appends the batches of many hosts. Several may do so at once, in several processes: the store's ledger keeps each batch from being
/// stored twice.
///
/// It blocks, and must not be called from within an asynchronous task.
pub struct Ledger {
    engine: Engine,
}

enum Engine {
    Sqlite(Box<sqlite::Ledger>),
    /// The last is the one used last.
    Server(StoreUrl, Vec<(HostIdentity, Writer)>),
}

impl Ledger {
    /// Opens the store, and makes it where there is none: a file for its owner only; on a server the tables, if the account may.
    pub fn open(url: &StoreUrl) -> Result<Self, StoreError> {
        let engine = match url {
            StoreUrl::Sqlite(path) => Engine::Sqlite(Box::new(sqlite::Ledger::open(path)?)),
            StoreUrl::Mysql(_) | StoreUrl::Postgres(_) => Engine::Server(url.clone(), Vec::new()),
        };
        Ok(Ledger { engine })
    }

    /// Number of the last batch of a host; 0 for none.
    pub fn last_batch(&mut self, host: &HostIdentity) -> Result<i64, StoreError> {
        match &mut self.engine {
            Engine::Sqlite(ledger) => ledger.last_batch(&host.machine_id),
            Engine::Server(url, writers) => writer(url, writers, host)?.last_batch(),
        }
    }

    /// Stores a batch of a host, wholly and durably, or on an error not at all; see [`Writer::append`]. A batch that leaves a gap is
    /// [`StoreError::Gap`], another one under a number that is taken [`StoreError::Conflict`].
    pub fn append(&mut self, host: &HostIdentity, batch: &Batch) -> Result<Vec<Refused>, StoreError> {
        match &mut self.engine {
            Engine::Sqlite(ledger) => {
                checked(&host.machine_id, batch)?;
                ledger.append(&host.machine_id, batch)
            }
            Engine::Server(url, writers) => writer(url, writers, host)?.append(batch),
        }
    }
}

/// The host's writer, opened if it has none.
fn writer<'w>(
    url: &StoreUrl,
    writers: &'w mut Vec<(HostIdentity, Writer)>,
    host: &HostIdentity,
) -> Result<&'w mut Writer, StoreError> {
    let known = writers.iter().position(|(of, _)| of == host);
    let own = match known {
        Some(place) => writers.remove(place),
        None => {
            let writer = Writer::deliver_for(url, host)?;
            if writers.len() >= CONNECTIONS {
                writers.remove(0);
            }
            (host.clone(), writer)
        }
    };
    let place = writers.len();
    writers.push(own);
    Ok(&mut writers[place].1)
}

impl fmt::Debug for Ledger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Ledger")
    }
}
