//! The process table: which image each process runs, and what of it has a row already.
//!
//! A fork is held back for a while, because most are followed by an exec and make one row with it. Identity travels with each event: a
//! process is found by pid, start and exec count, so an event that was lost spoils nothing but itself.

mod activity;
mod image;
mod lookup;
mod past;
mod privilege;
mod row;
mod transition;

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
};

use luarm_schema::{End, OpenProcess};
use luarm_sensor::{
    BootNs,
    observation::{ImageId, Origin, Program, Task, Usage},
};

pub(crate) use self::{image::Argv, row::plain_end};
use self::{image::Image, past::Past};
use crate::{bounded::QuickMap, context::Context, identity::same_process};

/// How long a fork waits for its exec.
const HELD_BACK: BootNs = 1_000_000_000;

/// How far the row of an image is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Forked, and held back until it is clear whether an exec follows.
    Pending,
    /// The row holds all there is to know.
    Told,
    /// There is a row, but the event that tells all is still to come, or was lost.
    Sketched,
}

/// A process and the image that it runs now.
struct Process {
    image: ImageId,
    psentity: i64,
    ppsentity: Option<i64>,
    /// When the image began, as its row says.
    began: BootNs,
    state: State,
    task: Box<Task>,
    program: Arc<Image>,
    /// When it was last seen alive, and by which inventory.
    seen: BootNs,
    inventory: u32,
}

/// What the table knows of an image that an event names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// Its process runs it.
    Current,
    /// Its process is known with an earlier image: an exec happened since.
    Successor,
    /// Neither it nor its process is known.
    New,
    /// It ended, and this is its row.
    Past(i64),
    /// It must have ended, and nothing is remembered of it.
    Bygone,
}

pub(crate) struct Processes {
    live: QuickMap<u32, Process>,
    /// Forks in the order in which they came: when, pid and start. Some wait no longer.
    held_back: VecDeque<ImageId>,
    past: Past,
    /// Rows that had not ended when the recorder started, and of whose processes nothing was heard yet.
    remembered: HashMap<u32, Vec<OpenProcess>>,
    /// Of those the ones that the first inventory did not meet, and that were ended: a process that was about to exit may still be told to have done so.
    missed: HashMap<u32, Vec<OpenProcess>>,
    /// When the inventory that is under way began, and how many there were.
    inventory: Option<BootNs>,
    inventories: u32,
    unknown: Arc<Image>,
}

impl Processes {
    /// `remembered` are rows of this boot; what ended before `horizon` may have rows.
    pub(crate) fn new(remembered: Vec<OpenProcess>, horizon: BootNs) -> Self {
        let mut by_pid: HashMap<u32, Vec<OpenProcess>> = HashMap::new();
        for open in remembered {
            by_pid.entry(open.pid).or_default().push(open);
        }
        Self {
            live: QuickMap::default(),
            held_back: VecDeque::new(),
            past: Past::new(horizon),
            remembered: by_pid,
            missed: HashMap::new(),
            inventory: None,
            inventories: 0,
            unknown: Arc::default(),
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.live.len()
    }

    pub(crate) fn fork(&mut self, ctx: &mut Context, at: BootNs, task: Box<Task>) {
        let image = task.image;
        let place = self.place(ctx, image, at);
        let ppsentity = self.creator(ctx, task.creator);
        match place {
            Place::New => {
                let program = self.facts_of(task.creator);
                let psentity = ctx.identity.psentity(image, Some(at));
                self.held_back.push_back(image);
                let state = State::Pending;
                self.insert(Process {
                    began: at,
                    psentity,
                    ppsentity,
                    state,
                    ..Process::new(task, program, at)
                });
            }
            Place::Current => {
                let program = self.facts_of(task.creator);
                if self.live.get(&image.pid).is_some_and(|p| p.state == State::Sketched) {
                    self.fill(ctx, task, program, "fork", ppsentity);
                } else {
                    self.created_by(ctx, image, ppsentity);
                }
            }
            // The fork is told of after what came of it: the creator is all that is news.
            Place::Successor | Place::Past(_) | Place::Bygone => self.created_by(ctx, image, ppsentity),
        }
    }

    pub(crate) fn exec(&mut self, ctx: &mut Context, at: BootNs, task: Box<Task>, program: &Program) {
        let image = task.image;
        let program = Arc::new(Image::new(program));
        match self.place(ctx, image, at) {
            Place::New => {
                let ppsentity = self.creator(ctx, task.creator);
                // The kernel tells when the process was forked, though the event was lost.
                let began = if image.execs <= 1 { image.start } else { at };
                self.begin(
                    ctx,
                    Process { began, ppsentity, ..Process::new(task, program, at) },
                    "exec",
                    Some(at),
                );
            }
            Place::Current => match self.live.get(&image.pid).map(|p| p.state) {
                Some(State::Sketched) => {
                    let ppsentity = self.creator(ctx, task.creator);
                    self.fill(ctx, task, program, "exec", ppsentity);
                }
                Some(State::Pending) => self.succeed(ctx, at, task, program, "exec"),
                _ => {}
            },
            Place::Successor => self.succeed(ctx, at, task, program, "exec"),
            Place::Past(psentity) => self.fill_past(ctx, psentity, at, task, program),
            Place::Bygone
                if !self.live.contains_key(&image.pid)
                    && self.past.execs(image).is_some_and(|execs| image.execs > execs) =>
            {
                // What was taken for the exit of the process was that of the thread that led it before the exec.
                self.past.process_lives(image);
                let ppsentity = self.creator(ctx, task.creator);
                let process = Process { began: at, ppsentity, ..Process::new(task, program, at) };
                self.begin(ctx, process, "exec", Some(at));
            }
            Place::Bygone => {
                let ppsentity = self.creator(ctx, task.creator);
                let process = Process { began: at, ppsentity, ..Process::new(task, program, at) };
                self.bygone(ctx, process, "exec", at);
            }
        }
    }

    pub(crate) fn found(
        &mut self,
        ctx: &mut Context,
        at: BootNs,
        task: Box<Task>,
        program: &Program,
        origin: Origin,
    ) {
        let image = task.image;
        let place = self.place(ctx, image, at);
        if origin == Origin::Found && self.inventory.is_none() {
            self.inventory = Some(at);
            self.inventories += 1;
        }
        let origin = if origin == Origin::Poll { "poll" } else { "found" };
        let program = Arc::new(Image::new(program));
        match place {
            Place::New => {
                let ppsentity = self.creator(ctx, task.creator);
                let process = Process { began: image.start, ppsentity, ..Process::new(task, program, at) };
                self.begin(ctx, process, origin, None);
            }
            Place::Current => {
                if self.live.get(&image.pid).is_some_and(|p| p.state == State::Sketched) {
                    let ppsentity = self.creator(ctx, task.creator);
                    self.fill(ctx, task, program, origin, ppsentity);
                }
            }
            Place::Successor => {
                self.succeed(ctx, at, task, program, origin);
                // The exec itself may be on its way, and knows better.
                if let Some(process) = self.live.get_mut(&image.pid) {
                    process.state = State::Sketched;
                }
            }
            Place::Past(_) | Place::Bygone => return,
        }
        if let Some(process) = self.live.get_mut(&image.pid) {
            process.inventory = self.inventories;
        }
    }

    pub(crate) fn exit(
        &mut self,
        ctx: &mut Context,
        at: BootNs,
        image: ImageId,
        status: Option<i32>,
        usage: Option<&Usage>,
    ) {
        match self.place(ctx, image, at) {
            Place::Current => {}
            Place::New => {
                let process = Process::sketch(image, &self.unknown, at);
                self.begin(ctx, Process { began: image.start, ..process }, "found", None);
            }
            Place::Successor => {
                let task = Process::sketch(image, &self.unknown, at).task;
                self.succeed(ctx, at, task, Arc::clone(&self.unknown), "found");
            }
            Place::Past(psentity) => {
                // It was given up before its exit was told.
                if let Some(row) = ctx.draft.psinfo(psentity)
                    && row.end.as_ref().is_some_and(|end| end.ended == "unseen")
                {
                    let began = ctx.clock.boot(row.created);
                    let end = row::exit_end(ctx, image, (began, at), status, usage);
                    ctx.draft.end(psentity, End::PsInfo(end));
                }
                return;
            }
            Place::Bygone => {
                let same = self.live.get(&image.pid).is_some_and(|p| same_process(p.image, image));
                // The kernel may report the exit of a process twice, and that of a thread that led it before an exec.
                if !same && self.past.execs(image).is_none() {
                    let process = Process { began: image.start, ..Process::sketch(image, &self.unknown, at) };
                    let end = row::exit_end(ctx, image, (process.began, at), status, usage);
                    self.bygone_with(ctx, process, "found", end);
                }
                return;
            }
        }
        let Some(mut process) = self.live.remove(&image.pid) else { return };
        self.tell(ctx, &mut process);
        let end = row::exit_end(ctx, process.image, (process.began, at), status, usage);
        self.conclude(ctx, &process, end);
        self.past.process_ended(process.image);
    }

    /// Ends what an inventory did not meet: `remembered` rows; if it is a repeated one, also processes whose exit was lost.
    pub(crate) fn complete(&mut self, ctx: &mut Context) {
        let now = ctx.clock.now();
        self.missed = std::mem::take(&mut self.remembered);
        for open in self.missed.values().flatten() {
            ctx.draft.end(open.psentity, End::PsInfo(plain_end(now.max(open.created), "unseen")));
        }
        let Some(began) = self.inventory.take() else { return };
        let round = self.inventories;
        if round == 1 {
            // Whatever the table holds at the first inventory was seen a moment ago.
            return;
        }
        let gone: Vec<u32> = self
            .live
            .values()
            .filter(|p| p.seen < began && p.inventory != round)
            .map(|p| p.image.pid)
            .collect();
        for pid in gone {
            self.give_up(ctx, pid, began);
        }
    }

    /// When the oldest fork that still waits happened.
    pub(crate) fn oldest_pending(&self) -> Option<BootNs> {
        self.held_back.iter().filter(|&&image| self.is_pending(image)).map(|image| image.start).min()
    }

    pub(crate) fn pending(&self) -> usize {
        self.held_back.iter().filter(|&&image| self.is_pending(image)).count()
    }
}

impl Process {
    /// A process whose row, number and creator are still to be set.
    fn new(task: Box<Task>, program: Arc<Image>, at: BootNs) -> Self {
        Self {
            image: task.image,
            psentity: 0,
            ppsentity: None,
            began: at,
            state: State::Told,
            task,
            program,
            seen: at,
            inventory: 0,
        }
    }
}
