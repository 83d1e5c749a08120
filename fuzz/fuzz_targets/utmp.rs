//! The decoder of the records of utmp and wtmp: `cargo +nightly fuzz run utmp fuzz/corpus/utmp crates/sensor/tests/corpus/utmp`. What it finds goes into the corpus.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| luarm_sensor::fuzzing::utmp(bytes));
