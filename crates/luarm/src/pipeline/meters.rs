//! Figures of a running recorder, for `luarm status`.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::Instant,
};

use luarm_recorder::canary::Verdict;
use luarm_schema::{Batch, Row, Time, Word, tables::LossInfo};
use luarm_sensor::observation::{Coverage, Watch};

/// Rates are over this many seconds.
const WINDOW: usize = 10;
/// So many losses are remembered one by one.
const RECENT: usize = 32;

/// Counters that the recorder's and the store's threads write, and anybody reads.
#[derive(Default)]
pub(crate) struct Meters {
    /// Observations taken from the sensor.
    pub observations: AtomicU64,
    /// Rows in the store.
    pub rows: AtomicU64,
    /// Batches in the store.
    pub batches: AtomicU64,
    /// Processor time that digesting and signing batches took, ns.
    pub sealing_ns: AtomicU64,
    /// Number of the last batch in the store.
    pub batch: AtomicU64,
    /// Bytes of observations that wait for the recorder.
    pub queued_bytes: AtomicU64,
    /// Bytes of rows that wait in the recorder.
    pub pending_bytes: AtomicU64,
    /// Bytes of rows in batches that are not stored.
    pub backlog_bytes: AtomicU64,
    /// How often the store could not take a batch.
    pub store_errors: AtomicU64,
    /// Rows given up because the store could not take them.
    pub shed_rows: AtomicU64,
    /// Up to when everything was observed, ns of CLOCK_BOOTTIME.
    pub reached: AtomicU64,
    /// For how long the oldest row that is in no batch has waited.
    pub stale_ms: AtomicU64,
    /// Whether everything that existed at the start is stored.
    pub ready: AtomicBool,
    trouble: Mutex<Option<String>>,
    lost: Mutex<BTreeMap<(String, String), u64>>,
    classes: Mutex<BTreeMap<&'static str, Class>>,
    recent: Mutex<VecDeque<(Time, Word, String)>>,
    canary: Mutex<CanaryState>,
    samples: Mutex<VecDeque<(Instant, u64, u64)>>,
}

/// How a class of events is watched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Class {
    /// Whether it is watched or sampled.
    pub watched: bool,
    /// Why it is not any more, if it was.
    pub given_up: Option<String>,
}

/// What came of the last canary.
#[derive(Debug, Clone, Default)]
pub(crate) struct CanaryState {
    /// When the last round began.
    pub began: Option<Time>,
    /// Why there are none.
    pub off: Option<String>,
    /// Why it could not be done.
    pub trouble: Option<String>,
    /// By class, what its rows took, microseconds.
    pub latencies: BTreeMap<String, i64>,
    /// Classes of which it did not come back, and why.
    pub missing: BTreeMap<String, String>,
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
        self.batches.fetch_add(1, Relaxed);
        self.batch.store(batch.id.unsigned_abs(), Relaxed);
        for row in &batch.rows {
            if let Row::LossInfo(row) = row {
                self.recent(row);
                let mut lost = self.lost.lock().unwrap_or_else(PoisonError::into_inner);
                let count = lost.entry((row.class.to_string(), row.cause.to_string())).or_default();
                *count = count.saturating_add(row.count.unsigned_abs());
            }
        }
    }

    /// Remembers a loss for those who ask soon.
    fn recent(&self, row: &LossInfo) {
        let mut recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        if recent.len() == RECENT {
            recent.pop_front();
        }
        let words = format!("lost meanwhile: {} {} {}", row.class, row.cause, row.count);
        recent.push_back((row.until, row.class.clone(), words));
    }

    /// The last losses that were counted after that instant: of which class or table, and in words.
    pub(crate) fn lost_since(&self, instant: Time) -> Vec<(String, String)> {
        let recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        let lost = recent.iter().filter(|(until, ..)| *until >= instant);
        lost.map(|(_, of, lost)| (of.to_string(), lost.clone())).collect()
    }

    /// What was lost so far, by class and cause, as far as it is stored. There are as many as luarm has words for it.
    pub(crate) fn lost(&self) -> BTreeMap<(String, String), u64> {
        self.lost.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// A class of events is watched in this way from now on.
    pub(super) fn cover(&self, change: &Coverage) {
        if change.class == "canary" && change.watch == Watch::Unwatched {
            let mut canary = self.canary.lock().unwrap_or_else(PoisonError::into_inner);
            canary.off.clone_from(&change.reason);
        }
        let watched = change.watch != Watch::Unwatched;
        let mut classes = self.classes.lock().unwrap_or_else(PoisonError::into_inner);
        let before = classes.get(change.class);
        let was = before.is_some_and(|before| before.watched || before.given_up.is_some());
        let given_up = (was && !watched).then(|| change.reason.clone().unwrap_or_default());
        classes.insert(change.class, Class { watched, given_up });
    }

    /// What came of a round of the canary.
    pub(crate) fn judged(&self, verdict: &Verdict) {
        let mut canary = self.canary.lock().unwrap_or_else(PoisonError::into_inner);
        canary.began = Some(verdict.began);
        canary.trouble.clone_from(&verdict.trouble);
        if canary.trouble.is_some() {
            return;
        }
        for (class, reason) in &verdict.missing {
            canary.latencies.remove(*class);
            canary.missing.insert((*class).to_owned(), reason.clone());
        }
        for (class, latency) in &verdict.seen {
            canary.missing.remove(*class);
            canary.latencies.insert((*class).to_owned(), *latency);
        }
    }

    /// What came of the last canary.
    pub(crate) fn canary(&self) -> CanaryState {
        self.canary.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// How each class of events is watched.
    pub(crate) fn classes(&self) -> BTreeMap<&'static str, Class> {
        self.classes.lock().unwrap_or_else(PoisonError::into_inner).clone()
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_class_is_given_up_only_if_it_was_watched_and_until_it_is_again() {
        let meters = Meters::default();
        let change = |watch, reason: Option<&str>| {
            meters.cover(&Coverage {
                class: "mounts",
                watch,
                sensor: "proc",
                hook: String::new(),
                reason: reason.map(str::to_owned),
            });
            meters.classes()["mounts"].clone()
        };
        let class =
            |watched, given_up: Option<&str>| Class { watched, given_up: given_up.map(str::to_owned) };
        assert_eq!(change(Watch::Unwatched, Some("no /proc")), class(false, None));
        assert_eq!(change(Watch::Sampled, None), class(true, None));
        assert_eq!(change(Watch::Unwatched, Some("gone")), class(false, Some("gone")));
        assert_eq!(change(Watch::Unwatched, Some("still")), class(false, Some("still")));
        assert_eq!(change(Watch::Watched, None), class(true, None));
    }

    #[test]
    fn losses_are_added_up_by_class_and_cause() {
        let meters = Meters::default();
        let loss = |class: &'static str, cause: &'static str, count| {
            let (class, cause) = (class.into(), cause.into());
            let (created, until) = Default::default();
            Row::from(LossInfo { lossid: 1, class, cause, count, note: None, created, until, end: None })
        };
        let rows =
            vec![loss("file", "ring-full", 3), loss("tcp", "ring-full", 1), loss("file", "ring-full", 4)];
        meters.stored(&Batch { id: 1, rows, ..Batch::default() });
        let lost: Vec<_> =
            meters.lost().into_iter().map(|((class, cause), n)| format!("{class} {cause} {n}")).collect();
        assert_eq!(lost, ["file ring-full 7", "tcp ring-full 1"]);
    }
}
