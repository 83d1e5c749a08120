//! What is read of a chain of evidence: manifests and refusals out of a database that somebody may have changed, heads and proofs out of files that somebody handed over.
//!
//! ```text
//! cargo +nightly fuzz run evidence
//! ```
#![no_main]

use libfuzzer_sys::fuzz_target;
use luarm_chain::{Head, Manifest, Refusals, proven::Proven};

fuzz_target!(|bytes: &[u8]| {
    let Some((which, bytes)) = bytes.split_first() else { return };
    match which % 4 {
        0 => {
            if let Ok(manifest) = Manifest::decode(bytes) {
                assert_eq!(manifest.encode(), bytes, "a manifest with two spellings");
            }
        }
        1 => {
            if let Some(refusals) = Refusals::decode(bytes) {
                assert_eq!(refusals.encode(), bytes, "refusals with two spellings");
            }
        }
        2 => {
            let Ok(head) = Head::read(&String::from_utf8_lossy(bytes)) else { return };
            assert_eq!(Head::read(&head.text()).expect("what was written cannot be read"), head);
        }
        _ => {
            let Ok(proven) = Proven::read(&String::from_utf8_lossy(bytes)) else { return };
            let _ = proven.check(&[], &[]);
            assert_eq!(Proven::read(&proven.text()).expect("what was written cannot be read"), proven);
        }
    }
});
