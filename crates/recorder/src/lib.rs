//! The recorder: turns what the sensors observe into rows, and the rows into batches. It knows no SQL, and reads no kernel interface.
//!
//! [`Recorder::observe`] takes observations in the order in which sensors give them; [`Recorder::flush`] gives what a store is to keep. The
//! recorder asks no clock: [`Recorder::tick`] and `flush` are told the time, so that the same observations always give the same rows.

mod bounded;
pub mod canary;
mod clock;
mod condition;
mod container;
mod context;
mod coverage;
mod digest;
mod draft;
mod endpoint;
mod file;
mod identity;
mod ledger;
mod names;
mod process;
mod protection;
mod question;
mod session;
mod start;
mod users;

use std::path::PathBuf;

use luarm_schema::{Batch, Resume, Time, Word};
use luarm_sensor::{
    BootNs, HostFacts, Observation,
    clock::Reading,
    condition::{Condition, ConditionKind},
    observation::{Inventory, Loss, Origin},
};

use crate::{
    canary::{Canary, Report, Verdict},
    condition::{Conditions, Ending},
    context::Context,
    coverage::Intervals,
    endpoint::Endpoints,
    file::Files,
    ledger::Ledger,
    names::Names,
    process::Processes,
    protection::Protection,
    question::Questions,
    session::{Met, Sessions},
};
pub use crate::{
    draft::Worth,
    names::dns,
    protection::{Place, Protected, Role},
    question::{Answered, Asker, Question},
    users::{SystemUsers, Users},
};

/// Sensors say how far they are many times a second; one that has not for so long does not hold rows back any more.
const SILENCE: BootNs = 10_000_000_000;

/// What a recorder begins with.
pub struct Setup<'a> {
    /// What the store remembers.
    pub resume: Resume,
    /// The host.
    pub host: HostFacts,
    /// When this run of the recorder starts: now.
    pub run: Time,
    /// Version of luarm.
    pub version: &'a str,
    /// Where names of users come from.
    pub users: Box<dyn Users>,
    /// CLOCK_REALTIME - CLOCK_BOOTTIME, microseconds.
    pub clock_offset: i64,
    /// /etc/hosts, or what stands for it.
    pub hosts_file: Option<PathBuf>,
    /// The recorder's own process, by the number that the sensors give it: what it creates is its [`canary`], and marked as that. `None` if it has none.
    pub own: Option<u32>,
}

/// What a recorder has done and what it holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Stats {
    /// Observations taken.
    pub observations: u64,
    /// Batches given.
    pub batches: u64,
    /// Rows given, those of `batchinfo` included.
    pub rows: u64,
    /// Processes that live.
    pub processes: usize,
    /// Of them, forks that wait for their exec.
    pub pending_forks: usize,
    /// Endpoints that are open.
    pub endpoints: usize,
    /// Files that are open, or were a moment ago.
    pub files: usize,
    /// Addresses that have a name from DNS.
    pub names: usize,
    /// Answers of name servers to questions that were seen.
    pub answers: u64,
    /// Answers that nobody asked for; they are ignored.
    pub unasked: u64,
    /// Messages that are no DNS messages.
    pub malformed: u64,
}

/// Turns observations into rows.
pub struct Recorder {
    ctx: Context,
    processes: Processes,
    endpoints: Endpoints,
    names: Names,
    files: Files,
    conditions: Conditions,
    sessions: Sessions,
    coverage: Intervals,
    questions: Questions,
    protection: Protection,
    ledger: Ledger,
    canary: Canary,
    /// The last batch that has rows of the canary.
    canaried: i64,
    reached: Option<BootNs>,
    observations: u64,
}

impl Recorder {
    /// Takes up where the store says that an earlier run left off.
    pub fn new(setup: Setup<'_>) -> Self {
        start::start(setup)
    }

    /// Takes one observation.
    pub fn observe(&mut self, observation: Observation) {
        self.observations += 1;
        let Self {
            ctx, processes, endpoints, names, files, conditions, sessions, coverage, protection, ..
        } = self;
        match observation {
            Observation::Fork { at, task } => {
                happened(ctx, at);
                sessions.met(ctx, processes, (at, &task, Met::Fork));
                processes.fork(ctx, at, task);
            }
            Observation::Exec { at, task, program } => {
                happened(ctx, at);
                sessions.met(ctx, processes, (at, &task, Met::Exec));
                processes.exec(ctx, at, task, &program);
            }
            Observation::Found { at, task, program, origin } => {
                ctx.clock.advance(at);
                let met = if origin == Origin::Poll { "poll" } else { "found" };
                sessions.met(ctx, processes, (at, &task, Met::There(met)));
                processes.found(ctx, at, task, &program, origin);
            }
            Observation::ExecDenied { at, actor, path, arguments, errno } => {
                happened(ctx, at);
                processes.exec_denied(ctx, at, &actor, (&path, &arguments), errno);
            }
            Observation::Exit { at, image, status, usage } => {
                happened(ctx, at);
                sessions.exit(ctx, at, image);
                processes.exit(ctx, at, image, status, usage.as_ref());
            }
            Observation::Rename { at, actor, old } => {
                happened(ctx, at);
                processes.rename(ctx, at, &actor, &old);
            }
            Observation::Credentials { at, actor, operation, credentials } => {
                happened(ctx, at);
                processes.credentials(ctx, at, &actor, operation, credentials);
            }
            Observation::Privilege(privilege) => {
                happened(ctx, privilege.at);
                let row = processes.privilege(ctx, &privilege);
                protection.privilege(ctx, &privilege, row);
            }
            Observation::Endpoint(endpoint) => {
                ctx.clock.advance(endpoint.at);
                sessions.accepted(&endpoint);
                endpoints.begin(ctx, processes, names, &endpoint);
            }
            Observation::EndpointEnd { at, endpoint, end } => {
                happened(ctx, at);
                endpoints.end(ctx, processes, names, (at, &endpoint, end));
            }
            Observation::Dns(dns) => {
                happened(ctx, dns.at);
                names.observe(ctx, processes, &dns);
            }
            Observation::ImageDigest(digest) => digest::digested(ctx, &digest),
            Observation::File(access) => {
                happened(ctx, access.at);
                let row = files.done(ctx, processes, &access);
                protection.file(ctx, processes, &access, row);
            }
            Observation::ContentDigest(digest) => files.digested(ctx, &digest),
            Observation::FileLasts(id) => files.lasts(ctx, id),
            Observation::FileEnd { at, id, end } => {
                happened(ctx, at);
                files.ended(ctx, at, id, end);
            }
            Observation::Loss(Loss { class, cause, count, from, until }) => {
                let (from, until) = (ctx.clock.time(from), ctx.clock.time(until));
                ledger::loss(ctx, (class, cause), count, from, until);
            }
            Observation::Coverage(change) => coverage.observe(ctx, change),
            Observation::Complete(Inventory::Processes) => {
                processes.complete(ctx);
                sessions.complete(ctx, processes);
            }
            Observation::Complete(Inventory::Sockets) => endpoints.complete(ctx),
            Observation::Condition { at, condition, origin } => {
                ctx.clock.advance(at);
                match *condition {
                    Condition::Login(login) => sessions.login(ctx, at, login),
                    condition => conditions.set(ctx, at, condition, origin),
                }
            }
            Observation::ConditionEnd { at, condition } => {
                happened(ctx, at);
                match *condition {
                    Condition::Login(login) => sessions.logout(ctx, processes, at, &login),
                    condition => conditions.end(ctx, Ending::seen(at), &condition),
                }
            }
            Observation::ConditionGone { at, condition } => {
                ctx.clock.advance(at);
                conditions.end(ctx, Ending::unseen(at), &condition);
            }
            Observation::Complete(Inventory::Conditions(ConditionKind::Login)) => {
                sessions.logins_complete(ctx);
            }
            Observation::Complete(Inventory::Conditions(kind)) => conditions.complete(ctx, kind),
            Observation::Reached(at) => {
                ctx.clock.advance(at);
                self.reached = self.reached.max(Some(at));
            }
        }
    }

    /// Says what the clocks show, to be called every second or so. When the wall clock was set, rows that exist keep their times; that, and that the
    /// host was asleep, become rows of `coverageinfo`.
    pub fn set_clocks(&mut self, reading: Reading) {
        self.coverage.clocks.observe(&mut self.ctx, reading);
    }

    /// Does what time brings about: forks that waited for an exec become rows, the hosts file is read if it changed.
    pub fn tick(&mut self, now: BootNs) {
        self.ctx.clock.advance(now);
        self.names.refresh(&mut self.ctx, now);
        // The exec of a fork may be on its way to us: the time that counts is the one that the sensors have reached.
        let settled = self.reached.map_or(now, |reached| reached.max(now.saturating_sub(SILENCE)));
        self.processes.settle(&mut self.ctx, settled.min(now));
        self.sessions.settle(&mut self.ctx, &mut self.processes, settled.min(now));
        // Those who read files do not say how far they have got.
        self.ctx.digests.settle(now);
        self.files.settle(&mut self.ctx, now);
        for (uid, user) in self.ctx.users.met() {
            self.conditions.met(&mut self.ctx, now, uid, user);
        }
    }

    /// Gives what is to be stored; `None` when there is nothing, and it was said less than a minute ago that we are alive.
    pub fn flush(&mut self, now: BootNs) -> Option<Batch> {
        self.tick(now);
        self.ledger.losses(&mut self.ctx, (&mut self.names, &mut self.endpoints, &mut self.files), false);
        if self.ctx.draft.rows() == 0 && !self.ledger.is_silent(&self.ctx) {
            return None;
        }
        Some(self.close())
    }

    /// Whether something that happened before that instant is still held back, and in no batch yet: the row of a fork or a login, the end of an access to a file whose
    /// contents are being digested, what is said of an image that is. Nothing is held back for longer than a second.
    pub fn unsettled(&self, before: BootNs) -> bool {
        let sessions = self.sessions.oldest_waiting();
        let files = self.files.oldest_waiting();
        let images = self.ctx.digests.oldest_waiting();
        let oldest = self.processes.oldest_pending().into_iter().chain(sessions).chain(files).chain(images);
        oldest.min().is_some_and(|oldest| oldest < before)
    }

    /// Whether what the open batch says of images is about to be complete: it is better made a moment later.
    pub fn is_expecting(&self) -> bool {
        self.ctx.digests.is_waiting()
    }

    /// How many rows and ends of rows wait for the next batch.
    pub fn pending_rows(&self) -> usize {
        self.ctx.draft.rows()
    }

    /// About how much memory they take, bytes.
    pub fn pending_bytes(&self) -> usize {
        self.ctx.draft.bytes()
    }

    /// Tells of `count` rows or events that were lost between two instants: rows that a store could not take, by their table's name, for one.
    pub fn lose(
        &mut self,
        class: impl Into<Word>,
        cause: impl Into<Word>,
        count: u64,
        from: Time,
        until: Time,
    ) {
        ledger::loss(&mut self.ctx, (class, cause), count, from, until);
    }

    /// Says what is the recorder's own: what is aimed at it becomes rows of `alertinfo`.
    pub fn protect(&mut self, own: Protected) {
        self.protection.protect(own);
    }

    /// Tells that less room than `bound` bytes is left where the data are.
    pub fn is_short_of_room(&mut self, now: BootNs, path: &str, free: u64, bound: u64) {
        self.protection.disk(&mut self.ctx, now, path, (free, bound));
    }

    /// Takes a question that somebody asks of what is recorded, told when everything that happened before it was taken, so that it is known what asks. `ticket`
    /// stands for it until its end.
    pub fn asked(&mut self, ticket: u64, question: &Question) {
        self.questions.asked(&mut self.ctx, &mut self.processes, ticket, question);
    }

    /// Takes the end of a question. One that was not told of is ignored.
    pub fn answered(&mut self, ticket: u64, answered: Answered) {
        self.questions.answered(&mut self.ctx, ticket, answered);
    }

    /// Gives up the waiting rows of that worth or less, because the store takes none, or not all: all but those that have yet to end. They are
    /// told of as lost; gives their number.
    pub fn shed(&mut self, worth: Worth, cause: &'static str) -> u64 {
        self.ledger.shed(&mut self.ctx, worth, cause)
    }

    /// A batch of the oldest rows, when more wait than one batch should hold; to be asked until there is none, before [`Recorder::flush`]
    /// and [`Recorder::stop`].
    pub fn part(&mut self) -> Option<Batch> {
        if self.ctx.draft.overflows() {
            self.canary.mark(&mut self.ctx, &self.processes);
        }
        let batch = self.ledger.part(&mut self.ctx)?;
        self.recognize(&batch);
        Some(batch)
    }

    /// Ends the run: the last batch.
    pub fn stop(&mut self, now: BootNs) -> Batch {
        self.finish(now);
        self.close()
    }

    /// Has everything that is held back become rows: what [`Recorder::stop`] does first, for whoever wants them in parts.
    pub fn finish(&mut self, now: BootNs) {
        self.tick(now);
        self.sessions.settle_all(&mut self.ctx, &mut self.processes);
        self.processes.settle_all(&mut self.ctx);
        self.files.settle_all(&mut self.ctx);
        self.ledger.losses(&mut self.ctx, (&mut self.names, &mut self.endpoints, &mut self.files), true);
        self.questions.stop(&mut self.ctx);
        self.coverage.stop(&mut self.ctx);
    }

    /// What was done so far.
    pub fn stats(&self) -> Stats {
        Stats {
            observations: self.observations,
            batches: self.ledger.batches,
            rows: self.ledger.rows,
            processes: self.processes.len(),
            pending_forks: self.processes.pending(),
            endpoints: self.endpoints.len(),
            files: self.files.len(),
            names: self.names.len(),
            answers: self.names.answers,
            unasked: self.names.unasked,
            malformed: self.names.malformed,
        }
    }

    fn close(&mut self) -> Batch {
        let reached = self.reached.unwrap_or_else(|| self.ctx.clock.latest());
        let delivered = self.processes.oldest_pending().map_or(reached, |oldest| oldest.min(reached));
        self.canary.mark(&mut self.ctx, &self.processes);
        let batch = self.ledger.close(&mut self.ctx, delivered);
        self.recognize(&batch);
        batch
    }

    fn recognize(&mut self, batch: &Batch) {
        if self.canary.recognize(batch) {
            self.canaried = batch.id;
        }
    }

    /// Number of the last batch that has rows of the [`canary`] that is under way, or of the last one; 0 if there is none.
    pub fn canaried(&self) -> i64 {
        self.canaried
    }

    /// Takes the report of a [`canary`], all of whose rows are in batches by now, and says what came of the round: in `canaryinfo`, and where a row is missing in
    /// `coverageinfo`.
    pub fn judge(&mut self, report: &Report) -> Verdict {
        self.canary.judge(&mut self.ctx, &mut self.coverage, report)
    }
}

fn happened(ctx: &mut Context, at: BootNs) {
    ctx.clock.advance(at);
    ctx.draft.happened(at);
}
