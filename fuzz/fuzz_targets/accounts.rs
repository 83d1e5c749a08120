//! The decoder of passwd, shadow and group files: `cargo +nightly fuzz run accounts fuzz/corpus/accounts crates/sensor/tests/corpus/accounts`. What it finds goes into the corpus.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| luarm_sensor::fuzzing::accounts(bytes));
