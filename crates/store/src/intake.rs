//! One way in for many hosts at once.

use std::{
    fmt,
    hash::{DefaultHasher, Hash, Hasher},
    panic::{AssertUnwindSafe, catch_unwind},
    sync::mpsc::{Receiver, SyncSender, sync_channel},
    thread::{self, JoinHandle},
};

use luarm_chain::Notary;
use luarm_schema::Batch;

use crate::{HostIdentity, Ledger, StoreError, StoreUrl, Stored, sqlite::Ready};

/// Connections to a server's database. A file has one writer at a time.
const CONNECTIONS: usize = 4;

/// Batches that may wait for one connection, beside those that it stores.
const WAITING: usize = 16;

/// Rows after which no further batch joins those that one transaction stores: whoever only wants a few rows stored does not wait for many.
const TOGETHER: usize = 16_384;

/// What several threads deliver batches of many hosts to. Each connection has a thread of its own, which stores what has come meanwhile
/// ([`Ledger::append_all`]); a batch waits for no other that has not come yet.
///
/// Its calls block, and must not be made from within an asynchronous task.
pub struct Intake {
    lanes: Vec<Lane>,
    /// Whether rows are made ready by whoever delivers them.
    ready: bool,
}

/// A connection's thread; it ends when nobody can send it anything.
struct Lane {
    errands: Option<SyncSender<Errand>>,
    thread: Option<JoinHandle<()>>,
}

enum Errand {
    Last(HostIdentity, SyncSender<Result<i64, StoreError>>),
    Append(Delivery),
}

struct Delivery {
    host: HostIdentity,
    batch: Batch,
    ready: Option<Ready>,
    reply: SyncSender<Result<Stored, StoreError>>,
}

impl Intake {
    /// Opens the store, and makes it where there is none; see [`Ledger::open`] and [`Ledger::notarize`].
    pub fn open(url: &StoreUrl, notary: &Notary) -> Result<Self, StoreError> {
        let connections = if matches!(url, StoreUrl::Sqlite(_)) { 1 } else { CONNECTIONS };
        let mut lanes = Vec::new();
        for _ in 0..connections {
            let mut ledger = Ledger::open(url)?;
            ledger.notarize(notary.clone());
            lanes.push(Lane::start(url, ledger)?);
        }
        Ok(Intake { lanes, ready: connections == 1 })
    }

    /// How many connections store batches at the same time.
    pub fn connections(&self) -> usize {
        self.lanes.len()
    }

    /// Number of the last batch of a host; 0 for none.
    pub fn last_batch(&self, host: &HostIdentity) -> Result<i64, StoreError> {
        let host = host.clone();
        self.lane(&host).ask(|reply| Errand::Last(host, reply))
    }

    /// Stores a batch of a host, wholly and durably, or on an error not at all; see [`Ledger::append`].
    pub fn append(&self, host: &HostIdentity, batch: Batch) -> Result<Stored, StoreError> {
        let (host, ready) = (host.clone(), self.ready.then(|| Ready::of(&batch)));
        self.lane(&host).ask(|reply| Errand::Append(Delivery { host, batch, ready, reply }))
    }

    /// A host's is always the same.
    fn lane(&self, host: &HostIdentity) -> &Lane {
        let mut hasher = DefaultHasher::new();
        host.machine_id.hash(&mut hasher);
        &self.lanes[hasher.finish() as usize % self.lanes.len()]
    }
}

impl fmt::Debug for Intake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Intake").field("connections", &self.lanes.len()).finish_non_exhaustive()
    }
}

impl Lane {
    fn start(url: &StoreUrl, mut ledger: Ledger) -> Result<Self, StoreError> {
        let (errands, come) = sync_channel(WAITING);
        let work = move || {
            while let Some((batches, other)) = next(&come) {
                // Who waits for an answer that never comes learns it; the transaction was undone.
                let _ = catch_unwind(AssertUnwindSafe(|| run(&mut ledger, batches, other)));
            }
        };
        let thread = thread::Builder::new()
            .name("store".to_owned())
            .spawn(work)
            .map_err(|source| StoreError::Thread { url: url.clone(), source })?;
        Ok(Lane { errands: Some(errands), thread: Some(thread) })
    }

    fn ask<T>(
        &self,
        errand: impl FnOnce(SyncSender<Result<T, StoreError>>) -> Errand,
    ) -> Result<T, StoreError> {
        let (reply, answer) = sync_channel(1);
        // Nobody takes it, or whoever did has failed.
        let sent = self.errands.as_ref().is_some_and(|errands| errands.send(errand(reply)).is_ok());
        if !sent {
            return Err(StoreError::Unanswered);
        }
        answer.recv().unwrap_or(Err(StoreError::Unanswered))
    }
}

impl Drop for Lane {
    /// Afterwards the connection is closed.
    fn drop(&mut self) {
        drop(self.errands.take());
        if let Some(Err(_)) = self.thread.take().map(JoinHandle::join) {
            tracing::error!("a thread that stores batches has failed");
        }
    }
}

/// Waits for an errand, and takes the batches that have come behind it, and what else came last. `None` when none will come.
fn next(come: &Receiver<Errand>) -> Option<(Vec<Delivery>, Option<Errand>)> {
    let mut errand = come.recv().ok()?;
    let (mut batches, mut rows) = (Vec::new(), 0);
    loop {
        match errand {
            Errand::Append(delivery) => {
                rows += delivery.batch.rows.len() + delivery.batch.ends.len();
                batches.push(delivery);
            }
            other => return Some((batches, Some(other))),
        }
        if rows >= TOGETHER {
            return Some((batches, None));
        }
        match come.try_recv() {
            Ok(further) => errand = further,
            Err(_) => return Some((batches, None)),
        }
    }
}

/// Whoever asked may have gone: then nobody learns the answer.
fn run(ledger: &mut Ledger, deliveries: Vec<Delivery>, other: Option<Errand>) {
    let batches: Vec<_> = deliveries.iter().map(|d| (&d.host, &d.batch, d.ready.as_ref())).collect();
    ledger.append_ready(&batches, |place, stored| {
        let _ = deliveries[place].reply.send(stored);
    });
    drop(deliveries);
    if let Some(Errand::Last(host, reply)) = other {
        let _ = reply.send(ledger.last_batch(&host));
    }
}
