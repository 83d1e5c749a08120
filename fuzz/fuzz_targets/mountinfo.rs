//! The decoder of lists of mounts: `cargo +nightly fuzz run mountinfo fuzz/corpus/mountinfo crates/sensor/tests/corpus/mountinfo`. What it finds goes into the corpus.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| luarm_sensor::fuzzing::mountinfo(bytes));
