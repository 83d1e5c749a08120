//! The decoder of batches, as it faces the network once a batch is unpacked. It starts from the corpus that the tests write:
//!
//! ```text
//! cargo +nightly fuzz run wire fuzz/corpus/wire crates/schema/tests/corpus/wire
//! ```
//!
//! What it finds goes into the corpus (crates/schema/tests/wire.rs), with what is to come of it.
#![no_main]

use libfuzzer_sys::fuzz_target;
use luarm_schema::wire::{decode, encode};

fuzz_target!(|bytes: &[u8]| {
    let Ok(batch) = decode(bytes) else { return };
    // Whatever was understood is written in one way, and understood again.
    let written = encode(&batch);
    let again = decode(&written).expect("what was written cannot be read");
    assert_eq!(encode(&again), written);
});
