//! Appending batches of many hosts: what a server does.

use std::fmt;

use luarm_schema::Batch;

use crate::{
    Refused, StoreError, StoreUrl, mysql::Mysql, postgres::Postgres, remote::Deliveries, sqlite,
    writer::check,
};

/// The one who appends the batches of many hosts, over one connection. Several may do so at once, in several processes and on several machines: a
/// transaction holds the host's place in the ledger while it looks up the last batch and appends the next one.
///
/// It blocks, and must not be called from within an asynchronous task.
pub struct Ledger(Engine);

enum Engine {
    Sqlite(Box<sqlite::Ledger>),
    Mysql(Box<Deliveries<Mysql>>),
    Postgres(Box<Deliveries<Postgres>>),
}

impl Ledger {
    /// Opens the store, and makes it where there is none: a file for its owner only; on a server the tables, if the account may.
    pub fn open(url: &StoreUrl) -> Result<Self, StoreError> {
        Ok(Ledger(match url {
            StoreUrl::Sqlite(path) => Engine::Sqlite(Box::new(sqlite::Ledger::open(path)?)),
            StoreUrl::Mysql(_) => Engine::Mysql(Box::new(Deliveries::open(url)?)),
            StoreUrl::Postgres(_) => Engine::Postgres(Box::new(Deliveries::open(url)?)),
        }))
    }

    /// Number of the last batch of the host with that machine id; 0 for none.
    pub fn last_batch(&mut self, machine_id: &str) -> Result<i64, StoreError> {
        match &mut self.0 {
            Engine::Sqlite(ledger) => ledger.last_batch(machine_id),
            Engine::Mysql(ledger) => ledger.last_batch(machine_id),
            Engine::Postgres(ledger) => ledger.last_batch(machine_id),
        }
    }

    /// Stores a batch of the host with that machine id, wholly and durably, or on an error not at all. A batch that is stored already is stored
    /// no second time; one that leaves a gap is [`StoreError::Gap`], another one under a number that is taken [`StoreError::Conflict`].
    ///
    /// After an error that [`StoreError::is_transient`] the same batch may be tried again, also when nobody knows whether it is stored.
    ///
    /// The caller has made sure that a host's first batch has a `hostinfo` row: in a file the host is found by it. One that carries
    /// another machine id is [`StoreError::Impostor`].
    pub fn append(&mut self, machine_id: &str, batch: &Batch) -> Result<Vec<Refused>, StoreError> {
        check(machine_id, batch)?;
        match &mut self.0 {
            Engine::Sqlite(ledger) => ledger.append(machine_id, batch),
            Engine::Mysql(ledger) => ledger.append(machine_id, batch),
            Engine::Postgres(ledger) => ledger.append(machine_id, batch),
        }
    }
}

impl fmt::Debug for Ledger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hosts = match &self.0 {
            Engine::Sqlite(ledger) => ledger.hosts(),
            Engine::Mysql(ledger) => ledger.hosts(),
            Engine::Postgres(ledger) => ledger.hosts(),
        };
        f.debug_struct("Ledger").field("hosts", &hosts).finish_non_exhaustive()
    }
}
