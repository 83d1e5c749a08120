//! Appending batches of many hosts: what a server does.

use std::fmt;

use luarm_chain::Notary;
use luarm_schema::Batch;

use crate::{
    HostIdentity, StoreError, StoreUrl, Stored,
    mysql::Mysql,
    postgres::Postgres,
    remote::Deliveries,
    sqlite::{self, Ready},
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

    /// The number of a host or server in this store; `None` if the store does not know it.
    pub fn find(&mut self, host: &HostIdentity) -> Result<Option<i64>, StoreError> {
        match &mut self.engine {
            Engine::Sqlite(ledger) => ledger.find(&host.machine_id),
            Engine::Mysql(ledger) => ledger.find(host),
            Engine::Postgres(ledger) => ledger.find(host),
        }
    }

    /// The number of a server in this store; it gets one if it has none. It has no row in `hostinfo`, because it is no audited computer.
    pub fn enter(&mut self, server: &HostIdentity) -> Result<i64, StoreError> {
        match &mut self.engine {
            Engine::Sqlite(ledger) => ledger.enter(server),
            Engine::Mysql(ledger) => ledger.enter(server),
            Engine::Postgres(ledger) => ledger.enter(server),
        }
    }

    /// Number and digest of the last batch of the host of that number; 0 and `None` if it has none.
    pub fn tip(&mut self, number: i64) -> Result<(i64, Option<String>), StoreError> {
        match &mut self.engine {
            Engine::Sqlite(ledger) => ledger.tip(number),
            Engine::Mysql(ledger) => ledger.tip(number),
            Engine::Postgres(ledger) => ledger.tip(number),
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
        each: impl FnMut(usize, Result<Stored, StoreError>),
    ) {
        let ready: Vec<Option<Ready>> = batches.iter().map(|(_, batch)| self.ready(batch)).collect();
        let batches: Vec<_> = batches.iter().zip(&ready).map(|((h, b), r)| (*h, *b, r.as_ref())).collect();
        self.append_ready(&batches, each);
    }

    /// What can be made of a batch before it is appended.
    fn ready(&self, batch: &Batch) -> Option<Ready> {
        matches!(self.engine, Engine::Sqlite(_)).then(|| Ready::of(batch))
    }

    /// The same as [`append_all`](Self::append_all), of batches that may be ready.
    pub(crate) fn append_ready(
        &mut self,
        batches: &[(&HostIdentity, &Batch, Option<&Ready>)],
        mut each: impl FnMut(usize, Result<Stored, StoreError>),
    ) {
        let (mut together, mut places) = (Vec::new(), Vec::new());
        for (place, (host, batch, ready)) in batches.iter().enumerate() {
            match (&self.engine, ready, checked(&host.machine_id, batch)) {
                (Engine::Sqlite(_), Some(ready), Ok(())) => {
                    together.push((host.machine_id.as_str(), *batch, *ready));
                    places.push(place);
                }
                _ => each(place, self.append(host, batch)),
            }
        }
        let Engine::Sqlite(ledger) = &mut self.engine else { return };
        match (ledger.append_together(&together, self.notary.as_ref()), &places[..]) {
            (Ok(all), _) => places.into_iter().zip(all).for_each(|(place, stored)| each(place, stored)),
            (Err(error), [place]) => each(*place, Err(error)),
            // One by one, so that each meets its own trouble.
            (Err(error), _) => {
                tracing::debug!("batches are stored one by one: {error}");
                for place in places {
                    let (host, batch, _) = batches[place];
                    each(place, self.append(host, batch));
                }
            }
        }
    }
}

impl fmt::Debug for Ledger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Ledger")
    }
}
