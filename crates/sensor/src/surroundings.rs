//! The surroundings of processes: interfaces, routes, devices, accounts, logins. Each kind is a [`Watcher`]; one thread serves them all, beside the
//! sensor that watches processes.
//!
//! Whatever it takes, the thread sleeps until the kernel tells of a change: a watcher gives a descriptor that becomes readable then.

mod accounts;
mod describe;
mod devices;
mod directories;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzing;
mod hardware;
pub mod host;
mod hwdata;
mod logins;
mod mounts;
pub mod network;
mod sysfs;
mod uevent;
pub mod utmp;

use std::{
    os::fd::{BorrowedFd, OwnedFd},
    path::Path,
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};

use crate::{
    clock,
    condition::Condition,
    observation::{Coverage, Observation, Watch},
    queue::{Closed, Producer},
};

/// How long a drain waits for the watchers: they have little to do, and whoever asks is told of a timeout by then anyway.
const PATIENCE: Duration = Duration::from_secs(5);

/// How many observations are handed over at once.
const CHUNK: usize = 1024;

/// What tells of one kind of conditions.
pub trait Watcher: Send {
    /// The class that it watches, and how.
    fn coverage(&self) -> Vec<Coverage>;

    /// What becomes readable when something changed.
    fn descriptors(&self) -> Vec<BorrowedFd<'_>>;

    /// How long it may sleep at the most, where it has to look by itself now and then.
    fn patience(&self) -> Option<Duration> {
        None
    }

    /// Tells of everything that is there, and that this is complete.
    fn inventory(&mut self, out: &mut Vec<Observation>);

    /// Tells of what changed since. Called when a descriptor is readable, when its patience is over, and when somebody asks.
    fn changes(&mut self, out: &mut Vec<Observation>);

    /// Whether there is more of what had happened when [`changes`](Self::changes) was called, which it left for another call so as not to tell
    /// too much at once.
    fn is_behind(&self) -> bool {
        false
    }

    /// Tells of what it holds back because more of it may come: somebody asks, or the end is near. Called after `changes`.
    fn flush(&mut self, _out: &mut Vec<Observation>) {}
}

/// The running thread.
pub struct Surroundings {
    thread: Option<JoinHandle<()>>,
    shared: Arc<Shared>,
}

struct Shared {
    wake: OwnedFd,
    stopping: AtomicBool,
    /// How many drains were asked for, and how many are done.
    drains: Mutex<(u64, u64)>,
    drained: Condvar,
}

impl Shared {
    fn drains(&self) -> MutexGuard<'_, (u64, u64)> {
        self.drains.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wake(&self) {
        // The counter cannot overflow in practice, and a full one is awake already.
        let _ = rustix::io::write(&self.wake, &1u64.to_ne_bytes());
    }
}

/// Every watcher that this host can have; what cannot be watched is said as [`Coverage`].
pub fn watchers() -> (Vec<Box<dyn Watcher>>, Vec<Coverage>) {
    let root = Path::new("/");
    let mut watchers: Vec<Box<dyn Watcher>> =
        vec![Box::new(accounts::Accounts::new(root)), Box::new(logins::Logins::new(root))];
    let mut unwatched = Vec::new();
    match network::Network::open() {
        Ok(network) => watchers.push(Box::new(network)),
        Err(coverage) => unwatched.extend(coverage),
    }
    match host::Host::open(root) {
        Ok(host) => watchers.push(Box::new(host)),
        Err(coverage) => unwatched.extend(coverage),
    }
    match hardware::Hardware::open(root) {
        Ok(hardware) => watchers.push(Box::new(hardware)),
        Err(error) => unwatched.extend(["hardware", "mounts"].map(|class| missing(class, &error))),
    }
    (watchers, unwatched)
}

/// What of the surroundings would be watched here and by what, and what not and why: opens every source for a moment.
pub fn doctor() -> Vec<Coverage> {
    let (watchers, unwatched) = watchers();
    watchers.iter().flat_map(|watcher| watcher.coverage()).chain(unwatched).collect()
}

/// What is said of a class whose watcher could not be had.
fn missing(class: &'static str, error: &std::io::Error) -> Coverage {
    let reason = Some(error.to_string());
    Coverage { class, watch: Watch::Unwatched, sensor: "none", hook: String::new(), reason }
}

/// Starts the thread: reports what is there, and from then on what changes.
pub fn start(
    watchers: Vec<Box<dyn Watcher>>,
    unwatched: Vec<Coverage>,
    producer: Producer,
) -> std::io::Result<Surroundings> {
    let wake = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
    let shared = Arc::new(Shared {
        wake,
        stopping: AtomicBool::new(false),
        drains: Mutex::default(),
        drained: Condvar::new(),
    });
    let inside = Arc::clone(&shared);
    let thread = thread::Builder::new()
        .name("surroundings".to_owned())
        .spawn(move || run(watchers, unwatched, &inside, &producer))?;
    Ok(Surroundings { thread: Some(thread), shared })
}

impl Surroundings {
    /// Delivers what changed before now, and returns once it is in the queue.
    pub fn drain(&self) {
        let mut drains = self.shared.drains();
        drains.0 += 1;
        let wanted = drains.0;
        self.shared.wake();
        let late = |(_, done): &mut (u64, u64)| *done < wanted;
        drop(self.shared.drained.wait_timeout_while(drains, PATIENCE, late));
    }

    /// Delivers what changed before now, and ends.
    pub fn stop(mut self) {
        self.shared.stopping.store(true, Ordering::Release);
        self.shared.wake();
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the thread that watches the surroundings ended in a panic");
        }
    }
}

fn run(mut watchers: Vec<Box<dyn Watcher>>, unwatched: Vec<Coverage>, shared: &Shared, producer: &Producer) {
    let mut out: Vec<Observation> = unwatched.into_iter().map(Observation::Coverage).collect();
    for watcher in &mut watchers {
        out.extend(watcher.coverage().into_iter().map(Observation::Coverage));
        watcher.inventory(&mut out);
    }
    loop {
        let stop = shared.stopping.load(Ordering::Acquire);
        let _ = rustix::io::read(&shared.wake, &mut [0u8; 8]);
        let (asked, done) = *shared.drains();
        let closed = loop {
            for watcher in &mut watchers {
                watcher.changes(&mut out);
                if stop || asked > done {
                    watcher.flush(&mut out);
                }
            }
            let closed = send(&mut out, producer).is_err();
            if closed || !watchers.iter().any(|watcher| watcher.is_behind()) {
                break closed;
            }
        };
        shared.drains().1 = asked;
        shared.drained.notify_all();
        if stop || closed {
            return;
        }
        sleep(&watchers, shared);
    }
}

/// Hands over what was told, a part at a time: a file of many users is more than the queue is to hold at once.
fn send(out: &mut Vec<Observation>, producer: &Producer) -> Result<(), Closed> {
    let mut all = std::mem::take(out).into_iter();
    loop {
        let chunk: Vec<Observation> = all.by_ref().take(CHUNK).collect();
        if chunk.is_empty() {
            return Ok(());
        }
        let bytes = chunk.iter().map(weight).sum();
        producer.send(chunk, bytes)?;
    }
}

/// Sleeps until something changed, a watcher wants to look, or somebody asks.
fn sleep(watchers: &[Box<dyn Watcher>], shared: &Shared) {
    let patience = watchers.iter().filter_map(|w| w.patience()).min();
    let timeout = patience.map(|p| Timespec {
        tv_sec: i64::try_from(p.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: p.subsec_nanos().into(),
    });
    let mut fds = vec![PollFd::new(&shared.wake, PollFlags::IN)];
    let descriptors: Vec<BorrowedFd<'_>> = watchers.iter().flat_map(|w| w.descriptors()).collect();
    fds.extend(descriptors.iter().map(|fd| PollFd::new(fd, PollFlags::IN)));
    let _ = poll(&mut fds, timeout.as_ref());
}

/// About how much memory an observation takes while it waits.
fn weight(observation: &Observation) -> usize {
    const BASE: usize = 384;
    match observation {
        Observation::Condition { condition, .. } => match &**condition {
            Condition::User(user) => BASE + user.gecos.len() + user.home.len() + user.shell.len(),
            Condition::Group(group) => BASE + group.members.len(),
            _ => BASE,
        },
        _ => BASE,
    }
}

/// A condition that began or changed now.
pub fn begun(condition: Condition, origin: crate::observation::Origin) -> Observation {
    Observation::Condition { at: clock::now(), condition: Box::new(condition), origin }
}

/// A condition that ended now.
pub fn ended(condition: Condition) -> Observation {
    Observation::ConditionEnd { at: clock::now(), condition: Box::new(condition) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{observation::Loss, queue};

    /// Counts the bytes that came through a pipe.
    struct Pipe(OwnedFd);

    impl Watcher for Pipe {
        fn coverage(&self) -> Vec<Coverage> {
            let hook = "pipe".to_owned();
            vec![Coverage { class: "pipe", watch: Watch::Watched, sensor: "test", hook, reason: None }]
        }

        fn descriptors(&self) -> Vec<BorrowedFd<'_>> {
            use std::os::fd::AsFd;
            vec![self.0.as_fd()]
        }

        fn inventory(&mut self, _: &mut Vec<Observation>) {}

        fn changes(&mut self, out: &mut Vec<Observation>) {
            while let Ok(count @ 1..) = rustix::io::read(&self.0, &mut [0u8; 64]) {
                let count = count as u64;
                out.push(Observation::Loss(Loss { class: "pipe", cause: "test", count, from: 0, until: 0 }));
            }
        }
    }

    fn count(chunks: impl IntoIterator<Item = Observation>) -> u64 {
        let counts = chunks.into_iter().map(|o| if let Observation::Loss(loss) = o { loss.count } else { 0 });
        counts.sum()
    }

    #[test]
    fn what_happened_before_a_drain_is_in_the_queue_after_it() {
        let (reader, writer) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::NONBLOCK).unwrap();
        let (producer, consumer) = queue::bounded(1 << 20);
        let surroundings = start(vec![Box::new(Pipe(reader))], Vec::new(), producer).unwrap();
        let mut seen = 0;
        for n in 1..=100u64 {
            rustix::io::write(&writer, b"x").unwrap();
            surroundings.drain();
            while let Ok(Some(chunk)) = consumer.receive(Duration::ZERO) {
                seen += count(chunk);
            }
            assert_eq!(seen, n);
        }
        rustix::io::write(&writer, b"x").unwrap();
        surroundings.stop();
        assert_eq!(count(consumer.receive(Duration::ZERO).unwrap().unwrap()), 1);
    }
}
