//! Appending batches of one host to a server's database.

use std::{collections::HashSet, time::Duration};

use luarm_chain::{Notary, Part};
use luarm_schema::{
    Batch, End, Resume, Row, STORE_MADE, TABLES, TableDef,
    bulk::{Bulk, Ending},
    canonical::{Canonical, md5sum},
    tables::BatchInfo,
};

use super::{
    Class, Connection, Failure, Keeping, Session, places,
    registry::{self, Known},
    resume,
};
use crate::{
    Appended, HostIdentity, Refused, StoreError, StoreUrl, Stored,
    error::Trouble,
    proof::{self, Proof},
    writer,
};

/// How long one batch may take before the server counts as gone.
const LIMIT: Duration = Duration::from_secs(120);
/// How often a batch is tried at once when it collides with another writer, or when the connection broke.
const TRIES: u32 = 4;

/// The one who appends the batches of one host.
#[derive(Debug)]
pub(crate) struct Appender<S: Session> {
    connection: Connection<S>,
    host: Known,
    machine_id: String,
    appended: Appended,
}

/// What became of a batch.
enum Outcome {
    Stored(Appended, Stored),
    /// It was there already.
    Same,
    /// Another one was there already.
    Conflict,
    Gap(i64),
    /// It does not follow in the host's chain.
    Flawed(StoreError),
}

impl<S: Session> Appender<S> {
    /// Opens the store for the host, which gets a number if it has none.
    pub(crate) fn open(url: &StoreUrl, identity: &HostIdentity) -> Result<Self, StoreError> {
        let mut connection = Connection::<S>::open(url, Keeping::Appending)?;
        let found = connection
            .with(Some(LIMIT), async |session: &mut S| registry::find_or_make(session, identity).await)
            .map_err(|f| f.of("find the host in", url))?;
        let mut host = found.host(url, identity)?;
        if !host.placed {
            connection
                .with(Some(LIMIT), async |session: &mut S| places::try_make(session, &mut host).await)
                .map_err(|f| f.of("make the host's views in", url))?;
        }
        let machine_id = identity.machine_id.clone();
        Ok(Appender { connection, host, machine_id, appended: Appended::default() })
    }

    /// What the store remembers of the host.
    pub(crate) fn resume(&mut self) -> Result<Resume, StoreError> {
        let host = self.host.host;
        let read = async |session: &mut S| resume::resume(session, host).await;
        self.connection.with(Some(LIMIT), read).map_err(|f| f.of("read", &self.connection.url))
    }

    /// The last batch that is stored, 0 for none.
    pub(crate) fn last_batch(&mut self) -> Result<i64, StoreError> {
        let host = self.host.host;
        let read = async |session: &mut S| resume::last_batch(session, host).await;
        self.connection.with(Some(LIMIT), read).map_err(|f| f.of("read", &self.connection.url))
    }

    /// Stores a batch; see [`crate::Writer::append`].
    pub(crate) fn append(&mut self, batch: &Batch) -> Result<Vec<Refused>, StoreError> {
        let of = (self.host.host, self.machine_id.as_str());
        let (done, stored) = store(&mut self.connection, of, batch, None)?;
        self.appended.add(done);
        Ok(stored.refused)
    }

    pub(crate) fn appended(&self) -> Appended {
        self.appended
    }
}

/// Stores a batch of the host of that number and machine id, wholly and durably, or on an error not at all.
///
/// When the connection breaks before the server's answer to the commit, nobody knows whether the batch is stored: the next try finds out, by
/// the ledger, because the row that it locks is free only once the first transaction has ended, one way or the other.
pub(super) fn store<S: Session>(
    connection: &mut Connection<S>,
    host: (i64, &str),
    batch: &Batch,
    notary: Option<&Notary>,
) -> Result<(Appended, Stored), StoreError> {
    let mut tries = 0;
    let outcome = loop {
        tries += 1;
        let attempt = async |session: &mut S| attempt(session, host, batch, notary).await;
        match connection.with(Some(LIMIT), attempt) {
            Ok(outcome) => break outcome,
            Err(failure) if tries < TRIES && failure.is(Trouble::Contended) => {}
            // Once: the server may have been restarted between two batches.
            Err(failure) if tries == 1 && failure.is(Trouble::Lost) => {}
            Err(failure) => return Err(failure.of("append to", &connection.url)),
        }
    };
    match outcome {
        Outcome::Stored(done, stored) => Ok((done, stored)),
        Outcome::Same => Ok(Default::default()),
        Outcome::Flawed(error) => Err(error),
        Outcome::Conflict => Err(StoreError::Conflict { id: batch.id }),
        Outcome::Gap(last) => Err(StoreError::Gap { last, got: batch.id }),
    }
}

async fn attempt<S: Session>(
    session: &mut S,
    (host, machine_id): (i64, &str),
    batch: &Batch,
    notary: Option<&Notary>,
) -> Result<Outcome, Failure> {
    session.run("BEGIN").await?;
    let locked = format!("SELECT host FROM luarmhost WHERE host = {host} FOR UPDATE");
    if session.ask(&locked, &[]).await?.is_empty() {
        return Err(Failure::trouble(Trouble::Missing, format!("host {host} is no longer registered")));
    }
    let last = resume::last_batch(session, host).await?;
    if batch.id != last + 1 {
        let outcome = match batch.id <= last {
            true if is_same(session, host, batch).await? => Outcome::Same,
            true => Outcome::Conflict,
            false => Outcome::Gap(last),
        };
        session.run("ROLLBACK").await?;
        return Ok(outcome);
    }
    let mut followed = proof::Followed::default();
    if notary.is_some() {
        let before = resume::tip(session, host, last).await?;
        match proof::follows(machine_id, before.as_ref(), batch) {
            Ok(follows) => followed = follows,
            Err(error) => {
                session.run("ROLLBACK").await?;
                return Ok(Outcome::Flawed(error));
            }
        }
    }
    let mut work = Work { session, host, batch: batch.id, outcome: writer::Outcome::default() };
    let mut rows: Vec<Vec<&Row>> = vec![Vec::new(); TABLES.len()];
    for row in &batch.rows {
        rows[row.position()].push(row);
    }
    // The ledger's row comes first: where two nodes of a cluster store one batch at the same time, that is what they collide at.
    let ledger = TABLES.iter().zip(&mut rows).find(|(table, _)| is_ledger(table));
    if let Some((table, rows)) = ledger {
        work.rows(table, std::mem::take(rows)).await?;
    }
    for (table, rows) in TABLES.iter().zip(rows) {
        work.rows(table, rows).await?;
    }
    let mut ends: Vec<Vec<&(i64, End)>> = vec![Vec::new(); TABLES.len()];
    for end in &batch.ends {
        ends[end.1.position()].push(end);
    }
    for (table, ends) in TABLES.iter().zip(ends) {
        work.ends(table, &ends, &batch.rows).await?;
    }
    let Work { outcome, .. } = work;
    let mut receipt = None;
    if let Some(proof) = Proof::of(machine_id, batch, &outcome, notary) {
        keep_proof(session, host, batch.id, &proof).await?;
        receipt = proof.receipt();
    }
    session.run("COMMIT").await?;
    let done = Appended { batches: 1, ..outcome.done };
    let proof::Followed { restarted, publickey } = followed;
    Ok(Outcome::Stored(done, Stored { refused: outcome.refused, publickey, restarted, receipt }))
}

async fn keep_proof<S: Session>(
    session: &mut S,
    host: i64,
    batch: i64,
    proof: &Proof<'_>,
) -> Result<(), Failure> {
    let received = proof.received().map_or_else(|| "NULL".to_owned(), |at| at.to_string());
    let sql = format!(
        "INSERT INTO {} (host, batch, manifest, root, refused, received, receipt, signer) VALUES ({host}, {batch}, ?, ?, ?, {received}, ?, ?)",
        proof::TABLE
    );
    let (refused, signature) = (proof.refused(), proof.signature());
    let values = [
        Some(proof.manifest),
        Some(&proof.root[..]),
        refused.as_deref(),
        signature.as_ref().map(|signature| &signature[..]),
        proof.signer.as_ref().map(|signer| &signer[..]),
    ];
    session.put(&sql, &values).await.map(drop)
}

fn is_ledger(table: &TableDef) -> bool {
    table.name == BatchInfo::TABLE.name
}

/// Whether the batch's last row is the one that is stored.
async fn is_same<S: Session>(session: &mut S, host: i64, batch: &Batch) -> Result<bool, Failure> {
    let mut bytes = Canonical::default();
    if let Some(row) = batch.rows.last() {
        row.begin(&mut bytes);
    }
    let sql = format!("SELECT md5sum FROM batchinfo WHERE host = {host} AND batchid = {}", batch.id);
    let stored = session.ask(&sql, &[]).await?;
    let stored = stored.first().and_then(|row| row.first()).and_then(super::Datum::text);
    Ok(stored.is_some_and(|s| s.as_bytes() == md5sum(&bytes.0)))
}

/// The inside of one transaction.
struct Work<'a, S: Session> {
    session: &'a mut S,
    host: i64,
    batch: i64,
    outcome: writer::Outcome,
}

impl<S: Session> Work<'_, S> {
    /// The first one in a batch is told: what a host sends must not fill the log of its server.
    fn refuse(&mut self, table: &'static TableDef, (key, part): (i64, Part), why: impl std::fmt::Display) {
        if self.outcome.refused.is_empty() {
            tracing::error!(table = table.name, key, "a row cannot be stored, and is counted as lost: {why}");
        }
        self.outcome.refused.push(Refused { table: table.name, key, part });
    }

    /// Loads the rows of one table. When the engine refuses one, the stream is halved until it is found.
    async fn rows(&mut self, table: &'static TableDef, mut rows: Vec<&Row>) -> Result<(), Failure> {
        if STORE_MADE.iter().any(|t| t.name == table.name) {
            for row in rows.drain(..) {
                self.refuse(table, of(row), "only the store itself makes rows of this table");
            }
        }
        let mut parts = vec![rows];
        while let Some(part) = parts.pop() {
            let mut stream = Bulk::<S::Encoding>::new(table);
            let mut within = Vec::with_capacity(part.len());
            for row in part {
                match stream.push(self.host, self.batch, row) {
                    Ok(()) => within.push(row),
                    Err(error) => self.refuse(table, of(row), error),
                }
            }
            let count = within.len() as u64;
            if count == 0 {
                continue;
            }
            self.session.run("SAVEPOINT loading").await?;
            match self.session.load(table, stream.finish(), count).await {
                Ok(()) => self.outcome.done.rows += count,
                Err(failure) if matches!(failure.class, Class::Row | Class::Doubled) => {
                    self.session.run("ROLLBACK TO SAVEPOINT loading").await?;
                    if is_ledger(table) && resume::last_batch(self.session, self.host).await? >= self.batch {
                        // It was not there when this transaction began.
                        return Err(Failure::trouble(Trouble::Contended, failure.detail));
                    }
                    if let [row] = within[..] {
                        self.refuse(table, of(row), failure.detail);
                    } else {
                        // The earlier half first: of two rows with one key the first is stored.
                        let later = within.split_off(within.len() / 2);
                        parts.extend([later, within]);
                    }
                }
                Err(failure) => return Err(failure),
            }
        }
        Ok(())
    }

    /// Ends rows of one table, which are not among `rows` as a rule. Of two ends of one row the first counts.
    async fn ends(
        &mut self,
        table: &'static TableDef,
        ends: &[&(i64, End)],
        rows: &[Row],
    ) -> Result<(), Failure> {
        if ends.is_empty() || !table.is_interval() {
            return Ok(());
        }
        let mut stream = Ending::<S::Encoding>::new(table);
        let mut keys = HashSet::with_capacity(ends.len());
        let before = self.outcome.refused.len();
        let mut unmatched = Vec::new();
        for (key, end) in ends {
            if keys.contains(key) {
                unmatched.push(*key);
                continue;
            }
            match stream.push(*key, end) {
                Ok(()) => _ = keys.insert(*key),
                Err(error) => self.refuse(table, (*key, Part::End), error),
            }
        }
        let refused = (self.outcome.refused.len() - before) as u64;
        let count = keys.len() as u64;
        let ended = match count {
            0 => 0,
            _ => self.session.end(table, self.host, self.batch, stream.finish(), count).await?,
        };
        self.outcome.done.ends += ended;
        if ended < count {
            unmatched.extend(self.unmatched(table, rows).await?);
        }
        self.outcome.unmatched.extend(unmatched.into_iter().map(|key| (table.name, key)));
        let unmatched = (ends.len() as u64).saturating_sub(ended + refused);
        if unmatched > 0 {
            if self.outcome.done.unmatched == 0 {
                tracing::warn!(
                    host = self.host,
                    batch = self.batch,
                    table = table.name,
                    count = unmatched,
                    "ends came for rows that are not stored or have ended; further ones in this batch are not told"
                );
            }
            self.outcome.done.unmatched += unmatched;
        }
        Ok(())
    }

    /// The keys of the ends that found no row to end.
    async fn unmatched(&mut self, table: &'static TableDef, rows: &[Row]) -> Result<Vec<i64>, Failure> {
        let sql = S::DIALECT.unended(table, self.host, self.batch);
        let found = self.session.ask(&sql, &[]).await?;
        let mut keys: Vec<i64> = found.iter().filter_map(|row| row.first()?.int()).collect();
        // They look as if this batch had ended them, and so it has, but by themselves.
        let whole =
            rows.iter().filter(|row| row.table().name == table.name && Part::of_row(row) == Part::Whole);
        let whole: HashSet<i64> = whole.map(Row::key).collect();
        if !whole.is_empty() {
            let sql = format!("SELECT k FROM {}", S::DIALECT.ending_name(table));
            let ends = self.session.ask(&sql, &[]).await?;
            keys.extend(ends.iter().filter_map(|row| row.first()?.int()).filter(|key| whole.contains(key)));
        }
        Ok(keys)
    }
}

fn of(row: &Row) -> (i64, Part) {
    (row.key(), Part::of_row(row))
}
