//! What a verification gives.

use std::collections::{BTreeMap, HashMap};

use luarm_schema::{TABLES, Time};

use super::{
    Change, Finding, HostFacts, Witness,
    explain::Found,
    ledger::{RESUMMED, Walk},
};
use crate::{Head, encode};

/// What was verified of one host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verified {
    /// Its number in the store.
    pub number: i64,
    /// Its name.
    pub name: String,
    /// Its machine id, where one of those that the store knows fits the digests.
    pub machine_id: Option<String>,
    /// Batches in its ledger.
    pub batches: u64,
    /// From the first event to when the last batch was closed.
    pub span: Option<(Time, Time)>,
    /// Signatures of the host that are right.
    pub signatures: u64,
    /// Receipts that are right.
    pub receipts: u64,
    /// The public key that its chain begins with, base64.
    pub anchor: Option<String>,
    /// The servers' public keys that signed receipts, base64.
    pub signers: Vec<String>,
    /// The last batch that is right.
    pub head: Option<Head>,
}

/// What a verification gives.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// The hosts, by their numbers.
    pub hosts: Vec<Verified>,
    /// What is not as it was sealed, by host, batch, table and key.
    pub findings: Vec<Finding>,
    /// What was too much to tell.
    pub untold: u64,
    /// Rows that were compared, of all tables but the ledger.
    pub rows: u64,
    /// Rows of those, and their ends, that a server has written down and not sealed yet. It does so within a second; one that was killed, when it starts again.
    pub unsealed: u64,
    /// Rows of those that are in no batch by their nature: questions that came with an account of the database, which nobody could sign for.
    pub unsigned: u64,
    names: HashMap<i64, String>,
}

impl Report {
    /// Whether all is as it was sealed.
    pub fn is_intact(&self) -> bool {
        self.untold == 0 && self.findings.iter().all(|finding| finding.is_note)
    }

    pub(super) fn host(&mut self, walk: &mut Walk<'_>) {
        let host = walk.host();
        self.names.insert(host.number, host.name.clone());
        self.findings.append(&mut walk.findings);
        self.hosts.push(Verified {
            number: host.number,
            name: host.name.clone(),
            machine_id: walk.machine_id().map(str::to_owned),
            batches: walk.listed.len() as u64,
            span: walk.span,
            signatures: walk.signatures,
            receipts: walk.receipts,
            anchor: walk.anchor.clone(),
            signers: walk.signers.iter().map(|signer| encode(signer.as_bytes())).collect(),
            head: walk.head.clone(),
        });
    }

    /// Compares what was there once.
    pub(super) fn witness(&mut self, witness: &Witness, walks: &[Walk<'_>], is_limited: bool) {
        let Witness { machine_id, batch, origin, .. } = witness;
        let of = walks.iter().find(|walk| {
            let known = walk.machine_id().map_or(&walk.host().machine_ids[..], |_| &[]);
            walk.machine_id() == Some(machine_id) || known.contains(machine_id)
        });
        let Some(walk) = of else {
            if !is_limited {
                let detail = format!("{origin} is of this host, which is not in the store");
                self.find(
                    (witness.host.clone(), 0),
                    *batch,
                    "batchinfo",
                    None,
                    Change::HistoryRewritten,
                    detail,
                );
            }
            return;
        };
        let host = (walk.host().name.clone(), walk.host().number);
        let last = walk.last();
        if last < *batch {
            let detail = format!("the last batch is {last}, and {origin} has seen batch {batch}");
            return self.find(host, last + 1, "batchinfo", Some(last + 1), Change::TailCut, detail);
        }
        let digest = walk.digests.iter().find(|(number, _)| number == batch).map(|(_, digest)| *digest);
        if digest != Some(witness.digest) {
            let detail = format!("batch {batch} is another than {origin} has seen");
            self.find(host, *batch, "batchinfo", Some(*batch), Change::HistoryRewritten, detail);
        }
    }

    fn find(
        &mut self,
        (host, number): (String, i64),
        batch: i64,
        table: &'static str,
        key: Option<i64>,
        change: Change,
        detail: String,
    ) {
        self.findings.push(Finding { host, number, batch, table, key, change, detail, is_note: false });
    }

    fn named(&self, number: i64) -> (String, i64) {
        (self.names.get(&number).cloned().unwrap_or_else(|| number.to_string()), number)
    }

    pub(super) fn retention(&mut self, host: i64, key: i64, detail: &str) {
        let (table, change) = ("retentioninfo", Change::RetentionUnsigned);
        self.find(self.named(host), 0, table, Some(key), change, detail.to_owned());
    }

    pub(super) fn batch(
        &mut self,
        host: i64,
        batch: i64,
        table: &'static str,
        change: Change,
        detail: String,
    ) {
        // The manifest tells which of the two it was.
        let is_root = |f: &Finding| {
            f.number == host && f.batch == batch && f.change == Change::LedgerChanged && f.detail == RESUMMED
        };
        if change == Change::ProofChanged {
            self.findings.retain(|finding| !is_root(finding));
        }
        let is_told =
            |f: &Finding| f.number == host && f.batch == batch && f.table == table && f.change == change;
        if !self.findings.iter().any(is_told) {
            self.find(self.named(host), batch, table, Some(batch), change, detail);
        }
    }

    /// Rows that name batches which are gone.
    pub(super) fn orphans(&mut self, orphans: &BTreeMap<(i64, i64), u64>) {
        for ((host, batch), rows) in orphans {
            let gone =
                |f: &&mut Finding| f.number == *host && f.change == Change::BatchMissing && f.batch <= *batch;
            if let Some(finding) = self.findings.iter_mut().filter(gone).max_by_key(|f| f.batch) {
                finding.detail += &format!("; {rows} rows and ends are there that name batch {batch}");
            }
        }
    }

    pub(super) fn found(&mut self, found: Found) {
        for ((host, table, key), (batch, change, detail)) in found {
            self.find(self.named(host), batch, TABLES[table].name, Some(key), change, detail);
        }
    }

    pub(super) fn finish(mut self, _: &[HostFacts], most: usize) -> Self {
        self.findings
            .sort_by(|a, b| (a.number, a.batch, a.table, a.key).cmp(&(b.number, b.batch, b.table, b.key)));
        if self.findings.len() > most {
            self.untold += (self.findings.len() - most) as u64;
            self.findings.truncate(most);
        }
        self
    }
}
