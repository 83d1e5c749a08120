//! The bytes that stand for a row in a digest: the same on every engine and every machine.
//!
//! Each value is a tag and its content: `n` for NULL; `i` and eight bytes, big-endian, for an integer; `r` and the
//! eight bytes of an IEEE 754 double; `s`, the length in four bytes and the UTF-8 for text; `t` and eight bytes of
//! microseconds for an instant.

use md5::{Digest, Md5};

use crate::value::{Sink, Value};

/// Collects canonical bytes.
#[derive(Debug, Default)]
pub struct Canonical(pub Vec<u8>);

impl Sink for Canonical {
    fn put(&mut self, value: Value<'_>) {
        let out = &mut self.0;
        match value {
            Value::Null => out.push(b'n'),
            Value::Int(n) => tagged(out, b'i', n.to_be_bytes()),
            Value::Real(x) => tagged(out, b'r', x.to_bits().to_be_bytes()),
            Value::Text(s) => {
                let [a, b, c, d] = (s.len() as u32).to_be_bytes();
                out.reserve(5 + s.len());
                out.extend_from_slice(&[b's', a, b, c, d]);
                out.extend_from_slice(s.as_bytes());
            }
            Value::Time(t) => tagged(out, b't', t.0.to_be_bytes()),
        }
    }
}

/// At once: most of the time that a digest takes goes into small pieces.
#[inline]
fn tagged(out: &mut Vec<u8>, tag: u8, [a, b, c, d, e, f, g, h]: [u8; 8]) {
    out.extend_from_slice(&[tag, a, b, c, d, e, f, g, h]);
}

/// The seed's `md5sum`: MD5 of canonical bytes, in hexadecimal. It tells rows apart and shows accidents; it is no
/// evidence against an adversary.
pub fn md5sum(bytes: &[u8]) -> [u8; 32] {
    let mut text = [0; 32];
    for (pair, byte) in text.chunks_exact_mut(2).zip(Md5::digest(bytes)) {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        pair[0] = DIGITS[usize::from(byte >> 4)];
        pair[1] = DIGITS[usize::from(byte & 15)];
    }
    text
}
