//! What is kept beside the rows, so that they can be checked: the table `luarmproof`, one row per batch.
//!
//! It is none of the schema's tables: no host delivers rows of it, and they are not asked by name.

use std::collections::BTreeMap;

use luarm_chain::{Leaf, Manifest, Notary, Part, Receipt, Refusals, Sha256, decode, encode, link};
use luarm_schema::{Batch, Dialect, Row};

use crate::{StoreError, writer::Outcome};

/// The table.
pub(crate) const TABLE: &str = "luarmproof";

/// What a server's account needs of it.
pub(crate) const RIGHTS: &str = "SELECT, INSERT";

/// The statement that makes the table: host and batch; the manifest (NULL once retention has dropped all that it tells of) and its root; which of its entries are not
/// stored ([`Refusals::encode`], NULL for none); when it arrived (microseconds since 1970), and the signature for that with the public key of the server that signed, NULL where
/// a host records itself.
pub(crate) fn create(dialect: Dialect) -> String {
    let (number, small, large, tail) = match dialect {
        Dialect::Sqlite => ("INTEGER", "BLOB", "BLOB", " STRICT"),
        Dialect::Mysql => ("bigint", "varbinary(64)", "longblob", ""),
        Dialect::Postgres => ("bigint", "bytea", "bytea", ""),
    };
    format!(
        "CREATE TABLE IF NOT EXISTS {TABLE} (host {number} NOT NULL, batch {number} NOT NULL, manifest {large}, root {small} NOT NULL, refused {large}, \
         received {number}, receipt {small}, signer {small}, PRIMARY KEY (host, batch)){tail}"
    )
}

/// A row of the table.
pub(crate) struct Proof<'a> {
    pub(crate) manifest: &'a [u8],
    pub(crate) root: Sha256,
    refusals: Refusals,
    receipt: Option<Receipt>,
    pub(crate) signer: Option<[u8; 32]>,
}

impl<'a> Proof<'a> {
    /// Of a batch of that machine, of which that became; `None` if it has no manifest.
    pub(crate) fn of(
        machine_id: &str,
        batch: &'a Batch,
        outcome: &Outcome,
        notary: Option<&Notary>,
    ) -> Option<Self> {
        if batch.manifest.is_empty() {
            return None;
        }
        let mut refusals = Refusals::default();
        if !outcome.refused.is_empty() || !outcome.unmatched.is_empty() {
            let refused = outcome.refused.iter().map(|row| (row.table, row.part, row.key));
            let unmatched = outcome.unmatched.iter().map(|(table, key)| (*table, Part::End, *key));
            refusals = refusals_of(batch, &Manifest::decode(&batch.manifest).ok()?, refused.chain(unmatched));
        }
        let digest: Option<Sha256> = match batch.rows.last() {
            Some(Row::BatchInfo(info)) => info.digest.as_deref().and_then(decode),
            _ => None,
        };
        let receipt = notary.zip(digest).map(|(notary, digest)| {
            (notary.sign((machine_id, batch.id, &digest), &refusals), notary.public())
        });
        Some(Proof {
            manifest: &batch.manifest,
            root: Manifest::root_of(&batch.manifest),
            refusals,
            receipt: receipt.map(|(receipt, _)| receipt),
            signer: receipt.map(|(_, signer)| signer),
        })
    }

    pub(crate) fn refused(&self) -> Option<Vec<u8>> {
        (!self.refusals.is_empty()).then(|| self.refusals.encode())
    }

    /// Microseconds since 1970.
    pub(crate) fn received(&self) -> Option<i64> {
        self.receipt.map(|receipt| receipt.received.0)
    }

    pub(crate) fn signature(&self) -> Option<[u8; 64]> {
        self.receipt.map(|receipt| receipt.signature)
    }

    pub(crate) fn receipt(self) -> Option<(Receipt, Refusals)> {
        self.receipt.map(|receipt| (receipt, self.refusals))
    }
}

/// Which entries of the batch's manifest are not stored. Of two with one key the first in the batch is stored, wherever it stands in the manifest.
fn refusals_of<'a>(
    batch: &Batch,
    manifest: &Manifest,
    refused: impl Iterator<Item = (&'a str, Part, i64)>,
) -> Refusals {
    let mut counts: BTreeMap<(&str, Part, i64), usize> = BTreeMap::new();
    for entry in refused {
        *counts.entry(entry).or_default() += 1;
    }
    let mut places = Vec::new();
    for ((table, part, key), count) in counts {
        let mut entries = manifest.find_all(table, part, key);
        if count < entries.len() {
            let stored = first(batch, table, part, key);
            let stored = entries.iter().position(|(_, leaf)| Some(*leaf) == stored);
            entries.remove(stored.unwrap_or_default());
        }
        places.extend(entries.into_iter().map(|(place, _)| place));
    }
    Refusals::at(places)
}

/// The leaf of the first row, or end, of that table, part and key in the batch.
fn first(batch: &Batch, table: &str, part: Part, key: i64) -> Option<Leaf> {
    let alone = match part {
        Part::End => {
            let end = batch.ends.iter().find(|(k, end)| *k == key && end.table().name == table)?;
            Batch { ends: vec![end.clone()], ..Batch::default() }
        }
        part => {
            let is = |row: &&Row| row.key() == key && row.table().name == table && Part::of_row(row) == part;
            Batch { rows: vec![batch.rows.iter().find(is)?.clone()], ..Batch::default() }
        }
    };
    Manifest::of(&alone).entries().next().map(|(.., leaf)| leaf)
}

/// How a batch follows in its host's chain.
#[derive(Debug, Default)]
pub(crate) struct Followed {
    /// It begins a new one.
    pub(crate) restarted: bool,
    /// Who signed it, in base64.
    pub(crate) publickey: Option<String>,
}

/// Checks that the batch follows in the chain, which stood there before.
pub(crate) fn follows(
    machine_id: &str,
    before: Option<&link::Tip>,
    batch: &Batch,
) -> Result<Followed, StoreError> {
    let flawed = |flaw| Err(StoreError::Flaw { id: batch.id, flaw });
    let Some(Row::BatchInfo(info)) = batch.rows.last().filter(|_| !batch.manifest.is_empty()) else {
        return flawed(link::Flaw::Unsealed);
    };
    let publickey = info.publickey.clone().or_else(|| before.map(|tip| encode(tip.key.as_bytes())));
    match link::check(machine_id, before, &Manifest::root_of(&batch.manifest), info).flaw {
        None => Ok(Followed { restarted: false, publickey }),
        Some(link::Flaw::Restart) => Ok(Followed { restarted: true, publickey }),
        Some(flaw) => flawed(flaw),
    }
}
