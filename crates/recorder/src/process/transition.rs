//! The steps of a process from image to image, and the rows that they make, complete and end.

use std::sync::Arc;

use luarm_schema::{End, tables::PsInfoEnd};
use luarm_sensor::{
    BootNs,
    observation::{ImageId, Task},
};

use super::{HELD_BACK, Process, Processes, State, image::Image, plain_end, row::psinfo};
use crate::{context::Context, identity::same_process};

impl Processes {
    /// Makes rows of forks that have waited long enough at `now`.
    pub(crate) fn settle(&mut self, ctx: &mut Context, now: BootNs) {
        while let Some(&image) = self.held_back.front() {
            if image.start.saturating_add(HELD_BACK) > now && self.is_pending(image) {
                break;
            }
            self.held_back.pop_front();
            self.settle_one(ctx, image);
        }
    }

    /// Makes rows of all forks that wait.
    pub(crate) fn settle_all(&mut self, ctx: &mut Context) {
        while let Some(image) = self.held_back.pop_front() {
            self.settle_one(ctx, image);
        }
    }

    pub(super) fn settle_one(&mut self, ctx: &mut Context, image: ImageId) {
        if self.is_pending(image)
            && let Some(mut process) = self.live.remove(&image.pid)
        {
            self.tell(ctx, &mut process);
            self.insert(process);
        }
    }

    /// A new image with its row; `exec` is when its exec happened, where that was seen.
    pub(super) fn begin(
        &mut self,
        ctx: &mut Context,
        mut process: Process,
        origin: &'static str,
        exec: Option<BootNs>,
    ) {
        process.psentity = ctx.identity.psentity(process.image, exec);
        let row = psinfo(ctx, &process, origin);
        ctx.draft.push(row);
        self.insert(process);
    }

    /// The process goes on with another image.
    pub(super) fn succeed(
        &mut self,
        ctx: &mut Context,
        at: BootNs,
        task: Box<Task>,
        program: Arc<Image>,
        origin: &'static str,
    ) {
        let Some(old) = self.live.remove(&task.image.pid) else { return };
        let ppsentity = old.ppsentity.or_else(|| self.creator(ctx, task.creator));
        let mut began = at;
        if old.state == State::Pending {
            began = old.began;
        } else {
            let end = plain_end(ctx.clock.time(at.max(old.began)), "exec");
            self.conclude(ctx, &old, end);
        }
        let process = Process { began, ppsentity, ..Process::new(task, program, at) };
        let state = if Arc::ptr_eq(&process.program, &self.unknown) { State::Sketched } else { State::Told };
        self.begin(ctx, Process { state, ..process }, origin, (origin == "exec").then_some(at));
        self.privileges_at_exec(ctx, at, &old);
    }

    /// Completes an image that was sketched, and its row while no store has it.
    pub(super) fn fill(
        &mut self,
        ctx: &mut Context,
        task: Box<Task>,
        program: Arc<Image>,
        origin: &'static str,
        ppsentity: Option<i64>,
    ) {
        let Some(old) = self.live.remove(&task.image.pid) else { return };
        let process = Process {
            image: old.image,
            psentity: old.psentity,
            ppsentity: ppsentity.filter(|_| origin == "fork").or(old.ppsentity).or(ppsentity),
            began: old.began,
            state: State::Told,
            task,
            program,
            seen: old.seen,
            inventory: old.inventory,
        };
        replace(ctx, &process, origin);
        self.insert(process);
    }

    /// Completes the row of an image that ended before its exec was told.
    pub(super) fn fill_past(
        &mut self,
        ctx: &mut Context,
        psentity: i64,
        at: BootNs,
        task: Box<Task>,
        program: Arc<Image>,
    ) {
        let Some(row) = ctx.draft.psinfo(psentity) else { return };
        if row.origin != "found" {
            return;
        }
        let (began, ppsentity) = (ctx.clock.boot(row.created), row.ppsentity);
        let ppsentity = ppsentity.or_else(|| self.creator(ctx, task.creator));
        let process = Process { psentity, ppsentity, began, ..Process::new(task, program, at) };
        replace(ctx, &process, "exec");
    }

    /// Notes who created a process, of which more is known already than its fork.
    pub(super) fn created_by(&mut self, ctx: &mut Context, image: ImageId, ppsentity: Option<i64>) {
        let mut rows: Vec<i64> =
            (0..=1).filter_map(|execs| self.past.psentity(ImageId { execs, ..image })).collect();
        if let Some(process) = self.live.get_mut(&image.pid)
            && process.image.start == image.start
        {
            process.ppsentity = ppsentity.or(process.ppsentity);
            rows.push(process.psentity);
        }
        for psentity in rows {
            if let Some(row) = ctx.draft.psinfo(psentity) {
                row.ppsentity = ppsentity.or(row.ppsentity);
            }
        }
    }

    /// A row for an image that ended already; unless it may have one.
    pub(super) fn bygone(&mut self, ctx: &mut Context, process: Process, origin: &'static str, at: BootNs) {
        let image = process.image;
        let succeeded = self.live.get(&image.pid).is_some_and(|p| same_process(p.image, image))
            || self.past.execs(image).is_some_and(|execs| execs > image.execs);
        let destroyed = ctx.clock.time(at.max(process.began));
        let end = plain_end(destroyed, if succeeded { "exec" } else { "unseen" });
        self.bygone_with(ctx, process, origin, end);
    }

    pub(super) fn bygone_with(
        &mut self,
        ctx: &mut Context,
        mut process: Process,
        origin: &'static str,
        end: PsInfoEnd,
    ) {
        let image = process.image;
        let ended_after = match self.live.get(&image.pid) {
            Some(later) if same_process(later.image, image) && later.image.execs == image.execs + 1 => {
                later.began
            }
            _ => image.start,
        };
        if self.past.is_complete_since(ended_after.max(image.start)) {
            process.psentity = ctx.identity.psentity(image, None);
            let row = psinfo(ctx, &process, origin);
            ctx.draft.push(row);
            self.conclude(ctx, &process, end);
        }
        if !self.live.get(&image.pid).is_some_and(|p| same_process(p.image, image)) {
            self.past.process_ended(image);
        }
    }

    /// Makes the row of a fork that was held back.
    pub(super) fn tell(&self, ctx: &mut Context, process: &mut Process) {
        if process.state == State::Pending {
            process.state = State::Told;
            let row = psinfo(ctx, process, "fork");
            ctx.draft.push(row);
        }
    }

    /// Ends the row of an image, and remembers it.
    pub(super) fn conclude(&mut self, ctx: &mut Context, process: &Process, end: PsInfoEnd) {
        ctx.draft.end(process.psentity, End::PsInfo(end));
        self.past.image_ended(process.image, process.psentity, &process.program, ctx.clock.latest());
    }

    /// The process must have ended, at the latest now.
    pub(super) fn give_up(&mut self, ctx: &mut Context, pid: u32, at: BootNs) {
        let Some(mut process) = self.live.remove(&pid) else { return };
        self.tell(ctx, &mut process);
        let end = plain_end(ctx.clock.time(at.max(process.began)), "unseen");
        self.conclude(ctx, &process, end);
        self.past.process_ended(process.image);
    }
}

/// Writes a row anew that no store has yet; what ended it stays.
fn replace(ctx: &mut Context, process: &Process, origin: &'static str) {
    if ctx.draft.psinfo(process.psentity).is_some() {
        let mut row = psinfo(ctx, process, origin);
        if let Some(old) = ctx.draft.psinfo(process.psentity) {
            row.end = old.end.take();
            *old = row;
        }
    }
}
