//! The decoder of messages about devices: `cargo +nightly fuzz run uevent fuzz/corpus/uevent crates/sensor/tests/corpus/uevent`. What it finds goes into the corpus.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| luarm_sensor::fuzzing::uevent(bytes));
