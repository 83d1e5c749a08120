//! Tokens that were made before it was known which store the server would use: files in the data directory, until a server finds them.

use std::path::{Path, PathBuf};

use luarm_schema::Time;
use luarm_store::{Registry, Scope, Token};
use serde::{Deserialize, Serialize};

use crate::{LinkError, authority, files};

/// As many are looked at.
const MOST: usize = 1024;

#[derive(Serialize, Deserialize)]
struct Kept {
    id: String,
    hash: String,
    expires: i64,
    name: Option<String>,
    /// The hosts that an analyst may see, if not all.
    #[serde(default)]
    hosts: Option<Vec<String>>,
}

fn directory(data: &Path) -> PathBuf {
    authority::directory(data).join("tokens")
}

/// Keeps a token for the next server.
pub(super) fn keep(data: &Path, token: &Token, scope: Option<&Scope>) -> Result<(), LinkError> {
    let Token { id, hash, expires, name } = token.clone();
    let hosts = match scope {
        Some(Scope::Hosts(hosts)) => Some(hosts.clone()),
        Some(Scope::All) | None => None,
    };
    let kept = Kept { id, hash, expires: expires.0, name, hosts };
    let json = serde_json::to_vec(&kept).map_err(|e| LinkError::certificate("write a token", e))?;
    let directory = directory(data);
    files::directory(&directory)?;
    files::write(&directory.join(format!("{}.json", kept.id)), &json)
}

/// Moves what was kept into the registry. One that cannot be read is passed over.
pub(super) fn import(data: &Path, registry: &mut Registry) -> Result<(), LinkError> {
    let Ok(entries) = std::fs::read_dir(directory(data)) else {
        // There are none.
        return Ok(());
    };
    for path in entries.flatten().take(MOST).map(|entry| entry.path()) {
        if path.extension().is_none_or(|extension| extension != "json") {
            continue;
        }
        let Some(json) = files::read(&path)? else { continue };
        let Ok(Kept { id, hash, expires, name, hosts }) = serde_json::from_slice(&json) else {
            tracing::warn!("{} is no token, and is passed over", path.display());
            continue;
        };
        let token = Token { id, hash, expires: Time(expires), name };
        registry.add_token(&token, Time::now())?;
        if token.analyst().is_some() {
            registry.set_scope(&token.id, &hosts.map_or(Scope::All, Scope::Hosts))?;
        }
        std::fs::remove_file(&path).map_err(|source| LinkError::File {
            action: "remove",
            path: path.clone(),
            source,
        })?;
    }
    Ok(())
}
