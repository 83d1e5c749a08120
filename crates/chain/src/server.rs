//! What a server is called in the chain of the rows that it makes itself.

use sha2::{Digest, Sha256};

/// How the machine ids of servers end. No audited computer's does: those have 32 hexadecimal digits (machine-id(5)), and nothing behind them.
const ENDING: &str = ":server";

/// A server writes its rows down at once, under the number of the batch that will hold them, and seals that batch a moment later. While one batch is being sealed the
/// next one is begun: so its rows may name the two batches that follow the last one in the ledger, and no other.
pub const AHEAD: i64 = 2;

/// The machine id under which a server with that public key seals its own rows. Of several servers that run in one data directory at the same time each has another
/// `place`, from 1.
pub fn server_id(public: &[u8; 32], place: u32) -> String {
    let mut hasher = Sha256::new();
    hasher.update(b"luarm server 1\0");
    hasher.update(public);
    hasher.update(place.to_be_bytes());
    let digest = hasher.finalize();
    digest[..16].iter().map(|byte| format!("{byte:02x}")).collect::<String>() + ENDING
}

/// Whether that machine id is a server's.
pub fn is_server(machine_id: &str) -> bool {
    machine_id.ends_with(ENDING)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_server_has_a_machine_id_of_its_own_and_no_hosts() {
        let [one, other, beside] =
            [(&[1; 32], 1), (&[2; 32], 1), (&[1; 32], 2)].map(|(key, place)| server_id(key, place));
        assert!(one != other && one != beside && other != beside);
        assert!(is_server(&one) && one.len() == 39, "{one}");
        assert!(!is_server("0123456789abcdef0123456789abcdef") && !is_server(""));
    }
}
