//! A batch as it travels: the bytes of [`luarm_schema::wire`], compressed, with a digest.

use luarm_schema::{
    Batch,
    wire::{self, WireError},
};
use luarm_store::Parcel;
use sha2::{Digest, Sha256};

/// The most bytes that a batch may have before compression.
pub const MOST_BYTES: usize = 32 << 20;
/// The most bytes that may travel for one batch.
pub const MOST_PACKED: usize = 12 << 20;
/// The most bytes that the manifest of a batch may have, of about 20 for each row and end: engines take no more in one value without being told to.
pub(crate) const MOST_MANIFEST: usize = 12 << 20;

/// The most bytes that a statement may have.
pub const MOST_QUESTION: usize = 1 << 20;
/// The most bytes that a row of an answer may have.
pub const MOST_ROW: usize = 8 << 20;
/// The most bytes that a part of an answer may have: what is sent together, and a row that is as long as it may be.
pub(crate) const MOST_ANSWER: usize = MOST_ROW + (1 << 20);

/// zstd's quickest level that still looks for matches in earnest.
const LEVEL: i32 = 3;

/// Why what came is no batch.
#[derive(Debug, thiserror::Error)]
pub enum UnpackError {
    /// It says itself that it is larger than a batch can be.
    #[error("the batch would unpack to {0} bytes, and {MOST_BYTES} are the most")]
    TooLarge(u64),
    /// What is compressed is not sound, or longer than it says.
    #[error("the batch cannot be unpacked to its {length} bytes: {detail}")]
    Compression {
        /// Bytes that were promised.
        length: u32,
        /// What was said.
        detail: String,
    },
    /// The digest is another.
    #[error("the batch's digest is wrong: it was changed on its way")]
    Digest,
    /// The number inside is another than outside.
    #[error("batch {inside} came as batch {outside}")]
    Number {
        /// In the batch.
        inside: i64,
        /// Beside it.
        outside: i64,
    },
    /// The bytes are no batch.
    #[error(transparent)]
    Wire(#[from] WireError),
}

impl UnpackError {
    /// Whether a newer luarm might understand it.
    pub fn is_unknown(&self) -> bool {
        use WireError::{UnknownColumn, UnknownTable, Version};
        matches!(self, UnpackError::Wire(Version(_) | UnknownTable(_) | UnknownColumn { .. }))
    }

    /// Whether it is too large.
    pub fn is_too_large(&self) -> bool {
        matches!(self, UnpackError::TooLarge(_) | UnpackError::Wire(WireError::TooLarge))
    }
}

/// Packs a batch.
pub fn pack(batch: &Batch) -> std::io::Result<Parcel> {
    let bytes = wire::encode(batch);
    Ok(Parcel {
        id: batch.id,
        digest: Sha256::digest(&bytes).to_vec(),
        length: u32::try_from(bytes.len()).unwrap_or(u32::MAX),
        bytes: zstd::bulk::compress(&bytes, LEVEL)?,
    })
}

/// Unpacks what somebody sent. Takes no more memory than [`MOST_BYTES`] and [`wire::MOST_MEMORY`], whatever was sent.
pub fn unpack(parcel: &Parcel) -> Result<Batch, UnpackError> {
    let length = parcel.length as usize;
    if length > MOST_BYTES {
        return Err(UnpackError::TooLarge(length as u64));
    }
    let refused = |detail: String| UnpackError::Compression { length: parcel.length, detail };
    let bytes = zstd::bulk::decompress(&parcel.bytes, length).map_err(|error| refused(error.to_string()))?;
    if bytes.len() != length {
        return Err(refused(format!("there are {}", bytes.len())));
    }
    if Sha256::digest(&bytes)[..] != parcel.digest[..] {
        return Err(UnpackError::Digest);
    }
    let batch = wire::decode(&bytes)?;
    if batch.id != parcel.id {
        return Err(UnpackError::Number { inside: batch.id, outside: parcel.id });
    }
    Ok(batch)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parcel() -> Parcel {
        pack(&Batch { id: 7, ..Batch::default() }).unwrap()
    }

    #[test]
    fn a_batch_comes_back() {
        assert_eq!(unpack(&parcel()).unwrap(), Batch { id: 7, ..Batch::default() });
    }

    #[test]
    fn what_was_changed_on_its_way_is_refused() {
        let sound = parcel();
        let refused = |change: fn(&mut Parcel)| {
            let mut parcel = sound.clone();
            change(&mut parcel);
            unpack(&parcel).unwrap_err().to_string()
        };
        assert!(refused(|p| p.digest[0] ^= 1).contains("digest"));
        assert!(refused(|p| p.digest.clear()).contains("digest"));
        assert!(refused(|p| p.length += 1).contains("unpacked"));
        assert!(refused(|p| p.length -= 1).contains("unpacked"));
        assert!(refused(|p| p.length = u32::MAX).contains("4294967295"));
        assert!(refused(|p| p.id = 8).contains("came as batch 8"));
        assert!(refused(|p| p.bytes.truncate(5)).contains("unpacked"));
        assert!(refused(|p| p.bytes.clear()).contains("unpacked"));
    }

    #[test]
    fn a_bomb_does_not_go_off() {
        let bomb = zstd::bulk::compress(&vec![0; 1 << 30], 1).unwrap();
        assert!(bomb.len() < 1 << 20);
        for length in [0, 1 << 20, u32::try_from(MOST_BYTES).unwrap(), 1 << 30, u32::MAX] {
            let parcel = Parcel { id: 1, digest: vec![0; 32], length, bytes: bomb.clone() };
            assert!(unpack(&parcel).is_err());
        }
    }
}
