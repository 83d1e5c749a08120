//! Where analysts are answered: how many at once, out of which store, within which limits.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
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
    /// For hosts by name, the store by an account that can only select from that host's views. Analysts who are limited to hosts are answered by these,
    /// so that the engine keeps them to it.
    pub hosts: Vec<(String, StoreUrl)>,
    /// The longest that one question may take, taking the answer included.
    pub time: Duration,
    /// The most rows of one answer.
    pub rows: u64,
    /// How many questions of one analyst may be answered at the same time.
    pub at_once: usize,
    /// Whether questions are answered that cannot be recorded.
    pub unrecorded: bool,
}

impl Default for Answering {
    fn default() -> Self {
        Answering {
            store: None,
            hosts: Vec::new(),
            time: Duration::from_secs(600),
            rows: 50_000_000,
            at_once: 4,
            unrecorded: false,
        }
    }
}

/// Who is answered.
#[derive(Debug)]
pub(super) struct Desk {
    store: StoreUrl,
    pub(super) limits: Answering,
    taken: Mutex<HashMap<String, usize>>,
    asked: AtomicU64,
    /// Whether it was said that the server's own account answers.
    warned: AtomicBool,
}

/// What an analyst may see.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Sight {
    /// The whole store.
    All(StoreUrl),
    /// Hosts by name, each by an account of its own.
    Hosts(Vec<(String, StoreUrl)>),
}

/// The right to one question, given back when it is dropped.
#[derive(Debug)]
pub(super) struct Place {
    desk: Arc<Desk>,
    analyst: String,
    /// Number of the question, for the log.
    pub(super) number: u64,
    /// What the answer may be out of.
    pub(super) sight: Sight,
}

impl Desk {
    pub(super) fn new(store: &StoreUrl, limits: Answering) -> Self {
        let store = limits.store.clone().unwrap_or_else(|| store.clone());
        Desk {
            store,
            limits,
            taken: Mutex::default(),
            asked: AtomicU64::new(0),
            warned: AtomicBool::new(false),
        }
    }

    fn sight(&self, analyst: &str, scope: &Scope) -> Result<Sight, Refusal> {
        let hosts = match scope {
            Scope::All => {
                let own = self.limits.store.is_none() && !matches!(self.store, StoreUrl::Sqlite(_));
                if own && !self.warned.swap(true, Relaxed) {
                    tracing::warn!(
                        "analysts are answered by the server's own account, in transactions that only read; --read-store names one that can only select"
                    );
                }
                return Ok(Sight::All(self.store.clone()));
            }
            Scope::Hosts(hosts) => hosts,
        };
        let known = |host: &String| self.limits.hosts.iter().find(|(name, _)| name == host).cloned();
        let sight: Vec<_> = hosts.iter().filter_map(known).collect();
        if sight.is_empty() {
            let hosts = if hosts.is_empty() { "nothing".to_owned() } else { hosts.join(", ") };
            let message = format!(
                "{analyst} may see {hosts} only, and this server has no account that sees no more (luarm server --host-store HOST=URL)"
            );
            return Err(Refusal::new("limited", Code::PermissionDenied, message));
        }
        Ok(Sight::Hosts(sight))
    }

    /// A place for one question of an analyst, if there is one, and he may ask here.
    pub(super) fn enter(self: &Arc<Self>, analyst: &str, scope: &Scope) -> Result<Place, Refusal> {
        let sight = self.sight(analyst, scope)?;
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
        Ok(Place { desk: Arc::clone(self), analyst: analyst.to_owned(), number, sight })
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
    fn who_is_limited_to_hosts_is_answered_by_their_accounts_alone() {
        let store = |name: &str| StoreUrl::Mysql(format!("mysql://{name}@db/audit"));
        let hosts = ["penguin", "puffin"].map(|name| (name.to_owned(), store(name)));
        let limits = Answering { hosts: hosts.to_vec(), ..Answering::default() };
        let desk = Arc::new(Desk::new(&store("server"), limits));
        let sight = |hosts: &[&str]| {
            let hosts = hosts.iter().map(ToString::to_string).collect();
            desk.enter("a", &Scope::Hosts(hosts)).map(|place| place.sight.clone())
        };
        assert_eq!(sight(&["puffin", "other"]).unwrap(), Sight::Hosts(vec![hosts[1].clone()]));
        assert_eq!(sight(&["penguin", "puffin"]).unwrap(), Sight::Hosts(hosts.to_vec()));
        for hosts in [&[][..], &["other"], &["*"], &["PENGUIN"]] {
            assert_eq!(sight(hosts).unwrap_err().code, Code::PermissionDenied, "{hosts:?}");
        }
        assert_eq!(desk.enter("a", &Scope::All).unwrap().sight, Sight::All(store("server")));
    }
}
