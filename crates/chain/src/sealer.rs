//! Sealing one batch after the other.

use ed25519_dalek::Signer;
use luarm_schema::{Batch, Row};

use crate::{
    Head, KeyFile, Manifest, Sha256, decode, encode,
    keys::{self, Key, KeyError},
    link,
};

/// How the chain goes on when a recorder starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Chain {
    /// It begins.
    New,
    /// It goes on.
    Continued,
    /// The key of the next batch is not there: the chain goes on with a new one, and everybody will see that.
    Restarted,
}

/// The one who seals the batches of a host.
pub struct Sealer {
    machine_id: String,
    file: KeyFile,
    next: Key,
    /// Nothing names `next` yet.
    unnamed: bool,
    /// The public key that signed last.
    signer: Option<[u8; 32]>,
}

impl std::fmt::Debug for Sealer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sealer")
            .field("machine_id", &self.machine_id)
            .field("next", &self.next.batch)
            .finish()
    }
}

impl Sealer {
    /// For the host with that machine id, of which batch `last` (0 for none) was kept last; `digest` is that batch's, where it is known.
    pub fn open(
        file: KeyFile,
        machine_id: &str,
        last: i64,
        digest: Option<&str>,
    ) -> Result<(Self, Chain), KeyError> {
        let known = digest.and_then(decode::<32>);
        let kept = file.keys()?.into_iter().find(|key| {
            // The key of a chain that was left behind is no key of this one.
            key.batch == last.saturating_add(1) && known.is_none_or(|digest| digest == key.previous)
        });
        let (next, chain) = match kept {
            Some(key) if last > 0 => (key, Chain::Continued),
            // Nobody has seen what it signed.
            _ => {
                let previous = known.unwrap_or(link::NOTHING);
                let key = Key { batch: last.saturating_add(1), key: keys::fresh()?, previous };
                (key, if last == 0 { Chain::New } else { Chain::Restarted })
            }
        };
        let unnamed = chain != Chain::Continued;
        Ok((Sealer { machine_id: machine_id.to_owned(), file, next, unnamed, signer: None }, chain))
    }

    /// Seals the batch: it gets its manifest, digest and signature. The key of the next one is on disk when this returns; that of this one is gone from memory,
    /// and from disk with the next call.
    ///
    /// Batches are sealed in the order of their numbers, and one is sealed once: what is kept of it must be what was sealed.
    pub fn seal(&mut self, batch: &mut Batch) -> Result<(), KeyError> {
        let manifest = Manifest::of(batch).encode();
        let Some(Row::BatchInfo(info)) = batch.rows.last_mut() else { return Ok(()) };
        let following = keys::fresh()?;
        info.publickey = self.unnamed.then(|| encode(self.next.key.verifying_key().as_bytes()));
        info.nextkey = Some(encode(following.verifying_key().as_bytes()));
        let digest: Sha256 =
            link::digest(&self.machine_id, &self.next.previous, &Manifest::root_of(&manifest), info);
        let following = Key { batch: batch.id.saturating_add(1), key: following, previous: digest };
        // Before the batch is anywhere: whoever has the batch but not the key could not go on.
        self.file.keep(&following)?;
        info.digest = Some(encode(&digest));
        info.signature = Some(encode(&self.next.key.sign(&link::message(&digest)).to_bytes()));
        batch.manifest = manifest;
        self.signer = Some(self.next.key.verifying_key().to_bytes());
        self.next = following;
        self.unnamed = false;
        Ok(())
    }
}

impl Sealer {
    /// The head of the history of that host's name, if the batch is the one that was sealed last.
    pub fn head(&self, host: &str, batch: &Batch) -> Option<Head> {
        let Some(Row::BatchInfo(info)) = batch.rows.last() else { return None };
        if batch.id.saturating_add(1) != self.next.batch {
            return None;
        }
        let digest = info.digest.as_deref().and_then(decode)?;
        Some(Head::new(&self.machine_id, host, info, &digest, encode(&self.signer?), None))
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use luarm_schema::{
        Time,
        tables::{BatchInfo, RenameInfo},
    };

    use super::*;
    use crate::link::{Flaw, Tip, check};

    pub(crate) fn rename(key: i64, name: &str) -> Row {
        RenameInfo {
            renameid: key,
            psentity: 1,
            username: "root".into(),
            loginname: None,
            pid: 1,
            application: name.to_owned(),
            oldapplication: "sh".to_owned(),
            auid: None,
            session: None,
            created: Time(1),
            end: None,
        }
        .into()
    }

    pub(crate) fn batch(id: i64) -> Batch {
        let info = BatchInfo {
            batchid: id,
            run: 1,
            rowcount: 1,
            endcount: 0,
            firstevent: Time(1),
            lastevent: Time(2),
            created: Time(3),
            publickey: None,
            nextkey: None,
            digest: None,
            signature: None,
            end: None,
        };
        Batch { id, rows: vec![rename(id, "x"), info.into()], ..Batch::default() }
    }

    struct Host {
        dir: tempfile::TempDir,
        kept: Vec<Batch>,
    }

    impl Host {
        fn new() -> Self {
            Host { dir: tempfile::tempdir().unwrap(), kept: Vec::new() }
        }

        fn start(&self) -> (Sealer, Chain) {
            let file = KeyFile::open(&self.dir.path().join("key")).unwrap();
            let digest = self.kept.last().and_then(|batch| info(batch).digest.clone());
            Sealer::open(file, "m", self.kept.len() as i64, digest.as_deref()).unwrap()
        }

        fn next(&self) -> Batch {
            batch(self.kept.len() as i64 + 1)
        }

        fn run(&mut self, batches: usize) -> Chain {
            let (mut sealer, chain) = self.start();
            for _ in 0..batches {
                let mut batch = self.next();
                sealer.seal(&mut batch).unwrap();
                self.kept.push(batch);
            }
            chain
        }

        fn flaws(&self) -> Vec<(i64, Flaw)> {
            let mut tip: Option<Tip> = None;
            let mut flaws = Vec::new();
            for batch in &self.kept {
                let root = Manifest::of(batch).root();
                let checked = check("m", tip.as_ref(), &root, info(batch));
                flaws.extend(checked.flaw.map(|flaw| (batch.id, flaw)));
                tip = checked.tip;
            }
            flaws
        }
    }

    fn info(batch: &Batch) -> &BatchInfo {
        let Some(Row::BatchInfo(info)) = batch.rows.last() else { panic!() };
        info
    }

    #[test]
    fn a_chain_goes_on_over_every_restart() {
        let mut host = Host::new();
        assert_eq!(host.run(3), Chain::New);
        assert_eq!(host.run(2), Chain::Continued);
        // Killed between the key and the batch, twice.
        for _ in 0..2 {
            let (mut sealer, _) = host.start();
            sealer.seal(&mut host.next()).unwrap();
        }
        assert_eq!(host.run(2), Chain::Continued);
        assert_eq!(host.flaws(), []);
        assert_eq!(host.kept.len(), 7);
    }

    #[test]
    fn a_lost_key_shows() {
        let mut host = Host::new();
        host.run(3);
        std::fs::remove_file(host.dir.path().join("key")).unwrap();
        assert_eq!(host.run(2), Chain::Restarted);
        assert_eq!(host.flaws(), [(4, Flaw::Restart)]);
    }

    #[test]
    fn whoever_takes_the_keys_cannot_sign_the_past() {
        let mut host = Host::new();
        host.run(5);
        let stolen = KeyFile::open(&host.dir.path().join("key")).unwrap().keys().unwrap();
        assert_eq!(stolen.iter().map(|key| key.batch).collect::<Vec<_>>(), [6, 5]);
        // The last batch was kept, and its key is in the file until the next one: it is all that can be signed anew.
        for key in &stolen {
            let mut forged = host.kept[3].clone();
            forged.rows[0] = rename(4, "forged");
            let root = Manifest::of(&forged).root();
            let Some(Row::BatchInfo(info)) = forged.rows.last_mut() else { panic!() };
            let before = decode(self::info(&host.kept[2]).digest.as_deref().unwrap()).unwrap();
            let digest = link::digest("m", &before, &root, info);
            info.digest = Some(encode(&digest));
            info.signature = Some(encode(&key.key.sign(&link::message(&digest)).to_bytes()));
            let real = std::mem::replace(&mut host.kept[3], forged);
            assert_eq!(host.flaws()[0], (4, Flaw::Signature));
            host.kept[3] = real;
        }
        assert_eq!(host.flaws(), []);
    }

    #[test]
    fn what_is_changed_shows_where_it_is() {
        let mut host = Host::new();
        host.run(5);
        host.kept[2].rows[0] = rename(3, "y");
        assert_eq!(host.flaws(), [(3, Flaw::Digest)]);
        host.kept[2].rows[0] = rename(3, "x");
        host.kept.remove(1);
        assert_eq!(host.flaws(), [(3, Flaw::Digest)]);
    }
}
