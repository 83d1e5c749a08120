//! The queue between sensor and recorder: bounded in bytes, so that a storm cannot take the host's memory.
//!
//! A full queue holds the sensor back; what the kernel then cannot hand over, it counts.

use std::{
    collections::VecDeque,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use crate::Observation;

#[derive(Default)]
struct State {
    chunks: VecDeque<(Vec<Observation>, usize)>,
    bytes: usize,
    closed: bool,
}

struct Shared {
    state: Mutex<State>,
    limit: usize,
    filled: Condvar,
    emptied: Condvar,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Puts observations into the queue.
#[derive(Clone)]
pub struct Producer(Arc<Shared>);

/// Takes observations out of the queue. Dropping it closes the queue.
pub struct Consumer(Arc<Shared>);

/// A queue that holds about `limit` bytes.
pub fn bounded(limit: usize) -> (Producer, Consumer) {
    let shared =
        Arc::new(Shared { state: Mutex::default(), limit, filled: Condvar::new(), emptied: Condvar::new() });
    (Producer(Arc::clone(&shared)), Consumer(shared))
}

/// The other side is gone.
#[derive(Debug, PartialEq, Eq)]
pub struct Closed;

impl Producer {
    /// Hands over a chunk whose observations take about `bytes`; waits while the queue is full. A chunk larger than the whole queue passes when
    /// the queue is empty.
    pub fn send(&self, chunk: Vec<Observation>, bytes: usize) -> Result<(), Closed> {
        let mut state = self.0.lock();
        while !state.closed && state.bytes > 0 && state.bytes + bytes > self.0.limit {
            state = self.0.emptied.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        if state.closed {
            return Err(Closed);
        }
        state.bytes += bytes;
        state.chunks.push_back((chunk, bytes));
        drop(state);
        self.0.filled.notify_one();
        Ok(())
    }

    /// Says that nothing more comes.
    pub fn close(&self) {
        self.0.lock().closed = true;
        self.0.filled.notify_all();
        self.0.emptied.notify_all();
    }
}

impl Consumer {
    /// Bytes that wait to be received.
    pub fn waiting(&self) -> usize {
        self.0.lock().bytes
    }

    /// The next chunk; `Ok(None)` when none came in that time; `Err` when the queue is closed and empty.
    pub fn receive(&self, patience: Duration) -> Result<Option<Vec<Observation>>, Closed> {
        let until = Instant::now() + patience;
        let mut state = self.0.lock();
        loop {
            if let Some((chunk, bytes)) = state.chunks.pop_front() {
                state.bytes -= bytes;
                drop(state);
                self.0.emptied.notify_all();
                return Ok(Some(chunk));
            }
            if state.closed {
                return Err(Closed);
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(None);
            }
            state = self.0.filled.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

impl Drop for Consumer {
    fn drop(&mut self) {
        self.0.lock().closed = true;
        self.0.emptied.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one() -> Vec<Observation> {
        vec![Observation::Reached(1)]
    }

    #[test]
    fn a_full_queue_holds_the_producer_back_until_there_is_room() {
        let (producer, consumer) = bounded(100);
        producer.send(one(), 80).unwrap();
        let second = std::thread::spawn(move || producer.send(one(), 80));
        std::thread::sleep(Duration::from_millis(30));
        assert!(!second.is_finished());
        assert!(consumer.receive(Duration::ZERO).unwrap().is_some());
        second.join().unwrap().unwrap();
        assert!(consumer.receive(Duration::ZERO).unwrap().is_some());
        assert_eq!(consumer.receive(Duration::ZERO), Ok(None));
    }

    #[test]
    fn a_chunk_larger_than_the_queue_passes_alone() {
        let (producer, consumer) = bounded(10);
        producer.send(one(), 1000).unwrap();
        assert!(consumer.receive(Duration::ZERO).unwrap().is_some());
    }

    #[test]
    fn what_was_sent_before_the_close_is_still_received() {
        let (producer, consumer) = bounded(10);
        producer.send(one(), 1).unwrap();
        producer.close();
        assert!(consumer.receive(Duration::ZERO).unwrap().is_some());
        assert_eq!(consumer.receive(Duration::ZERO), Err(Closed));
        assert_eq!(producer.send(one(), 1), Err(Closed));
    }
}
