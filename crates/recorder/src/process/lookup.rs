//! Finds the process and the image that an event names.

use std::{cmp::Ordering, sync::Arc};

use luarm_schema::{End, escape::escape};
use luarm_sensor::{BootNs, observation::ImageId};

use super::{Place, Process, Processes, State, image::Image, plain_end};
use crate::{context::Context, identity::same_process};

impl Processes {
    /// Whether a process is known to live.
    pub(crate) fn is_live(&self, image: ImageId) -> bool {
        self.live.get(&image.pid).is_some_and(|p| same_process(p.image, image))
    }

    /// The image that the process of `image` runs, as far as was told until now.
    pub(crate) fn running_image(&self, image: ImageId) -> Option<ImageId> {
        self.live.get(&image.pid).map(|p| p.image).filter(|&known| same_process(known, image))
    }

    /// The image that the process of that pid runs now: for records of others, who know a process by its pid.
    pub(crate) fn with_pid(&self, pid: u32) -> Option<ImageId> {
        self.live.get(&pid).map(|p| p.image)
    }

    /// Whether the process of that image was created by the other one, or by one that it created.
    pub(crate) fn is_descendant(&self, image: ImageId, of: u32) -> bool {
        let Some(ancestor) = self.psentity_of(of) else { return false };
        let Some(creator) = self.live.get(&image.pid).and_then(|process| process.ppsentity) else {
            return false;
        };
        let is_creator = |p: &Process| p.psentity == creator && p.ppsentity == Some(ancestor);
        creator == ancestor || self.live.values().any(is_creator)
    }

    /// Device and inode of the file that an image runs, as long as its process lives and runs it.
    pub(crate) fn image_file(&self, image: ImageId) -> Option<(u32, u64)> {
        let process = self.live.get(&image.pid).filter(|p| same_process(p.image, image))?;
        process.program.file.map(|file| (file.dev, file.inode))
    }

    /// Device and inode of the file that the process of that pid runs now.
    pub(crate) fn file_of(&self, pid: u32) -> Option<(u32, u64)> {
        self.live.get(&pid)?.program.file.map(|file| (file.dev, file.inode))
    }

    /// The row of the image that the process of that pid runs now.
    pub(crate) fn psentity_of(&self, pid: u32) -> Option<i64> {
        self.live.get(&pid).map(|p| p.psentity)
    }

    /// The task name of a process that lives.
    pub(crate) fn application(&self, image: ImageId) -> Option<String> {
        self.live.get(&image.pid).filter(|p| same_process(p.image, image)).map(|p| escape(&p.task.comm))
    }

    pub(super) fn is_pending(&self, image: ImageId) -> bool {
        self.live.get(&image.pid).is_some_and(|p| p.image == image && p.state == State::Pending)
    }

    /// What the table knows of an image; what this proves of others that had its pid or ran in its process is noted.
    pub(super) fn place(&mut self, ctx: &mut Context, image: ImageId, at: BootNs) -> Place {
        self.recall(ctx, image, at);
        let past = |this: &Self| this.past.psentity(image).map_or(Place::Bygone, Place::Past);
        if let Some(process) = self.live.get_mut(&image.pid) {
            let known = process.image;
            if same_process(known, image) {
                return match image.execs.cmp(&known.execs) {
                    _ if image.start != known.start => Place::Current,
                    Ordering::Equal => {
                        process.seen = process.seen.max(at);
                        Place::Current
                    }
                    Ordering::Greater => match past(self) {
                        Place::Bygone => Place::Successor,
                        place => place,
                    },
                    Ordering::Less => past(self),
                };
            }
            if image.start < known.start {
                return past(self);
            }
            self.give_up(ctx, image.pid, at);
        }
        match past(self) {
            Place::Bygone if self.past.execs(image).is_none() => {
                self.missed(ctx, image).unwrap_or(Place::New)
            }
            place => place,
        }
    }

    /// Of a process that the first inventory did not meet, the row that was ended then.
    fn missed(&self, ctx: &Context, image: ImageId) -> Option<Place> {
        let rows = self.missed.get(&image.pid)?.iter();
        let mut own = rows.filter(|open| ctx.identity.is_process_of(open, image, &ctx.clock));
        own.find(|open| open.execs == image.execs).map(|open| Place::Past(open.psentity))
    }

    /// Takes up the row that an earlier run of the recorder began for this process, and ends those of others that had its pid.
    pub(super) fn recall(&mut self, ctx: &mut Context, image: ImageId, at: BootNs) {
        if self.remembered.is_empty() {
            return;
        }
        let Some(rows) = self.remembered.remove(&image.pid) else { return };
        let (mut own, mut gone): (Vec<_>, Vec<_>) =
            rows.into_iter().partition(|open| ctx.identity.is_process_of(open, image, &ctx.clock));
        own.sort_by_key(|open| (open.execs == image.execs, open.execs));
        if let Some(open) = own.pop() {
            let coarse = ctx.identity.is_coarse(&open, image);
            let execs = if coarse { image.execs } else { open.execs };
            let known = ImageId { execs, ..image };
            self.insert(Process {
                psentity: open.psentity,
                ppsentity: open.ppsentity,
                began: ctx.clock.boot(open.created),
                ..Process::sketch(known, &self.unknown, at)
            });
        }
        gone.append(&mut own);
        for open in gone {
            let destroyed = ctx.clock.time(at).max(open.created);
            ctx.draft.end(open.psentity, End::PsInfo(plain_end(destroyed, "unseen")));
        }
    }

    /// The image that created a process. Something refers to it from now on, so it has a row.
    pub(crate) fn creator(&mut self, ctx: &mut Context, creator: Option<ImageId>) -> Option<i64> {
        let image = creator?;
        let now = ctx.clock.latest();
        self.recall(ctx, image, now);
        if let Some(process) = self.live.get(&image.pid)
            && same_process(process.image, image)
            && (process.image.execs == image.execs || process.image.start != image.start)
        {
            let (psentity, known) = (process.psentity, process.image);
            self.settle_one(ctx, known);
            return Some(psentity);
        }
        Some(self.past.psentity(image).unwrap_or_else(|| ctx.identity.psentity(image, None)))
    }

    /// What a copy of that image runs.
    pub(super) fn facts_of(&self, creator: Option<ImageId>) -> Arc<Image> {
        let facts = creator.and_then(|image| match self.live.get(&image.pid) {
            Some(process) if process.image == image => Some(Arc::clone(&process.program)),
            _ => self.past.facts(image),
        });
        facts.unwrap_or_else(|| Arc::clone(&self.unknown))
    }

    pub(super) fn insert(&mut self, process: Process) {
        self.live.insert(process.image.pid, process);
    }
}
