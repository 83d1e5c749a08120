//! The key, the ledger and the name under which a server seals its own rows.

use std::{
    fs::{self, File, TryLockError},
    path::{Path, PathBuf},
    sync::Arc,
};

use luarm_chain::{self as chain, Head, Heads, KeyFile, Notary, Sealer, VerifyingKey, decode, server_id};
use luarm_schema::{Batch, Row, Time};
use luarm_store::{HostIdentity, Ledger, StoreUrl, Stored};

use crate::{LinkError, authority};

/// As many servers can run in one data directory at the same time.
const PLACES: u32 = 16;

/// The chain of one server.
pub(super) struct Chain {
    identity: HostIdentity,
    name: String,
    ledger: Ledger,
    key: PathBuf,
    sealer: Option<Sealer>,
    heads: Arc<Heads>,
    signer: VerifyingKey,
    run: Time,
    /// Keeps others from this key.
    _lock: File,
}

impl Chain {
    /// Takes the first key of the data directory that no other process has, and makes one where there is none.
    pub(super) fn open(
        data: &Path,
        store: &StoreUrl,
        notary: &Notary,
        heads: Arc<Heads>,
    ) -> Result<Self, LinkError> {
        let mut ledger = Ledger::open(store)?;
        ledger.notarize(notary.clone());
        let (key, lock, place) = claim(&authority::directory(data))?;
        let name = name(place);
        let identity = HostIdentity::own(&server_id(&notary.public(), place), &name);
        let (signer, run) = (notary.key(), Time::now());
        Ok(Chain { identity, name, ledger, key, sealer: None, heads, signer, run, _lock: lock })
    }

    /// Whether the store knows this server.
    pub(super) fn is_known(&mut self) -> Result<bool, LinkError> {
        Ok(self.ledger.find(&self.identity)?.is_some())
    }

    /// What people call it.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// When it started.
    pub(super) fn run(&self) -> Time {
        self.run
    }

    /// Gives the server's number in the store and that of its last batch, and finds the key of the next one. The store knows the server from now on.
    pub(super) fn enter(&mut self) -> Result<(i64, i64), LinkError> {
        let host = self.ledger.enter(&self.identity)?;
        let (last, digest) = self.ledger.tip(host)?;
        let file = KeyFile::open(&self.key)?;
        let (sealer, chain) = Sealer::open(file, &self.identity.machine_id, last, digest.as_deref())?;
        if chain == chain::Chain::Restarted {
            tracing::warn!(
                "{} has not the key of batch {} of {}: its chain goes on with a new one, and luarm verify shows it",
                self.key.display(),
                last + 1,
                self.name
            );
        }
        self.sealer = Some(sealer);
        Ok((host, last))
    }

    /// Seals the batch, unless it was, and appends it. After an error that passes it may be called again with the same batch.
    pub(super) fn append(&mut self, batch: &mut Batch) -> Result<(), LinkError> {
        if batch.manifest.is_empty() {
            let Some(sealer) = &mut self.sealer else { return Ok(()) };
            sealer.seal(batch)?;
            // The rest is in the store already.
            batch.rows.drain(..batch.rows.len().saturating_sub(1));
            batch.ends.clear();
        }
        let stored = self.ledger.append(&self.identity, batch)?;
        self.note_head(batch, stored);
        Ok(())
    }

    fn note_head(&self, batch: &Batch, stored: Stored) {
        let Some(Row::BatchInfo(info)) = batch.rows.last() else { return };
        let digest = info.digest.as_deref().and_then(decode);
        if let (Some(key), Some((receipt, refused)), Some(digest)) =
            (stored.publickey, stored.receipt, digest)
        {
            let receipt = Some((self.signer, receipt, refused));
            self.heads.note(Head::new(&self.identity.machine_id, &self.name, info, &digest, key, receipt));
        }
    }
}

/// The first key that nobody has, its lock, and which one it is.
fn claim(directory: &Path) -> Result<(PathBuf, File, u32), LinkError> {
    for place in 1..=PLACES {
        let name = if place == 1 { "questions.key".to_owned() } else { format!("questions-{place}.key") };
        let path = directory.join(name);
        let failed = |source| LinkError::File { action: "lock", path: path.clone(), source };
        KeyFile::open(&path)?;
        let lock = File::open(&path).map_err(failed)?;
        match lock.try_lock() {
            Ok(()) => return Ok((path, lock, place)),
            Err(TryLockError::WouldBlock) => {}
            Err(TryLockError::Error(error)) => return Err(failed(error)),
        }
    }
    Err(LinkError::Crowded { directory: directory.to_owned(), most: PLACES })
}

/// What this server is called: no host that joins can have such a name.
fn name(place: u32) -> String {
    let machine = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let plain: String =
        machine.trim().chars().filter(|c| c.is_ascii_alphanumeric() || ".-_".contains(*c)).take(64).collect();
    if place == 1 { format!("server@{plain}") } else { format!("server@{plain}-{place}") }
}
