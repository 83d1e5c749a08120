//! Captured strings on a terminal: what would act on it is spelled out.

use std::fmt::Write as _;

/// Whether a character can move the cursor, change colours, hide text or turn its direction.
pub(super) fn is_active(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{061c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}'
            | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

/// Appends the text with such characters as `\n`, `\t`, `\r`, `\x1b` or `\u{202e}`.
pub(crate) fn push(out: &mut String, text: &str) {
    for c in text.chars() {
        match c {
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            '\r' => out.push_str("\\r"),
            c if !is_active(c) => out.push(c),
            c if u32::from(c) < 0x80 => {
                let _ = write!(out, "\\x{:02x}", u32::from(c));
            }
            c => {
                let _ = write!(out, "\\u{{{:x}}}", u32::from(c));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn visible(text: &str) -> String {
        let mut out = String::new();
        push(&mut out, text);
        out
    }

    #[test]
    fn active_characters_are_spelled() {
        assert_eq!(visible("a\nb\tc\r\x1b[2J\x07\x7f\0"), "a\\nb\\tc\\r\\x1b[2J\\x07\\x7f\\x00");
        assert_eq!(visible("\u{9b}31m \u{202e}exe.gnp"), "\\u{9b}31m \\u{202e}exe.gnp");
        assert_eq!(visible("plain \u{e9} \u{1f427} \\x41"), "plain \u{e9} \u{1f427} \\x41");
    }

    proptest! {
        #[test]
        fn nothing_active_is_left(text: String) {
            prop_assert!(!visible(&text).chars().any(is_active));
        }
    }
}
