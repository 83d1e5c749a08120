//! The key with which a server signs what it takes in: `DIR/server/notary.key`, and its public half in `DIR/server/notary.pub`, one line of base64.
//!
//! It is made once, and is the server's own: of several servers that share a store each has another.
//!
//! A recorder that keeps its rows for a time signs what it drops with a key of its own, `DIR/retention.key`, whose public half is `DIR/retention.pub`.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use luarm_chain::{Notary, SigningKey, decode, encode};

use crate::{LinkError, authority, files, tls};

const ADVICE: &str = "restore it from a backup, or move it away: the server makes another then, whose public half luarm verify has to be told";

/// The key of the data directory's server, if there is one.
pub fn find(data: &Path) -> Result<Option<SigningKey>, LinkError> {
    read(&authority::directory(data).join("notary.key"))
}

/// The one who signs what arrives; the key is made where there is none.
pub fn open(data: &Path) -> Result<Notary, LinkError> {
    made(&authority::directory(data).join("notary.key")).map(Notary::new)
}

/// The key with which the recorder of the data directory signs what it drops; it is made where there is none.
pub fn retention(data: &Path) -> Result<SigningKey, LinkError> {
    made(&data.join("retention.key"))
}

/// The file with the public half of the key by which [`retention`] signs.
pub fn retention_public(data: &Path) -> PathBuf {
    data.join("retention.pub")
}

fn read(path: &Path) -> Result<Option<SigningKey>, LinkError> {
    let Some(text) = files::read(path)? else { return Ok(None) };
    let seed = str::from_utf8(&text).ok().and_then(|text| decode::<32>(text.trim_end()));
    let damaged = || LinkError::Damaged {
        path: path.to_owned(),
        detail: "it is no key of 32 bytes in base64".to_owned(),
        advice: ADVICE,
    };
    seed.map(|seed| SigningKey::from_bytes(&seed)).ok_or_else(damaged).map(Some)
}

/// The key in the file, with its public half beside it; both are made where there are none.
fn made(path: &Path) -> Result<SigningKey, LinkError> {
    let key = match read(path)? {
        Some(key) => key,
        None => make(path)?,
    };
    let public = encode(key.verifying_key().as_bytes()) + "\n";
    let beside = path.with_extension("pub");
    if files::read(&beside)?.as_deref() != Some(public.as_bytes()) {
        files::write(&beside, public.as_bytes())?;
    }
    Ok(key)
}

/// Makes a key, unless somebody else is quicker.
fn make(path: &Path) -> Result<SigningKey, LinkError> {
    let fresh = path.with_extension(format!("key-{}", std::process::id()));
    let mut seed = [0; 32];
    tls::random(&mut seed)?;
    files::write(&fresh, (encode(&seed) + "\n").as_bytes())?;
    let linked = fs::hard_link(&fresh, path);
    let removed = fs::remove_file(&fresh);
    match linked.and(removed) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
            return Err(LinkError::File { action: "make", path: path.to_owned(), source: error });
        }
        _ => {}
    }
    read(path)?.ok_or_else(|| LinkError::Damaged {
        path: path.to_owned(),
        detail: "it is gone again".to_owned(),
        advice: ADVICE,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_made_once_and_a_damaged_one_is_not_replaced() {
        let data = tempfile::tempdir().unwrap();
        let directory = authority::directory(data.path());
        files::directory(&directory).unwrap();
        assert!(find(data.path()).unwrap().is_none());
        let public = open(data.path()).unwrap().public();
        assert_eq!(open(data.path()).unwrap().public(), public);
        let written = fs::read_to_string(directory.join("notary.pub")).unwrap();
        assert_eq!(decode(written.trim_end()), Some(public));
        fs::write(directory.join("notary.key"), "none").unwrap();
        assert!(open(data.path()).unwrap_err().to_string().contains("notary.key is damaged"));
    }

    #[test]
    fn a_recorder_signs_what_it_drops_with_a_key_of_its_own() {
        let data = tempfile::tempdir().unwrap();
        let key = retention(data.path()).unwrap();
        assert_eq!(retention(data.path()).unwrap(), key);
        let written = fs::read_to_string(retention_public(data.path())).unwrap();
        assert_eq!(decode(written.trim_end()), Some(*key.verifying_key().as_bytes()));
        assert!(find(data.path()).unwrap().is_none());
        fs::write(data.path().join("retention.key"), "none").unwrap();
        assert!(retention(data.path()).unwrap_err().to_string().contains("retention.key is damaged"));
    }
}
