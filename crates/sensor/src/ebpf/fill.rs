//! How full the rings were when they were emptied.
#![expect(unsafe_code, reason = "libbpf tells what is in a ring only through a raw call")]

use std::sync::{
    Arc, Mutex, PoisonError,
    atomic::{AtomicU64, Ordering::Relaxed},
};

use libbpf_rs::{AsRawLibbpf, RingBuffer, libbpf_sys};

use crate::{BootNs, RingFill, clock};

/// What was found at most is remembered for one to two of these.
const WINDOW: BootNs = 30_000_000_000;

/// The fill of both rings: one thread writes it, anybody reads it.
#[derive(Debug, Default)]
pub(super) struct Fills([Fill; 2]);

#[derive(Debug, Default)]
struct Fill {
    size: AtomicU64,
    peaks: Mutex<Peaks>,
}

/// The most that was found in this window and in the one before it.
#[derive(Debug, Default, Clone, Copy)]
struct Peaks {
    since: BootNs,
    now: u64,
    before: u64,
}

impl Peaks {
    fn note(&mut self, at: BootNs, bytes: u64) {
        let age = at.saturating_sub(self.since);
        if age >= WINDOW {
            self.before = if age < 2 * WINDOW { self.now } else { 0 };
            self.now = 0;
            self.since = at;
        }
        self.now = self.now.max(bytes);
    }

    fn most(self) -> u64 {
        self.now.max(self.before)
    }
}

const NAMES: [&str; 2] = ["events", "bulk"];

impl Fills {
    /// Notes what is in the rings, in the order of their names.
    pub(super) fn note(self: &Arc<Self>, rings: [&RingBuffer<'_>; 2]) {
        let now = clock::now();
        for (fill, ring) in self.0.iter().zip(rings) {
            let (waiting, size) = state(ring);
            fill.size.store(size, Relaxed);
            fill.peaks.lock().unwrap_or_else(PoisonError::into_inner).note(now, waiting);
        }
    }

    /// What was found of late.
    pub(super) fn read(&self) -> Vec<RingFill> {
        let now = clock::now();
        let read = |(name, fill): (_, &Fill)| {
            let mut peaks = fill.peaks.lock().unwrap_or_else(PoisonError::into_inner);
            peaks.note(now, 0);
            RingFill { name, peak: peaks.most(), size: fill.size.load(Relaxed) }
        };
        NAMES.into_iter().zip(&self.0).map(read).collect()
    }
}

/// Bytes that wait in a ring, and bytes that it holds.
fn state(ring: &RingBuffer<'_>) -> (u64, u64) {
    // SAFETY: the ring buffer is alive, and has one ring: it was built of one. libbpf gives NULL for one that it has not got.
    unsafe {
        let ring = libbpf_sys::ring_buffer__ring(ring.as_libbpf_object().as_ptr(), 0);
        if ring.is_null() {
            return (0, 0);
        }
        (libbpf_sys::ring__avail_data_size(ring) as u64, libbpf_sys::ring__size(ring) as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_of_late_is_remembered_and_what_is_old_is_not() {
        let mut peaks = Peaks::default();
        peaks.note(WINDOW, 7);
        peaks.note(WINDOW + 1, 3);
        assert_eq!(peaks.most(), 7);
        peaks.note(2 * WINDOW, 5);
        assert_eq!(peaks.most(), 7);
        peaks.note(3 * WINDOW, 0);
        assert_eq!(peaks.most(), 5);
        peaks.note(6 * WINDOW, 0);
        assert_eq!(peaks.most(), 0);
    }
}
