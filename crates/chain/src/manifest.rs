//! What a batch created and ended, row by row.

use luarm_schema::{
    Batch, End, Row, Sink, TABLES, Value,
    canonical::{Canonical, md5sum},
};
use sha2::{Digest, Sha256 as Hasher};

use crate::Sha256;

/// The first 16 bytes of a SHA-256: that of a row, or of what ended it.
pub type Leaf = [u8; LEAF];

const LEAF: usize = 16;

const VERSION: u8 = 1;
/// The longest name of a table, bytes.
const LONGEST_NAME: usize = 64;
/// The most bytes that stand before a row's values in what is digested of it.
const HEAD: usize = 12 + 1 + LONGEST_NAME + 8 + 8;
/// The most groups of a manifest: every table has three at most.
const MOST_GROUPS: u64 = 768;

/// Which part of a row's life a batch holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Part {
    /// It created the row, which had not ended by then.
    Begin,
    /// It created the row, which had ended by then.
    Whole,
    /// It ended a row of an earlier batch.
    End,
}

impl Part {
    const ALL: [Part; 3] = [Part::Begin, Part::Whole, Part::End];

    pub(crate) fn tag(self) -> u8 {
        match self {
            Part::Begin => b'b',
            Part::Whole => b'w',
            Part::End => b'e',
        }
    }

    fn of(tag: u8) -> Option<Self> {
        Part::ALL.into_iter().find(|part| part.tag() == tag)
    }

    /// Which part of a row's life a batch holds that creates it.
    pub fn of_row(row: &Row) -> Self {
        if row.is_ended() && row.table().is_interval() { Part::Whole } else { Part::Begin }
    }
}

/// The rows of one table of which a batch holds the same part.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Group {
    table: String,
    part: Part,
    /// Key and leaf, in the order of keys.
    entries: Vec<(i64, Leaf)>,
}

/// What a batch created and ended. Its own row of `batchinfo` is not in it: the batch's digest covers that.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Manifest {
    /// In the order of table and part.
    groups: Vec<Group>,
}

/// Bytes that are no manifest.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no manifest: {0}")]
pub struct ManifestError(&'static str);

impl Manifest {
    /// Of a batch.
    pub fn of(batch: &Batch) -> Self {
        // By the table's place and the part.
        let mut entries: Vec<[Vec<(i64, Leaf)>; Part::ALL.len()]> =
            TABLES.iter().map(|_| Default::default()).collect();
        let mut leaves = Leaves::default();
        for row in &batch.rows {
            if let Row::BatchInfo(_) = row {
                continue;
            }
            entries[row.position()][Part::of_row(row) as usize].push((row.key(), leaves.row(row)));
        }
        for (key, end) in &batch.ends {
            entries[end.position()][Part::End as usize].push((*key, leaves.end(*key, end)));
        }
        let mut groups = Vec::new();
        for (table, parts) in TABLES.iter().zip(entries) {
            for (part, mut entries) in
                Part::ALL.into_iter().zip(parts).filter(|(_, entries)| !entries.is_empty())
            {
                entries.sort_unstable();
                groups.push(Group { table: table.name.to_owned(), part, entries });
            }
        }
        groups.sort_by(|a, b| (&a.table, a.part).cmp(&(&b.table, b.part)));
        Manifest { groups }
    }

    /// Table, part, key and leaf of each entry, in order.
    pub fn entries(&self) -> impl Iterator<Item = (&str, Part, i64, Leaf)> {
        self.groups.iter().flat_map(|group| {
            group.entries.iter().map(|(key, leaf)| (group.table.as_str(), group.part, *key, *leaf))
        })
    }

    /// How many entries there are.
    pub fn len(&self) -> usize {
        self.groups.iter().map(|group| group.entries.len()).sum()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.groups.is_empty()
    }

    /// The place among [`entries`](Self::entries), and the leaf, of the first entry of that table, part and key.
    pub fn find(&self, table: &str, part: Part, key: i64) -> Option<(usize, Leaf)> {
        let mut before = 0;
        for group in &self.groups {
            if group.part == part && group.table == table {
                let place = group.entries.partition_point(|(k, _)| *k < key);
                return group
                    .entries
                    .get(place)
                    .filter(|(k, _)| *k == key)
                    .map(|(_, leaf)| (before + place, *leaf));
            }
            before += group.entries.len();
        }
        None
    }

    /// The places among [`entries`](Self::entries), and the leaves, of all entries of that table, part and key: more than one where a batch has a key twice.
    pub fn find_all(&self, table: &str, part: Part, key: i64) -> Vec<(usize, Leaf)> {
        let Some((first, _)) = self.find(table, part, key) else { return Vec::new() };
        let same = self.entries().enumerate().skip(first);
        same.take_while(|(_, (t, p, k, _))| (*t, *p, *k) == (table, part, key))
            .map(|(place, (.., leaf))| (place, leaf))
            .collect()
    }

    /// What the digest of the batch covers.
    pub fn root(&self) -> Sha256 {
        Self::root_of(&self.encode())
    }

    /// The [`root`](Self::root) of the manifest that these bytes are.
    pub fn root_of(bytes: &[u8]) -> Sha256 {
        Hasher::digest(bytes).into()
    }

    /// As bytes: a version; how many groups; then for each its table, its part, how many entries, and these: the key, as the difference to the one before it, and the
    /// leaf. Numbers are LEB128.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(64 * self.groups.len() + 20 * self.len());
        out.push(VERSION);
        varint(&mut out, self.groups.len() as u64);
        for group in &self.groups {
            varint(&mut out, group.table.len() as u64);
            out.extend(group.table.as_bytes());
            out.push(group.part.tag());
            varint(&mut out, group.entries.len() as u64);
            let mut last = i64::MIN;
            for (key, leaf) in &group.entries {
                varint(&mut out, key.wrapping_sub(last).cast_unsigned());
                out.extend(leaf);
                last = *key;
            }
        }
        out
    }

    /// Reads what [`encode`](Self::encode) wrote, and nothing else: for one manifest there is one spelling.
    pub fn decode(bytes: &[u8]) -> Result<Self, ManifestError> {
        let mut rest = bytes;
        if byte(&mut rest)? != VERSION {
            return Err(ManifestError("of a version that is not known here"));
        }
        let mut manifest = Manifest::default();
        let count = number(&mut rest)?;
        if count > MOST_GROUPS {
            return Err(ManifestError("too many groups"));
        }
        for _ in 0..count {
            let length = usize::try_from(number(&mut rest)?).unwrap_or(usize::MAX);
            if length > LONGEST_NAME {
                return Err(ManifestError("a name is too long"));
            }
            let table =
                str::from_utf8(take(&mut rest, length)?).map_err(|_| ManifestError("a name is no text"))?;
            let part = Part::of(byte(&mut rest)?).ok_or(ManifestError("a part is not known"))?;
            let count = usize::try_from(number(&mut rest)?).unwrap_or(usize::MAX);
            // Each entry takes 17 bytes at least.
            let mut entries = Vec::with_capacity(count.min(rest.len() / (LEAF + 1)));
            let mut last = i64::MIN;
            for _ in 0..count {
                let key = last
                    .checked_add_unsigned(number(&mut rest)?)
                    .ok_or(ManifestError("a key is too large"))?;
                let mut leaf = Leaf::default();
                leaf.copy_from_slice(take(&mut rest, LEAF)?);
                entries.push((key, leaf));
                last = key;
            }
            manifest.groups.push(Group { table: table.to_owned(), part, entries });
        }
        if !rest.is_empty() {
            return Err(ManifestError("bytes follow its end"));
        }
        if manifest.encode() != bytes || !manifest.is_sorted() {
            return Err(ManifestError("it is spelled as no writer spells it"));
        }
        Ok(manifest)
    }

    fn is_sorted(&self) -> bool {
        self.groups.is_sorted_by(|a, b| (&a.table, a.part) < (&b.table, b.part))
            && self.groups.iter().all(|group| !group.entries.is_empty() && group.entries.is_sorted())
    }
}

/// Makes leaves. It keeps its memory from row to row.
#[derive(Debug, Default)]
pub(crate) struct Leaves {
    begin: Trimmed,
    end: Trimmed,
}

impl Leaves {
    fn row(&mut self, row: &Row) -> Leaf {
        self.begin.clear();
        self.end.clear();
        row.told(&mut self.begin);
        row.told_end(&mut self.end);
        leaf(row.table().name, row.key(), &self.begin.bytes.0, &self.end.bytes.0)
    }

    fn end(&mut self, key: i64, end: &End) -> Leaf {
        self.begin.clear();
        self.end.clear();
        end.told(&mut self.end);
        leaf(end.table().name, key, &self.begin.bytes.0, &self.end.bytes.0)
    }
}

/// The leaf of a row of that table and key, of the [`Trimmed`] bytes of its `Begin` columns (none, if only its end is meant) and of those of its `End` columns
/// (none, if it has not ended).
pub(crate) fn leaf(table: &str, key: i64, begin: &[u8], end: &[u8]) -> Leaf {
    // What stands before the values goes in at once: many small pieces take as long as the values themselves.
    let mut head = [0; HEAD];
    let mut length = 0;
    let pieces: [&[u8]; 5] = [
        b"luarm row 1\0",
        &[table.len() as u8],
        table.as_bytes(),
        &key.to_be_bytes(),
        &(begin.len() as u64).to_be_bytes(),
    ];
    let mut hasher = Hasher::new();
    for piece in pieces {
        let end = length + piece.len();
        match head.get_mut(length..end) {
            Some(place) => {
                place.copy_from_slice(piece);
                length = end;
            }
            // The name of no table is so long.
            None => {
                hasher.update(&head[..length]);
                hasher.update(piece);
                length = 0;
            }
        }
    }
    hasher.update(&head[..length]);
    hasher.update(begin);
    hasher.update(end);
    let mut leaf = Leaf::default();
    leaf.copy_from_slice(&hasher.finalize()[..LEAF]);
    leaf
}

/// Canonical bytes without the NULLs at the end: a column may be added behind the others, and older rows keep their digests.
#[derive(Debug, Default)]
pub(crate) struct Trimmed {
    bytes: Canonical,
    nulls: usize,
}

impl Trimmed {
    fn clear(&mut self) {
        self.bytes.0.clear();
        self.nulls = 0;
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes.0
    }
}

impl Sink for Trimmed {
    fn put(&mut self, value: Value<'_>) {
        if matches!(value, Value::Null) {
            self.nulls += 1;
            return;
        }
        if self.nulls > 0 {
            let length = self.bytes.0.len() + std::mem::take(&mut self.nulls);
            self.bytes.0.resize(length, b'n');
        }
        self.bytes.put(value);
    }
}

pub(crate) fn varint(out: &mut Vec<u8>, mut n: u64) {
    while n >= 0x80 {
        out.push(n as u8 | 0x80);
        n >>= 7;
    }
    out.push(n as u8);
}

fn byte(rest: &mut &[u8]) -> Result<u8, ManifestError> {
    let (first, after) = rest.split_first().ok_or(ManifestError("it is cut"))?;
    *rest = after;
    Ok(*first)
}

fn take<'a>(rest: &mut &'a [u8], length: usize) -> Result<&'a [u8], ManifestError> {
    let (taken, after) = rest.split_at_checked(length).ok_or(ManifestError("it is cut"))?;
    *rest = after;
    Ok(taken)
}

pub(crate) fn number(rest: &mut &[u8]) -> Result<u64, ManifestError> {
    let mut n = 0u64;
    for shift in (0..64).step_by(7) {
        let next = byte(rest)?;
        if shift == 63 && next > 1 {
            break;
        }
        n |= u64::from(next & 0x7f) << shift;
        if next & 0x80 == 0 {
            return Ok(n);
        }
    }
    Err(ManifestError("a number is too large"))
}

/// Collects the values of a stored row as an engine gives them back, and tells its leaves.
#[derive(Debug, Default)]
pub struct Stored(Leaves);

impl Stored {
    /// Gets ready for the next row.
    pub fn clear(&mut self) {
        self.0.begin.clear();
        self.0.end.clear();
    }

    /// Takes the next value of its `Begin` columns, in order; instants as [`Value::Time`].
    #[inline]
    pub fn put_begin(&mut self, value: Value<'_>) {
        self.0.begin.put(value);
    }

    /// Takes the next value of its `End` columns, in order.
    #[inline]
    pub fn put_end(&mut self, value: Value<'_>) {
        self.0.end.put(value);
    }

    /// The `md5sum` of the row, of the values that it began with.
    pub fn md5sum(&mut self) -> [u8; 32] {
        let Trimmed { bytes, nulls } = &mut self.0.begin;
        let length = bytes.0.len();
        bytes.0.resize(length + *nulls, b'n');
        let sum = md5sum(&bytes.0);
        bytes.0.truncate(length);
        sum
    }

    /// Whether the row has ended: an end has a value that is not NULL.
    pub fn has_end(&self) -> bool {
        !self.0.end.bytes().is_empty()
    }

    /// The leaf of the part.
    pub fn leaf(&self, table: &str, part: Part, key: i64) -> Leaf {
        let (begin, end) = (self.0.begin.bytes(), self.0.end.bytes());
        match part {
            Part::Begin => leaf(table, key, begin, &[]),
            Part::Whole => leaf(table, key, begin, end),
            Part::End => leaf(table, key, &[], end),
        }
    }
}

#[cfg(test)]
mod tests {
    use luarm_schema::{Time, tables::CoverageInfoEnd};
    use proptest::prelude::*;

    use super::*;

    fn rename(key: i64, name: &str) -> Row {
        crate::sealer::tests::rename(key, name)
    }

    fn batch() -> Batch {
        let rows = vec![rename(7, "b"), rename(3, "a")];
        let end = CoverageInfoEnd { destroyed: Time(5), ended: "stop".into() };
        Batch { id: 1, rows, ends: vec![(2, End::CoverageInfo(end))], ..Batch::default() }
    }

    #[test]
    fn a_manifest_names_what_the_batch_holds() {
        let manifest = Manifest::of(&batch());
        let entries: Vec<_> =
            manifest.entries().map(|(table, part, key, _)| (table.to_owned(), part, key)).collect();
        let expected =
            [("coverageinfo", Part::End, 2), ("renameinfo", Part::Begin, 3), ("renameinfo", Part::Begin, 7)];
        assert_eq!(entries, expected.map(|(table, part, key)| (table.to_owned(), part, key)));
        assert_eq!(manifest.find("renameinfo", Part::Begin, 7).map(|(place, _)| place), Some(2));
        assert_eq!(manifest.find("renameinfo", Part::Whole, 7), None);
        assert_eq!(manifest.find("renameinfo", Part::Begin, 5), None);
        assert_eq!(Manifest::decode(&manifest.encode()), Ok(manifest));
    }

    #[test]
    fn whatever_differs_shows_in_the_root() {
        let root = |change: fn(&mut Batch)| {
            let mut batch = batch();
            change(&mut batch);
            Manifest::of(&batch).root()
        };
        let same = root(|_| ());
        assert_eq!(same, root(|batch| batch.rows.reverse()));
        let changes: [fn(&mut Batch); 5] = [
            |batch| batch.rows[0] = rename(7, "c"),
            |batch| batch.rows[0] = rename(8, "b"),
            |batch| batch.rows.truncate(1),
            |batch| batch.ends.clear(),
            |batch| batch.ends[0].0 = 3,
        ];
        for change in changes {
            assert_ne!(same, root(change));
        }
    }

    #[test]
    fn a_column_behind_the_others_leaves_older_rows_their_leaves() {
        let bytes = |values: &[Value<'_>]| {
            let mut trimmed = Trimmed::default();
            values.iter().for_each(|value| trimmed.put(*value));
            trimmed.bytes().to_vec()
        };
        let (one, null) = (Value::Int(1), Value::Null);
        assert_eq!(bytes(&[null, one]), bytes(&[null, one, null, null]));
        assert_ne!(bytes(&[null, one]), bytes(&[one]));
        assert_ne!(bytes(&[one, null, one]), bytes(&[one, one]));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            if let Ok(manifest) = Manifest::decode(&bytes) {
                prop_assert_eq!(manifest.encode(), bytes);
            }
        }

        #[test]
        fn what_is_written_is_read(keys in proptest::collection::vec(any::<i64>(), 0..50)) {
            let batch = Batch { rows: keys.into_iter().map(|key| rename(key, "x")).collect(), ..Batch::default() };
            let manifest = Manifest::of(&batch);
            prop_assert_eq!(Manifest::decode(&manifest.encode()), Ok(manifest));
        }
    }
}
