//! The spool, as the recorder's side and the courier share it.

use std::{
    path::Path,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use luarm_schema::{Batch, Resume, Time};
use luarm_store::{Parcel, Spool, StoreError};
use tokio::sync::Notify;

use crate::packed;

/// Batches on their way: the recorder's side puts them in, the courier takes them out.
#[derive(Debug)]
pub struct Outbox {
    spool: Mutex<Spool>,
    /// What the spool says, for those who must not wait for it.
    bytes: AtomicU64,
    filled: Notify,
}

impl Outbox {
    /// Opens the spool; a new one begins after batch `after`. Gives what it remembers of the host.
    pub fn open(path: &Path, after: i64) -> Result<(Self, Resume), StoreError> {
        let (spool, resume) = Spool::open(path, after)?;
        let bytes = AtomicU64::new(spool.bytes());
        Ok((Outbox { spool: Mutex::new(spool), bytes, filled: Notify::new() }, resume))
    }

    fn spool(&self) -> MutexGuard<'_, Spool> {
        self.spool.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps a batch, durably.
    pub fn put(&self, batch: &Batch) -> Result<(), StoreError> {
        let parcel = packed::pack(batch).map_err(|source| StoreError::File {
            action: "compress a batch for",
            path: "the spool".into(),
            source,
        })?;
        let mut spool = self.spool();
        spool.put(batch, &parcel)?;
        self.bytes.store(spool.bytes(), Relaxed);
        drop(spool);
        self.filled.notify_one();
        Ok(())
    }

    /// Bytes that wait for the server.
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Relaxed)
    }

    /// When the oldest batch that waits was put in; `None` if none waits, or the spool cannot say.
    pub fn oldest(&self) -> Option<Time> {
        self.spool().oldest().ok().flatten()
    }

    /// Number of the last batch that was put in.
    pub fn last(&self) -> i64 {
        self.spool().last()
    }

    /// Number of the last batch that the server is known to have.
    pub fn acknowledged(&self) -> i64 {
        self.spool().acknowledged()
    }

    pub(super) fn next(&self, after: i64) -> Result<Option<Parcel>, StoreError> {
        self.spool().next(after)
    }

    pub(super) fn acknowledge(&self, id: i64) -> Result<(), StoreError> {
        let mut spool = self.spool();
        spool.acknowledge(id)?;
        self.bytes.store(spool.bytes(), Relaxed);
        Ok(())
    }

    /// Waits until a batch was put in since it was asked last.
    pub(super) async fn filled(&self) {
        self.filled.notified().await;
    }
}
