//! Which hosts are heard of, which said goodbye, and which fell silent without a word.
//!
//! A host is judged by this server's clock: when a batch of it came here, or when the store was found to have another one by way of another server. Whether it
//! said goodbye the store says, which is asked of silent hosts only.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use luarm_schema::Time;
use luarm_store::{Presence, QueryError, Reader, Source, State, StoreError, StoreUrl, Trouble};

/// A host that was silent for so long may have said goodbye.
const GOODBYE: Duration = Duration::from_secs(20);
/// Between two questions about a host that stays silent.
const AGAIN: Duration = Duration::from_secs(30);
/// Hosts that are asked about in one round.
const MOST: usize = 256;

/// A host as the server sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sighted {
    /// Its name.
    pub name: String,
    /// For how long nothing of it was stored; since the server's start at the most where nothing of it ever was.
    pub silent: Duration,
    /// How it is.
    pub state: State,
}

/// What is known of one host.
#[derive(Debug)]
struct Known {
    /// When something of it was stored last, as far as it was seen.
    heard: Instant,
    /// Whether that was seen.
    met: bool,
    /// When the store was asked about it last.
    asked: Option<Instant>,
    /// Number of the last batch that the store was found to have.
    batch: i64,
    state: State,
}

/// All hosts that are enrolled, by name.
#[derive(Debug)]
pub(super) struct Hosts {
    patience: Duration,
    /// Nobody can have been heard before: the server started, or its store came back.
    since: Instant,
    known: HashMap<String, Known>,
}

impl Hosts {
    pub(super) fn new(patience: Duration) -> Self {
        Hosts { patience, since: Instant::now(), known: HashMap::new() }
    }

    /// The store is back, and nothing could be stored meanwhile.
    pub(super) fn resume(&mut self) {
        self.since = Instant::now();
    }

    /// Takes in who is enrolled and what was stored here. Gives the hosts that the store is to be asked about.
    pub(super) fn look(&mut self, names: &[String], heard: &HashMap<String, Instant>) -> Vec<String> {
        self.known.retain(|name, _| names.binary_search(name).is_ok());
        let (start, patience) = (self.since, self.patience);
        let mut asked = Vec::new();
        for name in names {
            let fresh = || Known { heard: start, met: false, asked: None, batch: 0, state: State::Live };
            let known = self.known.entry(name.clone()).or_insert_with(fresh);
            if let Some(at) = heard.get(name)
                && *at > known.heard
            {
                known.returned(name, *at);
            }
            let silent = known.heard.elapsed();
            let due = match known.asked {
                None => true,
                Some(at) if at < known.heard => silent >= GOODBYE.min(patience),
                Some(at) => silent >= GOODBYE.min(patience) && at.elapsed() >= AGAIN.min(patience),
            };
            if due {
                asked.push(name.clone());
            }
        }
        // Those that were asked about longest ago come first.
        asked.sort_by_key(|name| self.known.get(name).and_then(|known| known.asked));
        asked.truncate(MOST);
        asked
    }

    /// Takes in what the store says of a host.
    pub(super) fn tell(&mut self, name: &str, presence: Option<Presence>) {
        let now = Instant::now();
        let judged = self.since.elapsed() >= self.patience;
        let Some(known) = self.known.get_mut(name) else { return };
        let before = known.asked.replace(now);
        if let Some(presence) = presence {
            if before.is_none_or(|at| at < known.heard) {
                // What came here since is in that number.
                if before.is_none() && !known.met {
                    // By the host's clock, which may be wrong: never later than what is known.
                    let at = now.checked_sub(presence.silent(Time::now())).unwrap_or(known.heard);
                    known.heard = known.heard.min(at);
                }
            } else if presence.batch > known.batch {
                // Another server stored it.
                known.returned(name, now);
            }
            known.batch = presence.batch.max(known.batch);
            if presence.stopped {
                if known.state != State::Stopped {
                    tracing::info!("{name} has said goodbye: its recorder was stopped");
                }
                known.state = State::Stopped;
                return;
            }
        }
        let silent = known.heard.elapsed();
        if known.state == State::Stopped && silent < self.patience {
            known.state = State::Live;
        }
        if silent >= self.patience && judged && known.state != State::Overdue {
            known.state = State::Overdue;
            tracing::warn!(
                "{name} is overdue: nothing came from it for {} s, and it did not say that it stops",
                silent.as_secs()
            );
        }
    }

    /// How each of them is.
    pub(super) fn sighted(&self, heard: &HashMap<String, Instant>) -> Vec<Sighted> {
        let sighted = |(name, known): (&String, &Known)| {
            let newer = heard.get(name).copied().filter(|at| *at > known.heard);
            Sighted {
                name: name.clone(),
                silent: newer.unwrap_or(known.heard).elapsed(),
                state: if newer.is_some() { State::Live } else { known.state },
            }
        };
        let mut all: Vec<_> = self.known.iter().map(sighted).collect();
        all.sort_by(|a, b| a.name.cmp(&b.name));
        all
    }
}

impl Known {
    /// Something of it was stored.
    fn returned(&mut self, name: &str, at: Instant) {
        match self.state {
            State::Overdue => {
                let silent = at.saturating_duration_since(self.heard).as_secs();
                tracing::warn!("{name} is back, after {silent} s of silence");
            }
            State::Stopped => tracing::info!("{name} is back"),
            State::Live => {}
        }
        (self.heard, self.met) = (at, true);
        self.state = State::Live;
    }
}

/// What a store says of these hosts.
pub(super) fn ask(
    url: &StoreUrl,
    reader: &mut Option<Reader>,
    names: &[String],
) -> Result<Vec<(String, Option<Presence>)>, StoreError> {
    let mut own = match reader.take() {
        Some(own) => own,
        None => Reader::open(url)?,
    };
    let failed = |error: QueryError| match error {
        QueryError::Store(error) => error,
        error => StoreError::Database {
            action: "look for hosts in",
            url: url.clone(),
            trouble: Trouble::Other,
            detail: error.to_string(),
        },
    };
    let hosts = own.hosts().map_err(failed)?;
    let mut told = Vec::with_capacity(names.len());
    for name in names {
        let host = hosts.iter().find(|host| host.name == *name);
        let source: &mut dyn Source = &mut own;
        let presence = host.map(|host| Presence::of(source, host.number)).transpose().map_err(failed)?;
        told.push((name.clone(), presence.flatten()));
    }
    *reader = Some(own);
    Ok(told)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn presence(batch: i64, seconds: i64, stopped: bool) -> Option<Presence> {
        Some(Presence { batch, last_seen: Time(Time::now().0 - seconds * 1_000_000), stopped })
    }

    fn ago(seconds: u64) -> Instant {
        Instant::now().checked_sub(Duration::from_secs(seconds)).unwrap()
    }

    fn states(hosts: &Hosts) -> Vec<(String, State)> {
        hosts.sighted(&HashMap::new()).into_iter().map(|host| (host.name, host.state)).collect()
    }

    #[test]
    fn silence_is_judged_once_the_server_could_have_heard() {
        let names = ["a", "b", "c"].map(str::to_owned);
        let mut hosts = Hosts::new(Duration::from_secs(100));
        let heard = HashMap::new();
        assert_eq!(hosts.look(&names, &heard), names);
        hosts.tell("a", presence(5, 3_000, false));
        hosts.tell("b", presence(5, 3_000, true));
        hosts.tell("c", None);
        let expected =
            |a, c| vec![("a".to_owned(), a), ("b".to_owned(), State::Stopped), ("c".to_owned(), c)];
        // The server has just started: a host may not have found it yet.
        assert_eq!(states(&hosts), expected(State::Live, State::Live));
        let silent: Vec<_> = hosts.sighted(&heard).iter().map(|host| host.silent.as_secs()).collect();
        assert!((3_000..3_100).contains(&silent[0]) && silent[2] < 100, "{silent:?}");
        hosts.since = ago(200);
        hosts.tell("a", presence(5, 3_000, false));
        assert_eq!(states(&hosts), expected(State::Overdue, State::Live));
        // One that never delivered since.
        hosts.known.get_mut("c").unwrap().heard = ago(200);
        hosts.tell("c", None);
        assert_eq!(states(&hosts), expected(State::Overdue, State::Overdue));
        // One comes back to this server, one to another.
        let heard = HashMap::from([("a".to_owned(), Instant::now())]);
        hosts.look(&names, &heard);
        hosts.tell("b", presence(6, 0, false));
        hosts.tell("c", presence(1, 0, false));
        assert!(states(&hosts).iter().all(|(_, state)| *state == State::Live), "{hosts:?}");
        // And one is revoked.
        hosts.look(&names[..2], &heard);
        assert_eq!(states(&hosts).len(), 2);
    }

    #[test]
    fn only_silent_hosts_are_asked_about_and_not_all_at_once() {
        let names: Vec<String> = (0..1000).map(|n| format!("h{n:04}")).collect();
        let mut hosts = Hosts::new(Duration::from_secs(180));
        let mut heard = HashMap::new();
        let mut rounds = 0;
        loop {
            let asked = hosts.look(&names, &heard);
            if asked.is_empty() {
                break;
            }
            assert!(asked.len() <= MOST);
            rounds += 1;
            for name in asked {
                hosts.tell(&name, presence(1, 0, false));
            }
            assert!(rounds < 10);
        }
        assert_eq!(rounds, 4);
        hosts.known.get_mut("h0007").unwrap().heard = ago(25);
        hosts.known.get_mut("h0007").unwrap().asked = Some(ago(26));
        assert_eq!(hosts.look(&names, &heard), ["h0007"]);
        hosts.tell("h0007", presence(1, 25, false));
        assert_eq!(hosts.look(&names, &heard), [""; 0]);
        heard.insert("h0007".to_owned(), Instant::now());
        assert_eq!(hosts.look(&names, &heard), [""; 0]);
    }
}
