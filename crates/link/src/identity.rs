//! What a host keeps of its enrolment: `DIR/agent`, with `agent.pem` (certificate and key), `ca.pem` and `agent.json`. What an analyst keeps: the same
//! in `DIR/analyst`.

use std::path::{Path, PathBuf};

use luarm_schema::Time;
use rcgen::KeyPair;
use rustls::{
    ClientConfig,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};
use serde::{Deserialize, Serialize};

use crate::{LinkError, authority, files, tls, token::Fingerprint};

const ADVICE: &str = "join again with a new token";

/// What a certificate is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Delivering.
    Agent,
    /// Asking.
    Analyst,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Kind::Agent => "agent",
            Kind::Analyst => "analyst",
        }
    }

    fn directory(self, data: &Path) -> PathBuf {
        data.join(self.name())
    }

    fn file(self, data: &Path, extension: &str) -> PathBuf {
        self.directory(data).join(format!("{}.{extension}", self.name()))
    }
}

/// A host's or an analyst's certificate and key, and the server that they are for.
pub struct Identity {
    kind: Kind,
    authority: CertificateDer<'static>,
    certificate: CertificateDer<'static>,
    key: PrivateKeyDer<'static>,
    facts: Facts,
}

/// What the files do not say by themselves.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Facts {
    /// The name under which the server knows this host or analyst.
    pub name: String,
    /// The machine id that a host enrolled with.
    pub machine_id: String,
    /// The server that it joined.
    pub server: String,
    /// Number of the last batch that the server had of this host when it joined; 0 for none.
    pub after: i64,
    /// When the certificate was made, microseconds since 1970.
    pub issued: i64,
    /// When it expires, microseconds since 1970.
    pub expires: i64,
}

/// Where a host's identity is kept in a data directory.
pub fn directory(data: &Path) -> PathBuf {
    Kind::Agent.directory(data)
}

/// Whether an analyst has joined with this data directory.
pub fn is_analysts(data: &Path) -> bool {
    Kind::Analyst.file(data, "json").exists()
}

/// Where a host's spool is kept in a data directory.
pub fn spool(data: &Path) -> PathBuf {
    data.join("spool.db")
}

impl Identity {
    /// The identity of the data directory.
    pub fn load(data: &Path) -> Result<Self, LinkError> {
        Self::find(data)?.ok_or_else(|| LinkError::NotJoined { data: data.to_owned() })
    }

    /// The identity of the data directory, if the host has joined.
    pub fn find(data: &Path) -> Result<Option<Self>, LinkError> {
        Self::find_as(data, Kind::Agent)
    }

    /// The identity of that kind in the data directory, if there is one.
    pub(crate) fn find_as(data: &Path, kind: Kind) -> Result<Option<Self>, LinkError> {
        let damaged = |path: &Path, detail: String| LinkError::Damaged {
            path: path.to_owned(),
            detail,
            advice: ADVICE,
        };
        let path = kind.file(data, "json");
        let Some(facts) = files::read(&path)? else {
            return Ok(None);
        };
        let facts: Facts = serde_json::from_slice(&facts).map_err(|e| damaged(&path, e.to_string()))?;
        let read = |path: &Path| {
            let content = files::read(path)?;
            content.ok_or_else(|| damaged(path, "it is missing".to_owned()))
        };
        let certificate = |path: &Path| {
            CertificateDer::from_pem_slice(&read(path)?).map_err(|e| damaged(path, e.to_string()))
        };
        let own = kind.file(data, "pem");
        let (authority, certificate) =
            (certificate(&kind.directory(data).join("ca.pem"))?, certificate(&own)?);
        let key = PrivateKeyDer::from_pem_slice(&read(&own)?).map_err(|e| damaged(&own, e.to_string()))?;
        Ok(Some(Identity { kind, authority, certificate, key, facts }))
    }

    /// Keeps a new certificate and its key, in one file, so that the two always belong together.
    pub(crate) fn save(
        (data, kind): (&Path, Kind),
        authority: &CertificateDer<'static>,
        (certificate, key): (&[u8], &KeyPair),
        facts: &Facts,
    ) -> Result<Self, LinkError> {
        let both = pem("CERTIFICATE", certificate) + &key.serialize_pem();
        files::write(&kind.directory(data).join("ca.pem"), pem("CERTIFICATE", authority).as_bytes())?;
        files::write(&kind.file(data, "pem"), both.as_bytes())?;
        let json = serde_json::to_vec_pretty(facts)
            .map_err(|e| LinkError::certificate("write what was joined", e))?;
        files::write(&kind.file(data, "json"), &json)?;
        Self::find_as(data, kind)?.ok_or_else(|| LinkError::NotJoined { data: data.to_owned() })
    }

    /// What it is for.
    pub(crate) fn kind(&self) -> Kind {
        self.kind
    }

    /// The rest of what is known.
    pub fn facts(&self) -> &Facts {
        &self.facts
    }

    /// The authority that the server has to be of.
    pub(crate) fn authority(&self) -> &CertificateDer<'static> {
        &self.authority
    }

    /// Its fingerprint.
    pub fn authority_fingerprint(&self) -> Fingerprint {
        tls::fingerprint(&self.authority)
    }

    /// Whether the certificate has expired.
    pub(crate) fn is_expired(&self, now: Time) -> bool {
        now.0 >= self.facts.expires
    }

    /// Whether it is time for another one: two thirds of its life are over.
    pub(crate) fn is_due(&self, now: Time) -> bool {
        let Facts { issued, expires, .. } = self.facts;
        now.0 >= issued.saturating_add(expires.saturating_sub(issued) / 3 * 2)
    }

    /// What a connection to the server needs.
    pub(crate) fn tls(&self) -> Result<ClientConfig, LinkError> {
        tls::client(&self.authority, self.certificate.clone(), self.key.clone_key())
    }
}

impl std::fmt::Debug for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Identity").field("facts", &self.facts).finish_non_exhaustive()
    }
}

/// The key with which a host or an analyst asks for its first certificate: made once and kept, so that a token that was used but whose answer got lost is
/// good for this host still.
pub(crate) fn first_key(data: &Path, kind: Kind) -> Result<(KeyPair, Vec<u8>), LinkError> {
    let path = kind.directory(data).join("join.key");
    files::directory(data)?;
    files::directory(&kind.directory(data))?;
    if let Some(content) = files::read(&path)?
        && let Ok(key) = KeyPair::from_pem(&String::from_utf8_lossy(&content))
    {
        let request = authority::request_for(&key)?;
        return Ok((key, request));
    }
    let (key, request) = authority::request()?;
    files::write(&path, key.serialize_pem().as_bytes())?;
    Ok((key, request))
}

/// The first certificate is there: the next one is for another key.
pub(crate) fn forget_first_key(data: &Path, kind: Kind) -> Result<(), LinkError> {
    let path = kind.directory(data).join("join.key");
    std::fs::remove_file(&path).map_err(|source| LinkError::File { action: "remove", path, source })
}

fn pem(label: &str, der: &[u8]) -> String {
    use base64::{Engine, engine::general_purpose::STANDARD};
    let text = STANDARD.encode(der);
    let lines: Vec<&str> =
        (0..text.len()).step_by(64).filter_map(|at| text.get(at..text.len().min(at + 64))).collect();
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", lines.join("\n"))
}
