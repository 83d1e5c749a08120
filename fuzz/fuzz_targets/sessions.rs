//! The decoder of logind's files of sessions: `cargo +nightly fuzz run sessions fuzz/corpus/sessions crates/sensor/tests/corpus/sessions`. What it finds goes into the corpus.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| luarm_sensor::fuzzing::sessions(bytes));
