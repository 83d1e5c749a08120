//! Command lines as they are stored: `cargo +nightly fuzz run arguments`.
#![no_main]

use luarm_schema::escape::{escape, escape_list, unescape, unescape_list};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let arguments: Vec<&[u8]> = bytes.split(|byte| *byte == 0).collect();
    assert_eq!(unescape_list(&escape_list(arguments.iter().copied())), arguments, "arguments do not come back");
    assert_eq!(unescape(&escape(bytes)), bytes, "bytes do not come back");
    if let Ok(text) = std::str::from_utf8(bytes) {
        unescape_list(text);
        unescape(text);
    }
});
