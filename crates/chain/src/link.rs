//! The digest of a batch, and its signature.

use ed25519_dalek::{Signature, VerifyingKey};
use luarm_schema::tables::BatchInfo;
use sha2::{Digest, Sha256 as Hasher};

use crate::{Sha256, decode, manifest::Trimmed};

/// What stands before the first batch of a chain.
pub const NOTHING: Sha256 = [0; 32];

/// The digest of a batch of that host: over the digest of the batch before, the root of its manifest, and its own row of `batchinfo`.
pub fn digest(machine_id: &str, previous: &Sha256, root: &Sha256, info: &BatchInfo) -> Sha256 {
    let mut row = Trimmed::default();
    // Digest and signature are the last columns: without them the bytes end before.
    BatchInfo { digest: None, signature: None, ..info.clone() }.begin(&mut row);
    let mut hasher = Hasher::new();
    hasher.update(b"luarm batch 1\0");
    hasher.update((machine_id.len() as u64).to_be_bytes());
    hasher.update(machine_id);
    hasher.update(previous);
    hasher.update(root);
    hasher.update(row.bytes());
    hasher.finalize().into()
}

/// What a host signs for a digest.
pub(crate) fn message(digest: &Sha256) -> Vec<u8> {
    [b"luarm seal 1\0".as_slice(), digest].concat()
}

/// Where the chain stands after a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tip {
    /// The batch's digest.
    pub digest: Sha256,
    /// The key that signs the next one.
    pub key: VerifyingKey,
}

impl Tip {
    /// After the batch with that `batchinfo.digest` and `nextkey`; `None` if it was not sealed.
    pub fn read(digest: Option<&str>, nextkey: Option<&str>) -> Option<Self> {
        let key =
            nextkey.and_then(decode).and_then(|bytes: [u8; 32]| VerifyingKey::from_bytes(&bytes).ok())?;
        Some(Tip { digest: digest.and_then(decode)?, key })
    }
}

/// What is wrong with a batch's place in the chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Flaw {
    /// It has no digest, signature or next key, or they are none.
    #[error("it is not sealed")]
    Unsealed,
    /// Its digest is another than what it covers gives.
    #[error("its digest is not that of its rows, its own row in batchinfo, and the digest before it")]
    Digest,
    /// The signature is not that of the key that has to sign.
    #[error("its signature is not by the key that the batch before it names")]
    Signature,
    /// Nothing names the key that signed it.
    #[error("nothing names the key that has to sign it")]
    Keyless,
    /// It signs with a key of its own, though the batch before it names another.
    #[error("it begins a new chain: the host has lost its key, or somebody else goes on in its name")]
    Restart,
}

/// How a batch follows the one before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Checked {
    /// Where the chain stands now, if the batch can be read as sealed at all.
    pub tip: Option<Tip>,
    /// What is wrong.
    pub flaw: Option<Flaw>,
}

/// Checks a batch of that host against where the chain stood before; `before` is `None` for the first. `root` is that of the manifest.
pub fn check(machine_id: &str, before: Option<&Tip>, root: &Sha256, info: &BatchInfo) -> Checked {
    let key = |text: &Option<String>| {
        text.as_deref().and_then(decode).and_then(|bytes: [u8; 32]| VerifyingKey::from_bytes(&bytes).ok())
    };
    let signature: Option<[u8; 64]> = info.signature.as_deref().and_then(decode);
    let (Some(stated), Some(next), Some(signature)) =
        (info.digest.as_deref().and_then(decode), key(&info.nextkey), signature)
    else {
        return Checked { tip: None, flaw: Some(Flaw::Unsealed) };
    };
    let tip = Some(Tip { digest: stated, key: next });
    let restarts = info.publickey.is_some();
    let fits = |previous: &Sha256| digest(machine_id, previous, root, info) == stated;
    let follows = fits(&before.map_or(NOTHING, |tip| tip.digest));
    // Who lost all that he knew knows no digest before his first one.
    let begins_anew = restarts && fits(&NOTHING);
    if !(follows || begins_anew) {
        return Checked { tip, flaw: Some(Flaw::Digest) };
    }
    let signer = if restarts { key(&info.publickey) } else { before.map(|tip| tip.key) };
    let Some(signer) = signer else { return Checked { tip, flaw: Some(Flaw::Keyless) } };
    let signature = Signature::from_bytes(&signature);
    let flaw = if signer.verify_strict(&message(&stated), &signature).is_err() {
        Some(Flaw::Signature)
    } else if restarts && before.is_some() {
        Some(Flaw::Restart)
    } else {
        None
    };
    Checked { tip, flaw }
}
