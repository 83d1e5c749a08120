//! Who signs what arrives.

use ed25519_dalek::{SigningKey, VerifyingKey};
use luarm_schema::Time;

use crate::{Receipt, Refusals, Sha256};

/// A server's key, and its clock.
#[derive(Clone)]
pub struct Notary {
    key: SigningKey,
    clock: fn() -> Time,
}

impl Notary {
    /// With this key and the system's clock.
    pub fn new(key: SigningKey) -> Self {
        Notary { key, clock: Time::now }
    }

    /// The same by another clock.
    pub fn by(self, clock: fn() -> Time) -> Self {
        Notary { clock, ..self }
    }

    /// Signs that the batch of that machine, number and digest arrived now.
    pub fn sign(&self, of: (&str, i64, &Sha256), refused: &Refusals) -> Receipt {
        Receipt::sign(&self.key, of, refused, (self.clock)())
    }

    /// The public half of its key.
    pub fn key(&self) -> VerifyingKey {
        self.key.verifying_key()
    }

    /// The same as bytes.
    pub fn public(&self) -> [u8; 32] {
        self.key().to_bytes()
    }
}

impl std::fmt::Debug for Notary {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Notary").field("public", &crate::encode(&self.public())).finish_non_exhaustive()
    }
}
