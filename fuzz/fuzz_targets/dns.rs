//! The decoder of DNS messages. It starts from the corpus that the tests replay:
//!
//! ```text
//! cargo +nightly fuzz run dns fuzz/corpus/dns crates/recorder/tests/corpus/dns
//! ```
//!
//! What it finds goes into the corpus (crates/recorder/tests/dns.rs), with what is to come of it.
#![no_main]

use libfuzzer_sys::fuzz_target;
use luarm_recorder::dns::decode;

fuzz_target!(|bytes: &[u8]| {
    for cut in [false, true] {
        let Ok(message) = decode(bytes, cut) else { continue };
        let names = message.records.iter().map(|record| &record.owner);
        for name in names.chain(message.question.iter().map(|question| &question.name)) {
            assert!(name.len() <= 4 * 255, "a name is longer than a name can be");
            assert!(name.bytes().all(|byte| byte.is_ascii_graphic()), "a name is not one word");
        }
    }
});
