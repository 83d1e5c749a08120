//! A close look at the batches that do not hold what they should: which rows answer which entries of their manifests.

use std::{
    collections::HashMap,
    sync::atomic::{AtomicU64, Ordering},
};

use super::rows::{Book, Reading, Said, position};
use crate::{Leaf, Manifest, Part, Refusals};

/// Bytes of manifests that are looked at together.
pub(super) const TOGETHER: usize = 64 << 20;
/// Rows that answer nothing, and entries that nothing answers, that are remembered; what is more is counted.
pub(super) const MOST: usize = 100_000;

/// A batch that is looked at.
#[derive(Debug)]
pub(super) struct Suspect {
    manifest: Manifest,
    refused: Refusals,
    seen: Vec<AtomicU64>,
}

impl Suspect {
    pub(super) fn new(manifest: Manifest, refused: Refusals) -> Self {
        let seen = (0..manifest.len().div_ceil(64)).map(|_| AtomicU64::new(0)).collect();
        Suspect { manifest, refused, seen }
    }

    /// Bytes that it takes, about.
    pub(super) fn weight(&self) -> usize {
        self.manifest.len() * 25 + 256
    }
}

/// The batches that are looked at together, by host and number.
pub(super) type Suspects = HashMap<(i64, i64), Suspect>;

/// A part of a row that answers no entry of the batch that it names.
#[derive(Debug, Clone, Copy)]
pub(super) struct Odd {
    pub(super) said: Said,
    pub(super) table: usize,
    pub(super) part: Part,
    /// The batch that it names for this part.
    pub(super) batch: i64,
    pub(super) leaf: Leaf,
    /// The batch has the entry, and the store is said to have refused it.
    pub(super) is_refused: bool,
}

impl Odd {
    pub(super) fn new(reading: &Reading, said: Said, part: Part, batch: i64) -> Self {
        let leaf = reading.leaf(part, said.key);
        Odd { said, table: reading.table, part, batch, leaf, is_refused: false }
    }
}

/// An entry that no row answers.
#[derive(Debug, Clone, Copy)]
pub(super) struct Missing {
    pub(super) host: i64,
    pub(super) batch: i64,
    pub(super) table: usize,
    pub(super) part: Part,
    pub(super) key: i64,
    pub(super) leaf: Leaf,
}

/// Looks for the parts of a row among the entries of the batches that it names.
pub(super) fn look(
    suspects: &Suspects,
    book: &Book,
    reading: &Reading,
    said: Said,
    odd: &mut impl FnMut(Odd),
) {
    if said.key < book.bounds[reading.table] {
        return;
    }
    let mut look = |batch: i64, part: Part| {
        let Some(suspect) = suspects.get(&(said.host, batch)) else { return };
        let table = luarm_schema::TABLES[reading.table].name;
        let mut found = Odd::new(reading, said, part, batch);
        if let Some(place) = place(&suspect.manifest, table, part, said.key, &found.leaf) {
            if suspect.refused.contains(place) {
                found.is_refused = true;
            } else {
                let bit = 1 << (place % 64);
                let before = suspect.seen[place / 64].fetch_or(bit, Ordering::Relaxed);
                if before & bit == 0 {
                    return;
                }
            }
        }
        odd(found);
    };
    look(said.batch, said.part());
    if let Some(batch) = said.end() {
        look(batch, Part::End);
    }
}

/// The place of the entry with that leaf.
pub(super) fn place(manifest: &Manifest, table: &str, part: Part, key: i64, leaf: &Leaf) -> Option<usize> {
    let (place, found) = manifest.find(table, part, key)?;
    (found == *leaf).then_some(place)
}

/// The entries that nothing answered.
pub(super) fn missing(suspects: &Suspects, books: &HashMap<i64, Book>, each: &mut impl FnMut(Missing)) {
    for ((host, batch), suspect) in suspects {
        let Some(book) = books.get(host) else { continue };
        for (at, (table, part, key, leaf)) in suspect.manifest.entries().enumerate() {
            let is_seen = suspect.seen[at / 64].load(Ordering::Relaxed) & (1 << (at % 64)) != 0;
            let Some(table) = position(table).filter(|_| !is_seen && !suspect.refused.contains(at)) else {
                continue;
            };
            if key >= book.bounds[table] {
                each(Missing { host: *host, batch: *batch, table, part, key, leaf });
            }
        }
    }
}
