//! Walking along a host's ledger: numbers, digests, signatures, receipts, clocks.
//!
//! After a flaw the walk goes on from what is stated, and what only follows from the flaw is not told again.

use ed25519_dalek::{Signature, VerifyingKey};
use luarm_schema::{
    Time,
    canonical::{Canonical, md5sum},
    tables::BatchInfo,
};

use super::{Change, Entry, Finding, HostFacts, Proof};
use crate::{
    Head, Receipt, Refusals, Sha256, decode, encode,
    link::{self, Flaw, NOTHING, Tip},
};

const LEDGER: &str = "batchinfo";
pub(super) const PROOF: &str = "luarmproof";

/// What is said of a row in the ledger that is wrong unless the root is.
pub(super) const RESUMMED: &str = "a value is another than the one that was sealed, and its md5sum fits it";

/// How far a host's clock may go back without a word, microseconds.
const CLOCK: i64 = 60_000_000;

/// What is known before the next batch.
#[derive(Debug, Clone, Copy)]
enum Before {
    /// The chain begins.
    Nothing,
    /// Here it stood.
    Tip(Tip),
    /// Here it stood, but the next one's key may be another.
    Keyless(Tip),
    /// Nothing, because of a flaw that was told.
    Unknown,
}

/// What the ledger says of one batch, for those who compare its rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Listed {
    pub(super) batch: i64,
    /// Rows and ends, as the ledger counts them, where its row can be believed.
    pub(super) counts: Option<(i64, i64)>,
    /// SHA-256 of the manifest, where there is one.
    pub(super) root: Option<Sha256>,
    /// Whether a manifest is there.
    pub(super) has_manifest: bool,
}

/// A walk along one host's ledger.
#[derive(Debug)]
pub(super) struct Walk<'a> {
    host: &'a HostFacts,
    keys: &'a [VerifyingKey],
    /// `None` if none of those that the store knows fits.
    machine_id: Option<String>,
    before: Before,
    expected: i64,
    clock: Time,
    received: i64,
    has_receipts: bool,
    pub(super) findings: Vec<Finding>,
    pub(super) listed: Vec<Listed>,
    /// The last batch that is right, as a head.
    pub(super) head: Option<Head>,
    /// The key that has to sign the present batch, base64.
    signed_by: Option<String>,
    /// The key that the host's chain began with.
    pub(super) anchor: Option<String>,
    /// The servers' keys that signed receipts.
    pub(super) signers: Vec<VerifyingKey>,
    pub(super) signatures: u64,
    pub(super) receipts: u64,
    pub(super) span: Option<(Time, Time)>,
    /// Digests of the batches that somebody asks for.
    wanted: Vec<i64>,
    pub(super) digests: Vec<(i64, Sha256)>,
}

impl<'a> Walk<'a> {
    /// A walk along a host's ledger that begins with these entries. `keys` are those of the servers, `wanted` batches whose digests are needed afterwards.
    pub(super) fn new(
        host: &'a HostFacts,
        keys: &'a [VerifyingKey],
        first: &[Entry],
        mut wanted: Vec<i64>,
    ) -> Self {
        wanted.sort_unstable();
        let machine_id = identity(&host.machine_ids, first);
        let mut walk = Walk {
            host,
            keys,
            before: Before::Nothing,
            expected: 1,
            clock: Time(i64::MIN),
            received: i64::MIN,
            has_receipts: false,
            findings: Vec::new(),
            listed: Vec::new(),
            head: None,
            signed_by: None,
            anchor: None,
            signers: Vec::new(),
            signatures: 0,
            receipts: 0,
            span: None,
            wanted,
            digests: Vec::new(),
            machine_id,
        };
        if walk.machine_id.is_none() && first.iter().any(|entry| entry.row.is_some()) {
            let known = host.machine_ids.join(", ");
            let known = if known.is_empty() { "there is none" } else { &known };
            walk.find(
                first.first().map_or(1, |entry| entry.batch),
                "hostinfo",
                Change::IdentityChanged,
                format!("the digests are not those of its machine id ({known}): they cannot be recomputed"),
            );
        }
        walk
    }

    /// Whose ledger it is.
    pub(super) fn host(&self) -> &'a HostFacts {
        self.host
    }

    /// The last batch that the ledger has.
    pub(super) fn last(&self) -> i64 {
        self.expected - 1
    }

    /// The machine id that the digests are of.
    pub(super) fn machine_id(&self) -> Option<&str> {
        self.machine_id.as_deref()
    }

    fn find(&mut self, batch: i64, table: &'static str, change: Change, detail: impl Into<String>) {
        let key = matches!(table, LEDGER | PROOF).then_some(batch);
        self.findings.push(Finding {
            host: self.host.name.clone(),
            number: self.host.number,
            batch,
            table,
            key,
            change,
            detail: detail.into(),
            is_note: false,
        });
    }

    fn note(&mut self, batch: i64, change: Change, detail: String) {
        self.find(batch, LEDGER, change, detail);
        if let Some(last) = self.findings.last_mut() {
            last.is_note = true;
        }
    }

    /// Takes the next entry.
    pub(super) fn take(&mut self, entry: &Entry) {
        let number = entry.batch;
        if number > self.expected {
            let last = number - 1;
            let what = match self.expected == last {
                true => format!("batch {last} is gone"),
                false => format!("batches {} to {last} are gone", self.expected),
            };
            self.find(self.expected, LEDGER, Change::BatchMissing, what);
            self.before = Before::Unknown;
        }
        if number < 1 {
            self.find(number, LEDGER, Change::LedgerChanged, "no batch has this number");
            return;
        }
        self.expected = number.saturating_add(1);
        let root = entry.proof.as_ref().and_then(|proof| Sha256::try_from(proof.root.as_slice()).ok());
        let has_manifest = entry.proof.as_ref().is_some_and(|proof| proof.has_manifest);
        let mut listed = Listed { batch: number, counts: None, root, has_manifest };
        let Some(row) = &entry.row else {
            self.find(number, LEDGER, Change::BatchMissing, "its row in the ledger is gone");
            self.before = Before::Unknown;
            // Nothing says that the manifest is this batch's.
            self.listed.push(Listed { root: None, has_manifest: false, ..listed });
            return;
        };
        let Some(info) = &row.info else {
            self.find(number, LEDGER, Change::LedgerChanged, "a value is none of its column's");
            self.before = Before::Unknown;
            self.listed.push(listed);
            return;
        };
        let mut bytes = Canonical::default();
        info.begin(&mut bytes);
        let stale = row.batch != number || row.md5sum.as_bytes() != md5sum(&bytes.0);
        let told = self.findings.len();
        let is_blind = matches!(self.before, Before::Unknown);
        if let Some(proof) = entry.proof.as_ref().filter(|proof| proof.receipt.is_none()) {
            match Refusals::decode(proof.refused.as_deref().unwrap_or_default()) {
                None => {
                    self.find(number, PROOF, Change::ProofChanged, "`refused` is not what a store writes");
                }
                Some(refused) if refused.is_empty() => {}
                Some(_) => {
                    let detail =
                        "the store is said to have refused rows or ends of it, and no server has signed that";
                    self.find(number, PROOF, Change::RowsRefused, detail);
                    if let Some(last) = self.findings.last_mut() {
                        last.is_note = true;
                    }
                }
            }
        }
        let digest = match (&entry.proof, root) {
            (None, _) => {
                self.find(number, PROOF, Change::ProofMissing, "its row is gone: rows cannot be compared");
                self.unproven(info)
            }
            (Some(_), None) => {
                self.find(number, PROOF, Change::ProofChanged, "`root` is no SHA-256");
                self.unproven(info)
            }
            (Some(_), Some(root)) => self.link(number, &root, info, stale),
        };
        let is_right = self.findings[told..]
            .iter()
            .all(|finding| finding.is_note || finding.change == Change::ChainRestarted);
        if is_right && !is_blind {
            listed.counts = Some((info.rowcount, info.endcount));
        }
        if stale && is_right {
            self.find(number, LEDGER, Change::LedgerChanged, "`md5sum` or `batch` is not that of its row");
        }
        self.listed.push(listed);
        let proof = entry.proof.as_ref();
        self.clocks(number, info);
        // What was found of the row explains a receipt that does not fit.
        if let (Some(digest), Some(proof), false) = (digest, proof, is_blind && stale) {
            let receipts = self.receipts;
            self.receipt(number, &digest, proof);
            // A server that is believed has seen it happen.
            let is_seen = self.receipts > receipts && !self.keys.is_empty();
            for finding in self.findings[told..].iter_mut() {
                finding.is_note |= is_seen && finding.change == Change::ChainRestarted;
            }
        }
        if let Some(digest) = digest {
            if self.wanted.binary_search(&number).is_ok() {
                self.digests.push((number, digest));
            }
            if is_right && !stale {
                self.head = self.head_of(info, &digest, proof);
            }
        }
        self.signed_by.clone_from(&info.nextkey);
    }

    /// The end of the ledger.
    pub(super) fn finish(&mut self) {
        // One line for a stretch.
        let mut merged: Vec<Finding> = Vec::with_capacity(self.findings.len());
        let mut stretch = 0;
        for finding in std::mem::take(&mut self.findings) {
            let words = match finding.change {
                Change::NotSealed => "are not sealed",
                Change::ReceiptMissing => "have no receipt of a server",
                _ => "",
            };
            let follows = merged.last().is_some_and(|last| {
                !words.is_empty()
                    && last.change == finding.change
                    && last.batch + stretch + 1 == finding.batch
            });
            match merged.last_mut() {
                Some(last) if follows => {
                    stretch += 1;
                    last.detail = format!("batches {} to {} {words}", last.batch, finding.batch);
                }
                _ => {
                    stretch = 0;
                    merged.push(finding);
                }
            }
        }
        self.findings = merged;
    }

    /// Goes on over a batch whose manifest is not known: only its signature can be checked.
    fn unproven(&mut self, info: &BatchInfo) -> Option<Sha256> {
        let (stated, next, signature) = sealed(info)?;
        let signer = self.signer(info);
        let tip = Tip { digest: stated, key: next };
        let genuine = signer.is_some_and(|signer| is_signed(&signer, &stated, &signature));
        self.before = if genuine { Before::Tip(tip) } else { Before::Keyless(tip) };
        Some(stated)
    }

    /// The key that has to sign the batch.
    fn signer(&self, info: &BatchInfo) -> Option<VerifyingKey> {
        match (&info.publickey, self.before) {
            (Some(own), _) => key(own),
            (None, Before::Tip(tip)) => Some(tip.key),
            (None, _) => None,
        }
    }

    /// Checks the batch's place in the chain. Gives its digest, as far as it is known.
    fn link(&mut self, number: i64, root: &Sha256, info: &BatchInfo, stale: bool) -> Option<Sha256> {
        let Some((stated, next, signature)) = sealed(info) else {
            let nothing = info.digest.is_none() && info.signature.is_none() && info.nextkey.is_none();
            if nothing && !stale {
                self.find(number, LEDGER, Change::NotSealed, "the host has not sealed it");
            } else {
                let detail = "digest, signature or next key are not what a host writes";
                self.find(number, LEDGER, Change::LedgerChanged, detail);
            }
            self.before = Before::Unknown;
            return None;
        };
        if self.anchor.is_none() {
            self.anchor.clone_from(&info.publickey);
        }
        let stood = std::mem::replace(&mut self.before, Before::Unknown);
        let signer = match (&info.publickey, stood) {
            (Some(own), _) => key(own),
            (None, Before::Tip(tip)) => Some(tip.key),
            (None, _) => None,
        };
        let genuine = |digest: &Sha256| signer.is_some_and(|signer| is_signed(&signer, digest, &signature));
        let tip = Tip { digest: stated, key: next };
        let Some(machine_id) = self.machine_id.clone() else {
            self.before = if genuine(&stated) { Before::Tip(tip) } else { Before::Keyless(tip) };
            self.signatures += u64::from(genuine(&stated));
            return Some(stated);
        };
        let before = match stood {
            Before::Nothing => None,
            Before::Tip(tip) | Before::Keyless(tip) => Some(tip),
            Before::Unknown => {
                // What was told already explains it; the walk goes on from what this one states.
                self.before = if genuine(&stated) { Before::Tip(tip) } else { Before::Keyless(tip) };
                return Some(stated);
            }
        };
        let flaw = link::check(&machine_id, before.as_ref(), root, info).flaw;
        self.before = Before::Tip(tip);
        match flaw {
            None => self.signatures += 1,
            Some(Flaw::Restart) => {
                self.signatures += 1;
                let detail = "the host goes on with a key of its own: it lost the one it had, or somebody goes on in its name";
                self.find(number, LEDGER, Change::ChainRestarted, detail);
            }
            Some(Flaw::Signature) if matches!(stood, Before::Keyless(_)) => {}
            Some(flaw @ (Flaw::Signature | Flaw::Keyless)) => {
                self.find(number, LEDGER, Change::SignatureWrong, flaw.to_string());
            }
            Some(Flaw::Unsealed) => {}
            Some(Flaw::Digest) => {
                let previous = before.map_or(NOTHING, |tip| tip.digest);
                let computed = link::digest(&machine_id, &previous, root, info);
                if genuine(&computed) {
                    self.find(
                        number,
                        LEDGER,
                        Change::LedgerChanged,
                        "`digest` is not the one that is signed",
                    );
                    self.before = Before::Tip(Tip { digest: computed, key: next });
                    return Some(computed);
                }
                let is_stated = genuine(&stated);
                let detail = match (is_stated, stale) {
                    (true, false) => RESUMMED,
                    (true, true) => "a value is another than the one that was sealed",
                    (false, _) => "neither its digest nor its signature fit its values",
                };
                self.find(number, LEDGER, Change::LedgerChanged, detail);
                self.before = if is_stated { Before::Keyless(tip) } else { Before::Unknown };
                return is_stated.then_some(stated);
            }
        }
        Some(stated)
    }

    fn clocks(&mut self, number: i64, info: &BatchInfo) {
        let (first, last) = self.span.unwrap_or((info.firstevent, info.created));
        self.span = Some((first.min(info.firstevent), last.max(info.created)));
        if info.created.0 < self.clock.0.saturating_sub(CLOCK) {
            let detail = format!("the host's clock went from {} back to {}", self.clock, info.created);
            self.note(number, Change::ClockMoved, detail);
            self.clock = info.created;
        }
        self.clock = self.clock.max(info.created);
    }

    fn receipt(&mut self, number: i64, digest: &Sha256, proof: &Proof) {
        let Some((signer, receipt, refused)) = receipt(proof) else {
            let nothing = proof.received.is_none() && proof.receipt.is_none() && proof.signer.is_none();
            if !nothing {
                let detail = "`received`, `receipt`, `signer` or `refused` is not what a server writes";
                self.find(number, PROOF, Change::ReceiptWrong, detail);
            } else if self.has_receipts || !self.keys.is_empty() {
                let detail = "the batch has no receipt of a server";
                self.find(number, PROOF, Change::ReceiptMissing, detail);
            }
            return;
        };
        self.has_receipts = true;
        let Some(machine_id) = self.machine_id.clone() else { return };
        let is_right = receipt.is_by(&signer, (&machine_id, number, digest), &refused);
        let is_known = self.keys.contains(&signer);
        if !is_right {
            let detail = "the server has signed another digest, time or refusal";
            self.find(number, PROOF, Change::ReceiptWrong, detail);
        } else if !is_known && !self.keys.is_empty() {
            let detail = format!("it is by the key {}, which is not given", encode(signer.as_bytes()));
            self.find(number, PROOF, Change::ReceiptWrong, detail);
        } else {
            self.receipts += 1;
            if !self.signers.contains(&signer) {
                self.signers.push(signer);
            }
        }
        if receipt.received.0 < self.received {
            let detail = format!(
                "it arrived at {}, and the batch before it at {}",
                receipt.received,
                Time(self.received)
            );
            if is_right && is_known {
                self.note(number, Change::ClockMoved, detail);
            } else if is_right {
                self.find(number, PROOF, Change::ClockMoved, detail);
            }
        }
        self.received = self.received.max(receipt.received.0);
    }

    fn head_of(&self, info: &BatchInfo, digest: &Sha256, proof: Option<&Proof>) -> Option<Head> {
        let signed_by = match &info.publickey {
            Some(own) => own.clone(),
            None => self.signed_by.clone()?,
        };
        let received = proof.and_then(receipt);
        Some(Head::new(self.machine_id()?, &self.host.name, info, digest, signed_by, received))
    }
}

fn key(text: &str) -> Option<VerifyingKey> {
    VerifyingKey::from_bytes(&decode::<32>(text)?).ok()
}

fn is_signed(key: &VerifyingKey, digest: &Sha256, signature: &Signature) -> bool {
    key.verify_strict(&link::message(digest), signature).is_ok()
}

/// Digest, next key and signature.
fn sealed(info: &BatchInfo) -> Option<(Sha256, VerifyingKey, Signature)> {
    let digest = decode::<32>(info.digest.as_deref()?)?;
    let signature = decode::<64>(info.signature.as_deref()?)?;
    Some((digest, key(info.nextkey.as_deref()?)?, Signature::from_bytes(&signature)))
}

/// The receipt beside a batch, the key that signed it, and the refusals.
pub(crate) fn receipt(proof: &Proof) -> Option<(VerifyingKey, Receipt, Refusals)> {
    let signature: [u8; 64] = proof.receipt.as_deref()?.try_into().ok()?;
    let signer: [u8; 32] = proof.signer.as_deref()?.try_into().ok()?;
    let signer = VerifyingKey::from_bytes(&signer).ok()?;
    let refused = Refusals::decode(proof.refused.as_deref().unwrap_or_default())?;
    Some((signer, Receipt { received: Time(proof.received?), signature }, refused))
}

/// The machine id that most of the first digests are of. A single one that fits none may as well have been changed itself.
fn identity(known: &[String], first: &[Entry]) -> Option<String> {
    let mut previous = Some(NOTHING);
    let mut sealed_entries = Vec::new();
    for entry in first.iter().take(64) {
        let root = entry.proof.as_ref().and_then(|proof| Sha256::try_from(proof.root.as_slice()).ok());
        let info = entry.row.as_ref().and_then(|row| row.info.as_ref());
        let stated = info.and_then(sealed).map(|(digest, ..)| digest);
        if let (Some(previous), Some(root), Some(info), Some(stated)) = (previous, root, info, stated) {
            sealed_entries.push((previous, root, info, stated));
        }
        previous = stated;
    }
    let fits = |id: &String| {
        let fit = sealed_entries.iter().filter(|(previous, root, info, stated)| {
            let is = |previous: &Sha256| link::digest(id, previous, root, info) == *stated;
            is(previous) || (info.publickey.is_some() && is(&NOTHING))
        });
        fit.count()
    };
    let best = known.iter().map(|id| (fits(id), id)).max_by_key(|(count, _)| *count)?;
    (best.0 > 0 || sealed_entries.len() < 2).then(|| best.1.clone())
}
