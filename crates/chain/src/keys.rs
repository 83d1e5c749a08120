//! The key that moves forward: a file with the key of the next batch and that of the one after it, and never an older one.

use std::{
    fs::{File, OpenOptions},
    io::{self, Read},
    os::unix::fs::{FileExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use ed25519_dalek::SigningKey;
use sha2::{Digest, Sha256 as Hasher};
use zeroize::Zeroizing;

use crate::Sha256;

/// Bytes of one of the two places: a magic, the batch, the key, the digest before that batch, a checksum.
const PLACE: usize = 8 + 8 + 32 + 32 + 32;
const MAGIC: &[u8; 8] = b"luarmkey";
/// The second place lies in another sector: none is written with the other.
const APART: u64 = 4096;

/// Bytes of the file.
const LENGTH: usize = APART as usize + PLACE;

/// Why the key cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The file cannot be used.
    #[error("cannot {action} {path}: {source}", path = path.display())]
    File {
        /// What was tried.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The kernel gives no random bytes.
    #[error("the kernel gives no random bytes for a key: {0}")]
    Random(io::Error),
}

/// The key for one batch.
pub(crate) struct Key {
    /// Number of the batch.
    pub(crate) batch: i64,
    pub(crate) key: SigningKey,
    /// Digest of the batch before.
    pub(crate) previous: Sha256,
}

/// A file that holds two keys.
///
/// The key of a batch is written before the batch before it is kept, over the key of the batch before that: so at any moment the file has the key of
/// the batch that comes next, whether the last one was kept or not, and none of any batch that was kept before the last.
#[derive(Debug)]
pub struct KeyFile {
    file: File,
    path: PathBuf,
}

impl KeyFile {
    /// Opens the file, and makes it where there is none, for its owner only.
    pub fn open(path: &Path) -> Result<Self, KeyError> {
        let wrong = |action| move |source| KeyError::File { action, path: path.to_owned(), source };
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).mode(0o600);
        let file = options.open(path).map_err(wrong("open"))?;
        let length = file.metadata().map_err(wrong("open"))?.len();
        if length < LENGTH as u64 {
            // All that it will ever take, so that a disk that becomes full does not matter; one that is full is found out when there is something to keep.
            let _ = file.write_all_at(&[0; LENGTH][usize::try_from(length).unwrap_or(LENGTH)..], length);
        }
        if let Some(directory) = path.parent() {
            File::open(directory).and_then(|directory| directory.sync_all()).map_err(wrong("keep"))?;
        }
        Ok(KeyFile { file, path: path.to_owned() })
    }

    /// The keys that it holds.
    pub(crate) fn keys(&self) -> Result<Vec<Key>, KeyError> {
        let mut keys = Vec::new();
        for place in 0..2 {
            let mut bytes = Zeroizing::new([0; PLACE]);
            match self.file.read_exact_at(&mut *bytes, place * APART) {
                Ok(()) => keys.extend(read(&bytes)),
                Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => {}
                Err(source) => return Err(self.wrong("read", source)),
            }
        }
        Ok(keys)
    }

    /// A batch that was kept for sure, and its digest, as the file knows them; `None` for a file without keys, and before the first batch. Opened only to be read.
    pub fn witness(path: &Path) -> Result<Option<(i64, Sha256)>, KeyError> {
        let wrong = |action| move |source| KeyError::File { action, path: path.to_owned(), source };
        let file = File::open(path).map_err(wrong("open"))?;
        let mut keys = KeyFile { file, path: path.to_owned() }.keys()?;
        keys.sort_by_key(|key| key.batch);
        // The later key was written before the batch in between was kept; the earlier one, before the batch before that.
        let sure = match &keys[..] {
            [earlier, later] if earlier.batch + 1 == later.batch => Some(earlier),
            _ => None,
        };
        Ok(sure.filter(|key| key.batch > 1).map(|key| (key.batch - 1, key.previous)))
    }

    /// Keeps the key, durably, over the one of two batches before.
    pub(crate) fn keep(&self, key: &Key) -> Result<(), KeyError> {
        let mut bytes = Zeroizing::new([0; PLACE]);
        bytes[..8].copy_from_slice(MAGIC);
        bytes[8..16].copy_from_slice(&key.batch.to_be_bytes());
        bytes[16..48].copy_from_slice(key.key.as_bytes());
        bytes[48..80].copy_from_slice(&key.previous);
        let sum = Hasher::digest(&bytes[..80]);
        bytes[80..].copy_from_slice(&sum);
        let place = key.batch.rem_euclid(2).cast_unsigned() * APART;
        let kept = self.file.write_all_at(&*bytes, place).and_then(|()| self.file.sync_data());
        kept.map_err(|source| self.wrong("write", source))
    }

    fn wrong(&self, action: &'static str, source: io::Error) -> KeyError {
        KeyError::File { action, path: self.path.clone(), source }
    }
}

/// A key that nobody has had before.
pub(crate) fn fresh() -> Result<SigningKey, KeyError> {
    let mut seed = Zeroizing::new([0; 32]);
    File::open("/dev/urandom")
        .and_then(|mut random| random.read_exact(&mut *seed))
        .map_err(KeyError::Random)?;
    Ok(SigningKey::from_bytes(&seed))
}

fn read(bytes: &[u8; PLACE]) -> Option<Key> {
    let (body, sum) = bytes.split_at(80);
    if &body[..8] != MAGIC || Hasher::digest(body).as_slice() != sum {
        return None;
    }
    let mut seed = Zeroizing::new([0; 32]);
    seed.copy_from_slice(&body[16..48]);
    Some(Key {
        batch: i64::from_be_bytes(body[8..16].try_into().ok()?),
        key: SigningKey::from_bytes(&seed),
        previous: body[48..80].try_into().ok()?,
    })
}
