//! How bytes that are no text are kept in text columns, without loss.
//!
//! Captured strings are bytes that an adversary chose. Valid UTF-8 is stored as it is; a byte that is not part of
//! valid UTF-8, and NUL, is stored as `\xNN` (two lower-case hexadecimal digits). So that this can be read back,
//! a backslash that happens to stand before an `x` is itself stored as `\x5c`. [`unescape`] reverses it.
//!
//! A list of strings (`argv`) is stored in one column with a line feed between its members; a line feed inside a
//! member is stored as `\x0a`.

/// The text that stands for these bytes.
pub fn escape(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len());
    escape_into(&mut out, bytes, false);
    out
}

/// The text that stands for a list of strings.
pub fn escape_list<'a>(members: impl IntoIterator<Item = &'a [u8]>) -> String {
    let mut out = String::new();
    for (n, member) in members.into_iter().enumerate() {
        if n > 0 {
            out.push('\n');
        }
        escape_into(&mut out, member, true);
    }
    out
}

/// The bytes behind a text that [`escape`] wrote.
pub fn unescape(text: &str) -> Vec<u8> {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        if let [b'\\', b'x', high, low, ..] = bytes[at..]
            && let (Some(high), Some(low)) = (hex(high), hex(low))
        {
            out.push(high << 4 | low);
            at += 4;
        } else {
            out.push(bytes[at]);
            at += 1;
        }
    }
    out
}

/// The members behind a text that [`escape_list`] wrote for a list of at least one member.
pub fn unescape_list(text: &str) -> Vec<Vec<u8>> {
    text.split('\n').map(unescape).collect()
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).map(|n| n as u8)
}

fn escape_into(out: &mut String, bytes: &[u8], line_feed: bool) {
    let special = |b: u8| b == 0 || b == b'\\' || (line_feed && b == b'\n');
    for chunk in bytes.utf8_chunks() {
        let valid = chunk.valid();
        if valid.bytes().any(special) {
            let mut characters = valid.chars().peekable();
            while let Some(c) = characters.next() {
                match c {
                    '\0' => out.push_str("\\x00"),
                    '\n' if line_feed => out.push_str("\\x0a"),
                    '\\' if characters.peek() == Some(&'x') => out.push_str("\\x5c"),
                    c => out.push(c),
                }
            }
        } else {
            out.push_str(valid);
        }
        for byte in chunk.invalid() {
            const DIGITS: &[u8; 16] = b"0123456789abcdef";
            out.push_str("\\x");
            out.push(char::from(DIGITS[usize::from(byte >> 4)]));
            out.push(char::from(DIGITS[usize::from(byte & 15)]));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn text_stays_as_it_is_and_bytes_are_spelled() {
        for (bytes, text) in [
            (&b"plain 'quoted' \\d \xc3\xa9"[..], "plain 'quoted' \\d \u{e9}"),
            (b"\xff\x00a", "\\xff\\x00a"),
            (b"\\x41", "\\x5cx41"),
            (b"two\nlines", "two\nlines"),
        ] {
            assert_eq!(escape(bytes), text);
            assert_eq!(unescape(text), bytes);
        }
    }

    proptest! {
        #[test]
        fn any_bytes_come_back(bytes: Vec<u8>) {
            prop_assert_eq!(unescape(&escape(&bytes)), bytes);
        }

        #[test]
        fn any_backslashes_come_back(text in "[\\\\x0-9a\n]{0,40}") {
            prop_assert_eq!(unescape(&escape(text.as_bytes())), text.as_bytes());
        }

        #[test]
        fn any_list_comes_back(list in prop::collection::vec(any::<Vec<u8>>(), 1..8)) {
            let text = escape_list(list.iter().map(Vec::as_slice));
            prop_assert_eq!(unescape_list(&text), list);
        }
    }
}
