//! Appending batches.

use std::{
    fmt, fs,
    path::{Path, PathBuf},
};

use luarm_schema::{
    Batch, Resume, Row,
    canonical::{Canonical, md5sum},
};
use rusqlite::{Connection, OptionalExtension, Transaction, TransactionBehavior};

use super::{
    append::{self, Refused, Statements},
    open, resume,
};
use crate::{StoreError, StoreUrl};

/// How much was stored.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Appended {
    /// Batches.
    pub batches: u64,
    /// New rows.
    pub rows: u64,
    /// Ends of rows of earlier batches.
    pub ends: u64,
    /// Ends whose row is not in the store, or has ended before.
    pub unmatched: u64,
}

/// The one who appends the batches of one host.
pub struct Writer {
    appender: Appender,
    machine_id: String,
    /// The host's number, once it is in the store.
    host: Option<i64>,
    appended: Appended,
}

impl Writer {
    /// Opens the store for the host with that machine id, and makes it where there is none (the file for its owner only). Gives
    /// what the store remembers of the host.
    pub fn open(url: &StoreUrl, machine_id: &str) -> Result<(Self, Resume), StoreError> {
        let appender = Appender::open(url)?;
        let failed = |e| StoreError::from_open(&appender.path, e);
        let host = resume::host_number(&appender.conn, machine_id).map_err(failed)?;
        let resume = match host {
            Some(host) => resume::resume(&appender.conn, host).map_err(failed)?,
            None => Resume::default(),
        };
        let writer =
            Writer { appender, machine_id: machine_id.to_owned(), host, appended: Appended::default() };
        Ok((writer, resume))
    }

    /// Stores a batch, wholly and durably, or on an error not at all. A batch that is stored already is stored no second time.
    ///
    /// After an error that [`StoreError::is_transient`] the same batch may be tried again with the same writer.
    ///
    /// Gives the rows that the engine refused for what is in them; there are none unless something is wrong with luarm itself.
    pub fn append(&mut self, batch: &Batch) -> Result<Vec<Refused>, StoreError> {
        let (host, done, refused) = self.appender.append(&self.machine_id, self.host, batch)?;
        self.host = Some(host);
        self.appended.batches += done.batches;
        self.appended.rows += done.rows;
        self.appended.ends += done.ends;
        self.appended.unmatched += done.unmatched;
        Ok(refused)
    }

    /// What this writer has stored since it was opened.
    pub fn appended(&self) -> Appended {
        self.appended
    }

    /// Bytes that the store takes on disk.
    pub fn size(&self) -> u64 {
        size(&self.appender.path)
    }

    /// The database file.
    pub fn path(&self) -> &Path {
        &self.appender.path
    }
}

impl fmt::Debug for Writer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Writer")
            .field("path", &self.appender.path)
            .field("host", &self.host)
            .finish_non_exhaustive()
    }
}

/// A connection that appends.
pub(super) struct Appender {
    pub(super) conn: Connection,
    pub(super) path: PathBuf,
    statements: Statements,
    buffer: Canonical,
}

impl Appender {
    pub(super) fn open(url: &StoreUrl) -> Result<Self, StoreError> {
        let path = url.file()?.to_owned();
        let conn = open::open_for_writing(&path)?;
        Ok(Appender { conn, path, statements: Statements::new(), buffer: Canonical::default() })
    }

    /// Stores a batch of the host with that machine id, and with that number if it is known. Gives the number and what was stored.
    pub(super) fn append(
        &mut self,
        machine_id: &str,
        host: Option<i64>,
        batch: &Batch,
    ) -> Result<(i64, Appended, Vec<Refused>), StoreError> {
        match batch.rows.last() {
            Some(Row::BatchInfo(info)) if info.batchid == batch.id => {}
            _ => return Err(StoreError::Unsigned { id: batch.id }),
        }
        let failed = |e| StoreError::from_append(&self.path, e);
        let tx = Transaction::new_unchecked(&self.conn, TransactionBehavior::Immediate).map_err(failed)?;
        // Inside the transaction, because another new host may have taken the next number meanwhile.
        let host = match host {
            Some(host) => host,
            None => match resume::host_number(&tx, machine_id).map_err(failed)? {
                Some(host) => host,
                None => resume::next_host_number(&tx).map_err(failed)?,
            },
        };
        let last = resume::last_batch(&tx, host).map_err(failed)?;
        if batch.id <= last {
            return self.same_batch(&tx, host, batch).map(|()| (host, Appended::default(), Vec::new()));
        }
        if batch.id != last + 1 {
            return Err(StoreError::Gap { last, got: batch.id });
        }
        let (mut done, refused) =
            append::append(&tx, &self.statements, host, batch, &mut self.buffer).map_err(failed)?;
        tx.commit().map_err(failed)?;
        done.batches = 1;
        Ok((host, done, refused))
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
            .map_err(|e| StoreError::from_append(&self.path, e))?;
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
