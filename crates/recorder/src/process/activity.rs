//! What processes do beside beginning and ending: each act names its image, which has a row from then on.

use std::sync::Arc;

use luarm_schema::{
    escape::escape,
    tables::{ExecInfo, RenameInfo},
};
use luarm_sensor::{
    BootNs,
    observation::{Actor, Arguments, Credentials, ImageId, Task},
};

use super::{Argv, Image, Place, Process, Processes, State};
use crate::context::{Context, UNKNOWN_ID};

pub(super) const UNKNOWN: Credentials = Credentials {
    uid: UNKNOWN_ID,
    euid: UNKNOWN_ID,
    suid: UNKNOWN_ID,
    fsuid: UNKNOWN_ID,
    gid: UNKNOWN_ID,
    egid: UNKNOWN_ID,
    sgid: UNKNOWN_ID,
    fsgid: UNKNOWN_ID,
    capabilities: None,
};

impl Process {
    /// A process of which only the identity is known.
    pub(super) fn sketch(image: ImageId, program: &Arc<Image>, at: BootNs) -> Self {
        let task = Task { image, credentials: UNKNOWN, ..Task::default() };
        Self { state: State::Sketched, ..Self::new(Box::new(task), Arc::clone(program), at) }
    }

    /// A process of which is known what one of its acts told.
    fn of(actor: &Actor, program: &Arc<Image>, at: BootNs) -> Self {
        let mut process = Self::sketch(actor.image, program, at);
        process.task.comm.clone_from(&actor.comm);
        process.task.credentials.euid = actor.euid;
        process.task.auid = actor.auid;
        process.task.session = actor.session;
        process
    }
}

impl Processes {
    /// The image that acts, which has a row from now on. `alive` says that it cannot have ended before `at`; where it may have, and so long
    /// ago that nothing is remembered of it, its row is not made a second time.
    pub(crate) fn actor(&mut self, ctx: &mut Context, actor: &Actor, at: BootNs, alive: bool) -> i64 {
        let image = actor.image;
        match self.place(ctx, image, at) {
            Place::Past(psentity) => psentity,
            Place::Current => {
                self.settle_one_of(ctx, image.pid);
                self.live.get(&image.pid).map_or(0, |process| process.psentity)
            }
            Place::Successor => {
                let task = Process::of(actor, &self.unknown, at).task;
                self.succeed(ctx, at, task, Arc::clone(&self.unknown), "found");
                self.live.get(&image.pid).map_or(0, |process| process.psentity)
            }
            Place::New => {
                if alive || self.past.is_complete_since(image.start) {
                    let process = Process::of(actor, &self.unknown, at);
                    self.begin(ctx, Process { began: image.start, ..process }, "found", None);
                    self.live.get(&image.pid).map_or(0, |process| process.psentity)
                } else {
                    ctx.identity.psentity(image, None)
                }
            }
            Place::Bygone => {
                let process = Process { began: image.start, ..Process::of(actor, &self.unknown, at) };
                self.bygone(ctx, process, "found", at);
                self.past.psentity(image).unwrap_or_else(|| ctx.identity.psentity(image, None))
            }
        }
    }

    fn settle_one_of(&mut self, ctx: &mut Context, pid: u32) {
        if let Some(image) = self.live.get(&pid).filter(|p| p.state == State::Pending).map(|p| p.image) {
            self.settle_one(ctx, image);
        }
    }

    pub(crate) fn exec_denied(
        &mut self,
        ctx: &mut Context,
        at: BootNs,
        actor: &Actor,
        (path, arguments): (&[u8], &Arguments),
        errno: i32,
    ) {
        let psentity = self.actor(ctx, actor, at, true);
        let argv = Argv::new(arguments);
        let created = ctx.clock.time(at);
        let row = ExecInfo {
            execid: ctx.numbers.next(created),
            psentity,
            username: ctx.username(actor.euid),
            loginname: ctx.loginname(actor.auid),
            pid: actor.image.pid,
            application: escape(&actor.comm),
            command: escape(path),
            argv: argv.text,
            argc: argv.count,
            argvlength: argv.length,
            result: errno,
            auid: actor.auid,
            session: actor.session,
            created,
            end: None,
        };
        ctx.draft.push(row);
    }

    pub(crate) fn rename(&mut self, ctx: &mut Context, at: BootNs, actor: &Actor, old: &[u8]) {
        let psentity = self.actor(ctx, actor, at, true);
        if let Some(process) = self.running(actor.image) {
            process.task.comm.clone_from(&actor.comm);
        }
        let created = ctx.clock.time(at);
        let row = RenameInfo {
            renameid: ctx.numbers.next(created),
            psentity,
            username: ctx.username(actor.euid),
            loginname: ctx.loginname(actor.auid),
            pid: actor.image.pid,
            application: escape(&actor.comm),
            oldapplication: escape(old),
            auid: actor.auid,
            session: actor.session,
            created,
            end: None,
        };
        ctx.draft.push(row);
    }

    pub(super) fn running(&mut self, image: ImageId) -> Option<&mut Process> {
        self.live.get_mut(&image.pid).filter(|process| process.image == image)
    }
}
