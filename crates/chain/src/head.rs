//! The head of a history: its last batch, in a few lines that can be kept elsewhere, on paper too.

use ed25519_dalek::{Signature, VerifyingKey};
use luarm_schema::{Time, tables::BatchInfo};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256 as Hasher};

use crate::{Receipt, Refusals, Sha256, decode, encode, link};

/// What the first line says.
const FORMAT: &str = "luarm head 1";

/// The head of one host's history: who has it can show later whether a history is the same, goes on from it, or was cut or rewritten.
///
/// It is checked by itself: the signature is that of `publickey` for the digest, the receipt that of `signer` for host, batch, digest and time.
/// Bytes are base64 without padding, instants `YYYY-MM-DD HH:MM:SS.ffffff` in UTC.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Head {
    /// `luarm head 1`.
    pub format: String,
    /// Machine id of the host.
    pub machineid: String,
    /// Its name when the head was written.
    pub host: String,
    /// The last batch.
    pub batch: i64,
    /// When the host closed it.
    pub created: String,
    /// Its digest.
    pub digest: String,
    /// The key that signed it.
    pub publickey: String,
    /// The host's signature.
    pub signature: String,
    /// When the server got it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub received: Option<String>,
    /// SHA-256 of what the server's store refused of the batch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused: Option<String>,
    /// The server's signature.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub receipt: Option<String>,
    /// The server's public key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signer: Option<String>,
}

/// Why a head is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HeadError {
    /// The text is another.
    #[error("it is no head of a history: {0}")]
    Text(String),
    /// A signature in it is not that of the key beside it.
    #[error("its {0} is not that of the key beside it: somebody has changed it")]
    Forged(&'static str),
}

impl Head {
    /// Of the last batch of a host. `publickey` (base64) signed it.
    pub fn new(
        machine_id: &str,
        host: &str,
        info: &BatchInfo,
        digest: &Sha256,
        publickey: String,
        received: Option<(VerifyingKey, Receipt, Refusals)>,
    ) -> Self {
        let mut head = Head {
            format: FORMAT.to_owned(),
            machineid: machine_id.to_owned(),
            host: host.to_owned(),
            batch: info.batchid,
            created: info.created.to_string(),
            digest: encode(digest),
            publickey,
            signature: info.signature.clone().unwrap_or_default(),
            received: None,
            refused: None,
            receipt: None,
            signer: None,
        };
        if let Some((signer, receipt, refused)) = received {
            head.received = Some(receipt.received.to_string());
            head.refused = Some(encode(&Hasher::digest(refused.encode())));
            head.receipt = Some(encode(&receipt.signature));
            head.signer = Some(encode(signer.as_bytes()));
        }
        head
    }

    /// As text, a few short lines of JSON.
    pub fn text(&self) -> String {
        serde_json::to_string_pretty(self).unwrap_or_default() + "\n"
    }

    /// Reads what [`text`](Self::text) wrote, and checks the signatures in it.
    pub fn read(text: &str) -> Result<Self, HeadError> {
        let head: Head = serde_json::from_str(text).map_err(|error| HeadError::Text(error.to_string()))?;
        if head.format != FORMAT {
            return Err(HeadError::Text(format!("its format is {:?}, not {FORMAT:?}", head.format)));
        }
        head.check()?;
        Ok(head)
    }

    /// The digest.
    pub fn digest(&self) -> Option<Sha256> {
        decode(&self.digest)
    }

    /// The name of its file: that of the host, with what is not plain spelled in hexadecimal, and `.json`.
    pub fn file_name(host: &str) -> String {
        let mut name = String::new();
        for (at, byte) in host.bytes().enumerate() {
            match byte {
                b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' => name.push(char::from(byte)),
                b'.' if at > 0 => name.push('.'),
                other => name.push_str(&format!("%{other:02X}")),
            }
        }
        name.truncate(200);
        name + ".json"
    }

    fn check(&self) -> Result<(), HeadError> {
        let forged = HeadError::Forged;
        let digest = self.digest().ok_or(HeadError::Text("the digest is no SHA-256".to_owned()))?;
        let by = key(&self.publickey).ok_or(forged("signature"))?;
        let signature = decode::<64>(&self.signature).ok_or(forged("signature"))?;
        by.verify_strict(&link::message(&digest), &Signature::from_bytes(&signature))
            .map_err(|_| forged("signature"))?;
        let (Some(received), Some(refused), Some(receipt), Some(signer)) =
            (&self.received, &self.refused, &self.receipt, &self.signer)
        else {
            let nothing = self.received.is_none() && self.receipt.is_none() && self.signer.is_none();
            return if nothing { Ok(()) } else { Err(forged("receipt")) };
        };
        let is_right = || {
            let receipt = Receipt { received: Time::parse(received).ok()?, signature: decode(receipt)? };
            let of = (self.machineid.as_str(), self.batch, &digest);
            Some(receipt.is_by_digest(&key(signer)?, of, &decode(refused)?))
        };
        if is_right() == Some(true) { Ok(()) } else { Err(forged("receipt")) }
    }
}

fn key(text: &str) -> Option<VerifyingKey> {
    VerifyingKey::from_bytes(&decode(text)?).ok()
}
