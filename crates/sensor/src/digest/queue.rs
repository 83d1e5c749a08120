//! What waits to be read: bounded, and served in turn, so that nobody's files keep those of others waiting for long.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use super::{
    Subject,
    content::{Content, Trail},
};
use crate::observation::{AccessId, FileVersion};

/// What may wait,
const ALL: usize = 8192;
/// and of it for one user other than root.
const USER: usize = 512;
/// Steps of the trail that are remembered while something waits.
const TRAIL: usize = 4096;
/// How long to wait for news of a file that is not where it was: longer than the kernel's records are on their way.
const PUT_OFF: Duration = Duration::from_millis(150);

/// Why something is read: each kind has its turn.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Lane {
    /// It runs now, and its row waits.
    Image,
    /// It was written.
    Content,
    /// It ran when the recorder started.
    Found,
}

/// Something that is to be read, and on whose account.
pub(super) struct Job {
    pub(super) lane: Lane,
    pub(super) user: u32,
    pub(super) subject: Subject,
}

/// What to do next.
pub(super) enum Step {
    Job(Job),
    /// There is no time any more to do it.
    Late(Job),
    Nothing,
    Over,
}

#[derive(Default)]
struct Waiting {
    users: BTreeMap<u32, VecDeque<Job>>,
    /// Whose turn was last.
    last: u32,
}

impl Waiting {
    fn push(&mut self, job: Job) {
        self.users.entry(job.user).or_default().push_back(job);
    }

    fn pop(&mut self) -> Option<Job> {
        let mut after = self.users.range(self.last.saturating_add(1)..);
        let user = *after.next().or_else(|| self.users.iter().next())?.0;
        let jobs = self.users.get_mut(&user)?;
        let job = jobs.pop_front();
        if jobs.is_empty() {
            self.users.remove(&user);
        }
        self.last = user;
        job
    }
}

#[derive(Default)]
struct State {
    /// Those who are to hear the answer have not heard of the question.
    staged: Vec<Job>,
    lanes: [Waiting; 3],
    turn: usize,
    put_off: VecDeque<(Instant, Job)>,
    /// Jobs that are not done, and whose they are.
    open: usize,
    open_of: HashMap<u32, usize>,
    trail: VecDeque<Trail>,
    /// Number of the first step of the trail.
    first: u64,
    /// The latest contents that are asked for of a file, by device and inode, and how many jobs are about it.
    latest: HashMap<(u32, u64), (AccessId, FileVersion, usize)>,
    failed: Vec<FileVersion>,
    /// No more comes; what waits is to be done before that instant.
    closed: Option<Instant>,
}

impl State {
    fn release(&mut self) {
        for job in std::mem::take(&mut self.staged) {
            self.lanes[job.lane as usize].push(job);
        }
    }

    fn pop(&mut self) -> Option<Job> {
        let now = Instant::now();
        let closed = self.closed.is_some();
        if let Some((_, job)) = self.put_off.pop_front_if(|(due, _)| closed || *due <= now) {
            return Some(job);
        }
        for _ in 0..self.lanes.len() {
            self.turn = (self.turn + 1) % self.lanes.len();
            if let Some(job) = self.lanes[self.turn].pop() {
                return Some(job);
            }
        }
        None
    }
}

pub(super) struct Queue {
    state: Mutex<State>,
    changed: Condvar,
}

impl Queue {
    pub(super) fn new() -> Self {
        Self { state: Mutex::default(), changed: Condvar::new() }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a job, to be done when it is released; false when there is no room for it.
    pub(super) fn push(&self, mut job: Job) -> bool {
        let mut state = self.lock();
        let state = &mut *state;
        let own = state.open_of.entry(job.user).or_default();
        if state.open >= ALL || job.user != 0 && *own >= USER {
            return false;
        }
        *own += 1;
        state.open += 1;
        if let Subject::Content(content) = &mut job.subject {
            // What happened to names before it was closed is of no interest.
            content.followed = state.first + state.trail.len() as u64;
            let (id, version) = (content.id, content.version);
            let (latest, contents, jobs) = state.latest.entry((id.dev, id.inode)).or_insert((id, version, 0));
            // What got a name is what it was.
            if content.arrival.is_none() {
                (*latest, *contents) = (id, version);
            }
            *jobs += 1;
        }
        state.staged.push(job);
        true
    }

    /// What was taken may be done.
    pub(super) fn release(&self) {
        let mut state = self.lock();
        if !state.staged.is_empty() {
            state.release();
            self.changed.notify_one();
        }
    }

    /// The next job, or whatever else there is within that time.
    pub(super) fn next(&self, patience: Duration) -> Step {
        let until = Instant::now() + patience;
        let mut state = self.lock();
        loop {
            if let Some(job) = state.pop() {
                let late = state.closed.is_some_and(|end| Instant::now() >= end);
                return if late { Step::Late(job) } else { Step::Job(job) };
            }
            if state.closed.is_some() {
                return Step::Over;
            }
            let now = Instant::now();
            let due = state.put_off.front().map_or(until, |(due, _)| until.min(*due));
            if now >= until {
                return Step::Nothing;
            }
            let left = due.saturating_duration_since(now).max(Duration::from_millis(1));
            state = self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Keeps a job for a little later.
    pub(super) fn put_off(&self, job: Job) {
        self.lock().put_off.push_back((Instant::now() + PUT_OFF, job));
    }

    /// A job of that user is done, about contents of that access or about an image.
    pub(super) fn done(&self, user: u32, content: Option<AccessId>) {
        let mut state = self.lock();
        let state = &mut *state;
        state.open = state.open.saturating_sub(1);
        if let Some(own) = state.open_of.get_mut(&user) {
            *own = own.saturating_sub(1);
            if *own == 0 {
                state.open_of.remove(&user);
            }
        }
        let file = content.map(|id| (id.dev, id.inode));
        if let Some(file) = file
            && let Some((.., jobs)) = state.latest.get_mut(&file)
        {
            *jobs = jobs.saturating_sub(1);
            if *jobs == 0 {
                state.latest.remove(&file);
            }
        }
        if state.latest.is_empty() {
            state.first += state.trail.len() as u64;
            state.trail.clear();
        }
    }

    /// Remembers a step, if anything waits that may have to follow it.
    pub(super) fn note(&self, step: impl FnOnce() -> Trail) {
        let mut state = self.lock();
        if state.latest.is_empty() {
            return;
        }
        if state.trail.len() >= TRAIL {
            state.trail.pop_front();
            state.first += 1;
        }
        state.trail.push_back(step());
    }

    /// Has a file followed to where it is now.
    pub(super) fn follow(&self, content: &mut Content) {
        let state = self.lock();
        let known = usize::try_from(content.followed.saturating_sub(state.first)).unwrap_or(usize::MAX);
        for step in state.trail.iter().skip(known) {
            content.follow(step);
        }
        content.followed = state.first + state.trail.len() as u64;
    }

    /// Whether other contents of the same file are asked for since, those before being gone; and whether they are the same access's.
    pub(super) fn outdated(&self, content: &Content) -> Option<bool> {
        let state = self.lock();
        let (latest, contents, _) = state.latest.get(&(content.id.dev, content.id.inode))?;
        (*contents != content.version).then_some(*latest == content.id)
    }

    /// An image could not be read: it may be asked for again.
    pub(super) fn fail(&self, version: FileVersion) {
        self.lock().failed.push(version);
    }

    pub(super) fn take_failed(&self) -> Vec<FileVersion> {
        std::mem::take(&mut self.lock().failed)
    }

    /// Nothing more comes, and nothing is done after that instant.
    pub(super) fn close(&self, end: Instant) {
        let mut state = self.lock();
        state.release();
        state.closed.get_or_insert(end);
        drop(state);
        self.changed.notify_all();
    }

    /// Rests, unless the end is near; false when it has come.
    pub(super) fn rest(&self, duration: Duration) -> bool {
        let mut state = self.lock();
        let until = Instant::now() + duration;
        loop {
            let now = Instant::now();
            match state.closed {
                Some(end) => return now < end,
                None if now >= until => return true,
                None => {}
            }
            state = self.changed.wait_timeout(state, until - now).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}
