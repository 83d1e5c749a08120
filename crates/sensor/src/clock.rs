//! The kernel's clocks.

use rustix::time::{ClockId, Timespec, clock_gettime};

use crate::observation::BootNs;

const ATTEMPTS: u32 = 5;

/// Nanoseconds since the kernel started, time asleep included (CLOCK_BOOTTIME).
pub fn now() -> BootNs {
    u64::try_from(nanoseconds(clock_gettime(ClockId::Boottime))).unwrap_or(0)
}

/// Microseconds to add to an instant of CLOCK_BOOTTIME to get the time of day (CLOCK_REALTIME).
///
/// The time of day is read between two readings of the boot clock; the tightest of a few attempts counts.
pub fn offset() -> i64 {
    let mut best = attempt();
    for _ in 1..ATTEMPTS {
        best = best.min(attempt());
    }
    best.1
}

/// How far the two readings of the boot clock lay apart (ns), and the offset (µs).
fn attempt() -> (i64, i64) {
    let before = nanoseconds(clock_gettime(ClockId::Boottime));
    let real = nanoseconds(clock_gettime(ClockId::Realtime));
    let width = nanoseconds(clock_gettime(ClockId::Boottime)) - before;
    (width, (real - before - width / 2).div_euclid(1000))
}

fn nanoseconds(time: Timespec) -> i64 {
    time.tv_sec.saturating_mul(1_000_000_000).saturating_add(time.tv_nsec)
}

#[cfg(test)]
mod tests {
    use std::time::{SystemTime, UNIX_EPOCH};

    use super::*;

    #[test]
    fn the_boot_clock_and_the_offset_give_the_time_of_day() {
        let micros = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_micros() as i64;
        let before = micros();
        let reckoned = (now() / 1000) as i64 + offset();
        let after = micros();
        // The offset is rounded to a microsecond, and the clocks are slewed apart while they are read.
        assert!((before - 1000..=after + 1000).contains(&reckoned), "{before} {reckoned} {after}");
    }

    #[test]
    fn the_boot_clock_does_not_go_back() {
        let first = now();
        assert!(now() >= first);
    }
}
