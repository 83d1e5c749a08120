//! The chain of evidence: what a batch holds, its digest, its signature.
//!
//! Every batch of a host has a [`Manifest`]: for each row that it creates and each end that it sets, the row's table and key, and the first 16 bytes of the
//! SHA-256 of its canonical bytes. The batch's *digest* ([`link`]) covers the manifest, the batch's own entry in the ledger and the digest before it. The host
//! signs the digest (Ed25519) with a key that is good for this one batch: the batch names the public key of the next one, and the
//! key itself is overwritten once it has signed ([`KeyFile`]). So whoever takes a host's keys can sign what comes, and nothing that was. A server that takes a batch in
//! checks all that, and signs what it got and when by its own clock ([`Receipt`]).
//!
//! Nothing here knows a database or a network.

mod head;
mod heads;
mod keys;
pub mod link;
mod manifest;
mod notary;
pub mod proven;
mod receipt;
mod sealer;
mod server;
pub mod stub;
pub mod verify;

pub use ed25519_dalek::{SigningKey, VerifyingKey};

pub use self::{
    head::{Head, HeadError},
    heads::Heads,
    keys::{KeyError, KeyFile},
    manifest::{Leaf, Manifest, ManifestError, Part, Stored},
    notary::Notary,
    receipt::{Receipt, Refusals},
    sealer::{Chain, Sealer},
    server::{AHEAD, is_server, server_id},
};

/// A SHA-256.
pub type Sha256 = [u8; 32];

/// Bytes as base64 without padding, as the columns of `batchinfo` have them.
pub fn encode(bytes: &[u8]) -> String {
    use base64::{Engine, prelude::BASE64_STANDARD_NO_PAD};
    BASE64_STANDARD_NO_PAD.encode(bytes)
}

/// The bytes that [`encode`] wrote; `None` if it has not, or if they are not as many.
pub fn decode<const N: usize>(text: &str) -> Option<[u8; N]> {
    use base64::{Engine, prelude::BASE64_STANDARD_NO_PAD};
    BASE64_STANDARD_NO_PAD.decode(text).ok()?.try_into().ok()
}
