//! Batches that are sealed: what is kept of them is the same everywhere, and what does not follow in the chain is not stored.

use luarm_chain::{
    KeyFile, Manifest, Notary, Part, Receipt, Refusals, Sealer, SigningKey, VerifyingKey,
    link::Flaw,
    verify::{Options, Progress, verify},
};
use luarm_schema::{Batch, End, Row, tables::BatchInfo};
use luarm_store::{Evidence, HostIdentity, Ledger, StoreError, StoreUrl};

use super::asked;
use crate::fixture::*;

/// The chains of one host, with keys that are the same each time: the first is written into the file before anybody signs.
pub(super) struct Host {
    dir: tempfile::TempDir,
    last: Option<Batch>,
}

pub(super) fn info(batch: &Batch) -> &BatchInfo {
    let Some(Row::BatchInfo(info)) = batch.rows.last() else { panic!("no batchinfo row") };
    info
}

impl Host {
    pub(super) fn new() -> Self {
        Host { dir: tempfile::tempdir().unwrap(), last: None }
    }

    /// A sealer that goes on after the batch that was kept last.
    pub(super) fn sealer(&self) -> Sealer {
        let file = KeyFile::open(&self.dir.path().join("key")).unwrap();
        let last = self.last.as_ref();
        let digest = last.and_then(|batch| info(batch).digest.clone());
        Sealer::open(file, MACHINE, last.map_or(0, |batch| batch.id), digest.as_deref()).unwrap().0
    }

    pub(super) fn seal(&mut self, mut batch: Batch) -> Batch {
        self.sealer().seal(&mut batch).unwrap();
        self.last = Some(batch.clone());
        batch
    }
}

fn first() -> Batch {
    batch(1, vec![host(MACHINE, "alpha", 1), endpoint(1).into(), endpoint(2).into()], Vec::new())
}

fn identity() -> HostIdentity {
    HostIdentity::enrolled(MACHINE, "alpha")
}

/// What is kept beside the rows, compared with what was sealed; the answers have no bytes, which are others each time.
pub(super) fn proofs(url: &StoreUrl) -> Vec<String> {
    let key = SigningKey::from_bytes(&[9; 32]);
    let mut ledger = Ledger::open(url).unwrap();
    ledger.notarize(Notary::new(key.clone()).by(|| at(77)));
    let mut host = Host::new();
    let end = |n| End::NetInfo(endpoint_end(at(n)));
    let mut whole = endpoint(4);
    whole.end = Some(endpoint_end(at(5)));
    let mut other = endpoint(3);
    other.pid += 1;
    // A key that is there, one twice, an end twice, one without a row, one of a row that had ended by itself, and what is as it should be.
    let second = batch(
        2,
        vec![endpoint(2).into(), endpoint(3).into(), whole.into(), other.into()],
        vec![(1, end(50)), (1, end(51)), (99, end(70)), (4, end(71)), (3, end(72))],
    );
    let mut said = Vec::new();
    let mut sealed = Vec::new();
    for batch in [first(), second, endpoints(3, [9])] {
        let batch = host.seal(batch);
        let stored = ledger.append(&identity(), &batch).unwrap();
        let (receipt, refusals) = stored.receipt.unwrap();
        said.push(format!("{:?} {} {:?}", stored.refused, stored.restarted, refusals));
        sealed.push((batch, receipt, refusals));
    }
    let mut again = ledger.append(&identity(), &sealed[2].0).unwrap();
    assert_eq!((again.receipt.take(), again.restarted), (None, false));
    for (batch, receipt, refusals) in &sealed {
        let id = batch.id;
        let hex = |column: &str| {
            let sql = match url {
                StoreUrl::Postgres(_) => {
                    format!("SELECT upper(encode({column}, 'hex')) FROM luarmproof WHERE batch = {id}")
                }
                _ => format!("SELECT hex({column}) FROM luarmproof WHERE batch = {id}"),
            };
            asked(url, &[&sql])[1].clone()
        };
        let of = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02X}")).collect::<String>();
        assert_eq!(hex("manifest"), of(&batch.manifest));
        assert_eq!(hex("root"), of(&Manifest::of(batch).root()));
        if !refusals.is_empty() {
            assert_eq!(hex("refused"), of(&refusals.encode()));
        }
        assert_eq!(hex("receipt"), of(&receipt.signature));
        assert_eq!(hex("signer"), of(key.verifying_key().as_bytes()));
        assert_eq!(receipt.received, at(77));
        let digest = luarm_chain::decode(info(batch).digest.as_deref().unwrap()).unwrap();
        let public: VerifyingKey = key.verifying_key();
        assert!(Receipt { ..*receipt }.is_by(&public, (MACHINE, id, &digest), refusals));
    }
    let manifest = Manifest::of(&sealed[1].0);
    let refusals: &Refusals = &sealed[1].2;
    let entries = manifest.entries().enumerate().filter(|(place, _)| refusals.contains(*place));
    let refused: Vec<(Part, i64)> = entries.map(|(_, (_, part, key, _))| (part, key)).collect();
    assert_eq!(
        refused,
        [(Part::Begin, 2), (Part::Begin, 3), (Part::End, 1), (Part::End, 4), (Part::End, 99)]
    );
    // What is left of the second batch, after a third that is as it should be, is what is there.
    let report = verify(
        &|| Ok(Evidence::open(url)?),
        &Options { keys: vec![key.verifying_key()], ..Options::default() },
        &Progress::default(),
    );
    let report = report.unwrap();
    // No recorder ends a row twice, or one of the same batch: who does makes his own history doubtful, and nothing else.
    let others: Vec<_> = report.findings.iter().filter(|f| !matches!(f.key, Some(1 | 3))).collect();
    assert!(others.is_empty(), "{others:?}");
    assert_eq!((report.hosts[0].signatures, report.hosts[0].receipts), (3, 3));
    said.extend(asked(
        url,
        &["SELECT host, batch, received, refused IS NULL, length(root), length(receipt), length(signer) FROM luarmproof ORDER BY batch"],
    ));
    said
}

/// What does not follow in the chain, through two ledgers that take turns.
pub(super) fn chained(url: &StoreUrl) -> Vec<String> {
    let mut ledgers = [1, 2].map(|n| {
        let mut ledger = Ledger::open(url).unwrap();
        ledger.notarize(Notary::new(SigningKey::from_bytes(&[n; 32])));
        ledger
    });
    let mut host = Host::new();
    let one = host.seal(first());
    let mut said = Vec::new();
    let mut refused = |ledger: &mut Ledger, batch: &Batch, flaw: Flaw| {
        let error = ledger.append(&identity(), batch).unwrap_err();
        assert!(matches!(error, StoreError::Flaw { flaw: is, .. } if is == flaw), "{error}");
        assert!(!error.is_transient());
        said.push(error.to_string());
    };
    // Not sealed, changed after it was sealed, signed by nobody.
    let mut unsealed = first();
    refused(&mut ledgers[0], &unsealed, Flaw::Unsealed);
    unsealed.manifest = Manifest::of(&unsealed).encode();
    refused(&mut ledgers[0], &unsealed, Flaw::Unsealed);
    let mut changed = one.clone();
    changed.rows[1] = endpoint(7).into();
    changed.manifest = Manifest::of(&changed).encode();
    refused(&mut ledgers[0], &changed, Flaw::Digest);
    let with = |batch: &Batch, change: fn(&mut BatchInfo)| {
        let mut batch = batch.clone();
        if let Some(Row::BatchInfo(info)) = batch.rows.last_mut() {
            change(info);
        }
        batch
    };
    refused(&mut ledgers[0], &with(&one, |info| info.publickey = None), Flaw::Digest);
    refused(&mut ledgers[0], &with(&one, |info| info.created.0 += 1), Flaw::Digest);
    refused(
        &mut ledgers[0],
        &with(&one, |info| info.signature = Some(luarm_chain::encode(&[3; 64]))),
        Flaw::Signature,
    );
    ledgers[0].append(&identity(), &one).unwrap();
    // The next one by another server; what was sealed for another place is no successor.
    let two = host.seal(endpoints(2, [4]));
    let mut three = host.sealer();
    let mut skipping = endpoints(2, [5]);
    three.seal(&mut skipping).unwrap();
    refused(&mut ledgers[1], &skipping, Flaw::Digest);
    ledgers[1].append(&identity(), &two).unwrap();
    // A host that lost everything is taken in, and seen.
    let mut lost = Host::new();
    lost.last = Some(with(&two, |info| info.digest = None));
    let restarted = lost.seal(endpoints(3, [6]));
    assert!(ledgers[0].append(&identity(), &restarted).unwrap().restarted);
    let four = lost.seal(endpoints(4, [7]));
    assert!(!ledgers[1].append(&identity(), &four).unwrap().restarted);
    // The first chain is over: its key signs nothing any more.
    let old = host.seal(endpoints(3, [8]));
    assert!(matches!(ledgers[0].append(&identity(), &old), Err(StoreError::Conflict { id: 3 })));
    let old = host.seal(endpoints(4, [8]));
    assert!(matches!(ledgers[0].append(&identity(), &old), Err(StoreError::Conflict { id: 4 })));
    refused(&mut ledgers[0], &host.seal(endpoints(5, [8])), Flaw::Digest);
    said.extend(asked(
        url,
        &["SELECT count(*), count(DISTINCT signer) FROM luarmproof", "SELECT count(*) FROM netinfo"],
    ));
    said
}
