//! The polling sensor: looks at /proc and sock_diag again and again, as the prototype did. It needs no privileges and no BPF, and sees what is
//! there when it looks: what lives shorter than a round goes unseen, which its coverage says.
//!
//! A round costs one read per process that did nothing since the one before; more for those that ran, and a reading of all descriptors only
//! when a socket is new.

mod coverage;
mod endpoints;
mod namespaces;
mod outbox;
mod processes;

use std::{
    io,
    path::{Path, PathBuf},
    sync::{Arc, Condvar, Mutex, PoisonError},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use self::{
    coverage::{Sight, coverage},
    endpoints::Endpoints,
    namespaces::NetworkNamespaces,
    outbox::Outbox,
    processes::Processes,
};
use crate::{
    BootNs, Observation, Sensor,
    capability::Duty,
    clock,
    observation::{Coverage, Inventory, Origin},
    proc::Reader,
    queue::{Closed, Producer},
};

/// What may be chosen.
#[derive(Debug, Clone)]
pub struct PollConfig {
    /// Where `proc` is: `/`, or a made-up tree.
    pub root: PathBuf,
    /// From the beginning of a round to that of the next one. A round that takes long is followed by a pause at least as long.
    pub interval: Duration,
}

impl Default for PollConfig {
    fn default() -> Self {
        Self { root: PathBuf::from("/"), interval: Duration::from_millis(300) }
    }
}

/// Why the sensor did not start.
#[derive(Debug, thiserror::Error)]
pub enum PollError {
    /// There is no /proc.
    #[error("cannot open {}: {source}", path.display())]
    Proc {
        /// Where it should be.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// There is no thread to be had.
    #[error("cannot start the polling thread: {0}")]
    Thread(#[source] io::Error),
}

#[derive(Default)]
struct Requests {
    round: bool,
    stop: bool,
}

#[derive(Default)]
struct Shared {
    requests: Mutex<Requests>,
    changed: Condvar,
}

impl Shared {
    fn request(&self, change: impl FnOnce(&mut Requests)) {
        change(&mut self.requests.lock().unwrap_or_else(PoisonError::into_inner));
        self.changed.notify_one();
    }

    /// Waits until a round is due, or asked for; true if it is to be the last one.
    fn wait(&self, pause: Duration) -> bool {
        let requests = self.requests.lock().unwrap_or_else(PoisonError::into_inner);
        let idle = |requests: &mut Requests| !requests.round && !requests.stop;
        let waited = self.changed.wait_timeout_while(requests, pause, idle);
        let mut requests = waited.unwrap_or_else(PoisonError::into_inner).0;
        requests.round = false;
        requests.stop
    }
}

/// The polling sensor at work. Dropping it stops it.
pub struct Poll {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

/// What the sensor would see of each class.
pub fn doctor() -> Result<Vec<Coverage>, PollError> {
    let eyes = Eyes::open(&PollConfig::default().root)?;
    Ok(eyes.coverage())
}

/// Starts it. It tells its coverage, then what is there, then what changes.
pub fn start(config: PollConfig, producer: Producer) -> Result<Poll, PollError> {
    let PollConfig { root, interval } = config;
    let rounds = Rounds {
        eyes: Eyes::open(&root)?,
        processes: Processes::default(),
        endpoints: Endpoints::default(),
        out: Outbox::new(producer),
    };
    let shared = Arc::new(Shared::default());
    let requests = Arc::clone(&shared);
    let thread = thread::Builder::new()
        .name("poll".to_owned())
        .spawn(move || {
            Duty::Polling.settle();
            rounds.run(interval, &requests);
        })
        .map_err(PollError::Thread)?;
    Ok(Poll { shared, thread: Some(thread) })
}

impl Sensor for Poll {
    fn drain(&self) -> BootNs {
        let now = clock::now();
        self.shared.request(|requests| requests.round = true);
        now
    }

    fn stop(self: Box<Self>) {}
}

impl Drop for Poll {
    fn drop(&mut self) {
        self.shared.request(|requests| requests.stop = true);
        if let Some(Err(_)) = self.thread.take().map(JoinHandle::join) {
            tracing::error!("the polling thread panicked");
        }
    }
}

/// What it looks at.
struct Eyes {
    reader: Reader,
    sight: Sight,
    namespaces: NetworkNamespaces,
}

impl Eyes {
    fn open(root: &Path) -> Result<Self, PollError> {
        let reader = Reader::open(root)
            .map_err(|errno| PollError::Proc { path: root.join("proc"), source: errno.into() })?;
        let namespaces = NetworkNamespaces::new(reader.own_namespaces().net);
        Ok(Self { sight: Sight::of(&reader), reader, namespaces })
    }

    fn coverage(&self) -> Vec<Coverage> {
        let error = self.namespaces.error().map(ToString::to_string);
        coverage(&self.sight, error.as_deref())
    }
}

/// What the thread owns.
struct Rounds {
    eyes: Eyes,
    processes: Processes,
    endpoints: Endpoints,
    out: Outbox,
}

impl Rounds {
    fn run(mut self, interval: Duration, shared: &Shared) {
        for class in self.eyes.coverage() {
            self.out.push(Observation::Coverage(class));
        }
        let mut origin = Origin::Found;
        let mut pause = Duration::ZERO;
        loop {
            let last = shared.wait(pause);
            let began = Instant::now();
            if self.round(origin).is_err() || last {
                break;
            }
            origin = Origin::Poll;
            let took = began.elapsed();
            pause = interval.saturating_sub(took).max(took);
        }
        self.out.close();
    }

    fn round(&mut self, origin: Origin) -> Result<(), Closed> {
        let began = clock::now();
        let Eyes { reader, sight, namespaces } = &mut self.eyes;
        match self.processes.look(reader, origin, &mut self.out) {
            Ok(()) if origin == Origin::Found && sight.processes => {
                self.out.push(Observation::Complete(Inventory::Processes));
            }
            Ok(()) => {}
            Err(errno) => tracing::warn!(%errno, "processes were not seen in this round"),
        }
        namespaces.follow(reader, &self.processes.network_namespaces());
        self.endpoints.look(reader, &mut self.processes, namespaces, origin, &mut self.out);
        if origin == Origin::Found && namespaces.error().is_none() {
            self.out.push(Observation::Complete(Inventory::Sockets));
        }
        self.out.push(Observation::Reached(began));
        self.out.flush()
    }
}
