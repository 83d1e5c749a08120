//! The processes that are known, and what a look at /proc tells of them.

use std::{
    collections::HashMap,
    hash::{BuildHasher, RandomState},
};

use rustix::{io::Errno, param::page_size};

use super::outbox::Outbox;
use crate::{
    BootNs, Observation, clock,
    observation::{Actor, Credentials, ImageFile, ImageId, Origin, Program, Task, Usage},
    proc::{Process, Reader, Stat, Status},
};

/// Every so many rounds a process is looked at closely even if it seems idle.
const CLOSE_LOOK: u64 = 10;

/// A process that is known.
struct Known {
    actor: Actor,
    credentials: Credentials,
    netns: u32,
    /// As last read.
    stat: Stat,
    /// Device and inode of the image: its name may change while it runs.
    file: Option<(u32, u64)>,
    /// A hash, since they may be long.
    arguments: u64,
    usage: Usage,
    /// The last round that saw it.
    round: u64,
}

/// The table of processes.
#[derive(Default)]
pub(super) struct Processes {
    known: HashMap<u32, Known>,
    round: u64,
    hasher: RandomState,
}

impl Processes {
    /// Looks at every process once; says what began, changed and ended.
    pub(super) fn look(&mut self, reader: &Reader, origin: Origin, out: &mut Outbox) -> Result<(), Errno> {
        let pids = reader.pids()?;
        self.round += 1;
        let mut unknown = Vec::new();
        for pid in pids {
            let Some(stat) = reader.stat(pid) else { continue };
            match self.known.get(&pid) {
                Some(known) if known.stat.start == stat.start => {
                    if stat.is_over() {
                        self.end(pid, Some(&stat), out);
                    } else {
                        self.update(reader, stat, out);
                    }
                    continue;
                }
                Some(_) => self.end(pid, None, out),
                None => {}
            }
            if !stat.is_over() {
                unknown.push(pid);
            }
        }
        let gone: Vec<u32> =
            self.known.iter().filter(|(_, known)| known.round != self.round).map(|(pid, _)| *pid).collect();
        for pid in gone {
            self.end(pid, None, out);
        }
        self.meet(reader, &unknown, origin, out);
        Ok(())
    }

    /// Meets the processes that came since the last look, and gives their pids.
    pub(super) fn look_for_newcomers(&mut self, reader: &Reader, out: &mut Outbox) -> Vec<u32> {
        let mut pids = reader.pids().unwrap_or_default();
        pids.retain(|pid| !self.known.contains_key(pid));
        self.meet(reader, &pids, Origin::Poll, out);
        pids
    }

    /// Who owns what process `pid` holds.
    pub(super) fn actor(&self, pid: u32) -> Option<&Actor> {
        self.known.get(&pid).map(|known| &known.actor)
    }

    /// The processes that may hold sockets, the oldest first: a socket that several hold was made by the first of them.
    pub(super) fn by_age(&self) -> Vec<u32> {
        let users = self.known.values().filter(|known| !known.stat.is_kernel_thread());
        let mut ages: Vec<_> = users.map(|known| (known.actor.image.start, known.actor.image.pid)).collect();
        ages.sort_unstable();
        ages.into_iter().map(|(_, pid)| pid).collect()
    }

    /// Every network namespace that a process is in, with one such process.
    pub(super) fn network_namespaces(&self) -> HashMap<u32, u32> {
        self.known
            .iter()
            .filter(|(_, known)| known.netns != 0)
            .map(|(pid, known)| (known.netns, *pid))
            .collect()
    }

    fn meet(&mut self, reader: &Reader, pids: &[u32], origin: Origin, out: &mut Outbox) {
        let mut met = Vec::new();
        for process in pids.iter().filter_map(|pid| reader.process(*pid)) {
            let Some((stat, task, program)) = process.found() else { continue };
            let known = self.known(&process, stat, &task, &program);
            self.known.insert(process.pid(), known);
            met.push((clock::now(), task, program));
        }
        // Parents before children.
        met.sort_unstable_by_key(|(_, task, _)| (task.image.start, task.image.pid));
        for (at, task, program) in met {
            self.found(at, task, program, origin, out);
        }
    }

    fn found(&self, at: BootNs, mut task: Task, program: Program, origin: Origin, out: &mut Outbox) {
        task.creator = self.actor(task.ppid).map(|parent| parent.image);
        out.push(Observation::Found { at, task: Box::new(task), program: Box::new(program), origin });
    }

    fn known(&self, process: &Process, stat: Stat, task: &Task, program: &Program) -> Known {
        let mut known = Known {
            actor: Actor {
                image: task.image,
                comm: task.comm.clone(),
                euid: task.credentials.euid,
                auid: task.auid,
                session: task.session,
            },
            credentials: task.credentials,
            netns: task.namespaces.net,
            file: program.file.as_ref().map(identity),
            arguments: self.hasher.hash_one(&program.arguments.bytes),
            usage: Usage::default(),
            round: self.round,
            stat,
        };
        known.used(process, None);
        known
    }

    fn update(&mut self, reader: &Reader, stat: Stat, out: &mut Outbox) {
        let pid = stat.pid;
        let due = (self.round + u64::from(pid)).is_multiple_of(CLOSE_LOOK);
        let Some(known) = self.known.get_mut(&pid) else { return };
        known.round = self.round;
        let before = std::mem::replace(&mut known.stat, stat);
        if known.stat.is_kernel_thread() {
            // Its name says what it works on, and nothing else ever changes.
            (known.usage.user, known.usage.system) = (known.stat.user, known.stat.system);
            return;
        }
        let renamed = known.stat.comm != before.comm;
        if !(due || renamed || has_run(&before, &known.stat)) {
            return;
        }
        // The pid may have gone to another process since its state was read.
        let same = |process: &Process| process.stat().is_some_and(|stat| stat.start == before.start);
        let Some(process) = reader.process(pid).filter(same) else { return };
        if self.has_changed_image(&process, &before, renamed, due) {
            self.replace(&process, out);
            return;
        }
        let Some(known) = self.known.get_mut(&pid) else { return };
        let at = clock::now();
        let status = process.status();
        known.used(&process, status);
        known.actor.auid = process.auid();
        known.actor.session = process.login_session();
        known.netns = process.network_namespace().unwrap_or(known.netns);
        if renamed {
            let old = std::mem::replace(&mut known.actor.comm, known.stat.comm.clone());
            out.push(Observation::Rename { at, actor: known.actor.clone(), old });
        }
        if let Some(status) = status.filter(|status| status.credentials != known.credentials) {
            known.credentials = status.credentials;
            known.actor.euid = status.credentials.euid;
            let (actor, credentials) = (known.actor.clone(), known.credentials);
            out.push(Observation::Credentials { at, actor, operation: "observed", credentials });
        }
    }

    /// Whether an exec lies between the last look and this one.
    fn has_changed_image(&mut self, process: &Process, before: &Stat, renamed: bool, due: bool) -> bool {
        let Some(known) = self.known.get_mut(&process.pid()) else { return false };
        let now = &known.stat;
        if before.is_kernel_thread() {
            return true;
        }
        if before.image.is_known() && now.image.is_known() {
            if before.image != now.image {
                return true;
            }
            // With the stack at a fixed address, an exec may leave it where it was.
            return due && known.file.is_some_and(|file| file_of(process).is_some_and(|now| now != file));
        }
        if now.image.is_known() {
            known.file = file_of(process).or(known.file);
        }
        // Without permission for more, a process that has another name and other arguments is taken for another program: one of them alone
        // is what prctl(2) and setproctitle(3) do.
        if !(renamed || due) {
            return false;
        }
        let Some(arguments) = process.arguments() else { return false };
        let arguments = self.hasher.hash_one(&arguments.bytes);
        std::mem::replace(&mut known.arguments, arguments) != arguments && renamed
    }

    /// Another image runs in a process that is known.
    fn replace(&mut self, process: &Process, out: &mut Outbox) {
        let Some((stat, mut task, program)) = process.found() else { return };
        let Some(known) = self.known.get(&process.pid()).filter(|known| known.stat.start == stat.start)
        else {
            return;
        };
        task.image = ImageId { execs: known.actor.image.execs.saturating_add(1), ..known.actor.image };
        let known = self.known(process, stat, &task, &program);
        self.known.insert(process.pid(), known);
        self.found(clock::now(), task, program, Origin::Poll, out);
    }

    /// A process is gone. `last`: its state, if its parent has not fetched its status yet.
    fn end(&mut self, pid: u32, last: Option<&Stat>, out: &mut Outbox) {
        let Some(mut known) = self.known.remove(&pid) else { return };
        // The status is 0 where we may not know it, so a 0 counts only where we may.
        let status = last.map(|last| last.exit).filter(|status| *status != 0 || known.stat.image.is_known());
        if let Some(last) = last {
            known.usage.user = known.usage.user.max(last.user);
            known.usage.system = known.usage.system.max(last.system);
        }
        out.push(Observation::Exit {
            at: clock::now(),
            image: known.actor.image,
            status,
            usage: Some(known.usage),
        });
    }
}

impl Known {
    fn used(&mut self, process: &Process, status: Option<Status>) {
        let usage = &mut self.usage;
        (usage.user, usage.system) = (self.stat.user, self.stat.system);
        let peak = status.or_else(|| process.status()).map_or(0, |status| status.peak_resident);
        usage.maxrss = usage.maxrss.max(peak).max(self.stat.resident.saturating_mul(page_size() as u64));
        if let Some(io) = process.io() {
            (usage.rchar, usage.wchar) = (io.rchar, io.wchar);
            (usage.read_bytes, usage.write_bytes) = (io.read_bytes, io.write_bytes);
        }
    }
}

fn identity(file: &ImageFile) -> (u32, u64) {
    (file.dev, file.inode)
}

fn file_of(process: &Process) -> Option<(u32, u64)> {
    process.image()?.1.as_ref().map(identity)
}

/// It has used the processor in between, as far as the coarse figures show.
fn has_run(before: &Stat, now: &Stat) -> bool {
    let figures = |stat: &Stat| {
        (stat.user, stat.system, stat.minor_faults, stat.size, stat.resident, stat.threads, stat.image)
    };
    figures(now) != figures(before)
}
