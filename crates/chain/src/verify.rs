//! Recomputing everything from the tables themselves: are they what the hosts sealed?
//!
//! [`verify`] walks along each host's ledger, then takes every manifest and every row once, in several threads. What names a later batch than the last
//! one that was there at the beginning came meanwhile and is left to the next time, so that recorders and servers need not stop.

mod close;
mod exact;
mod explain;
mod finding;
mod history;
mod ledger;
mod marks;
mod report;
mod retention;
mod rows;
mod spread;

use std::{
    collections::HashMap,
    sync::atomic::{AtomicU64, Ordering},
};

use ed25519_dalek::VerifyingKey;
use luarm_schema::TABLES;
use sha2::{Digest, Sha256 as Hasher};

use self::{
    exact::MOST,
    ledger::{Listed, Walk},
    marks::{Marks, push},
    retention::Stubs,
    rows::{Adder, Book, Reading, Sieve},
    spread::{Pool, spread},
};
pub use self::{
    finding::{Change, Finding},
    history::{Entry, History, HostFacts, LedgerRow, Portion, Proof, StoredManifest, Trouble},
    report::{Report, Verified},
};
pub(crate) use self::{ledger::receipt, rows::is_sealed};
use crate::{Head, Manifest, Refusals, Sha256};

/// Findings that are told; what is more is counted.
const TOLD: usize = 10_000;
/// Batches whose manifests one thread takes at a time.
const STRETCH: usize = 64;

/// What was there once, and has to be there still.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Witness {
    /// The host's machine id.
    pub machine_id: String,
    /// The host's name, as it was.
    pub host: String,
    /// A batch.
    pub batch: i64,
    /// Its digest.
    pub digest: Sha256,
    /// Who says so, for people.
    pub origin: String,
}

impl Witness {
    /// A head that was read from somewhere.
    pub fn of(head: &Head, origin: String) -> Option<Self> {
        let (machine_id, host) = (head.machineid.clone(), head.host.clone());
        Some(Witness { machine_id, host, batch: head.batch, digest: head.digest()?, origin })
    }
}

/// How to verify.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Only this host, by name or machine id.
    pub host: Option<String>,
    /// The servers' keys that are believed.
    pub keys: Vec<VerifyingKey>,
    /// Further keys that are believed of what retention says.
    pub stub_keys: Vec<VerifyingKey>,
    /// What has to be there.
    pub witnesses: Vec<Witness>,
    /// How many threads.
    pub threads: usize,
}

/// How far it is; may be asked from another thread.
#[derive(Debug, Default)]
pub struct Progress {
    /// Shares of work that are done.
    pub done: AtomicU64,
    /// All shares, once they are known.
    pub all: AtomicU64,
    /// Rows so far.
    pub rows: AtomicU64,
}

/// No computer of that name is in the store.
#[derive(Debug, thiserror::Error)]
#[error("no host {name:?} in this store; it has {known}")]
pub struct NoHost {
    name: String,
    known: String,
}

/// Verifies what a store holds. `open` gives a connection to it, in whichever thread.
pub fn verify<H: History + Send>(
    open: &(dyn Fn() -> Result<H, Trouble> + Sync),
    options: &Options,
    progress: &Progress,
) -> Result<Report, Trouble> {
    let pool = Pool::new(open);
    let mut history = pool.take()?;
    let hosts = chosen(history.hosts()?, options)?;
    let only = options.host.as_ref().and(hosts.first()).map(|host| host.number);
    let mut verification = Verification {
        pool: &pool,
        options,
        progress,
        only,
        sieve: Sieve::new(),
        report: Report::default(),
        books: HashMap::new(),
        listed: HashMap::new(),
        stubs: Stubs::default(),
        machine_ids: HashMap::new(),
        portions: Vec::new(),
    };
    verification.ledgers(&hosts)?;
    verification.retention(&mut history)?;
    let marks = verification.rows()?;
    verification.explain(&mut history, marks)?;
    Ok(verification.report.finish(&hosts, TOLD))
}

/// The hosts to verify. What a witness calls a host's machine id may be it.
fn chosen(mut hosts: Vec<HostFacts>, options: &Options) -> Result<Vec<HostFacts>, Trouble> {
    for host in &mut hosts {
        let more = options.witnesses.iter().filter(|w| w.host == host.name).map(|w| &w.machine_id);
        for id in more {
            if !host.machine_ids.contains(id) {
                host.machine_ids.push(id.clone());
            }
        }
    }
    let Some(name) = &options.host else { return Ok(hosts) };
    let is = |host: &HostFacts| host.name == *name || host.machine_ids.contains(name);
    match hosts.iter().filter(|host| is(host)).count() {
        1 => Ok(hosts.into_iter().filter(is).collect()),
        _ => {
            let known: Vec<String> = hosts
                .iter()
                .map(|host| format!("{:?} ({})", host.name, host.machine_ids.join(", ")))
                .collect();
            let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
            Err(NoHost { name: name.clone(), known }.into())
        }
    }
}

struct Verification<'a, H> {
    pool: &'a Pool<'a, H>,
    options: &'a Options,
    progress: &'a Progress,
    /// The one host that is verified, if it is one.
    only: Option<i64>,
    sieve: Sieve,
    report: Report,
    books: HashMap<i64, Book>,
    listed: HashMap<i64, Vec<Listed>>,
    stubs: Stubs,
    /// Whose digests the hosts' are.
    machine_ids: HashMap<i64, String>,
    /// The shares of all rows that manifests have.
    portions: Vec<Portioned>,
}

/// A share of the rows of the table at that place.
type Portioned = (usize, Portion);

/// A share of the work.
enum Work {
    /// The manifests of a host from that batch to that one.
    Manifests(i64, i64, i64),
    /// Rows of the table at that place.
    Rows(usize, Portion),
}

impl<H: History + Send> Verification<'_, H> {
    fn threads(&self) -> usize {
        self.options.threads.max(1)
    }

    fn ledgers(&mut self, hosts: &[HostFacts]) -> Result<(), Trouble> {
        self.progress.all.fetch_add(hosts.len() as u64, Ordering::Relaxed);
        let walked =
            spread(self.pool, self.threads(), hosts, |history: &mut H, host, walks: &mut Vec<_>| {
                let mut page = history.entries(host.number, i64::MIN)?;
                let wanted = self.options.witnesses.iter().map(|witness| witness.batch).collect();
                let mut walk = Walk::new(host, &self.options.keys, &page, wanted);
                while let Some(last) = page.last().map(|entry| entry.batch) {
                    page.iter().for_each(|entry| walk.take(entry));
                    if last == i64::MAX {
                        break;
                    }
                    page = history.entries(host.number, last)?;
                }
                walk.finish();
                self.progress.done.fetch_add(1, Ordering::Relaxed);
                walks.push(walk);
                Ok(())
            })?;
        let mut walks: Vec<Walk<'_>> = walked.into_iter().flatten().collect();
        walks.sort_by_key(|walk| walk.host().number);
        for walk in &mut walks {
            self.books.insert(walk.host().number, Book::new(walk.host().number, &walk.listed));
            let machine_id = walk.machine_id().map(str::to_owned);
            self.machine_ids.extend(machine_id.map(|id| (walk.host().number, id)));
            self.report.host(walk);
            self.listed.insert(walk.host().number, std::mem::take(&mut walk.listed));
        }
        for witness in &self.options.witnesses {
            self.report.witness(witness, &walks, self.only.is_some());
        }
        Ok(())
    }

    fn retention(&mut self, history: &mut H) -> Result<(), Trouble> {
        self.stubs = self.stubs_now(history)?;
        for (host, book) in &mut self.books {
            book.bounds = self.stubs.bounds(*host);
        }
        for (host, key, detail) in &self.stubs.wrong {
            self.report.retention(*host, *key, detail);
        }
        Ok(())
    }

    /// What retention says at this moment.
    fn stubs_now(&self, history: &mut H) -> Result<Stubs, Trouble> {
        let keys = [&self.options.keys[..], &self.options.stub_keys[..]].concat();
        retention::read(history, self.only, &keys, &self.machine_ids)
    }

    fn divide(&mut self) -> Result<(), Trouble> {
        let tables: Vec<usize> = (0..TABLES.len()).filter(|table| is_sealed(TABLES[*table])).collect();
        let each = |history: &mut H, table: &usize, all: &mut Vec<Portioned>| {
            let portions = history.portions(TABLES[*table], self.only)?;
            all.extend(portions.into_iter().map(|portion| (*table, portion)));
            Ok(())
        };
        let divided = spread(self.pool, self.threads(), &tables, each)?;
        self.portions = divided.into_iter().flatten().collect();
        self.portions.sort_by_key(|(table, portion)| (*table, portion.host, portion.from));
        Ok(())
    }

    /// Takes every manifest and every row once.
    fn rows(&mut self) -> Result<Marks, Trouble> {
        let mut work = Vec::new();
        for (host, listed) in &self.listed {
            for stretch in listed.chunks(STRETCH) {
                if let (Some(first), Some(last)) = (stretch.first(), stretch.last()) {
                    work.push(Work::Manifests(*host, first.batch, last.batch));
                }
            }
        }
        self.divide()?;
        work.extend(self.portions.iter().map(|(table, portion)| Work::Rows(*table, *portion)));
        self.progress.all.fetch_add(work.len() as u64, Ordering::Relaxed);
        let marks = spread(self.pool, self.threads(), &work, |history: &mut H, work, marks: &mut Marks| {
            match work {
                Work::Manifests(host, from, to) => self.manifests(history, *host, *from, *to, marks)?,
                Work::Rows(table, portion) => {
                    let mut reading = Reading::new(*table);
                    let mut adder = Adder::new(&self.books, &self.sieve);
                    let before = marks.rows;
                    history.rows(TABLES[*table], *portion, &mut |values| {
                        marks.rows += 1;
                        if let Some(said) = reading.take(values) {
                            marks.take(&mut adder, &reading, said);
                        } else {
                            marks.untold += 1;
                        }
                    })?;
                    adder.flush();
                    self.progress.rows.fetch_add(marks.rows - before, Ordering::Relaxed);
                    if marks.newer.len() > MOST / 4 {
                        marks.settle(history)?;
                    }
                }
            }
            self.progress.done.fetch_add(1, Ordering::Relaxed);
            Ok(())
        })?;
        let marks = Marks::join(marks);
        self.report.rows = marks.rows;
        Ok(marks)
    }

    fn manifests(
        &self,
        history: &mut H,
        host: i64,
        from: i64,
        to: i64,
        marks: &mut Marks,
    ) -> Result<(), Trouble> {
        let (Some(book), Some(listed)) = (self.books.get(&host), self.listed.get(&host)) else {
            return Ok(());
        };
        history.manifests(host, from, to, &mut |(batch, bytes, refused)| {
            let Ok(place) = listed.binary_search_by_key(&batch, |listed| listed.batch) else { return };
            let mut find = |change, detail: String| {
                push(&mut marks.findings, (host, batch, change, detail), &mut marks.untold);
            };
            let Some(bytes) = bytes else {
                book.forget(batch);
                if !self.stubs.covers(host, batch) {
                    find(Change::ProofMissing, "its manifest is gone, and no retention says so".to_owned());
                }
                return;
            };
            let Some(root) = listed[place].root else { return book.forget(batch) };
            if Sha256::from(Hasher::digest(bytes)) != root {
                book.forget(batch);
                find(Change::ProofChanged, "`manifest` is not the one that `root` stands for".to_owned());
                return;
            }
            let manifest = match Manifest::decode(bytes) {
                Ok(manifest) => manifest,
                Err(error) => {
                    book.forget(batch);
                    return find(Change::ProofChanged, error.to_string());
                }
            };
            let refused = Refusals::decode(refused.unwrap_or_default()).unwrap_or_default();
            let (rows, ends, is_strange) = book.subtract(batch, &self.sieve, &manifest, &refused);
            if is_strange {
                find(Change::ProofChanged, "it names a table that this luarm does not know".to_owned());
            }
            if let Some((said_rows, said_ends)) = listed[place].counts
                && (said_rows, said_ends) != (rows, ends)
            {
                let detail =
                    format!("it says {said_rows} rows and {said_ends} ends, and holds {rows} and {ends}");
                find(Change::CountWrong, detail);
            }
        })
    }
}
