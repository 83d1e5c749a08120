//! Looks at paths in which others may have a hand, so that whoever asks never waits longer than its patience.
//!
//! What a path leads to may be on a file system for which a process or a server answers, or does not. Not even `RESOLVE_CACHED` helps against that: where kernel
//! audit has rules, each walk ends with the question for the file's capabilities (`audit_copy_inode`). So a path is walked here and now only as far as it
//! stays on the root's own mount (`RESOLVE_NO_XDEV`), behind which nobody else can be; the rest is left to a thread of its own. If that has not come back when patience
//! ends, it is given up: it ends by itself when the kernel lets it, and whatever it opened is closed there.

use std::{
    collections::HashSet,
    ffi::OsStr,
    fs::File,
    os::{fd::OwnedFd, unix::ffi::OsStrExt},
    path::Path,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
        mpsc::{self, RecvTimeoutError},
    },
    thread,
    time::{Duration, Instant},
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    fs::{AtFlags, CWD, Mode, OFlags, ResolveFlags, Statx, StatxFlags, openat2, statx},
    io::Errno,
};

use crate::{
    capability::Duty,
    digest::{MOUNTS, Mounts},
};

/// Threads at a time, with those that were given up; beyond, nothing is looked up that might have to be waited for.
const THREADS: usize = 8;
/// Their stacks: they make a few system calls.
const STACK: usize = 128 << 10;

type Question = Box<dyn FnOnce() + Send>;

/// Looks things up for one thread.
#[derive(Debug)]
pub(crate) struct Lookups {
    duty: Duty,
    patience: Duration,
    rest: Duration,
    threads: Arc<AtomicUsize>,
    asked: Arc<Mutex<HashSet<Vec<u8>>>>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    worker: Option<mpsc::Sender<Question>>,
    /// Nothing is asked before.
    resting: Option<Instant>,
    mounts: Option<Watched>,
}

impl Lookups {
    /// What may be looked up is what `duty` lets, of what the thread has that asks first. An answer is waited for as long as `patience`; after one that did not come, nothing is asked for as long as `rest`: the share of its time that somebody can
    /// cost the thread that asks is `patience / (patience + rest)`.
    pub(crate) fn new(duty: Duty, patience: Duration, rest: Duration) -> Self {
        Self { duty, patience, rest, threads: Arc::default(), asked: Arc::default(), state: Mutex::default() }
    }

    /// For a thread that others wait for: a twentieth of its time at most.
    pub(crate) fn brief(duty: Duty) -> Self {
        let patience = Duration::from_millis(100);
        Self::new(duty, patience, 20 * patience)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Opens a path for looking at it (`O_PATH`), and gives what `take` makes of it and its facts. `take` may run in the other thread, and should hand back what
    /// it opened only if its file system is the kernel's own: even to close it may take an answer.
    ///
    /// [`Errno::REMOTE`] for what is on a mount of somebody else's by its letters, [`Errno::TIMEDOUT`] for what was not found out in time.
    pub(crate) fn look<T: Send + 'static>(
        &self,
        path: &[u8],
        flags: OFlags,
        resolve: ResolveFlags,
        take: impl FnOnce(OwnedFd, &Statx) -> T + Send + 'static,
    ) -> Result<T, Errno> {
        // Of what is cached nobody is asked on the way.
        let alone = resolve.contains(ResolveFlags::CACHED);
        if !alone && self.is_remote(path) {
            return Err(Errno::REMOTE);
        }
        if self.starts_at_home(path) {
            match find(path, flags, resolve | ResolveFlags::NO_XDEV) {
                // What crosses a mount is told so; or, if it has to be cached, as if it were not.
                Err(Errno::XDEV | Errno::AGAIN) => {}
                found => return found.map(|(file, facts)| take(file, &facts)),
            }
        }
        if alone && self.is_remote(path) {
            return Err(Errno::REMOTE);
        }
        let name = path.to_owned();
        self.ask(path, move || find(&name, flags, resolve).map(|(file, facts)| take(file, &facts)))?
    }

    /// Has the other thread answer a question about what has that name. While one about it is not answered there is no other.
    pub(crate) fn ask<T: Send + 'static>(
        &self,
        name: &[u8],
        question: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Errno> {
        let mut state = self.lock();
        if state.resting.is_some_and(|until| Instant::now() < until) {
            return Err(Errno::TIMEDOUT);
        }
        let asked = Asked::new(&self.asked, name).ok_or(Errno::TIMEDOUT)?;
        let (answer, answers) = mpsc::sync_channel(1);
        let worker = match state.worker.take() {
            Some(worker) => worker,
            None => self.start().ok_or(Errno::TIMEDOUT)?,
        };
        let sent = worker.send(Box::new(move || {
            let found = question();
            drop(asked);
            // It may be that nobody waits for it any more.
            let _ = answer.send(found);
        }));
        sent.map_err(|_| Errno::TIMEDOUT)?;
        match answers.recv_timeout(self.patience) {
            Ok(answer) => {
                state.worker = Some(worker);
                Ok(answer)
            }
            Err(RecvTimeoutError::Timeout) => {
                state.resting = Some(Instant::now() + self.rest);
                Err(Errno::TIMEDOUT)
            }
            Err(RecvTimeoutError::Disconnected) => Err(Errno::TIMEDOUT),
        }
    }

    /// A new thread; `None` where there are too many, or where none can be had.
    fn start(&self) -> Option<mpsc::Sender<Question>> {
        let count = Counted::new(&self.threads)?;
        let (worker, questions) = mpsc::channel::<Question>();
        let duty = self.duty;
        let name = match duty {
            Duty::Polling => "poll-paths",
            Duty::Surroundings => "around-paths",
            _ => "watch-paths",
        };
        let work = move || {
            let _count = count;
            duty.settle();
            questions.iter().for_each(|question| question());
        };
        let started = thread::Builder::new().name(name.to_owned()).stack_size(STACK).spawn(work);
        if let Err(e) = &started {
            tracing::error!("cannot start the thread that looks up paths: {e}");
        }
        started.ok().map(|_| worker)
    }

    /// Whether the path begins at a root for which the kernel answers itself.
    fn starts_at_home(&self, path: &[u8]) -> bool {
        path.first() == Some(&b'/') && self.with_mounts(|mounts| mounts.home)
    }

    /// Whether somebody else answers for what is at a path, by its letters.
    fn is_remote(&self, path: &[u8]) -> bool {
        self.with_mounts(|mounts| mounts.now().is_remote(Path::new(OsStr::from_bytes(path))))
    }

    fn with_mounts<T>(&self, ask: impl FnOnce(&mut Watched) -> T) -> T {
        ask(self.lock().mounts.get_or_insert_with(Watched::new))
    }
}

/// What has been asked about and not been answered.
struct Asked {
    all: Arc<Mutex<HashSet<Vec<u8>>>>,
    name: Vec<u8>,
}

impl Asked {
    fn new(all: &Arc<Mutex<HashSet<Vec<u8>>>>, name: &[u8]) -> Option<Self> {
        let is_new = all.lock().unwrap_or_else(PoisonError::into_inner).insert(name.to_owned());
        is_new.then(|| Self { all: Arc::clone(all), name: name.to_owned() })
    }
}

impl Drop for Asked {
    fn drop(&mut self) {
        self.all.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.name);
    }
}

/// One of a bounded number of threads.
struct Counted(Arc<AtomicUsize>);

impl Counted {
    fn new(threads: &Arc<AtomicUsize>) -> Option<Self> {
        let more = |n| (n < THREADS).then_some(n + 1);
        threads.fetch_update(Ordering::AcqRel, Ordering::Acquire, more).ok()?;
        Some(Self(Arc::clone(threads)))
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

/// The list of mounts, read again when it has changed.
#[derive(Debug)]
struct Watched {
    list: Mounts,
    /// The kernel says by it that the list changed.
    alarm: Option<File>,
    /// The root is the kernel's own.
    home: bool,
}

impl Watched {
    fn new() -> Self {
        let alarm = File::open(MOUNTS).ok();
        let list = Mounts::read();
        let home = list.has_local_root();
        Self { list, alarm, home }
    }

    fn now(&mut self) -> &Mounts {
        let has_changed = |alarm: &File| {
            poll(&mut [PollFd::new(alarm, PollFlags::PRI)], Some(&Timespec::default())) != Ok(0)
        };
        if self.alarm.as_ref().is_none_or(has_changed) {
            self.list = Mounts::read();
        }
        &self.list
    }
}

/// Opens a path for looking at it, and looks.
fn find(path: &[u8], flags: OFlags, resolve: ResolveFlags) -> Result<(OwnedFd, Statx), Errno> {
    let file = openat2(CWD, path, flags | OFlags::PATH | OFlags::CLOEXEC, Mode::empty(), resolve)?;
    let facts = facts(&file)?;
    Ok((file, facts))
}

/// What is known of an open file, without asking for what may have changed meanwhile.
pub(crate) fn facts(file: &OwnedFd) -> Result<Statx, Errno> {
    let mask = StatxFlags::BASIC_STATS | StatxFlags::MNT_ID;
    statx(file, c"", AtFlags::EMPTY_PATH | AtFlags::STATX_DONT_SYNC, mask)
}

/// The path that an open file has now, as the kernel tells it.
pub(crate) fn path_of(file: &OwnedFd) -> Option<Vec<u8>> {
    use std::os::fd::AsRawFd;
    let link = format!("/proc/self/fd/{}", file.as_raw_fd());
    rustix::fs::readlink(link, Vec::new()).ok().map(std::ffi::CString::into_bytes)
}

#[cfg(test)]
mod tests;
