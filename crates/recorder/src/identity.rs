//! `psentity`: the number of a process image, the same whoever computes it and however often.
//!
//! 51 bits count the microseconds from 2020-01-01 to the start of the process, 6 bits are the low bits of its pid, and 6 bits
//! count its execs. From the 63rd exec on the count is full: then the microseconds are those of the exec itself.

use luarm_schema::{OpenProcess, Time};
use luarm_sensor::{BootNs, observation::ImageId};

use crate::clock::{Clock, EPOCH};

/// The exec count at which it stands still.
const FULL: u32 = 63;

/// The polling sensor reads starts in clock ticks of /proc, 100 to a second (proc_pid_stat(5)).
const TICK: BootNs = 10_000_000;

/// Reckons `psentity` for one boot of the host.
#[derive(Clone, Copy)]
pub(crate) struct Identity {
    base: i64,
}

impl Identity {
    /// `base` is `hostinfo.bootentity`.
    pub(crate) fn new(base: i64) -> Self {
        Self { base }
    }

    /// The number of an image. `began` is when its exec happened, where that was seen; it matters only for images after the 62nd.
    pub(crate) fn psentity(self, image: ImageId, began: Option<BootNs>) -> i64 {
        let us = match (image.execs, began) {
            (..FULL, _) => image.start / 1000,
            (_, Some(began)) => began / 1000,
            (execs, None) => image.start / 1000 + u64::from(execs),
        };
        let us = i64::try_from(us).unwrap_or(i64::MAX).saturating_add(self.base).clamp(0, (1 << 51) - 1);
        us << 12 | i64::from(image.pid & 63) << 6 | i64::from(image.execs.min(FULL))
    }

    /// Whether a stored row is of the process of `image`, whose images may be others.
    pub(crate) fn is_process_of(self, open: &OpenProcess, image: ImageId, clock: &Clock) -> bool {
        if open.pid != image.pid {
            return false;
        }
        if open.execs >= FULL {
            // Its number does not tell the start; but no image of a process is older than the process.
            return open.created >= Time(clock.time(image.start).0 - 1);
        }
        let start = self.start(open);
        start == image.start / 1000 * 1000 || same_tick(start, image.start)
    }

    /// Whether the start in the stored row of a process, or that of the image, is known to a tick only: so are the execs then.
    pub(crate) fn is_coarse(self, open: &OpenProcess, image: ImageId) -> bool {
        image.start.is_multiple_of(TICK) || open.execs < FULL && self.start(open) != image.start / 1000 * 1000
    }

    /// The start of the process as a stored row has it.
    fn start(self, open: &OpenProcess) -> BootNs {
        u64::try_from((open.psentity >> 12) - self.base).unwrap_or(0).saturating_mul(1000)
    }
}

/// The instant that is `bootentity` of a host that is met for the first time since it booted.
pub(crate) fn boot_entity(offset: i64, previous: Option<i64>) -> i64 {
    // A clock that starts at the same date with each boot must not give two boots one number.
    (offset - EPOCH).max(previous.map_or(0, |p| p.saturating_add(1)))
}

/// Whether two images are of one process, though one may be known to a tick only.
pub(crate) fn same_process(a: ImageId, b: ImageId) -> bool {
    a.pid == b.pid && (a.start == b.start || same_tick(a.start, b.start))
}

fn same_tick(a: BootNs, b: BootNs) -> bool {
    (a.is_multiple_of(TICK) || b.is_multiple_of(TICK)) && a / TICK == b / TICK
}

#[cfg(test)]
mod tests {
    use super::*;

    const IDENTITY: Identity = Identity { base: 1_000 };

    fn image(pid: u32, start: BootNs, execs: u32) -> ImageId {
        ImageId { pid, start, execs }
    }

    #[test]
    fn the_number_holds_start_pid_and_execs() {
        let n = IDENTITY.psentity(image(64 + 5, 2_500_999, 3), None);
        assert_eq!((n >> 12, n >> 6 & 63, n & 63), (3_500, 5, 3));
        assert!(IDENTITY.psentity(image(1, 0, 4), None) < IDENTITY.psentity(image(1, 0, 5), None));
        assert!(IDENTITY.psentity(image(u32::MAX, u64::MAX, u32::MAX), None) > 0);
        assert!(Identity::new(i64::MIN).psentity(image(1, 5, 0), None) >= 0);
    }

    #[test]
    fn execs_beyond_the_count_are_told_apart() {
        let mut seen = std::collections::HashSet::new();
        for execs in 0..200 {
            assert!(seen.insert(IDENTITY.psentity(image(9, 0, execs), Some(5_000_000 * u64::from(execs)))));
        }
        let found = |execs| IDENTITY.psentity(image(9, 0, execs), None);
        assert_ne!(found(70), found(71));
    }

    #[test]
    fn a_tick_is_enough_where_no_more_is_known() {
        assert!(same_process(image(1, 123_456_789, 0), image(1, 120_000_000, 2)));
        assert!(!same_process(image(1, 123_456_789, 0), image(1, 123_456_788, 0)));
        assert!(!same_process(image(1, 123_456_789, 0), image(1, 130_000_000, 0)));
        assert!(!same_process(image(1, 5, 0), image(2, 5, 0)));
    }

    #[test]
    fn two_boots_never_share_their_entity() {
        assert_eq!(boot_entity(EPOCH + 7, None), 7);
        assert_eq!(boot_entity(EPOCH + 7, Some(7)), 8);
        assert_eq!(boot_entity(0, None), 0);
    }
}
