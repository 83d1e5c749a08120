//! Where analysts are answered: how many at once, out of which store, within which limits.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use luarm_store::{Scope, StoreUrl};
use tonic::Code;

use super::refusal::Refusal;

/// Questions that are answered at the same time, of all analysts together. Each takes a thread, a connection to the store, and at most four times the
/// longest row of memory, beside what the store's client takes.
const MOST: usize = 16;

/// How analysts are answered.
#[derive(Debug, Clone)]
pub struct Answering {
    /// The store as it is read for them; best by an account that can only select. Without it by the server's own account, in transactions that only read.
    pub store: Option<StoreUrl>,
    /// The longest that one question may take, taking the answer included.
    pub time: Duration,
    /// The most rows of one answer.
    pub rows: u64,
    /// How many questions of one analyst may be answered at the same time.
    pub at_once: usize,
}

impl Default for Answering {
    fn default() -> Self {
        Answering { store: None, time: Duration::from_secs(600), rows: 50_000_000, at_once: 4 }
    }
}

/// Who is answered.
#[derive(Debug)]
pub(super) struct Desk {
    pub(super) store: StoreUrl,
    pub(super) limits: Answering,
    taken: Mutex<HashMap<String, usize>>,
    asked: AtomicU64,
}

/// The right to one question, given back when it is dropped.
#[derive(Debug)]
pub(super) struct Place {
    desk: Arc<Desk>,
    analyst: String,
    /// Number of the question, for the log.
    pub(super) number: u64,
}

impl Desk {
    pub(super) fn new(store: &StoreUrl, limits: Answering) -> Self {
        let store = limits.store.clone().unwrap_or_else(|| store.clone());
        Desk { store, limits, taken: Mutex::default(), asked: AtomicU64::new(0) }
    }

    /// A place for one question of an analyst, if there is one, and he may ask here.
    pub(super) fn enter(self: &Arc<Self>, analyst: &str, scope: &Scope) -> Result<Place, Refusal> {
        if let Scope::Hosts(hosts) = scope {
            let message = format!(
                "{analyst} may see {} only, and this server cannot keep him to that: give him a database account of his own (luarm server grant), or a token without --host",
                if hosts.is_empty() { "nothing".to_owned() } else { hosts.join(", ") }
            );
            return Err(Refusal::new("limited", Code::PermissionDenied, message));
        }
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let full = |what: String| {
            let message =
                format!("{what} are being answered, which is the most at once: wait for one of them");
            Err(Refusal::new("questions", Code::ResourceExhausted, message))
        };
        if taken.values().sum::<usize>() >= MOST {
            return full(format!("{MOST} questions"));
        }
        let own = taken.entry(analyst.to_owned()).or_default();
        if *own >= self.limits.at_once {
            return full(format!("{} questions of {analyst}", self.limits.at_once));
        }
        *own += 1;
        let number = self.asked.fetch_add(1, Relaxed) + 1;
        Ok(Place { desk: Arc::clone(self), analyst: analyst.to_owned(), number })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.desk.taken.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(own) = taken.get_mut(&self.analyst) {
            *own -= 1;
            if *own == 0 {
                taken.remove(&self.analyst);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_analyst_has_some_places_and_all_together_have_more() {
        let desk = Arc::new(Desk::new(&StoreUrl::Sqlite("x".into()), Answering::default()));
        let enter = |name: &str| desk.enter(name, &Scope::All);
        let mut places: Vec<Place> = (0..4).map(|_| enter("a").unwrap()).collect();
        assert!(enter("a").unwrap_err().message.contains("4 questions of a"));
        places.extend((0..12).map(|n| enter(&format!("other {}", n / 4)).unwrap()));
        assert!(enter("b").unwrap_err().message.contains("16 questions"));
        places.remove(0);
        let again = enter("a").unwrap();
        assert_eq!(again.number, 17);
        drop((places, again));
        assert!(desk.taken.lock().unwrap().is_empty());
    }

    #[test]
    fn who_is_limited_to_hosts_is_not_answered() {
        let desk = Arc::new(Desk::new(&StoreUrl::Sqlite("x".into()), Answering::default()));
        for hosts in [vec![], vec!["penguin".to_owned()]] {
            assert_eq!(desk.enter("a", &Scope::Hosts(hosts)).unwrap_err().code, Code::PermissionDenied);
        }
    }
}
