//! The key with which a server signs what it takes in: `DIR/server/notary.key`, and its public half in `DIR/server/notary.pub`, one line of base64.
//!
//! It is made once, and is the server's own: of several servers that share a store each has another.

use std::{fs, io, path::Path};

use luarm_chain::{Notary, SigningKey, decode, encode};

use crate::{LinkError, authority, files, tls};

const ADVICE: &str = "restore it from a backup, or move it away: the server makes another then, whose public half luarm verify has to be told";

/// The key of the data directory, if there is one.
pub fn find(data: &Path) -> Result<Option<SigningKey>, LinkError> {
    let path = authority::directory(data).join("notary.key");
    let Some(text) = files::read(&path)? else { return Ok(None) };
    let seed = str::from_utf8(&text).ok().and_then(|text| decode::<32>(text.trim_end()));
    let damaged = || LinkError::Damaged {
        path,
        detail: "it is no key of 32 bytes in base64".to_owned(),
        advice: ADVICE,
    };
    seed.map(|seed| SigningKey::from_bytes(&seed)).ok_or_else(damaged).map(Some)
}

/// The one who signs what arrives; the key is made where there is none.
pub fn open(data: &Path) -> Result<Notary, LinkError> {
    let directory = authority::directory(data);
    let key = match find(data)? {
        Some(key) => key,
        None => make(data)?,
    };
    let notary = Notary::new(key);
    let public = encode(&notary.public()) + "\n";
    let path = directory.join("notary.pub");
    if files::read(&path)?.as_deref() != Some(public.as_bytes()) {
        files::write(&path, public.as_bytes())?;
    }
    Ok(notary)
}

/// Makes a key, unless somebody else is quicker.
fn make(data: &Path) -> Result<SigningKey, LinkError> {
    let path = authority::directory(data).join("notary.key");
    let fresh = path.with_extension(format!("key-{}", std::process::id()));
    let mut seed = [0; 32];
    tls::random(&mut seed)?;
    files::write(&fresh, (encode(&seed) + "\n").as_bytes())?;
    let linked = fs::hard_link(&fresh, &path);
    let removed = fs::remove_file(&fresh);
    match linked.and(removed) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
            return Err(LinkError::File { action: "make", path, source: error });
        }
        _ => {}
    }
    find(data)?.ok_or_else(|| LinkError::Damaged {
        path,
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
}
