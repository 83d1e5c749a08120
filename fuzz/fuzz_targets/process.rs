//! The decoder of the files of a process below /proc: `cargo +nightly fuzz run process fuzz/corpus/process crates/sensor/tests/corpus/process`. What it finds goes into the corpus.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| luarm_sensor::fuzzing::process(bytes));
