//! Rows against manifests, as sums: which batches do not hold what they should.
//!
//! Every entry of a manifest, and every part of a row's life that the store has, is a number: a keyed hash (SipHash, under keys that nobody knows before the verification
//! begins) of table, part, key and leaf. For each batch the numbers of the rows are added, and those of the manifest taken away: what does not come to
//! nothing is looked at closely. So rows and manifests pass once, in any order, whichever threads take them, and 24 bytes for each batch is all that is remembered.

use std::{
    collections::HashMap,
    hash::{BuildHasher, Hasher, RandomState},
    sync::atomic::{AtomicU64, Ordering},
};

use luarm_schema::{Role, SERVER_MADE, STORE_MADE, TABLES, TableDef, Value, tables::BatchInfo};

use super::ledger::Listed;
use crate::{Leaf, Manifest, Part, Refusals, Stored};

/// Hashes entries under keys of its own.
#[derive(Debug, Clone)]
pub(super) struct Sieve([RandomState; 2]);

/// The number that an entry stands for.
pub(super) type Number = [u64; 2];

impl Sieve {
    pub(super) fn new() -> Self {
        Sieve([RandomState::new(), RandomState::new()])
    }

    pub(super) fn number(&self, table: usize, part: Part, key: i64, leaf: &Leaf) -> Number {
        let [one, other] = &self.0;
        // Whole words at once are hashed twice as fast as one after the other.
        let mut words = [[0; 8]; 4];
        words[0] = ((table as u64) << 8 | u64::from(part.tag())).to_le_bytes();
        words[1] = key.to_le_bytes();
        let (halves, _) = leaf.as_chunks();
        words[2..].copy_from_slice(halves);
        let hash = |state: &RandomState| {
            let mut hasher = state.build_hasher();
            hasher.write(words.as_flattened());
            hasher.finish()
        };
        [hash(one), hash(other)]
    }
}

/// One batch.
#[derive(Debug)]
struct Slot {
    batch: i64,
    sum: [AtomicU64; 2],
    /// Whether its rows can be compared with a manifest.
    is_known: std::sync::atomic::AtomicBool,
}

/// The batches of one host.
#[derive(Debug)]
pub(super) struct Book {
    pub(super) host: i64,
    slots: Vec<Slot>,
    /// The last batch that is verified: what names a later one came meanwhile.
    pub(super) last: i64,
    /// Below these keys rows were given up, by the table's place in [`TABLES`].
    pub(super) bounds: Vec<i64>,
}

impl Book {
    /// Of the batches in the host's ledger.
    pub(super) fn new(host: i64, listed: &[Listed]) -> Self {
        let slot = |listed: &Listed| Slot {
            batch: listed.batch,
            sum: [AtomicU64::new(0), AtomicU64::new(0)],
            is_known: listed.has_manifest.into(),
        };
        let slots: Vec<Slot> = listed.iter().map(slot).collect();
        let last = slots.last().map_or(0, |slot| slot.batch);
        Book { host, slots, last, bounds: vec![i64::MIN; TABLES.len()] }
    }

    fn place(&self, batch: i64) -> Option<usize> {
        let first = self.slots.first()?.batch;
        // Without gaps it is where it has to be.
        let guess = usize::try_from(batch.checked_sub(first)?).ok()?;
        match self.slots.get(guess) {
            Some(slot) if slot.batch == batch => Some(guess),
            _ => self.slots.binary_search_by_key(&batch, |slot| slot.batch).ok(),
        }
    }

    /// Whether the ledger has that batch.
    pub(super) fn has(&self, batch: i64) -> bool {
        self.place(batch).is_some()
    }

    /// Its rows cannot be compared.
    pub(super) fn forget(&self, batch: i64) {
        if let Some(place) = self.place(batch) {
            self.slots[place].is_known.store(false, Ordering::Relaxed);
        }
    }

    fn add(&self, place: usize, number: Number) {
        for (lane, n) in self.slots[place].sum.iter().zip(number) {
            lane.fetch_add(n, Ordering::Relaxed);
        }
    }

    /// Takes the numbers of a manifest away. Gives how many rows and ends it has, and whether it names a table that is not known.
    pub(super) fn subtract(
        &self,
        batch: i64,
        sieve: &Sieve,
        manifest: &Manifest,
        refused: &Refusals,
    ) -> (i64, i64, bool) {
        let (mut sum, mut rows, mut ends, mut is_strange) = ([0u64; 2], 0, 0, false);
        let mut known: (&str, Option<usize>) = ("", None);
        for (at, (table, part, key, leaf)) in manifest.entries().enumerate() {
            match part {
                Part::End => ends += 1,
                Part::Begin | Part::Whole => rows += 1,
            }
            if known.0 != table {
                known = (table, position(table));
            }
            let Some(table) = known.1 else {
                is_strange = true;
                continue;
            };
            if key < self.bounds[table] || refused.contains(at) {
                continue;
            }
            let number = sieve.number(table, part, key, &leaf);
            sum = [sum[0].wrapping_add(number[0]), sum[1].wrapping_add(number[1])];
        }
        if let Some(place) = self.place(batch) {
            self.add(place, sum.map(u64::wrapping_neg));
        }
        (rows, ends, is_strange)
    }

    /// The batches that do not hold what they should.
    pub(super) fn suspects(&self) -> impl Iterator<Item = i64> {
        let is_off = |slot: &&Slot| {
            slot.is_known.load(Ordering::Relaxed)
                && slot.sum.iter().any(|lane| lane.load(Ordering::Relaxed) != 0)
        };
        self.slots.iter().filter(is_off).map(|slot| slot.batch)
    }
}

/// Where the table of that name stands in [`TABLES`].
pub(super) fn position(name: &str) -> Option<usize> {
    TABLES.iter().position(|table| table.name == name)
}

/// Whether rows of the table are in manifests.
pub(crate) fn is_sealed(table: &TableDef) -> bool {
    table.name != BatchInfo::TABLE.name && STORE_MADE.iter().all(|made| made.name != table.name)
}

/// Whether a server makes rows of the table itself.
pub(super) fn is_servers(table: &TableDef) -> bool {
    SERVER_MADE.iter().any(|made| made.name == table.name)
}

/// A stored row, taken apart.
#[derive(Debug)]
pub(super) struct Reading {
    pub(super) table: usize,
    begins: usize,
    ends: usize,
    key: usize,
    stored: Stored,
}

/// What a row says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Said {
    pub(super) host: i64,
    pub(super) key: i64,
    pub(super) batch: i64,
    pub(super) dbatch: Option<i64>,
    /// Whether `md5sum` is that of its values.
    pub(super) is_summed: bool,
    /// Whether a value that ends it is there.
    pub(super) has_end: bool,
}

impl Said {
    /// The part that its batch has to hold.
    pub(super) fn part(&self) -> Part {
        if self.dbatch == Some(self.batch) { Part::Whole } else { Part::Begin }
    }

    /// The batch that has to hold its end, if that is another one.
    pub(super) fn end(&self) -> Option<i64> {
        self.dbatch.filter(|dbatch| *dbatch != self.batch)
    }
}

impl Reading {
    pub(super) fn new(table: usize) -> Self {
        let def = TABLES[table];
        let of = |role: Role| def.columns.iter().filter(|column| column.role == role).count();
        let key = def.stored().position(|column| column.name == def.key).unwrap_or_default();
        let (begins, ends) = (of(Role::Begin), of(Role::End));
        Reading { table, begins, ends, key, stored: Stored::default() }
    }

    /// Takes a row apart; `None` for one that cannot be named.
    pub(super) fn take(&mut self, values: &[Value<'_>]) -> Option<Said> {
        let int = |value: Option<&Value<'_>>| match value {
            Some(Value::Int(n)) => Some(*n),
            _ => None,
        };
        let (begun, ended) = (1 + self.begins, 1 + self.begins + self.ends);
        let (host, key) = (int(values.first())?, int(values.get(self.key))?);
        self.stored.clear();
        for value in values.get(1..begun)? {
            self.stored.put_begin(*value);
        }
        for value in values.get(begun..ended)? {
            self.stored.put_end(*value);
        }
        let is_summed =
            matches!(values.get(ended)?, Value::Text(sum) if sum.as_bytes() == self.stored.md5sum());
        Some(Said {
            host,
            key,
            batch: int(values.get(ended + 1)).unwrap_or(i64::MIN),
            dbatch: int(values.get(ended + 2)),
            is_summed,
            has_end: self.stored.has_end(),
        })
    }

    /// The leaf of a part of the row that was taken last.
    pub(super) fn leaf(&self, part: Part, key: i64) -> Leaf {
        self.stored.leaf(TABLES[self.table].name, part, key)
    }
}

/// Adds the numbers of rows, a few at a time.
pub(super) struct Adder<'a> {
    books: &'a HashMap<i64, Book>,
    sieve: &'a Sieve,
    /// The book that was asked for last.
    latest: Option<&'a Book>,
    /// Host, and the place of the batch that the sum is of.
    present: Option<(&'a Book, usize)>,
    sum: Number,
}

impl<'a> Adder<'a> {
    pub(super) fn new(books: &'a HashMap<i64, Book>, sieve: &'a Sieve) -> Self {
        Adder { books, sieve, latest: None, present: None, sum: [0; 2] }
    }

    /// The book of that host.
    pub(super) fn book(&mut self, host: i64) -> Option<&'a Book> {
        if self.latest.is_none_or(|book| book.host != host) {
            self.latest = self.books.get(&host);
        }
        self.latest
    }

    /// Adds a part of a row. `false` if the book has no such batch.
    pub(super) fn add(
        &mut self,
        book: &'a Book,
        batch: i64,
        reading: &Reading,
        part: Part,
        key: i64,
    ) -> bool {
        let is_present = |(present, place): (&Book, usize)| {
            present.host == book.host && present.slots[place].batch == batch
        };
        if !self.present.is_some_and(is_present) {
            self.flush();
            match book.place(batch) {
                Some(place) => self.present = Some((book, place)),
                None => return false,
            }
        }
        let number = self.sieve.number(reading.table, part, key, &reading.leaf(part, key));
        self.sum = [self.sum[0].wrapping_add(number[0]), self.sum[1].wrapping_add(number[1])];
        true
    }

    pub(super) fn flush(&mut self) {
        if let Some((book, place)) = self.present.take() {
            book.add(place, std::mem::take(&mut self.sum));
        }
    }
}
