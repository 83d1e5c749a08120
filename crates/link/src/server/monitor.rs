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
    hosts::{self, Hosts, Sighted},
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
    /// The hosts that are enrolled and not revoked, in the order of their names; `None` until the store has said who they are.
    pub hosts: Option<Vec<Sighted>>,
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
struct Store {
    /// Whether the store has said who is enrolled.
    known: bool,
    hosts: Hosts,
    trouble: Option<String>,
    errors: u64,
    /// Since when it is being asked.
    asked: Option<Instant>,
}

impl Store {
    fn new(overdue: Duration) -> Self {
        Store { known: false, hosts: Hosts::new(overdue), trouble: None, errors: 0, asked: None }
    }
}

impl Monitor {
    /// Begins to ask the store now and then.
    pub(super) fn start(
        (tally, refusals, places): (Arc<Tally>, Arc<Refusals>, Arc<Places>),
        url: StoreUrl,
        overdue: Duration,
    ) -> std::io::Result<Arc<Self>> {
        let started = Instant::now();
        let store = Mutex::new(Store::new(overdue));
        let monitor = Arc::new(Monitor { started, tally, refusals, places, store });
        let watched = Arc::downgrade(&monitor);
        thread::Builder::new().name("monitor".to_owned()).spawn(move || watch(&watched, &url))?;
        Ok(monitor)
    }

    fn store(&self) -> std::sync::MutexGuard<'_, Store> {
        self.store.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// When something of each host was stored here last.
    fn heard(&self) -> HashMap<String, Instant> {
        self.tally.heard.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// How it is now. It waits for nobody.
    pub fn vitals(&self) -> Vitals {
        // Taken and given back before the store's state is: whoever stores a batch waits for nobody.
        let heard = self.heard();
        let (hosts, mut trouble, errors) = {
            let store = self.store();
            let late = store.asked.map(|since| since.elapsed()).filter(|waited| *waited > PATIENCE);
            let late = late.map(|waited| format!("no answer for {} s", waited.as_secs()));
            let hosts = store.known.then(|| store.hosts.sighted(&heard));
            (hosts, store.trouble.clone().or(late), store.errors)
        };
        if hosts.is_none() && trouble.is_none() {
            trouble = Some("it was not asked yet".to_owned());
        }
        let refused = self.refusals.totals();
        let failed = refused.iter().find(|(kind, _)| *kind == STORE_FAILED).map_or(0, |(_, count)| *count);
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

/// Asks the store who is enrolled, and about those that are silent, again and again, until nobody monitors any more.
fn watch(watched: &Weak<Monitor>, url: &StoreUrl) {
    let (mut registry, mut reader) = (None, None);
    loop {
        let Some(monitor) = watched.upgrade() else { return };
        monitor.store().asked = Some(Instant::now());
        // Not held while the store is asked, which may take long.
        drop(monitor);
        let asked = match registry.take() {
            Some(registry) => Ok(registry),
            None => Registry::open(url),
        };
        let enrolled = asked.and_then(|mut opened| {
            let names = opened.trusted()?;
            registry = Some(opened);
            Ok(names)
        });
        let answer = enrolled.and_then(|mut names| {
            // The engine's order may be another one.
            names.sort_unstable();
            let Some(monitor) = watched.upgrade() else { return Ok(Vec::new()) };
            let heard = monitor.heard();
            let silent = {
                let mut store = monitor.store();
                store.known = true;
                store.hosts.look(&names, &heard)
            };
            drop(monitor);
            if silent.is_empty() { Ok(Vec::new()) } else { hosts::ask(url, &mut reader, &silent) }
        });
        let Some(monitor) = watched.upgrade() else { return };
        let mut store = monitor.store();
        store.asked = None;
        match answer {
            Ok(told) => {
                if store.trouble.take().is_some() {
                    store.hosts.resume();
                }
                for (name, presence) in told {
                    store.hosts.tell(&name, presence);
                }
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
    use luarm_store::OVERDUE;

    use super::*;

    #[test]
    fn hosts_are_silent_since_their_last_batch_or_since_the_start() {
        let tally = Arc::new(Tally::default());
        let monitor = Monitor {
            started: Instant::now(),
            tally: Arc::clone(&tally),
            refusals: Arc::default(),
            places: Arc::default(),
            store: Mutex::new(Store::new(OVERDUE)),
        };
        assert_eq!(monitor.vitals().hosts, None);
        assert_eq!(monitor.vitals().trouble.as_deref(), Some("it was not asked yet"));
        let names = ["a".to_owned(), "b".to_owned()];
        monitor.store().known = true;
        monitor.store().hosts.look(&names, &HashMap::new());
        thread::sleep(Duration::from_millis(20));
        tally.stored("b", 7, 100);
        tally.stored("b", 1, 20);
        // Of one that is revoked.
        tally.stored("c", 1, 1);
        let vitals = monitor.vitals();
        assert_eq!((vitals.stored, vitals.trouble), ([3, 9, 121], None));
        let hosts = vitals.hosts.unwrap();
        assert_eq!(hosts.iter().map(|host| host.name.as_str()).collect::<Vec<_>>(), ["a", "b"]);
        assert!(hosts[0].silent > hosts[1].silent, "{hosts:?}");
    }
}
