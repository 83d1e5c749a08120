//! What retention leaves in the place of rows that it dropped: a row of `retentioninfo`, signed by the server whose data directory it was done with.

use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey};
use luarm_schema::tables::RetentionInfo;

use crate::{decode, encode, manifest::Trimmed};

/// Signs the row for the host with that machine id: over all its columns but the signature, the signer's included.
pub fn sign(key: &SigningKey, machine_id: &str, stub: &mut RetentionInfo) {
    stub.signer = Some(encode(key.verifying_key().as_bytes()));
    stub.signature = Some(encode(&key.sign(&message(machine_id, stub)).to_bytes()));
}

/// Who signed a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signed {
    /// Nobody.
    Not,
    /// Whoever has this key; whether he is to be believed is another question.
    By(VerifyingKey),
    /// The signature is not that of the key beside it, or one of the two is none.
    Wrong,
}

/// Who signed the row for the host with that machine id.
pub fn signed(machine_id: &str, stub: &RetentionInfo) -> Signed {
    if stub.signer.is_none() && stub.signature.is_none() {
        return Signed::Not;
    }
    let key = stub.signer.as_deref().and_then(decode).and_then(|key| VerifyingKey::from_bytes(&key).ok());
    let signature = stub.signature.as_deref().and_then(decode::<64>);
    match (key, signature) {
        (Some(key), Some(signature)) => {
            let signature = Signature::from_bytes(&signature);
            match key.verify_strict(&message(machine_id, stub), &signature) {
                Ok(()) => Signed::By(key),
                Err(_) => Signed::Wrong,
            }
        }
        _ => Signed::Wrong,
    }
}

fn message(machine_id: &str, stub: &RetentionInfo) -> Vec<u8> {
    let mut row = Trimmed::default();
    // The signature is the last column.
    RetentionInfo { signature: None, ..stub.clone() }.begin(&mut row);
    let mut out = b"luarm stub 1\0".to_vec();
    out.extend((machine_id.len() as u64).to_be_bytes());
    out.extend(machine_id.as_bytes());
    out.extend(row.bytes());
    out
}

#[cfg(test)]
mod tests {
    use luarm_schema::Time;

    use super::*;

    #[test]
    fn every_column_is_signed_and_so_is_the_host() {
        let key = SigningKey::from_bytes(&[3; 32]);
        let mut stub = RetentionInfo {
            retentionid: 1,
            tablename: "psinfo".into(),
            beforekey: 2,
            beforetime: Time(3),
            rowcount: 4,
            keptcount: 5,
            firstbatch: 6,
            lastbatch: 7,
            created: Time(8),
            signer: None,
            signature: None,
            end: None,
        };
        assert_eq!(signed("m", &stub), Signed::Not);
        sign(&key, "m", &mut stub);
        assert_eq!(signed("m", &stub), Signed::By(key.verifying_key()));
        assert_eq!(signed("n", &stub), Signed::Wrong);
        let changes: [fn(&mut RetentionInfo); 12] = [
            |stub| stub.retentionid += 1,
            |stub| stub.tablename = "netinfo".into(),
            |stub| stub.beforekey += 1,
            |stub| stub.beforetime.0 += 1,
            |stub| stub.rowcount += 1,
            |stub| stub.keptcount += 1,
            |stub| stub.firstbatch -= 1,
            |stub| stub.lastbatch += 1,
            |stub| stub.created.0 += 1,
            |stub| stub.signer = Some(encode(SigningKey::from_bytes(&[4; 32]).verifying_key().as_bytes())),
            |stub| stub.signer = None,
            |stub| stub.signature = None,
        ];
        for (place, change) in changes.into_iter().enumerate() {
            let mut changed = stub.clone();
            change(&mut changed);
            assert_eq!(signed("m", &changed), Signed::Wrong, "change {place}");
        }
    }
}
