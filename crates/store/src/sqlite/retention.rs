//! Keeping rows for a time in a file: what is over goes in small steps, between which others write.
//!
//! Each step is one transaction. It drops rows in the order of their numbers, and with them the row of `retentioninfo` says how far it has got: whatever ends it, rows
//! and record agree, and the next act goes on from there. The space of what is dropped is taken by what comes: the file does not become
//! smaller, it grows no more.

use std::{
    collections::{HashMap, HashSet},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use luarm_chain::{Manifest, SigningKey};
use luarm_schema::{
    ACTIVITIES, Dialect, Row, TableDef,
    canonical::Canonical,
    tables::{HostInfo, RetentionInfo},
};
use rusqlite::{Connection, Transaction, TransactionBehavior};

use super::{append::Statements, open, reader::open_for_reading};
use crate::{
    Dropped, StoreError, proof,
    retention::{self, Days, Given, Loss},
};

/// Rows that a step looks at.
const STEP: usize = 1024;
/// How long a step holds the file, about: a writer that comes meanwhile waits so long.
const HELD: Duration = Duration::from_millis(20);
/// Rows that a step drops before it looks at the clock again.
const GLANCE: usize = 16;
/// The least time that is left to others after a step; as long as it took, if that is more.
const PAUSE: Duration = Duration::from_millis(5);
/// Manifests that are looked at in a step.
const PAGE: usize = 64;
/// Bytes of the longest value that is read.
const LONGEST: usize = 1 << 30;

/// A connection that drops what is over.
pub(crate) struct Retainer {
    conn: Connection,
    path: PathBuf,
    statements: Statements,
    buffer: Canonical,
    stop: Option<Arc<AtomicBool>>,
}

/// A row that a step looks at.
struct Candidate {
    rowid: i64,
    key: i64,
    batch: i64,
    is_over: bool,
}

/// Whose rows of which table.
struct Share<'a> {
    host: i64,
    table: &'static TableDef,
    days: Days,
    signer: Option<(&'a SigningKey, &'a str)>,
}

impl Retainer {
    /// Opens a file that is there, to drop what is over.
    pub(crate) fn open(path: &Path) -> Result<Self, StoreError> {
        if !path.exists() {
            return Err(StoreError::Missing { path: path.to_owned() });
        }
        let conn = open::open_for_writing(path)?;
        // A step that is lost with the machine's power is done again; what others commit after it takes it along to the disk.
        conn.pragma_update(None, "synchronous", "normal").map_err(|e| StoreError::from_open(path, e))?;
        Ok(Self::on(conn, path))
    }

    /// Opens a file to see what is over.
    pub(crate) fn look(path: &Path) -> Result<Self, StoreError> {
        Ok(Self::on(open_for_reading(path, LONGEST)?.0, path))
    }

    fn on(conn: Connection, path: &Path) -> Self {
        let (statements, buffer) = (Statements::new(), Canonical::default());
        Retainer { conn, path: path.to_owned(), statements, buffer, stop: None }
    }

    /// Ends after the step at hand once that is true.
    pub(crate) fn stop_by(&mut self, stop: Arc<AtomicBool>) {
        self.stop = Some(stop);
    }

    fn is_stopped(&self) -> bool {
        self.stop.as_ref().is_some_and(|stop| stop.load(Ordering::Relaxed))
    }

    /// What would be dropped.
    pub(crate) fn foresee(&self, days: Days) -> Result<Vec<Dropped>, StoreError> {
        let losses = |table: &'static TableDef| {
            let sql = format!(
                "SELECT host, count(*), count(*) - sum(coalesce({}, 0)), min(batch), max(batch) FROM {} WHERE {} < ?1 GROUP BY host ORDER BY host",
                over(table, days),
                Dialect::Sqlite.stored_name(table),
                table.key
            );
            let loss = |row: &rusqlite::Row<'_>| {
                Ok(Loss {
                    host: row.get(0)?,
                    rows: row.get(1)?,
                    open: row.get(2)?,
                    first_batch: row.get(3)?,
                    last_batch: row.get(4)?,
                })
            };
            self.conn.prepare(&sql)?.query_map([days.number()], loss)?.collect::<rusqlite::Result<Vec<_>>>()
        };
        let mut all = Vec::new();
        for table in ACTIVITIES {
            let lost = losses(table).map_err(|e| StoreError::from_append(&self.path, e))?;
            all.extend(retention::dropped(table, &lost, days));
        }
        Ok(all)
    }

    /// Drops what is over, and records it.
    pub(crate) fn retain(
        &mut self,
        days: Days,
        key: Option<&SigningKey>,
    ) -> Result<Vec<Dropped>, StoreError> {
        let path = self.path.clone();
        let failed = |e| StoreError::from_append(&path, e);
        let hosts = self.hosts().map_err(failed)?;
        let mut all = Vec::new();
        for table in ACTIVITIES {
            for (host, machine_id) in &hosts {
                let share = Share { host: *host, table, days, signer: key.zip(machine_id.as_deref()) };
                let loss = self.drop_rows(&share).map_err(failed)?;
                all.extend(retention::dropped(table, &[loss], days));
            }
        }
        if !all.is_empty() {
            self.forget().map_err(failed)?;
        }
        Ok(all)
    }

    /// The hosts' numbers, with their machine ids.
    fn hosts(&self) -> rusqlite::Result<Vec<(i64, Option<String>)>> {
        let stored = Dialect::Sqlite.stored_name(HostInfo::TABLE);
        let sql = format!("SELECT host, max(machineid) FROM {stored} GROUP BY host ORDER BY host");
        self.conn.prepare(&sql)?.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?.collect()
    }

    /// Drops a host's rows of a table that are over, step by step.
    fn drop_rows(&mut self, share: &Share<'_>) -> rusqlite::Result<Loss> {
        let Share { host, table, days, .. } = share;
        let (stored, key) = (Dialect::Sqlite.stored_name(table), table.key);
        let scan = format!(
            "SELECT rowid, {key}, batch, coalesce({}, 0) FROM {stored} WHERE host = ? AND {key} >= ? AND {key} < ? ORDER BY {key} LIMIT {STEP}",
            over(table, *days)
        );
        let mut loss = Loss { host: *host, rows: 0, open: 0, first_batch: i64::MAX, last_batch: 0 };
        let mut record = None;
        let mut from = i64::MIN;
        while !self.is_stopped() {
            let candidate = |row: &rusqlite::Row<'_>| {
                Ok(Candidate {
                    rowid: row.get(0)?,
                    key: row.get(1)?,
                    batch: row.get(2)?,
                    is_over: row.get(3)?,
                })
            };
            let page: Vec<Candidate> = self
                .conn
                .prepare_cached(&scan)?
                .query_map((host, from, days.number()), candidate)?
                .collect::<rusqlite::Result<_>>()?;
            let until = if page.len() < STEP { Some(days.number()) } else { None };
            match self.step(share, &page, until, (&mut loss, &mut record))? {
                Some(next) => from = next,
                None => break,
            }
        }
        Ok(loss)
    }

    /// Drops what is over of these rows, which end at `until` if they are the last, as far as it gets, and records it in the row of the act. Gives where to go on.
    fn step(
        &mut self,
        share: &Share<'_>,
        page: &[Candidate],
        until: Option<i64>,
        (loss, record): (&mut Loss, &mut Option<i64>),
    ) -> rusqlite::Result<Option<i64>> {
        let Share { host, table, days, signer } = *share;
        let is_to_be_completed = until.is_some() && loss.rows > loss.open;
        if !is_to_be_completed && page.iter().all(|row| !row.is_over) {
            loss.rows += page.len() as i64;
            loss.open += page.len() as i64;
            return Ok(page.last().filter(|_| until.is_none()).map(|row| row.key.saturating_add(1)));
        }
        let sql = format!(
            "DELETE FROM {} WHERE rowid = ? AND host = ? AND {} = ?",
            Dialect::Sqlite.stored_name(table),
            table.key
        );
        let mut delete = self.conn.prepare_cached(&sql)?;
        let mut lost = *loss;
        let (mut reached, mut id) = (None, *record);
        let tx = Transaction::new_unchecked(&self.conn, TransactionBehavior::Immediate)?;
        let begun = Instant::now();
        for (n, row) in page.iter().enumerate() {
            if n > 0 && n % GLANCE == 0 && begun.elapsed() > HELD {
                reached = Some(row.key);
                break;
            }
            if !row.is_over {
                lost.rows += 1;
                lost.open += 1;
            } else if delete.execute((row.rowid, host, row.key))? == 1 {
                lost.rows += 1;
                lost.first_batch = lost.first_batch.min(row.batch);
                lost.last_batch = lost.last_batch.max(row.batch);
            }
        }
        let next = match (reached, until) {
            (Some(key), _) => Some(key),
            (None, Some(_)) => None,
            (None, None) => page.last().map(|row| row.key.saturating_add(1)),
        };
        if lost.rows > lost.open {
            let number = next.or(until).unwrap_or_else(|| days.number());
            let own = match id {
                Some(id) => id,
                None => free_record(&tx, host)?.max(retention::first_record(table, days)),
            };
            id = Some(own);
            let info = retention::record(own, table, &lost, days, number, signer);
            let row = Row::RetentionInfo(Box::new(info));
            self.statements.replace(&tx, host, 0, &row, &mut self.buffer)?;
        }
        tx.commit()?;
        (*loss, *record) = (lost, id);
        drop(delete);
        thread::sleep(begun.elapsed().max(PAUSE));
        Ok(next)
    }

    /// Sets the manifests to NULL of batches of which nothing is left.
    fn forget(&mut self) -> rusqlite::Result<()> {
        let sql = format!("UPDATE {} SET manifest = NULL WHERE host = ? AND batch = ?", proof::TABLE);
        for (host, given) in self.given()? {
            let left = self.left(host, &given)?;
            let is_left = |table: &str, key: i64| left.get(table).is_some_and(|keys| keys.contains(&key));
            let mut after = 0;
            while !self.is_stopped() {
                let begun = Instant::now();
                let Some((end, gone)) = self.gone(host, &given, after, &is_left)? else { break };
                after = end;
                if !gone.is_empty() {
                    let tx = Transaction::new_unchecked(&self.conn, TransactionBehavior::Immediate)?;
                    for batch in gone {
                        tx.prepare_cached(&sql)?.execute((host, batch))?;
                    }
                    tx.commit()?;
                    thread::sleep(begun.elapsed().max(PAUSE));
                }
            }
        }
        Ok(())
    }

    /// Looks at the next manifests of the host. Gives the last batch of them, and those of which nothing is left; `None` if there are no more.
    fn gone(
        &self,
        host: i64,
        given: &Given,
        after: i64,
        is_left: &dyn Fn(&str, i64) -> bool,
    ) -> rusqlite::Result<Option<(i64, Vec<i64>)>> {
        let sql = format!(
            "SELECT batch, manifest FROM {} WHERE host = ? AND manifest IS NOT NULL AND batch > ? AND batch <= ? ORDER BY batch LIMIT {PAGE}",
            proof::TABLE
        );
        let mut statement = self.conn.prepare_cached(&sql)?;
        let mut rows = statement.query((host, after, given.last()))?;
        let (mut end, mut gone) = (None, Vec::new());
        while let Some(row) = rows.next()? {
            let batch = row.get(0)?;
            end = Some(batch);
            let bytes = row.get_ref(1)?.as_blob_or_null().unwrap_or_default();
            let manifest = bytes.and_then(|bytes| Manifest::decode(bytes).ok());
            if manifest.is_some_and(|manifest| given.is_gone(batch, &manifest, is_left)) {
                gone.push(batch);
            }
        }
        Ok(end.map(|end| (end, gone)))
    }

    /// What was given up, by host.
    fn given(&self) -> rusqlite::Result<HashMap<i64, Given>> {
        let stored = Dialect::Sqlite.stored_name(RetentionInfo::TABLE);
        let sql = format!("SELECT host, tablename, beforekey, firstbatch, lastbatch FROM {stored}");
        let mut hosts: HashMap<i64, Given> = HashMap::new();
        let mut statement = self.conn.prepare(&sql)?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            let table: String = row.get(1)?;
            hosts.entry(row.get(0)?).or_default().add(&table, row.get(2)?, (row.get(3)?, row.get(4)?));
        }
        Ok(hosts)
    }

    /// The keys of the host's rows that are there still below the bounds, by table.
    fn left(&self, host: i64, given: &Given) -> rusqlite::Result<HashMap<&'static str, HashSet<i64>>> {
        let mut left = HashMap::new();
        for table in ACTIVITIES {
            let Some(bound) = given.bounds.get(table.name) else { continue };
            let (key, stored) = (table.key, Dialect::Sqlite.stored_name(table));
            let sql = format!("SELECT {key} FROM {stored} WHERE host = ? AND {key} < ?");
            let keys = self
                .conn
                .prepare(&sql)?
                .query_map((host, bound), |row| row.get(0))?
                .collect::<Result<_, _>>()?;
            left.insert(table.name, keys);
        }
        Ok(left)
    }
}

/// A number above those of all rows of the host that record acts before: none of them is replaced, whatever the clock says.
fn free_record(conn: &Connection, host: i64) -> rusqlite::Result<i64> {
    let stored = Dialect::Sqlite.stored_name(RetentionInfo::TABLE);
    let sql = format!("SELECT coalesce(max(retentionid) + 1, 0) FROM {stored} WHERE host = ?");
    conn.query_row(&sql, [host], |row| row.get(0))
}

/// The expression that is 1 for a row below the bound that is over: it has ended before the first day that is kept.
fn over(table: &TableDef, days: Days) -> String {
    if table.is_interval() { format!("destroyed < '{}'", days.before) } else { "1".to_owned() }
}
