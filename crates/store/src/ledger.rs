//! Appending batches of many hosts: what a server does.

use std::fmt;

use luarm_chain::Notary;
use luarm_schema::Batch;

use crate::{
    HostIdentity, StoreError, StoreUrl, Stored, mysql::Mysql, postgres::Postgres, remote::Deliveries, sqlite,
    writer::checked,
};

/// The one who appends the batches of many hosts, over one connection. Several may do so at once, in several processes and on several machines: the
/// store's ledger keeps each batch from being stored twice.
///
/// It blocks, and must not be called from within an asynchronous task.
pub struct Ledger {
    engine: Engine,
    notary: Option<Notary>,
}

enum Engine {
    Sqlite(Box<sqlite::Ledger>),
    Mysql(Box<Deliveries<Mysql>>),
    Postgres(Box<Deliveries<Postgres>>),
}

impl Ledger {
    /// Opens the store, and makes it where there is none: a file for its owner only; on a server the tables, if the account may.
    pub fn open(url: &StoreUrl) -> Result<Self, StoreError> {
        let engine = match url {
            StoreUrl::Sqlite(path) => Engine::Sqlite(Box::new(sqlite::Ledger::open(path)?)),
            StoreUrl::Mysql(_) => Engine::Mysql(Box::new(Deliveries::open(url)?)),
            StoreUrl::Postgres(_) => Engine::Postgres(Box::new(Deliveries::open(url)?)),
        };
        Ok(Ledger { engine, notary: None })
    }

    /// From now on the chain of each host is checked, and what is stored is signed. A batch without a [`manifest`](Batch::manifest), or with a flaw other than a restart, is
    /// refused ([`StoreError::Flaw`]).
    pub fn notarize(&mut self, notary: Notary) {
        self.notary = Some(notary);
    }

    /// Number of the last batch of a host; 0 for none.
    pub fn last_batch(&mut self, host: &HostIdentity) -> Result<i64, StoreError> {
        match &mut self.engine {
            Engine::Sqlite(ledger) => ledger.last_batch(&host.machine_id),
            Engine::Mysql(ledger) => ledger.last_batch(host),
            Engine::Postgres(ledger) => ledger.last_batch(host),
        }
    }

    /// Stores a batch of a host, wholly and durably, or on an error not at all; see [`Writer::append`](crate::Writer::append). A batch that
    /// leaves a gap is [`StoreError::Gap`], another one under a number that is taken [`StoreError::Conflict`].
    pub fn append(&mut self, host: &HostIdentity, batch: &Batch) -> Result<Stored, StoreError> {
        checked(&host.machine_id, batch)?;
        let notary = self.notary.as_ref();
        match &mut self.engine {
            Engine::Sqlite(ledger) => ledger.append(&host.machine_id, batch, notary),
            Engine::Mysql(ledger) => ledger.append(host, batch, notary),
            Engine::Postgres(ledger) => ledger.append(host, batch, notary),
        }
    }
}

impl Ledger {
    /// Stores batches of any hosts, each as [`append`](Self::append) does, and tells of each by its place what became of it. In a file all go into one transaction, and share what a
    /// commit costs: none is told of before it is on disk. One that is refused keeps no other from being stored.
    pub fn append_all(
        &mut self,
        batches: &[(&HostIdentity, &Batch)],
        mut each: impl FnMut(usize, Result<Stored, StoreError>),
    ) {
        if let (Engine::Sqlite(ledger), [_, _, ..]) = (&mut self.engine, batches) {
            let (mut sound, mut places) = (Vec::new(), Vec::new());
            for (place, (host, batch)) in batches.iter().enumerate() {
                match checked(&host.machine_id, batch) {
                    Ok(()) => {
                        sound.push((host.machine_id.as_str(), *batch));
                        places.push(place);
                    }
                    Err(error) => each(place, Err(error)),
                }
            }
            if let Some(all) = ledger.append_together(&sound, self.notary.as_ref()) {
                places.into_iter().zip(all).for_each(|(place, stored)| each(place, stored));
                return;
            }
            // One by one, so that each meets its own trouble.
            for place in places {
                let (host, batch) = batches[place];
                each(place, self.append(host, batch));
            }
            return;
        }
        for (place, (host, batch)) in batches.iter().enumerate() {
            each(place, self.append(host, batch));
        }
    }
}

impl fmt::Debug for Ledger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Ledger")
    }
}
