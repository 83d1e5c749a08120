//! The agent's spool: batches on their way to a server, and the rows that are open, in one file.
//!
//! A recorder that starts needs to know which rows are open ([`Resume`]), and must not need the server for it. So each batch goes into the spool
//! in one transaction with what it opens and closes: the tables of the schema hold the rows that have not ended, the latest boot and the last
//! `batchinfo`, and nothing else. The batches themselves are kept as the bytes that will travel, until the server has them.

use std::{fmt, path::Path, time::Duration};

use luarm_schema::{
    Batch, Dialect, Resume, Row, SCHEMA_VERSION, TABLES, Time, canonical::Canonical, tables::BatchInfo,
};
use rusqlite::{Connection, OpenFlags, OptionalExtension, Transaction, TransactionBehavior, params};

use super::{append::Statements, open, resume};
use crate::StoreError;

/// `LUAS`, in the header of every spool.
const APPLICATION_ID: i32 = i32::from_be_bytes(*b"LUAS");
/// The number of the host to which all rows belong.
const HOST: i64 = 1;
/// What a batch takes in the file beside its bytes.
const OVERHEAD: u64 = 128;
/// Free pages that are given back to the file system at a time.
const SHRINK: usize = 4096;

/// A batch as it travels.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Parcel {
    /// Its number.
    pub id: i64,
    /// SHA-256 of the bytes before compression.
    pub digest: Vec<u8>,
    /// How many bytes that are.
    pub length: u32,
    /// The bytes, compressed.
    pub bytes: Vec<u8>,
}

/// A spool: a file that only one process has open.
pub struct Spool {
    conn: Connection,
    path: std::path::PathBuf,
    statements: Statements,
    deletes: Vec<String>,
    buffer: Canonical,
    bytes: u64,
    /// Numbers of the last batch that was acknowledged, and of the last that was put in.
    acknowledged: i64,
    last: i64,
}

impl Spool {
    /// Opens the spool, and makes it where there is none (the file for its owner only). A new one begins after batch `after`, which the
    /// server has from an earlier spool of this host; 0 for a new host. Gives what it remembers of the host.
    pub fn open(path: &Path, after: i64) -> Result<(Self, Resume), StoreError> {
        let failed = |e| StoreError::from_open(path, e);
        open::make_file(path)?;
        let flags =
            OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_URI;
        let conn = Connection::open_with_flags(open::uri(path, false), flags).map_err(failed)?;
        conn.busy_timeout(Duration::from_secs(5)).map_err(failed)?;
        conn.set_prepared_statement_cache_capacity(4 * TABLES.len());
        let fresh = !open::has_tables(&conn, path, APPLICATION_ID)?;
        if fresh {
            conn.pragma_update(None, "auto_vacuum", "incremental").map_err(failed)?;
        }
        for (name, value) in [("journal_mode", "wal"), ("synchronous", "full"), ("cache_size", "-4096")] {
            conn.pragma_update(None, name, value).map_err(failed)?;
        }
        if fresh {
            create(&conn, after).map_err(failed)?;
        }
        let (acknowledged, began): (i64, i64) = conn
            .query_row("SELECT acknowledged, began FROM progress", [], |r| Ok((r.get(0)?, r.get(1)?)))
            .map_err(failed)?;
        let (bytes, newest): (i64, Option<i64>) = conn
            .query_row(
                "SELECT coalesce(sum(length(bytes) + ?), 0), max(batch) FROM parcel",
                [OVERHEAD.cast_signed()],
                |r| Ok((r.get(0)?, r.get(1)?)),
            )
            .map_err(failed)?;
        let mut resume = resume::resume(&conn, HOST).map_err(failed)?;
        if resume.last_batch.is_none() && acknowledged > 0 {
            resume.last_batch = Some((acknowledged, Time(began)));
        }
        let last = resume.last_batch.map_or(0, |(last, _)| last).max(newest.unwrap_or(0));
        let deletes = TABLES.iter().map(|t| {
            format!("DELETE FROM {} WHERE host = {HOST} AND {} = ?", Dialect::Sqlite.stored_name(t), t.key)
        });
        let spool = Spool {
            path: path.to_owned(),
            statements: Statements::new(),
            deletes: deletes.collect(),
            buffer: Canonical::default(),
            bytes: bytes.unsigned_abs(),
            acknowledged,
            last,
            conn,
        };
        Ok((spool, resume))
    }

    /// Keeps a batch, durably, and what it opens and closes. `parcel` is the same batch as it travels.
    pub fn put(&mut self, batch: &Batch, parcel: &Parcel) -> Result<(), StoreError> {
        if batch.id != self.last + 1 {
            return Err(StoreError::Gap { last: self.last, got: batch.id });
        }
        self.keep(batch, parcel).map_err(|e| StoreError::from_append(&self.path, e))?;
        self.last = batch.id;
        self.bytes += parcel.bytes.len() as u64 + OVERHEAD;
        Ok(())
    }

    fn keep(&mut self, batch: &Batch, parcel: &Parcel) -> rusqlite::Result<()> {
        let tx = Transaction::new_unchecked(&self.conn, TransactionBehavior::Immediate)?;
        let mut opened = |row: &Row| self.statements.replace(&tx, HOST, batch.id, row, &mut self.buffer);
        for row in &batch.rows {
            if let Row::BatchInfo(_) = row {
                let ledger = Dialect::Sqlite.stored_name(BatchInfo::TABLE);
                tx.prepare_cached(&format!("DELETE FROM {ledger}"))?.execute([])?;
                opened(row)?;
            } else if row.table().is_interval() && !row.is_ended() {
                opened(row)?;
            }
        }
        for (key, end) in &batch.ends {
            tx.prepare_cached(&self.deletes[end.position()])?.execute([key])?;
        }
        tx.prepare_cached("INSERT INTO parcel (batch, digest, length, bytes, kept) VALUES (?, ?, ?, ?, ?)")?
            .execute(params![parcel.id, parcel.digest, parcel.length, parcel.bytes, Time::now().0])?;
        tx.commit()
    }

    /// The batch that follows the one of that number, if it is here.
    pub fn next(&self, after: i64) -> Result<Option<Parcel>, StoreError> {
        let mut statement = self
            .conn
            .prepare_cached(
                "SELECT batch, digest, length, bytes FROM parcel WHERE batch > ? ORDER BY batch LIMIT 1",
            )
            .map_err(|e| StoreError::from_append(&self.path, e))?;
        let parcel = statement.query_row([after], |r| {
            Ok(Parcel { id: r.get(0)?, digest: r.get(1)?, length: r.get(2)?, bytes: r.get(3)? })
        });
        parcel.optional().map_err(|e| StoreError::from_append(&self.path, e))
    }

    /// Forgets the batches up to this number, which the server has.
    pub fn acknowledge(&mut self, id: i64) -> Result<(), StoreError> {
        if id <= self.acknowledged {
            return Ok(());
        }
        let freed = self.forget(id).map_err(|e| StoreError::from_append(&self.path, e))?;
        self.acknowledged = id;
        self.bytes = self.bytes.saturating_sub(freed);
        Ok(())
    }

    fn forget(&mut self, id: i64) -> rusqlite::Result<u64> {
        let tx = Transaction::new_unchecked(&self.conn, TransactionBehavior::Immediate)?;
        let freed: i64 = tx
            .prepare_cached("SELECT coalesce(sum(length(bytes) + ?), 0) FROM parcel WHERE batch <= ?")?
            .query_row([OVERHEAD.cast_signed(), id], |r| r.get(0))?;
        tx.prepare_cached("DELETE FROM parcel WHERE batch <= ?")?.execute([id])?;
        tx.prepare_cached("UPDATE progress SET acknowledged = ?")?.execute([id])?;
        tx.commit()?;
        let free: i64 = self.conn.pragma_query_value(None, "freelist_count", |r| r.get(0))?;
        if free > SHRINK as i64 {
            // It frees a page at each step.
            let mut shrink = self.conn.prepare_cached(&format!("PRAGMA incremental_vacuum({SHRINK})"))?;
            let mut steps = shrink.raw_query();
            while steps.next()?.is_some() {}
        }
        Ok(freed.unsigned_abs())
    }

    /// When the oldest batch that waits was put in.
    pub fn oldest(&self) -> Result<Option<Time>, StoreError> {
        self.conn
            .prepare_cached("SELECT kept FROM parcel ORDER BY batch LIMIT 1")
            .and_then(|mut statement| statement.query_row([], |r| Ok(Time(r.get(0)?))).optional())
            .map_err(|e| StoreError::from_append(&self.path, e))
    }

    /// Bytes that wait for the server.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Number of the last batch that the server is known to have.
    pub fn acknowledged(&self) -> i64 {
        self.acknowledged
    }

    /// Number of the last batch that was put in.
    pub fn last(&self) -> i64 {
        self.last
    }
}

/// Tables without indexes, since they hold only what is open, and with the views that are asked when a recorder starts.
fn create(conn: &Connection, after: i64) -> rusqlite::Result<()> {
    let tx = Transaction::new_unchecked(conn, TransactionBehavior::Immediate)?;
    for table in TABLES {
        tx.execute_batch(&Dialect::Sqlite.create_table(table))?;
        for statement in Dialect::Sqlite.create_rest(table) {
            if statement.starts_with("CREATE VIEW") {
                tx.execute_batch(&statement)?;
            }
        }
    }
    tx.execute_batch(
        "CREATE TABLE parcel (batch INTEGER PRIMARY KEY, digest BLOB NOT NULL, length INTEGER NOT NULL, bytes BLOB NOT NULL, kept INTEGER NOT NULL) STRICT;
         CREATE TABLE progress (acknowledged INTEGER NOT NULL, began INTEGER NOT NULL) STRICT;",
    )?;
    tx.execute("INSERT INTO progress (acknowledged, began) VALUES (?, ?)", [after, Time::now().0])?;
    tx.pragma_update(None, "application_id", APPLICATION_ID)?;
    tx.pragma_update(None, "user_version", SCHEMA_VERSION)?;
    tx.commit()
}

impl fmt::Debug for Spool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Spool").field("path", &self.path).field("last", &self.last).finish_non_exhaustive()
    }
}
