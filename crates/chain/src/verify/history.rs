//! What is to be verified, as a store gives it.

use luarm_schema::{Source, TableDef, Value, tables::BatchInfo};

/// Why a store could not be read.
pub type Trouble = Box<dyn std::error::Error + Send + Sync>;

/// An audited computer in a store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostFacts {
    /// Its number in this store.
    pub number: i64,
    /// Its name; its number where the store knows none.
    pub name: String,
    /// Machine ids that the store has for it: digests tell which one is right.
    pub machine_ids: Vec<String>,
}

/// One number of a host's ledger: the row of `batchinfo`, and what is kept beside it; one of them may be missing.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// Number of the batch.
    pub batch: i64,
    /// The row of `batchinfo`.
    pub row: Option<LedgerRow>,
    /// The row of `luarmproof`, without the manifest.
    pub proof: Option<Proof>,
}

/// A row of `batchinfo` as it is stored.
#[derive(Debug, Clone, PartialEq)]
pub struct LedgerRow {
    /// Its values; `None` where they are none of this table's.
    pub info: Option<BatchInfo>,
    /// The stored `md5sum`.
    pub md5sum: String,
    /// The stored `batch`.
    pub batch: i64,
}

impl LedgerRow {
    /// Of the values of [`TableDef::stored`]. Gives the number of the batch as well; `None` for values that have none.
    pub fn read(values: &[Value<'_>]) -> Option<(i64, Self)> {
        let (begins, rest) = (values.get(1..)?, values.get(values.len().checked_sub(2)?..)?);
        let (Some(Value::Int(number)), [md5sum, batch]) = (begins.first(), rest) else { return None };
        let md5sum = match md5sum {
            Value::Text(text) => (*text).to_owned(),
            _ => String::new(),
        };
        let batch = match batch {
            Value::Int(batch) => *batch,
            _ => i64::MIN,
        };
        Some((*number, LedgerRow { info: BatchInfo::read(&mut Values(begins.iter())), md5sum, batch }))
    }
}

impl Entry {
    /// Puts the rows of two pages together, each in the order of its numbers. A page that is full may go on behind its last row: then what the other one has from there on
    /// is left to the next page.
    pub fn pair(rows: Vec<(i64, LedgerRow)>, proofs: Vec<(i64, Proof)>, page: usize) -> Vec<Entry> {
        let end = |length: usize, last: Option<i64>| {
            if length < page { i64::MAX } else { last.unwrap_or(i64::MAX) }
        };
        let to = end(rows.len(), rows.last().map(|(number, _)| *number))
            .min(end(proofs.len(), proofs.last().map(|(number, _)| *number)));
        let (mut rows, mut proofs) = (rows.into_iter().peekable(), proofs.into_iter().peekable());
        let mut entries = Vec::new();
        loop {
            let next = [rows.peek().map(|(number, _)| *number), proofs.peek().map(|(number, _)| *number)];
            let Some(batch) = next.into_iter().flatten().min().filter(|batch| *batch <= to) else {
                return entries;
            };
            let row = rows.next_if(|(number, _)| *number == batch).map(|(_, row)| row);
            let proof = proofs.next_if(|(number, _)| *number == batch).map(|(_, proof)| proof);
            entries.push(Entry { batch, row, proof });
        }
    }
}

/// Values, one after the other.
pub(super) struct Values<'a, 'v>(pub(super) std::slice::Iter<'a, Value<'v>>);

impl Source for Values<'_, '_> {
    fn take(&mut self) -> Value<'_> {
        self.0.next().copied().unwrap_or(Value::Null)
    }
}

/// A row of `luarmproof`, without the manifest.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Proof {
    /// Whether there is a manifest.
    pub has_manifest: bool,
    /// The manifest's SHA-256.
    pub root: Vec<u8>,
    /// [`Refusals`](crate::Refusals), encoded.
    pub refused: Option<Vec<u8>>,
    /// When the server got the batch, microseconds since 1970.
    pub received: Option<i64>,
    /// The server's signature.
    pub receipt: Option<Vec<u8>>,
    /// The server's public key.
    pub signer: Option<Vec<u8>>,
}

/// A share of a table's rows: what that means is the store's own affair.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Portion {
    /// Of this host, or of all.
    pub host: Option<i64>,
    /// From this number.
    pub from: i64,
    /// Up to this number.
    pub to: i64,
}

/// A manifest as it is stored: batch, bytes, refusals.
pub type StoredManifest<'a> = (i64, Option<&'a [u8]>, Option<&'a [u8]>);

/// A connection to a store that is read to be verified.
///
/// Values of rows are those of [`TableDef::stored`], in order: instants as [`Value::Time`], texts byte for byte. What an engine gives that no writer has stored (a
/// text that is not UTF-8, an instant in another spelling) comes as a value of another kind, so that its digest is another as well.
pub trait History {
    /// The computers of which there is a ledger, in the order of their numbers.
    fn hosts(&mut self) -> Result<Vec<HostFacts>, Trouble>;

    /// The next entries of a host's ledger after that batch, in order, at most about a thousand; none at the end.
    fn entries(&mut self, host: i64, after: i64) -> Result<Vec<Entry>, Trouble>;

    /// Number of the last batch of the host; 0 for none.
    fn last_batch(&mut self, host: i64) -> Result<i64, Trouble>;

    /// The manifests of the host from that batch to that one.
    fn manifests(
        &mut self,
        host: i64,
        from: i64,
        to: i64,
        each: &mut dyn FnMut(StoredManifest<'_>),
    ) -> Result<(), Trouble>;

    /// The shares of a table's rows, of a host or of all.
    fn portions(&mut self, table: &'static TableDef, host: Option<i64>) -> Result<Vec<Portion>, Trouble>;

    /// The rows of a share.
    fn rows(
        &mut self,
        table: &'static TableDef,
        portion: Portion,
        each: &mut dyn FnMut(&[Value<'_>]),
    ) -> Result<(), Trouble>;

    /// The row of that key, if there is one.
    fn row(
        &mut self,
        table: &'static TableDef,
        host: i64,
        key: i64,
        each: &mut dyn FnMut(&[Value<'_>]),
    ) -> Result<(), Trouble>;
}
