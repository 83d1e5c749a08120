//! From the kernel's clock to the wall clock, and the numbers of rows that follow from it.

pub(crate) use luarm_schema::NUMBERS_EPOCH as EPOCH;
use luarm_schema::{Resume, Time, first_number};
use luarm_sensor::BootNs;

/// How long after the last event that a store remembers its rows may have been numbered, at most.
const SLACK: i64 = 120_000_000;

/// Converts instants, and knows the latest one.
pub(crate) struct Clock {
    offset: i64,
    latest: BootNs,
}

impl Clock {
    /// `offset` is CLOCK_REALTIME - CLOCK_BOOTTIME in microseconds, `now` the present instant.
    pub(crate) fn new(offset: i64, now: Time) -> Self {
        let mut clock = Self { offset, latest: 0 };
        clock.latest = clock.boot(now);
        clock
    }

    /// CLOCK_REALTIME - CLOCK_BOOTTIME, microseconds.
    pub(crate) fn offset(&self) -> i64 {
        self.offset
    }

    pub(crate) fn set(&mut self, offset: i64) {
        self.offset = offset;
    }

    pub(crate) fn advance(&mut self, at: BootNs) {
        self.latest = self.latest.max(at);
    }

    pub(crate) fn latest(&self) -> BootNs {
        self.latest
    }

    /// The instant on the wall clock.
    pub(crate) fn time(&self, at: BootNs) -> Time {
        Time((at / 1000) as i64 + self.offset)
    }

    /// The latest instant on the wall clock.
    pub(crate) fn now(&self) -> Time {
        self.time(self.latest)
    }

    /// The instant of the wall clock on the kernel's; 0 for one before it started.
    pub(crate) fn boot(&self, time: Time) -> BootNs {
        u64::try_from(time.0.saturating_sub(self.offset)).unwrap_or(0).saturating_mul(1000)
    }
}

/// Numbers rows: unique on the host, ordered by time, also over restarts.
pub(crate) struct Numbers(i64);

impl Numbers {
    /// Begins after everything that the store remembers, also if the wall clock was set back since.
    pub(crate) fn new(run: Time, resume: &Resume) -> Self {
        let last = resume.last_batch.map_or(0, |(_, last)| last.0);
        let began = if last < run.0 { run.0 } else { last.saturating_add(SLACK) };
        let rows = resume.endpoints.iter().map(|e| e.endpointinfo).chain(resume.coverage.iter().copied());
        let rows = rows.chain(resume.files.iter().map(|file| file.fileaccessid));
        let rows = rows.chain(resume.queries.iter().copied());
        let rows = rows.chain(resume.conditions.iter().map(luarm_schema::Row::key));
        Self(rows.fold(first_number(Time(began)), i64::max))
    }

    /// The number of a row that was created at that instant.
    pub(crate) fn next(&mut self, at: Time) -> i64 {
        self.0 = self.0.saturating_add(1).max(first_number(at));
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_ascend_whatever_the_clock_does() {
        let run = Time(EPOCH + 1_000_000);
        let mut numbers = Numbers::new(run, &Resume::default());
        let mut last = 1_000_000 << 12;
        for at in [1_000_001, 1_000_001, 5, -7, 2_000_000, 2_000_000, i64::MIN, 3_000_000] {
            let next = numbers.next(Time(EPOCH.saturating_add(at)));
            assert!(next > last, "{next} after {last}");
            last = next;
        }
        assert_eq!(last, 3_000_000 << 12);
    }

    #[test]
    fn instants_convert_both_ways() {
        let clock = Clock::new(EPOCH, Time(EPOCH + 10));
        assert_eq!(
            (clock.latest(), clock.time(7_000), clock.boot(Time(EPOCH - 1))),
            (10_000, Time(EPOCH + 7), 0)
        );
    }
}
