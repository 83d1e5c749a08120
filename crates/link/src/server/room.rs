//! Memory for batches that are unpacked and wait for the store.

use std::sync::{Condvar, Mutex, PoisonError};

/// What all of them may take, bytes: several of those that an agent makes when it has much to tell, and 32 of the usual ones.
const ALL: usize = 192 << 20;
/// What each takes at least, so that of the server's threads that may block most are left for other calls.
const LEAST: usize = ALL / 32;

/// How much is left.
pub(super) struct Room {
    left: Mutex<usize>,
    given_back: Condvar,
    /// Held by the one who waits: who needs much must not wait while others who need little pass.
    turn: Mutex<()>,
}

/// What a batch has taken, until it is dropped.
pub(super) struct Taken<'a> {
    room: &'a Room,
    bytes: usize,
}

impl Room {
    pub(super) fn new() -> Self {
        Room { left: Mutex::new(ALL), given_back: Condvar::new(), turn: Mutex::new(()) }
    }

    /// Waits until so many bytes are left, or all of them for whoever needs more.
    pub(super) fn take(&self, bytes: usize) -> Taken<'_> {
        let bytes = bytes.clamp(LEAST, ALL);
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let left = self.left.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.given_back.wait_while(left, |left| *left < bytes);
        *waited.unwrap_or_else(PoisonError::into_inner) -= bytes;
        Taken { room: self, bytes }
    }
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        *self.room.left.lock().unwrap_or_else(PoisonError::into_inner) += self.bytes;
        self.room.given_back.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::mpsc, thread};

    use super::*;

    #[test]
    fn who_needs_more_than_is_left_waits_and_nobody_passes() {
        let room = Room::new();
        let (large, small) = (room.take(ALL - LEAST), room.take(0));
        let (said, heard) = mpsc::channel();
        thread::scope(|scope| {
            let waiting = (said.clone(), &room);
            scope.spawn(move || {
                let _all = waiting.1.take(usize::MAX);
                waiting.0.send("all").unwrap();
            });
            // Its turn is taken as soon as it waits.
            while room.turn.try_lock().is_ok() {
                thread::yield_now();
            }
            scope.spawn(|| {
                let _little = room.take(1);
                said.send("little").unwrap();
            });
            drop(small);
            assert!(heard.try_recv().is_err());
            drop(large);
            assert_eq!([heard.recv().unwrap(), heard.recv().unwrap()], ["all", "little"]);
        });
        assert_eq!(*room.left.lock().unwrap(), ALL);
    }
}
