//! Figures of a running recorder, for `luarm status`.

use std::{
    collections::VecDeque,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Instant,
};

use luarm_schema::Batch;

/// Rates are over this many seconds.
const WINDOW: usize = 10;

/// Counters that the recorder's and the store's threads write, and anybody reads.
#[derive(Default)]
pub(crate) struct Meters {
    /// Observations taken from the sensor.
    pub observations: AtomicU64,
    /// Rows in the store.
    pub rows: AtomicU64,
    /// Number of the last batch in the store.
    pub batch: AtomicU64,
    /// Bytes of observations that wait for the recorder.
    pub queued_bytes: AtomicU64,
    /// Bytes of rows that wait in the recorder.
    pub pending_bytes: AtomicU64,
    /// Bytes of rows in batches that are not stored.
    pub backlog_bytes: AtomicU64,
    /// Rows given up because the store could not take them.
    pub shed_rows: AtomicU64,
    /// Up to when everything was observed, ns of CLOCK_BOOTTIME.
    pub reached: AtomicU64,
    /// For how long the oldest row that is in no batch has waited.
    pub stale_ms: AtomicU64,
    trouble: Mutex<Option<String>>,
    samples: Mutex<VecDeque<(Instant, u64, u64)>>,
}

/// Events and rows per second of late.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(crate) struct Rates {
    pub observations: f64,
    pub rows: f64,
}

impl Meters {
    /// A batch is in the store.
    pub(super) fn stored(&self, batch: &Batch) {
        self.rows.fetch_add(batch.rows.len() as u64, Relaxed);
        self.batch.store(batch.id.unsigned_abs(), Relaxed);
    }

    /// What keeps the store from taking batches.
    pub(super) fn set_trouble(&self, trouble: Option<String>) {
        *self.trouble.lock().unwrap_or_else(PoisonError::into_inner) = trouble;
    }

    /// What keeps the store from taking batches now.
    pub(crate) fn trouble(&self) -> Option<String> {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Notes how far the counters are; to be called about once a second.
    pub(super) fn sample(&self) {
        let mut samples = self.samples.lock().unwrap_or_else(PoisonError::into_inner);
        if samples.len() == WINDOW {
            samples.pop_front();
        }
        samples.push_back((Instant::now(), self.observations.load(Relaxed), self.rows.load(Relaxed)));
    }

    /// The rates since the oldest sample.
    pub(crate) fn rates(&self) -> Rates {
        let samples = self.samples.lock().unwrap_or_else(PoisonError::into_inner);
        let Some((since, observations, rows)) = samples.front() else {
            return Rates::default();
        };
        let seconds = since.elapsed().as_secs_f64().max(0.001);
        let rate = |now: &AtomicU64, then: u64| now.load(Relaxed).saturating_sub(then) as f64 / seconds;
        Rates { observations: rate(&self.observations, *observations), rows: rate(&self.rows, *rows) }
    }
}
