//! The numbers of rows: instants first, so that a table is ordered by time and can be divided by it.

use crate::Time;

/// 2020-01-01T00:00:00Z in microseconds, from which row numbers and `psentity` count, so that they last for 70 years.
pub const NUMBERS_EPOCH: i64 = 1_577_836_800_000_000;

/// Bits of a row number below its microseconds: a sequence, or for `psentity` a part of the pid and the count of execs.
const SEQUENCE_BITS: u32 = 12;

/// The lowest number of a row that was created at that instant.
pub fn first_number(at: Time) -> i64 {
    at.0.saturating_sub(NUMBERS_EPOCH).clamp(0, (1 << (63 - SEQUENCE_BITS)) - 1) << SEQUENCE_BITS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_ordered_as_instants_are() {
        let at = |us: i64| first_number(Time(us));
        assert_eq!((at(i64::MIN), at(NUMBERS_EPOCH), at(NUMBERS_EPOCH + 3)), (0, 0, 3 << 12));
        assert!(at(i64::MAX) > at(NUMBERS_EPOCH + 1) && at(i64::MAX) > 0);
    }
}
