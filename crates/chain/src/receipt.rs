//! What a server signs: that a batch arrived, when by its own clock, and which of its rows the store refused.

use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey};
use luarm_schema::Time;
use sha2::{Digest, Sha256 as Hasher};

use crate::Sha256;

/// What a batch holds and the store does not: rows that the engine refused, and ends of rows that were not there to be ended.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Refusals(Vec<u64>);

impl Refusals {
    /// Of the entries at those places of a manifest.
    pub fn at(places: impl IntoIterator<Item = usize>) -> Self {
        let mut places: Vec<u64> = places.into_iter().map(|place| place as u64).collect();
        places.sort_unstable();
        places.dedup();
        Refusals(places)
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether the entry at that place of the manifest is one.
    pub fn contains(&self, place: usize) -> bool {
        self.0.binary_search(&(place as u64)).is_ok()
    }

    /// As bytes: the places, each as the difference to the one before it, LEB128.
    pub fn encode(&self) -> Vec<u8> {
        let (mut out, mut last) = (Vec::new(), 0);
        for place in &self.0 {
            crate::manifest::varint(&mut out, place - last);
            last = *place;
        }
        out
    }

    /// Reads what [`encode`](Self::encode) wrote; `None` if it has not.
    pub fn decode(mut bytes: &[u8]) -> Option<Self> {
        let whole = bytes;
        let (mut places, mut last) = (Vec::new(), 0u64);
        while !bytes.is_empty() {
            last = last.checked_add(crate::manifest::number(&mut bytes).ok()?)?;
            places.push(last);
        }
        let read = Refusals(places);
        (read.encode() == whole && read.0.is_sorted_by(|a, b| a < b)).then_some(read)
    }
}

/// A server's signature for a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Receipt {
    /// When the batch arrived, by the server's clock.
    pub received: Time,
    /// By Ed25519.
    pub signature: [u8; 64],
}

impl Receipt {
    /// Signs that the batch of that host, number and digest arrived at that instant.
    pub fn sign(
        key: &SigningKey,
        (machine_id, batch, digest): (&str, i64, &Sha256),
        refused: &Refusals,
        received: Time,
    ) -> Self {
        let refused = Hasher::digest(refused.encode()).into();
        let signature = key.sign(&message((machine_id, batch, digest), &refused, received)).to_bytes();
        Receipt { received, signature }
    }

    /// Whether it is the signature of that key.
    pub fn is_by(&self, key: &VerifyingKey, of: (&str, i64, &Sha256), refused: &Refusals) -> bool {
        self.is_by_digest(key, of, &Hasher::digest(refused.encode()).into())
    }

    /// The same, where only the SHA-256 of the refusals is at hand.
    pub(crate) fn is_by_digest(
        &self,
        key: &VerifyingKey,
        of: (&str, i64, &Sha256),
        refused: &Sha256,
    ) -> bool {
        let signature = Signature::from_bytes(&self.signature);
        key.verify_strict(&message(of, refused, self.received), &signature).is_ok()
    }
}

fn message((machine_id, batch, digest): (&str, i64, &Sha256), refused: &Sha256, received: Time) -> Vec<u8> {
    let mut out = b"luarm receipt 1\0".to_vec();
    out.extend((machine_id.len() as u64).to_be_bytes());
    out.extend(machine_id.as_bytes());
    out.extend(batch.to_be_bytes());
    out.extend(digest);
    out.extend(received.0.to_be_bytes());
    out.extend(refused);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_receipt_is_for_one_batch_of_one_host_at_one_time() {
        let key = SigningKey::from_bytes(&[7; 32]);
        let none = Refusals::default();
        let receipt = Receipt::sign(&key, ("m", 5, &[1; 32]), &none, Time(9));
        let public = key.verifying_key();
        assert!(receipt.is_by(&public, ("m", 5, &[1; 32]), &none));
        assert!(!receipt.is_by(&public, ("n", 5, &[1; 32]), &none));
        assert!(!receipt.is_by(&public, ("m", 6, &[1; 32]), &none));
        assert!(!receipt.is_by(&public, ("m", 5, &[2; 32]), &none));
        assert!(!receipt.is_by(&public, ("m", 5, &[1; 32]), &Refusals(vec![0])));
        assert!(!Receipt { received: Time(8), ..receipt }.is_by(&public, ("m", 5, &[1; 32]), &none));
    }

    #[test]
    fn refusals_are_read_as_they_were_written() {
        for places in [vec![], vec![0], vec![0, 1, 500], vec![u64::MAX]] {
            let refusals = Refusals(places);
            assert_eq!(Refusals::decode(&refusals.encode()), Some(refusals));
        }
        assert_eq!(Refusals::decode(&[5, 0]), None);
        assert_eq!(Refusals::decode(&[0x80]), None);
    }
}
