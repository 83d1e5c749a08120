//! DNS over TCP: puts the pieces of a stream together, and takes the messages out (RFC 1035, 4.2.2).

/// How much of a stream is held: one message of the greatest size, and its length.
const WINDOW: usize = 2 + 0xffff;
/// How many pieces may lie beyond a gap.
const AHEAD: usize = 64;

/// One direction of a connection.
#[derive(Debug, Default)]
pub(crate) struct Stream {
    /// Sequence number of the first byte of `data`, once a piece has come.
    next: Option<u32>,
    /// What has come in order, and was not taken yet.
    data: Vec<u8>,
    /// What lies beyond a gap.
    ahead: Vec<(u32, Vec<u8>)>,
    /// A message was taken: the stream's beginning is known.
    settled: bool,
    broken: bool,
}

/// The stream cannot be followed any further.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Gap;

impl Stream {
    /// Takes a piece, of which `length` bytes passed and `piece` was captured, and gives the messages that it completes. After a gap that did
    /// not fill, which is told once, the stream gives nothing.
    pub(crate) fn push(&mut self, sequence: u32, piece: &[u8], length: u32) -> Result<Vec<Vec<u8>>, Gap> {
        if self.broken {
            return Ok(Vec::new());
        }
        let pushed = self.place(sequence, piece);
        if pushed.is_err() || piece.len() < length as usize {
            let messages = self.messages();
            *self = Self { broken: true, ..Self::default() };
            // What the cut piece completed is whole; the gap behind it is told when there is nothing to give.
            return if messages.is_empty() { Err(Gap) } else { Ok(messages) };
        }
        Ok(self.messages())
    }

    fn place(&mut self, sequence: u32, piece: &[u8]) -> Result<(), Gap> {
        if piece.is_empty() {
            return Ok(());
        }
        let next = *self.next.get_or_insert(sequence);
        let offset = sequence.wrapping_sub(next) as i32;
        if offset < 0 && !self.settled && offset.unsigned_abs() as usize <= WINDOW {
            // The first piece that came was not the first that was sent.
            let first = std::mem::take(&mut self.data);
            if !first.is_empty() {
                self.ahead.push((next, first));
            }
            self.next = Some(sequence);
            self.append(0, piece)?;
        } else {
            self.append(offset, piece)?;
        }
        self.fill()
    }

    /// Puts a piece where it belongs; `offset` counts from the beginning of `data`.
    fn append(&mut self, offset: i32, piece: &[u8]) -> Result<(), Gap> {
        let next = self.next.unwrap_or_default();
        let end = self.data.len();
        match usize::try_from(offset) {
            Ok(offset) if offset > end => {
                let held: usize = self.ahead.iter().map(|(_, piece)| piece.len()).sum();
                if self.ahead.len() >= AHEAD || held + piece.len() > WINDOW || offset > WINDOW {
                    return Err(Gap);
                }
                self.ahead.push((next.wrapping_add(offset as u32), piece.to_vec()));
            }
            // Sent again: what is known of it stays.
            Ok(offset) => self.extend(piece.get(end - offset..))?,
            Err(_) => {
                let known = end.saturating_add(offset.unsigned_abs() as usize);
                self.extend(piece.get(known..))?;
            }
        }
        Ok(())
    }

    fn extend(&mut self, piece: Option<&[u8]>) -> Result<(), Gap> {
        self.data.extend_from_slice(piece.unwrap_or_default());
        // Several small messages may come at once, but no more than two windows without one that is complete.
        if self.data.len() > 2 * WINDOW { Err(Gap) } else { Ok(()) }
    }

    /// Moves what the gap held back and no longer does.
    fn fill(&mut self) -> Result<(), Gap> {
        loop {
            let (next, end) = (self.next.unwrap_or_default(), self.data.len());
            let within =
                |sequence: u32| usize::try_from(sequence.wrapping_sub(next) as i32).is_ok_and(|o| o > end);
            let Some(place) = self.ahead.iter().position(|&(sequence, _)| !within(sequence)) else {
                return Ok(());
            };
            let (sequence, piece) = self.ahead.swap_remove(place);
            self.append(sequence.wrapping_sub(next) as i32, &piece)?;
        }
    }

    fn messages(&mut self) -> Vec<Vec<u8>> {
        let mut messages = Vec::new();
        let mut at = 0;
        while let Some(&[high, low]) = self.data.get(at..at + 2) {
            let length = usize::from(u16::from_be_bytes([high, low]));
            let Some(message) = self.data.get(at + 2..at + 2 + length) else { break };
            messages.push(message.to_vec());
            at += 2 + length;
        }
        if at > 0 {
            self.settled = true;
            self.data.drain(..at);
            self.next = self.next.map(|next| next.wrapping_add(at as u32));
        }
        messages
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn framed(messages: &[Vec<u8>]) -> Vec<u8> {
        messages
            .iter()
            .flat_map(|m| (m.len() as u16).to_be_bytes().into_iter().chain(m.iter().copied()))
            .collect()
    }

    #[test]
    fn a_gap_breaks_the_stream_once() {
        let mut stream = Stream::default();
        assert_eq!(stream.push(0, &[0, 1, 7], 3), Ok(vec![vec![7]]));
        assert_eq!(stream.push(500_000, &[0, 1, 7], 3), Err(Gap));
        assert_eq!(stream.push(3, &[0, 1, 7], 3), Ok(vec![]));
    }

    #[test]
    fn a_piece_that_was_cut_breaks_the_stream() {
        let mut stream = Stream::default();
        assert_eq!(stream.push(0, &[0, 9, 7], 3000), Err(Gap));
        assert_eq!(stream.push(0, &[0, 1, 7], 3), Ok(vec![]));
    }

    #[test]
    fn memory_is_bounded_whatever_comes() {
        let mut stream = Stream::default();
        for n in 0..10_000u32 {
            let _ = stream.push(n.wrapping_mul(2_654_435_761), &[0xff; 1400], 1400);
            let held = stream.data.len() + stream.ahead.iter().map(|(_, p)| p.len()).sum::<usize>();
            assert!(held <= 3 * WINDOW);
        }
    }

    proptest! {
        #[test]
        fn any_segmentation_gives_the_same_messages(
            messages in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..300), 1..6),
            cuts in prop::collection::vec(1usize..200, 1..40),
            swaps in prop::collection::vec(any::<prop::sample::Index>(), 0..20),
            again in prop::collection::vec(any::<prop::sample::Index>(), 0..6),
            start: u32,
        ) {
            let bytes = framed(&messages);
            let mut pieces = Vec::new();
            let (mut at, mut cut) = (0, cuts.iter().cycle());
            while at < bytes.len() {
                let end = (at + cut.next().unwrap()).min(bytes.len());
                pieces.push((at, end));
                at = end;
            }
            // Neighbours change places, except for the first; some come again, with what went before.
            for swap in swaps {
                let at = swap.index(pieces.len());
                if at >= 2 {
                    pieces.swap(at, at - 1);
                }
            }
            for index in again {
                let (from, end) = pieces[index.index(pieces.len())];
                pieces.push((from.saturating_sub(5), end));
            }
            let mut stream = Stream::default();
            let mut got = Vec::new();
            for (from, end) in pieces {
                let piece = &bytes[from..end];
                got.extend(stream.push(start.wrapping_add(from as u32), piece, piece.len() as u32).unwrap());
            }
            prop_assert_eq!(got, messages);
        }

        #[test]
        fn any_pieces_are_taken(pieces in prop::collection::vec((any::<u32>(), prop::collection::vec(any::<u8>(), 0..50), 0u32..60), 0..50)) {
            let mut stream = Stream::default();
            for (sequence, piece, length) in pieces {
                let _ = stream.push(sequence, &piece, length);
            }
        }
    }
}
