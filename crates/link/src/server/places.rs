//! Places for connections: a few of each kind, and who comes when all are taken takes the place of the one who has been there longest.
//!
//! Refusing the newcomer instead would let whoever opens idle connections keep everybody else out for as long as he likes; this way he has to be
//! quicker than those who mean it.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, PoisonError},
};

use tokio::sync::oneshot;

/// Whose places.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Kind {
    /// Whoever has not finished its handshake.
    Handshake,
    /// Whoever has no certificate.
    Stranger,
    /// The host with the certificate of that fingerprint.
    Host(String),
    /// The analyst with the certificate of that fingerprint, who may have several consoles.
    Analyst(String),
}

impl Kind {
    fn limit(&self) -> usize {
        match self {
            Kind::Handshake => 512,
            Kind::Stranger => 64,
            Kind::Host(_) => 4,
            Kind::Analyst(_) => 32,
        }
    }
}

/// Who has which place.
#[derive(Debug, Default)]
pub(super) struct Places(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    next: u64,
    taken: HashMap<Kind, VecDeque<(u64, oneshot::Sender<()>)>>,
}

/// A place, given back when it is dropped.
#[derive(Debug)]
pub(super) struct Place {
    places: Arc<Places>,
    kind: Kind,
    number: u64,
}

impl Places {
    /// How many places of each kind are taken: handshakes, strangers, hosts, analysts.
    pub(super) fn taken(&self) -> [usize; 4] {
        let state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut taken = [0; 4];
        for (kind, places) in &state.taken {
            let n = match kind {
                Kind::Handshake => 0,
                Kind::Stranger => 1,
                Kind::Host(_) => 2,
                Kind::Analyst(_) => 3,
            };
            taken[n] += places.len();
        }
        taken
    }

    /// Takes a place. What is received, or the end of it, says that somebody else has it now.
    pub(super) fn take(self: &Arc<Self>, kind: Kind) -> (Place, oneshot::Receiver<()>) {
        let (sender, receiver) = oneshot::channel();
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let number = state.next;
        state.next += 1;
        let taken = state.taken.entry(kind.clone()).or_default();
        taken.push_back((number, sender));
        if taken.len() > kind.limit() {
            taken.pop_front();
        }
        (Place { places: Arc::clone(self), kind, number }, receiver)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut state = self.places.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(taken) = state.taken.get_mut(&self.kind) {
            taken.retain(|(number, _)| *number != self.number);
            if taken.is_empty() {
                state.taken.remove(&self.kind);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_makes_room_and_others_are_not_touched() {
        let places = Arc::new(Places::default());
        let host = |name: &str| Kind::Host(name.to_owned());
        let mut other = places.take(host("b"));
        let mut taken: Vec<_> = (0..5).map(|_| places.take(host("a"))).collect();
        let gone: Vec<bool> = taken
            .iter_mut()
            .map(|(_, cut)| cut.try_recv() == Err(oneshot::error::TryRecvError::Closed))
            .collect();
        assert_eq!(gone, [true, false, false, false, false]);
        assert_eq!(places.taken(), [0, 0, 5, 0]);
        drop(taken.remove(1));
        let _next = places.take(host("a"));
        assert_eq!(taken[1].1.try_recv(), Err(oneshot::error::TryRecvError::Empty));
        assert_eq!(other.1.try_recv(), Err(oneshot::error::TryRecvError::Empty));
        drop((taken, other, _next));
        assert!(places.0.lock().unwrap().taken.is_empty());
    }
}
