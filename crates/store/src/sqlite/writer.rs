//! Appending batches.

use std::{
    fmt, fs,
    path::{Path, PathBuf},
};

use luarm_chain::Notary;
use luarm_schema::{
    Batch, Resume,
    canonical::{Canonical, md5sum},
};
use rusqlite::{Connection, OptionalExtension, Transaction, TransactionBehavior};

use super::{
    append::{self, Statements},
    open,
    ready::Ready,
    resume, servers,
};
use crate::{Appended, Refused, StoreError, Stored, proof};

/// The one who appends the batches of one host.
pub(crate) struct Writer {
    appender: Appender,
    machine_id: String,
    /// The host's number, once it is in the store.
    host: Option<i64>,
    appended: Appended,
}

impl Writer {
    /// Opens the file for the host with that machine id, and makes it where there is none (for its owner only). Gives what it remembers of the host.
    pub(crate) fn open(path: &Path, machine_id: &str) -> Result<(Self, Resume), StoreError> {
        let appender = Appender::open(path)?;
        let failed = |e| StoreError::from_open(path, e);
        let host = resume::host_number(&appender.conn, machine_id).map_err(failed)?;
        let resume = match host {
            Some(host) => resume::resume(&appender.conn, host).map_err(failed)?,
            None => Resume::default(),
        };
        let (machine_id, appended) = (machine_id.to_owned(), Appended::default());
        Ok((Writer { appender, machine_id, host, appended }, resume))
    }

    /// Stores a batch; see [`crate::Writer::append`].
    pub(crate) fn append(&mut self, batch: &Batch) -> Result<Vec<Refused>, StoreError> {
        let (host, done, stored) = self.appender.append(&self.machine_id, self.host, batch, None)?;
        self.host = Some(host);
        self.appended.add(done);
        Ok(stored.refused)
    }

    /// The last batch that is stored, 0 for none.
    pub(crate) fn last_batch(&mut self) -> Result<i64, StoreError> {
        self.appender.last_batch(&self.machine_id)
    }

    pub(crate) fn appended(&self) -> Appended {
        self.appended
    }

    /// Bytes that the store takes on disk.
    pub(crate) fn size(&self) -> u64 {
        size(&self.appender.path)
    }
}

impl fmt::Debug for Writer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = &self.appender.path;
        f.debug_struct("Writer").field("path", path).field("host", &self.host).finish_non_exhaustive()
    }
}

/// A connection that appends.
pub(super) struct Appender {
    conn: Connection,
    path: PathBuf,
    statements: Statements,
    buffer: Canonical,
}

impl Drop for Appender {
    /// While somebody else has the file open, closing it leaves the newest batches in the log beside it, and a copy of the file alone would lack them.
    fn drop(&mut self) {
        // Whoever reads at this moment is not waited for.
        let _ = self.conn.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(()));
    }
}

impl Appender {
    /// Opens the file, and makes it where there is none.
    pub(super) fn open(path: &Path) -> Result<Self, StoreError> {
        let conn = open::open_for_writing(path)?;
        let (statements, buffer) = (Statements::new(), Canonical::default());
        Ok(Appender { conn, path: path.to_owned(), statements, buffer })
    }

    /// The last batch of the host with that machine id, 0 for none.
    pub(super) fn last_batch(&self, machine_id: &str) -> Result<i64, StoreError> {
        let failed = |e| StoreError::from_append(&self.path, e);
        match resume::host_number(&self.conn, machine_id).map_err(failed)? {
            Some(host) => resume::last_batch(&self.conn, host).map_err(failed),
            None => Ok(0),
        }
    }

    /// The number of the host or server with that machine id.
    pub(super) fn find(&self, machine_id: &str) -> Result<Option<i64>, StoreError> {
        resume::host_number(&self.conn, machine_id).map_err(|e| StoreError::from_append(&self.path, e))
    }

    /// The number of a server; it gets one if it has none.
    pub(super) fn enter(&self, machine_id: &str, name: &str) -> Result<i64, StoreError> {
        let failed = |e| StoreError::from_append(&self.path, e);
        let tx = Transaction::new_unchecked(&self.conn, TransactionBehavior::Immediate).map_err(failed)?;
        let number = servers::enter(&tx, machine_id, name).map_err(failed)?;
        tx.commit().map_err(failed)?;
        Ok(number)
    }

    /// Number and digest of the last batch of the host of that number.
    pub(super) fn tip(&self, host: i64) -> Result<(i64, Option<String>), StoreError> {
        resume::last(&self.conn, host).map_err(|e| StoreError::from_append(&self.path, e))
    }

    /// Stores a batch of the host with that machine id, and with that number if it is known. Gives the number and what was stored.
    pub(super) fn append(
        &mut self,
        machine_id: &str,
        host: Option<i64>,
        batch: &Batch,
        notary: Option<&Notary>,
    ) -> Result<Kept, StoreError> {
        self.transact(|appender, tx| appender.put(tx, (machine_id, host), (batch, None), notary))
    }

    /// Stores such batches in one transaction, and tells what became of each. On an error none is stored.
    pub(super) fn append_together(
        &mut self,
        batches: &[(&str, Option<i64>, &Batch, &Ready)],
        notary: Option<&Notary>,
    ) -> Result<Vec<Result<Kept, StoreError>>, StoreError> {
        self.transact(|appender, tx| {
            let put = batches.iter().map(|(machine_id, host, batch, ready)| {
                match appender.put(tx, (machine_id, *host), (batch, Some(ready)), notary) {
                    // Said before anything was written.
                    Err(
                        error @ (StoreError::Gap { .. }
                        | StoreError::Conflict { .. }
                        | StoreError::Flaw { .. }),
                    ) => Ok(Err(error)),
                    stored => stored.map(Ok),
                }
            });
            put.collect()
        })
    }

    fn transact<T>(
        &mut self,
        work: impl FnOnce(&mut Putting<'_>, &Connection) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let Appender { conn, path, statements, buffer } = self;
        let failed = |e| StoreError::from_append(path, e);
        let tx = Transaction::new_unchecked(conn, TransactionBehavior::Immediate).map_err(failed)?;
        let done = work(&mut Putting { path, statements, buffer }, &tx)?;
        tx.commit().map_err(failed)?;
        Ok(done)
    }
}

/// A host's number, and what was stored of it.
pub(super) type Kept = (i64, Appended, Stored);

/// What puts batches into a transaction that is open.
struct Putting<'a> {
    path: &'a Path,
    statements: &'a Statements,
    buffer: &'a mut Canonical,
}

impl Putting<'_> {
    fn put(
        &mut self,
        tx: &Connection,
        (machine_id, host): (&str, Option<i64>),
        (batch, ready): (&Batch, Option<&Ready>),
        notary: Option<&Notary>,
    ) -> Result<Kept, StoreError> {
        let failed = |e| StoreError::from_append(self.path, e);
        // Inside the transaction, because another new host may have taken the next number meanwhile.
        let host = match host {
            Some(host) => host,
            None => match resume::host_number(tx, machine_id).map_err(failed)? {
                Some(host) => host,
                None => resume::next_host_number(tx).map_err(failed)?,
            },
        };
        let last = resume::last_batch(tx, host).map_err(failed)?;
        if batch.id <= last {
            let nothing = |()| (host, Appended::default(), Stored::default());
            return self.same_batch(tx, host, batch).map(nothing);
        }
        if batch.id != last + 1 {
            return Err(StoreError::Gap { last, got: batch.id });
        }
        let mut followed = proof::Followed::default();
        if notary.is_some() {
            let before = resume::tip(tx, host, last).map_err(failed)?;
            followed = proof::follows(machine_id, before.as_ref(), batch)?;
        }
        let outcome =
            append::append(tx, self.statements, host, (batch, ready), self.buffer).map_err(failed)?;
        let mut receipt = None;
        if let Some(proof) = proof::Proof::of(machine_id, batch, &outcome, notary) {
            append::keep_proof(tx, host, batch.id, &proof).map_err(failed)?;
            receipt = proof.receipt();
        }
        let done = Appended { batches: 1, ..outcome.done };
        let proof::Followed { restarted, publickey } = followed;
        Ok((host, done, Stored { refused: outcome.refused, publickey, restarted, receipt }))
    }

    /// The batch came before: its last row must be the one that is stored.
    fn same_batch(&self, tx: &Connection, host: i64, batch: &Batch) -> Result<(), StoreError> {
        let mut bytes = Canonical::default();
        if let Some(row) = batch.rows.last() {
            row.begin(&mut bytes);
        }
        let stored: Option<String> = tx
            .query_row("SELECT md5sum FROM batchinfo WHERE host = ? AND batchid = ?", [host, batch.id], |r| {
                r.get(0)
            })
            .optional()
            .map_err(|e| StoreError::from_append(self.path, e))?;
        if stored.is_some_and(|s| s.as_bytes() == md5sum(&bytes.0)) {
            Ok(())
        } else {
            Err(StoreError::Conflict { id: batch.id })
        }
    }
}

/// Bytes of the database and its companions.
pub(super) fn size(path: &Path) -> u64 {
    ["", "-wal", "-shm"]
        .iter()
        .filter_map(|tail| fs::metadata(companion(path, tail)).ok())
        .map(|m| m.len())
        .sum()
}

/// The file beside the database whose name ends so.
pub(super) fn companion(path: &Path, tail: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(tail);
    PathBuf::from(name)
}
