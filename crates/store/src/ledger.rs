//! Appending batches of many hosts: what a server does.

use std::fmt;

use luarm_schema::Batch;

use crate::{
    HostIdentity, Refused, StoreError, StoreUrl, mysql::Mysql, postgres::Postgres, remote::Deliveries,
    sqlite, writer::checked,
};

/// The one who appends the batches of many hosts, over one connection. Several may do so at once, in several processes and on several machines: the
/// store's ledger keeps each batch from being stored twice.
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

    /// Number of the last batch of a host; 0 for none.
    pub fn last_batch(&mut self, host: &HostIdentity) -> Result<i64, StoreError> {
        match &mut self.0 {
            Engine::Sqlite(ledger) => ledger.last_batch(&host.machine_id),
            Engine::Mysql(ledger) => ledger.last_batch(host),
            Engine::Postgres(ledger) => ledger.last_batch(host),
        }
    }

    /// Stores a batch of a host, wholly and durably, or on an error not at all; see [`Writer::append`](crate::Writer::append). A batch that
    /// leaves a gap is [`StoreError::Gap`], another one under a number that is taken [`StoreError::Conflict`].
    pub fn append(&mut self, host: &HostIdentity, batch: &Batch) -> Result<Vec<Refused>, StoreError> {
        checked(&host.machine_id, batch)?;
        match &mut self.0 {
            Engine::Sqlite(ledger) => ledger.append(&host.machine_id, batch),
            Engine::Mysql(ledger) => ledger.append(host, batch),
            Engine::Postgres(ledger) => ledger.append(host, batch),
        }
    }
}

impl fmt::Debug for Ledger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Ledger")
    }
}
