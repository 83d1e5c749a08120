//! The decoder of messages of rtnetlink: `cargo +nightly fuzz run rtnetlink fuzz/corpus/rtnetlink crates/sensor/tests/corpus/rtnetlink`. What it finds goes into the corpus.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| luarm_sensor::fuzzing::rtnetlink(bytes));
