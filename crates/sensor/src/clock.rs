//! The kernel's clocks.

use rustix::time::{ClockId, Timespec, clock_gettime};

use crate::observation::BootNs;

const ATTEMPTS: u32 = 5;

/// Nanoseconds since the kernel started, time asleep included (CLOCK_BOOTTIME).
pub fn now() -> BootNs {
    u64::try_from(nanoseconds(clock_gettime(ClockId::Boottime))).unwrap_or(0)
}

/// Microseconds to add to an instant of CLOCK_BOOTTIME to get the time of day (CLOCK_REALTIME).
pub fn offset() -> i64 {
    read().offset
}

/// The clocks at one instant. An offset is changed by a step of the clock alone: what speeds the time of day up or slows it down (NTP) does so to all of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reading {
    /// The instant.
    pub at: BootNs,
    /// CLOCK_REALTIME - CLOCK_BOOTTIME, microseconds.
    pub offset: i64,
    /// CLOCK_BOOTTIME - CLOCK_MONOTONIC: how long the host was suspended since it started, and in a time namespace some constant more or less.
    pub asleep_ns: i64,
}

/// Reads the clocks. The others are read between two readings of the boot clock; the tightest of a few attempts counts.
pub fn read() -> Reading {
    let mut best = attempt();
    for _ in 1..ATTEMPTS {
        let next = attempt();
        if next.0 < best.0 {
            best = next;
        }
    }
    best.1
}

/// How far the two readings of the boot clock lay apart (ns), and what was read between.
fn attempt() -> (i64, Reading) {
    let before = nanoseconds(clock_gettime(ClockId::Boottime));
    let real = nanoseconds(clock_gettime(ClockId::Realtime));
    let monotonic = nanoseconds(clock_gettime(ClockId::Monotonic));
    let width = nanoseconds(clock_gettime(ClockId::Boottime)) - before;
    let middle = before + width / 2;
    let reading = Reading {
        at: u64::try_from(middle).unwrap_or(0),
        offset: (real - middle).div_euclid(1000),
        asleep_ns: middle - monotonic,
    };
    (width, reading)
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
    fn nobody_sleeps_between_two_readings() {
        let (first, second) = (read(), read());
        // A machine that is suspended right here is nobody's test machine.
        assert!((second.asleep_ns - first.asleep_ns).abs() < 1_000_000_000, "{first:?} {second:?}");
        assert!(first.at <= second.at);
    }

    #[test]
    fn the_boot_clock_does_not_go_back() {
        let first = now();
        assert!(now() >= first);
    }
}
