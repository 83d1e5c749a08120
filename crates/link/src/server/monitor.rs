//! What a server tells of itself to whoever monitors it.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError, Weak,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    thread,
    time::{Duration, Instant},
};

use luarm_store::{Registry, StoreUrl};

use super::{
    places::Places,
    refusal::{Refusals, STORE_FAILED},
};

/// Hosts whose last batch is remembered; as many can be enrolled only by as many tokens.
const MOST_HOSTS: usize = 65_536;
/// Between two questions to the store.
const ROUND: Duration = Duration::from_secs(5);
/// A store that takes longer for an answer does not answer.
const PATIENCE: Duration = Duration::from_secs(20);

/// What was stored since the start.
#[derive(Debug, Default)]
pub(super) struct Tally {
    batches: AtomicU64,
    rows: AtomicU64,
    bytes: AtomicU64,
    restarts: AtomicU64,
    heard: Mutex<HashMap<String, Instant>>,
}

impl Tally {
    /// A chain began anew.
    pub(super) fn restarted(&self) {
        self.restarts.fetch_add(1, Relaxed);
    }

    /// A batch of that host is in the store.
    pub(super) fn stored(&self, host: &str, rows: usize, bytes: usize) {
        self.batches.fetch_add(1, Relaxed);
        self.rows.fetch_add(rows as u64, Relaxed);
        self.bytes.fetch_add(bytes as u64, Relaxed);
        let now = Instant::now();
        let mut heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(at) = heard.get_mut(host) {
            *at = now;
        } else if heard.len() < MOST_HOSTS {
            heard.insert(host.to_owned(), now);
        }
    }
}

/// How a server is, as far as it knows without asking anybody.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Vitals {
    /// Since it started.
    pub uptime: Duration,
    /// Open connections: unfinished handshakes, strangers, hosts, analysts.
    pub connections: [usize; 4],
    /// Batches that it took into the store, rows in them, and bytes as they came.
    pub stored: [u64; 3],
    /// How often the chain of a host began anew.
    pub restarts: u64,
    /// What it refused, by kind.
    pub refused: Vec<(&'static str, u64)>,
    /// How often the store failed.
    pub store_errors: u64,
    /// The hosts that are enrolled and not revoked, in order, with the time since a batch of theirs was stored here, or since the start;
    /// `None` until the store has said who they are.
    pub hosts: Option<Vec<(String, Duration)>>,
    /// Why the store does not answer.
    pub trouble: Option<String>,
}

/// Watches over a server, for as long as it lives.
pub struct Monitor {
    started: Instant,
    tally: Arc<Tally>,
    refusals: Arc<Refusals>,
    places: Arc<Places>,
    store: Mutex<Store>,
}

/// What the store said last.
#[derive(Default)]
struct Store {
    hosts: Option<Vec<String>>,
    trouble: Option<String>,
    errors: u64,
    /// Since when it is being asked.
    asked: Option<Instant>,
}

impl Monitor {
    /// Begins to ask the store now and then.
    pub(super) fn start(
        (tally, refusals, places): (Arc<Tally>, Arc<Refusals>, Arc<Places>),
        url: StoreUrl,
    ) -> std::io::Result<Arc<Self>> {
        let started = Instant::now();
        let store = Mutex::new(Store::default());
        let monitor = Arc::new(Monitor { started, tally, refusals, places, store });
        let watched = Arc::downgrade(&monitor);
        thread::Builder::new().name("monitor".to_owned()).spawn(move || watch(&watched, &url))?;
        Ok(monitor)
    }

    fn store(&self) -> std::sync::MutexGuard<'_, Store> {
        self.store.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How it is now. It waits for nobody.
    pub fn vitals(&self) -> Vitals {
        let now = Instant::now();
        let (hosts, mut trouble, errors) = {
            let store = self.store();
            let late = store.asked.map(|since| since.elapsed()).filter(|waited| *waited > PATIENCE);
            let late = late.map(|waited| format!("no answer for {} s", waited.as_secs()));
            (store.hosts.clone(), store.trouble.clone().or(late), store.errors)
        };
        if hosts.is_none() && trouble.is_none() {
            trouble = Some("it was not asked yet".to_owned());
        }
        let refused = self.refusals.totals();
        let failed = refused.iter().find(|(kind, _)| *kind == STORE_FAILED).map_or(0, |(_, count)| *count);
        let heard = self.tally.heard.lock().unwrap_or_else(PoisonError::into_inner);
        let silent =
            |host: &String| now.saturating_duration_since(heard.get(host).map_or(self.started, |at| *at));
        let hosts = hosts.map(|hosts| hosts.into_iter().map(|host| (host.clone(), silent(&host))).collect());
        drop(heard);
        Vitals {
            uptime: self.started.elapsed(),
            connections: self.places.taken(),
            stored: [&self.tally.batches, &self.tally.rows, &self.tally.bytes].map(|n| n.load(Relaxed)),
            restarts: self.tally.restarts.load(Relaxed),
            refused,
            store_errors: failed + errors,
            hosts,
            trouble,
        }
    }
}

impl std::fmt::Debug for Monitor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Monitor").field("tally", &self.tally).finish_non_exhaustive()
    }
}

/// Asks the store who is enrolled, again and again, until nobody monitors any more.
fn watch(watched: &Weak<Monitor>, url: &StoreUrl) {
    let mut registry = None;
    loop {
        let Some(monitor) = watched.upgrade() else { return };
        monitor.store().asked = Some(Instant::now());
        // Not held while the store is asked, which may take long.
        drop(monitor);
        let asked = match registry.take() {
            Some(registry) => Ok(registry),
            None => Registry::open(url),
        };
        let answer = asked.and_then(|mut opened| {
            let hosts = opened.trusted()?;
            registry = Some(opened);
            Ok(hosts)
        });
        let Some(monitor) = watched.upgrade() else { return };
        let mut store = monitor.store();
        store.asked = None;
        match answer {
            Ok(hosts) => {
                store.hosts = Some(hosts);
                store.trouble = None;
            }
            Err(error) => {
                store.errors += 1;
                store.trouble = Some(error.to_string());
            }
        }
        drop(store);
        drop(monitor);
        thread::sleep(ROUND);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_silent_since_their_last_batch_or_since_the_start() {
        let tally = Arc::new(Tally::default());
        let monitor = Monitor {
            started: Instant::now().checked_sub(Duration::from_secs(100)).unwrap(),
            tally: Arc::clone(&tally),
            refusals: Arc::default(),
            places: Arc::default(),
            store: Mutex::default(),
        };
        assert_eq!(monitor.vitals().hosts, None);
        assert_eq!(monitor.vitals().trouble.as_deref(), Some("it was not asked yet"));
        monitor.store().hosts = Some(vec!["a".to_owned(), "b".to_owned()]);
        tally.stored("b", 7, 100);
        tally.stored("b", 1, 20);
        // Of one that is revoked.
        tally.stored("c", 1, 1);
        let vitals = monitor.vitals();
        assert_eq!((vitals.stored, vitals.trouble), ([3, 9, 121], None));
        let hosts = vitals.hosts.unwrap();
        let silent: Vec<_> =
            hosts.iter().map(|(host, silent)| (host.as_str(), silent.as_secs() >= 100)).collect();
        assert_eq!(silent, [("a", true), ("b", false)]);
    }
}
