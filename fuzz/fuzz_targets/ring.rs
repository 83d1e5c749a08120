//! The decoder of the records of the kernel programs: `cargo +nightly fuzz run ring fuzz/corpus/ring crates/sensor/tests/corpus/ring`. What it finds goes into the corpus.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| luarm_sensor::fuzzing::ring(bytes));
