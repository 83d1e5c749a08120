//! Batches on their way to the store: in order, counted in bytes, and nobody waits to put one in.

use std::{
    collections::VecDeque,
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use luarm_schema::Batch;

type Errand = Box<dyn FnOnce() + Send>;

/// The queue between recorder and store. A batch that is in it keeps its number, so none is ever dropped from it: the recorder makes no batch
/// while it is full.
pub(crate) struct Backlog {
    state: Mutex<State>,
    changed: Condvar,
    limit: usize,
}

/// What waits for a batch of a certain number.
struct Errands {
    /// Number of the last batch that got so far.
    reached: i64,
    waiting: Vec<(i64, Errand)>,
}

impl Errands {
    fn reach(&mut self, id: i64) -> Vec<(i64, Errand)> {
        self.reached = self.reached.max(id);
        self.waiting.extract_if(.., |(wanted, _)| *wanted <= id).collect()
    }
}

/// How far a batch has got.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Point {
    /// It is on this host's disk.
    Kept,
    /// It is where it can be queried: in the store, which may be a server's.
    Delivered,
}

struct State {
    batches: VecDeque<(Batch, usize)>,
    /// Of the batches that are not stored, the one in hand included.
    bytes: usize,
    /// To be done once a batch is kept, and once it is delivered.
    kept: Errands,
    delivered: Errands,
    /// Tables of rows that the store refused, for the recorder to tell of.
    refused: Vec<&'static str>,
    closed: Option<Instant>,
    broken: bool,
}

impl Backlog {
    /// A queue that has room while less than `limit` bytes are in it; `kept` is the number of the last batch that is kept, `delivered` of the last
    /// that is delivered.
    pub(crate) fn new(limit: usize, kept: i64, delivered: i64) -> Self {
        let errands = |reached| Errands { reached, waiting: Vec::new() };
        let state = State {
            batches: VecDeque::new(),
            bytes: 0,
            kept: errands(kept),
            delivered: errands(delivered),
            refused: Vec::new(),
            closed: None,
            broken: false,
        };
        Self { state: Mutex::new(state), changed: Condvar::new(), limit }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether another batch may be made.
    pub(crate) fn has_room(&self) -> bool {
        self.lock().bytes < self.limit
    }

    /// Bytes that wait to be stored.
    pub(crate) fn bytes(&self) -> usize {
        self.lock().bytes
    }

    /// Appends a batch of about `bytes`.
    pub(crate) fn push(&self, batch: Batch, bytes: usize) {
        let mut state = self.lock();
        if !state.broken {
            state.bytes += bytes;
            state.batches.push_back((batch, bytes));
            self.changed.notify_all();
        }
    }

    /// Nothing more comes.
    pub(crate) fn close(&self) {
        self.lock().closed = Some(Instant::now());
        self.changed.notify_all();
    }

    /// The next batch, which counts as waiting until [`Backlog::kept`]; `None` when the queue is closed and empty.
    pub(super) fn take(&self) -> Option<(Batch, usize)> {
        let mut state = self.lock();
        loop {
            if let Some(next) = state.batches.pop_front() {
                return Some(next);
            }
            if state.closed.is_some() {
                return None;
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// The batch taken last is on disk.
    pub(super) fn kept(&self, id: i64, bytes: usize) {
        let mut state = self.lock();
        state.bytes -= bytes;
        let due = state.kept.reach(id);
        drop(state);
        for (_, errand) in due {
            errand();
        }
    }

    /// The batches up to this number can be queried.
    pub(crate) fn delivered(&self, id: i64) {
        let due = self.lock().delivered.reach(id);
        for (_, errand) in due {
            errand();
        }
    }

    /// Rows of these tables were refused.
    pub(crate) fn refuse(&self, tables: impl Iterator<Item = &'static str>) {
        self.lock().refused.extend(tables);
    }

    /// The tables of rows that were refused since this was asked last.
    pub(super) fn take_refused(&self) -> Vec<&'static str> {
        std::mem::take(&mut self.lock().refused)
    }

    /// The store is lost: what waits is given up, what comes is dropped. Returns how many batches that are.
    pub(super) fn give_up(&self) -> usize {
        let mut state = self.lock();
        state.broken = true;
        state.bytes = 0;
        state.kept.waiting.clear();
        state.delivered.waiting.clear();
        std::mem::take(&mut state.batches).len()
    }

    /// Does the errand once the batch `id` has got so far, on the thread that brought it there; at once if it has.
    pub(crate) fn when(&self, point: Point, id: i64, errand: impl FnOnce() + Send + 'static) {
        let mut state = self.lock();
        let errands = match point {
            Point::Kept => &mut state.kept,
            Point::Delivered => &mut state.delivered,
        };
        if errands.reached < id {
            errands.waiting.push((id, Box::new(errand)));
            return;
        }
        drop(state);
        errand();
    }

    /// Waits for `pause`, or until the queue is closed. Returns for how long it has been closed.
    pub(super) fn rest(&self, pause: Duration) -> Option<Duration> {
        let until = Instant::now() + pause;
        let mut state = self.lock();
        let was_closed = state.closed.is_some();
        while state.closed.is_some() == was_closed {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            state = self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        state.closed.map(|at| at.elapsed())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    fn batch(id: i64) -> Batch {
        Batch { id, ..Batch::default() }
    }

    #[test]
    fn a_batch_in_hand_takes_room_until_it_is_stored() {
        let backlog = Backlog::new(100, 0, 0);
        backlog.push(batch(1), 100);
        assert!(!backlog.has_room());
        assert_eq!(backlog.take(), Some((batch(1), 100)));
        assert!(!backlog.has_room());
        backlog.kept(1, 100);
        assert!(backlog.has_room());
    }

    #[test]
    fn an_errand_is_done_when_its_batch_is_stored_and_not_before() {
        let backlog = Backlog::new(100, 4, 4);
        let (done, seen) = mpsc::channel();
        for id in [4, 5, 6] {
            let done = done.clone();
            backlog.when(Point::Kept, id, move || done.send(id).unwrap());
        }
        assert_eq!(seen.try_iter().collect::<Vec<_>>(), [4]);
        backlog.push(batch(5), 1);
        backlog.kept(5, backlog.take().unwrap().1);
        assert_eq!(seen.try_iter().collect::<Vec<_>>(), [5]);
    }

    #[test]
    fn what_is_kept_is_not_yet_delivered() {
        let backlog = Backlog::new(100, 4, 2);
        let (done, seen) = mpsc::channel();
        for id in [2, 3, 5] {
            let done = done.clone();
            backlog.when(Point::Delivered, id, move || done.send(id).unwrap());
        }
        backlog.push(batch(5), 1);
        backlog.kept(5, backlog.take().unwrap().1);
        assert_eq!(seen.try_iter().collect::<Vec<_>>(), [2]);
        backlog.delivered(4);
        assert_eq!(seen.try_iter().collect::<Vec<_>>(), [3]);
        backlog.delivered(5);
        assert_eq!(seen.try_iter().collect::<Vec<_>>(), [5]);
    }

    #[test]
    fn what_was_pushed_before_the_close_is_still_taken() {
        let backlog = Backlog::new(100, 0, 0);
        backlog.push(batch(1), 1);
        backlog.close();
        assert!(backlog.take().is_some());
        assert!(backlog.take().is_none());
        assert!(backlog.rest(Duration::ZERO).is_some());
    }

    #[test]
    fn a_lost_store_takes_no_memory() {
        let backlog = Backlog::new(100, 0, 0);
        backlog.push(batch(1), 50);
        backlog.push(batch(2), 50);
        assert_eq!(backlog.give_up(), 2);
        backlog.push(batch(3), 50);
        assert_eq!(backlog.bytes(), 0);
    }
}
