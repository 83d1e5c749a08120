//! Arguments that came in pieces, until the exec that they belong to.

use std::collections::HashMap;

use crate::observation::ImageId;

/// How many bytes wait at the most; beyond it the exec went missing that they belonged to.
const LIMIT: usize = 64 << 20;

#[derive(Default)]
pub(super) struct Pieces {
    waiting: HashMap<ImageId, Vec<u8>>,
    bytes: usize,
}

impl Pieces {
    /// Takes a piece. One that does not follow the last is left out: the arguments are cut where it is missing.
    pub(super) fn put(&mut self, image: ImageId, offset: u32, piece: &[u8]) {
        if self.bytes + piece.len() > LIMIT {
            self.waiting.clear();
            self.bytes = 0;
        }
        let so_far = self.waiting.entry(image).or_default();
        if so_far.len() == offset as usize {
            so_far.extend_from_slice(piece);
            self.bytes += piece.len();
        }
    }

    /// What came for this image.
    pub(super) fn take(&mut self, image: ImageId) -> Vec<u8> {
        let bytes = self.waiting.remove(&image).unwrap_or_default();
        self.bytes -= bytes.len();
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(pid: u32) -> ImageId {
        ImageId { pid, start: 1, execs: 1 }
    }

    #[test]
    fn pieces_are_put_together_until_one_is_missing() {
        let mut pieces = Pieces::default();
        pieces.put(id(1), 0, b"ab");
        pieces.put(id(2), 0, b"xy");
        pieces.put(id(1), 2, b"cd");
        pieces.put(id(1), 9, b"zz");
        assert_eq!(pieces.take(id(1)), b"abcd");
        assert_eq!(pieces.take(id(2)), b"xy");
        assert_eq!(pieces.take(id(2)), b"");
        assert_eq!(pieces.bytes, 0);
    }

    #[test]
    fn what_never_finds_its_exec_does_not_stay() {
        let mut pieces = Pieces::default();
        let big = vec![0; LIMIT / 2];
        for pid in 0..10 {
            pieces.put(id(pid), 0, &big);
        }
        assert!(pieces.bytes <= LIMIT);
    }
}
