//! Hosts seal what they deliver: the chain of one host of a test.

use std::{
    path::PathBuf,
    sync::{Mutex, PoisonError},
};

use luarm_chain::{KeyFile, Sealer};
use luarm_schema::{Batch, Row};

/// What a host has delivered, before and after it was sealed, in the order of numbers.
type Kept = Vec<(Batch, Batch)>;

/// The chain of a host, whose key is in its data directory.
pub(crate) struct Seals {
    machine_id: String,
    data: PathBuf,
    kept: Mutex<Kept>,
}

impl Seals {
    pub(crate) fn new(machine_id: &str, data: &std::path::Path) -> Self {
        Seals { machine_id: machine_id.to_owned(), data: data.to_owned(), kept: Mutex::default() }
    }

    fn kept(&self) -> std::sync::MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The batch, sealed: as it was if it was delivered before, else after what was delivered last. One that does not follow is sealed with a key of nobody's.
    pub(crate) fn seal(&self, batch: &Batch) -> Batch {
        let kept = self.kept();
        if let Some((_, sealed)) = kept.iter().find(|(before, _)| before == batch) {
            return sealed.clone();
        }
        let mut sealed = batch.clone();
        let follows = batch.id == kept.len() as i64 + 1;
        let nobody = tempfile::tempdir().unwrap();
        let directory = if follows { self.data.as_path() } else { nobody.path() };
        let digest = match kept.last().and_then(|(_, last)| last.rows.last()) {
            Some(Row::BatchInfo(info)) if follows => info.digest.clone(),
            _ => None,
        };
        let file = KeyFile::open(&directory.join("chain.key")).unwrap();
        let (mut sealer, _) =
            Sealer::open(file, &self.machine_id, batch.id.saturating_sub(1), digest.as_deref()).unwrap();
        sealer.seal(&mut sealed).unwrap();
        sealed
    }

    /// The server has it.
    pub(crate) fn keep(&self, batch: &Batch, sealed: Batch) {
        let mut kept = self.kept();
        if batch.id == kept.len() as i64 + 1 {
            kept.push((batch.clone(), sealed));
        }
    }
}
