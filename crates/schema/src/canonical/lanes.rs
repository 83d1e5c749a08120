//! The `md5sum` of several rows at once.
//!
//! MD5 (RFC 1321) is one long chain of dependent steps, so that a processor waits most of the time. Whoever has many rows takes the steps of several in turn, in the
//! lanes of a vector. It is the same checksum as [`md5sum`](super::md5sum), and no more evidence than that.

/// So many at once: with fewer, compilers unroll the loops over the lanes, and make no vectors of them.
pub const LANES: usize = 32;

/// A word of each lane.
type Words = [u32; LANES];

/// The state before the first block.
const START: [u32; 4] = [0x6745_2301, 0xefcd_ab89, 0x98ba_dcfe, 0x1032_5476];

/// The constants of the 64 steps: the fractions of sines.
const SINES: [u32; 64] = [
    0xd76a_a478,
    0xe8c7_b756,
    0x2420_70db,
    0xc1bd_ceee,
    0xf57c_0faf,
    0x4787_c62a,
    0xa830_4613,
    0xfd46_9501,
    0x6980_98d8,
    0x8b44_f7af,
    0xffff_5bb1,
    0x895c_d7be,
    0x6b90_1122,
    0xfd98_7193,
    0xa679_438e,
    0x49b4_0821,
    0xf61e_2562,
    0xc040_b340,
    0x265e_5a51,
    0xe9b6_c7aa,
    0xd62f_105d,
    0x0244_1453,
    0xd8a1_e681,
    0xe7d3_fbc8,
    0x21e1_cde6,
    0xc337_07d6,
    0xf4d5_0d87,
    0x455a_14ed,
    0xa9e3_e905,
    0xfcef_a3f8,
    0x676f_02d9,
    0x8d2a_4c8a,
    0xfffa_3942,
    0x8771_f681,
    0x6d9d_6122,
    0xfde5_380c,
    0xa4be_ea44,
    0x4bde_cfa9,
    0xf6bb_4b60,
    0xbebf_bc70,
    0x289b_7ec6,
    0xeaa1_27fa,
    0xd4ef_3085,
    0x0488_1d05,
    0xd9d4_d039,
    0xe6db_99e5,
    0x1fa2_7cf8,
    0xc4ac_5665,
    0xf429_2244,
    0x432a_ff97,
    0xab94_23a7,
    0xfc93_a039,
    0x655b_59c3,
    0x8f0c_cc92,
    0xffef_f47d,
    0x8584_5dd1,
    0x6fa8_7e4f,
    0xfe2c_e6e0,
    0xa301_4314,
    0x4e08_11a1,
    0xf753_7e82,
    0xbd3a_f235,
    0x2ad7_d2bb,
    0xeb86_d391,
];

/// The [`md5sum`](super::md5sum) of each.
pub fn md5sums(messages: &[&[u8]; LANES]) -> [[u8; 32]; LANES] {
    let lanes = messages.map(Lane::new);
    let blocks = lanes.iter().map(Lane::blocks).max().unwrap_or_default();
    let mut state = START.map(|word| [word; LANES]);
    let mut sums = [[0; 32]; LANES];
    for n in 0..blocks {
        let mut words = [[0; LANES]; 16];
        for (at, lane) in lanes.iter().enumerate() {
            let (quads, _) = lane.block(n).as_chunks::<4>();
            for (word, quad) in words.iter_mut().zip(quads) {
                word[at] = u32::from_le_bytes(*quad);
            }
        }
        compress(&mut state, &words);
        for (at, _) in lanes.iter().enumerate().filter(|(_, lane)| lane.blocks() == n + 1) {
            sums[at] = super::hexadecimal(state.iter().flat_map(|word| word[at].to_le_bytes()));
        }
    }
    sums
}

/// A message with what MD5 puts behind it.
struct Lane<'a> {
    whole: &'a [[u8; 64]],
    tail: [[u8; 64]; 2],
    /// Blocks of the tail.
    tails: usize,
}

impl<'a> Lane<'a> {
    fn new(message: &'a [u8]) -> Self {
        let (whole, rest) = message.as_chunks::<64>();
        let mut tail = [[0; 64]; 2];
        tail[0][..rest.len()].copy_from_slice(rest);
        tail[0][rest.len()] = 0x80;
        // The length in bits needs eight bytes at the end.
        let tails = if rest.len() < 56 { 1 } else { 2 };
        tail[tails - 1][56..].copy_from_slice(&(message.len() as u64).wrapping_mul(8).to_le_bytes());
        Lane { whole, tail, tails }
    }

    fn blocks(&self) -> usize {
        self.whole.len() + self.tails
    }

    /// The block at that place; behind the end, any.
    fn block(&self, n: usize) -> &[u8; 64] {
        let behind = n.saturating_sub(self.whole.len()).min(1);
        self.whole.get(n).unwrap_or(&self.tail[behind])
    }
}

/// Takes one block of each lane.
fn compress(state: &mut [Words; 4], words: &[Words; 16]) {
    let [mut a, mut b, mut c, mut d] = *state;
    macro_rules! steps {
        ($function:expr, $from:literal, $every:literal, $first:literal, $turns:expr) => {
            for n in ($from..$from + 16).step_by(4) {
                let word = |n: usize| taken(words, n, $every, $first);
                step::<{ $turns[0] }>(&mut a, (&b, &c, &d), word(n), SINES[n], $function);
                step::<{ $turns[1] }>(&mut d, (&a, &b, &c), word(n + 1), SINES[n + 1], $function);
                step::<{ $turns[2] }>(&mut c, (&d, &a, &b), word(n + 2), SINES[n + 2], $function);
                step::<{ $turns[3] }>(&mut b, (&c, &d, &a), word(n + 3), SINES[n + 3], $function);
            }
        };
    }
    steps!(|x: u32, y, z| z ^ (x & (y ^ z)), 0, 1, 0, [7, 12, 17, 22]);
    steps!(|x: u32, y, z| y ^ (z & (x ^ y)), 16, 5, 1, [5, 9, 14, 20]);
    steps!(|x: u32, y, z| x ^ y ^ z, 32, 3, 5, [4, 11, 16, 23]);
    steps!(|x: u32, y, z: u32| y ^ (x | !z), 48, 7, 0, [6, 10, 15, 21]);
    for (sum, word) in state.iter_mut().zip([a, b, c, d]) {
        for (sum, word) in sum.iter_mut().zip(word) {
            *sum = sum.wrapping_add(word);
        }
    }
}

/// The word that a step takes.
#[inline(always)]
fn taken(words: &[Words; 16], step: usize, every: usize, first: usize) -> &Words {
    &words[(every * step + first) % 16]
}

#[inline(always)]
fn step<const TURN: u32>(
    a: &mut Words,
    (b, c, d): (&Words, &Words, &Words),
    word: &Words,
    sine: u32,
    function: impl Fn(u32, u32, u32) -> u32,
) {
    for ((((a, b), c), d), word) in a.iter_mut().zip(b).zip(c).zip(d).zip(word) {
        let sum = a.wrapping_add(function(*b, *c, *d)).wrapping_add(*word).wrapping_add(sine);
        *a = b.wrapping_add(sum.rotate_left(TURN));
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{super::md5sum, *};

    fn agree(messages: [&[u8]; LANES]) {
        for (sum, message) in md5sums(&messages).iter().zip(messages) {
            assert_eq!(sum, &md5sum(message), "{} bytes", message.len());
        }
    }

    #[test]
    fn every_length_up_to_four_blocks_and_different_ones_together() {
        let bytes: Vec<u8> = (0..400u32).map(|n| (n * n % 251) as u8).collect();
        for length in 0..=260 {
            agree([&bytes[..length]; LANES]);
            agree(std::array::from_fn(|lane| &bytes[lane..lane + (length * (lane + 3)) % 290]));
        }
    }

    proptest! {
        #[test]
        fn the_sums_are_those_of_each_alone(messages in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..700), LANES)) {
            agree(std::array::from_fn(|lane| messages[lane].as_slice()));
        }
    }
}
