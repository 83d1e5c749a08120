//! Logins. What the kernel keeps of a login is a session id that every process below it inherits; so a session is its processes, from the one in which
//! the login took place to the last one that ends.
//!
//! The kernel does not tell when a process logs in, only that its children belong to a session then. A session id that a child has and its creator
//! had not before is that of the creator too: there the login took place. The same holds for the image before an exec.
//!
//! A session is held back for a while before it becomes a row, because what login records say of it comes a little later; and it ends when it has had
//! no process for a while, because processors deliver their events slightly out of order.

mod login;
mod peer;
mod row;

use std::{
    collections::{HashMap, VecDeque},
    net::IpAddr,
};

use luarm_schema::{Row, Time};
use luarm_sensor::{
    BootNs,
    observation::{Endpoint, ImageId, Task},
};

pub(crate) use self::row::{boot, end};
use self::{login::Logins, peer::Peers};
use crate::{bounded::QuickMap, context::Context, identity::same_process, process::Processes};

/// How long a session waits to be told of.
const HELD_BACK: BootNs = 1_000_000_000;
/// How many sessions are followed.
const LIMIT: usize = 1 << 17;

/// How a process was met.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Met {
    /// It was forked.
    Fork,
    /// It runs another image.
    Exec,
    /// It was there, or a polling sensor saw it.
    There(&'static str),
}

/// A login session of the kernel.
struct Session {
    /// Its row, once it has one.
    row: Option<i64>,
    began: BootNs,
    origin: &'static str,
    auid: Option<u32>,
    /// The process in which the login took place, and its image's row; where that was not seen, the oldest process that is known.
    leader: ImageId,
    psentity: Option<i64>,
    service: Option<String>,
    tty: Option<Vec<u8>>,
    address: Option<IpAddr>,
    processes: usize,
    /// When its last process ended.
    ended: Option<BootNs>,
}

/// All logins.
pub(crate) struct Sessions {
    bootentity: i64,
    /// The time before this run for which another one was there to tell.
    gap: Option<(Time, Time)>,
    /// The processes that belong to a session, by pid.
    members: QuickMap<u32, (ImageId, u32)>,
    live: HashMap<u32, Session>,
    /// Rows of an earlier run whose sessions were not met yet.
    remembered: HashMap<u32, i64>,
    /// Sessions that began or lost their last process, in that order; each is looked at once it has waited.
    waiting: VecDeque<(BootNs, u32)>,
    logins: Logins,
    peers: Peers,
}

impl Sessions {
    /// Takes up the rows of this boot that an earlier run left open; `gap` is from its last batch to now.
    pub(crate) fn new(bootentity: i64, gap: Option<(Time, Time)>, rows: &[Row]) -> Self {
        let (mut remembered, mut logins) = (HashMap::new(), Logins::default());
        for row in rows {
            if let Row::SessionInfo(row) = row {
                match row.session {
                    Some(session) => drop(remembered.insert(session, row.sessionentity)),
                    None => logins.remember(row),
                }
            }
        }
        let (members, live, waiting) = Default::default();
        Self { bootentity, gap, members, live, remembered, waiting, logins, peers: Peers::new() }
    }

    /// A connection was accepted.
    pub(crate) fn accepted(&mut self, endpoint: &Endpoint) {
        self.peers.accepted(endpoint);
    }

    /// A process was met. To be told before the table of processes is.
    pub(crate) fn met(
        &mut self,
        ctx: &mut Context,
        processes: &mut Processes,
        (at, task, met): (BootNs, &Task, Met),
    ) {
        if met == Met::Fork {
            self.peers.fork(task);
        }
        let image = task.image;
        let member = self.members.get(&image.pid).copied();
        let Some(session) = task.session else {
            if member.is_some() {
                self.leave(image.pid, at);
            }
            return;
        };
        if member.is_some_and(|(known, of)| of == session && same_process(known, image)) {
            self.terminal(session, task);
            return;
        }
        let before = match met {
            Met::Fork => task.creator.and_then(|creator| processes.running_image(creator)),
            Met::Exec => processes.running_image(image),
            Met::There(_) => None,
        };
        if member.is_some() {
            self.leave(image.pid, at);
        }
        let before = before.filter(|before| {
            !self
                .members
                .get(&before.pid)
                .is_some_and(|(known, of)| *of == session && same_process(*known, *before))
        });
        if !self.live.contains_key(&session)
            && !self.begin(ctx, processes, (at, task, met), (session, before))
        {
            return;
        }
        if let Some(before) = before.filter(|before| before.pid != image.pid) {
            if self.members.contains_key(&before.pid) {
                self.leave(before.pid, at);
            }
            self.enter(before, session);
        }
        self.enter(image, session);
        self.terminal(session, task);
    }

    /// A process ended.
    pub(crate) fn exit(&mut self, ctx: &mut Context, at: BootNs, image: ImageId) {
        if self.members.get(&image.pid).is_some_and(|(known, _)| same_process(*known, image)) {
            self.leave(image.pid, at);
        }
        self.logins.exit(ctx, at, image);
    }

    /// Tells of what has waited long enough at `now`.
    pub(crate) fn settle(&mut self, ctx: &mut Context, processes: &mut Processes, now: BootNs) {
        while let Some(&(since, session)) = self.waiting.front()
            && since.saturating_add(HELD_BACK) <= now
        {
            self.waiting.pop_front();
            self.look_at(ctx, processes, (session, now));
        }
        for key in self.logins.waited(now.saturating_sub(HELD_BACK)) {
            self.tell_login(ctx, processes, &key);
        }
    }

    /// Tells of everything that waits.
    pub(crate) fn settle_all(&mut self, ctx: &mut Context, processes: &mut Processes) {
        self.settle(ctx, processes, BootNs::MAX);
    }

    /// Since when the oldest of what waits has.
    pub(crate) fn oldest_waiting(&self) -> Option<BootNs> {
        self.waiting.iter().map(|(since, _)| *since).chain(self.logins.oldest_waiting()).min()
    }

    /// Ends the rows of sessions of which an inventory met no process.
    pub(crate) fn complete(&mut self, ctx: &mut Context, processes: &Processes) {
        for number in std::mem::take(&mut self.remembered).into_values() {
            ctx.draft.end(number, end(ctx.clock.now(), "unseen"));
        }
        let at = ctx.clock.latest();
        let gone = self.members.iter().filter(|(_, (image, _))| !processes.is_live(*image));
        for pid in gone.map(|(&pid, _)| pid).collect::<Vec<_>>() {
            self.leave(pid, at);
        }
    }

    fn begin(
        &mut self,
        ctx: &mut Context,
        processes: &mut Processes,
        (at, task, met): (BootNs, &Task, Met),
        (session, before): (u32, Option<ImageId>),
    ) -> bool {
        if self.live.len() >= LIMIT {
            let now = ctx.clock.time(at);
            crate::ledger::loss(ctx, ("logins", "table-full"), 1, now, now);
            return false;
        }
        // A name that has to be asked for may be known when the row is made.
        ctx.loginname(task.auid);
        let origin = if let Met::There(origin) = met { origin } else { "event" };
        self.live.insert(
            session,
            Session {
                row: self.remembered.remove(&session),
                began: at,
                origin,
                auid: task.auid,
                leader: before.unwrap_or(task.image),
                psentity: before.and_then(|image| processes.creator(ctx, Some(image))),
                service: before.and_then(|image| processes.application(image)),
                tty: None,
                address: before.and_then(|image| self.peers.of(image)),
                processes: 0,
                ended: None,
            },
        );
        self.waiting.push_back((at, session));
        true
    }

    fn enter(&mut self, image: ImageId, session: u32) {
        if let Some(known) = self.live.get_mut(&session) {
            known.processes += 1;
            known.ended = None;
            if known.origin != "event" && known.psentity.is_none() && image.start < known.leader.start {
                known.leader = image;
            }
            self.members.insert(image.pid, (image, session));
        }
    }

    fn leave(&mut self, pid: u32, at: BootNs) {
        let Some((_, session)) = self.members.remove(&pid) else { return };
        let Some(known) = self.live.get_mut(&session) else { return };
        known.processes = known.processes.saturating_sub(1);
        if known.processes == 0 {
            known.ended = Some(at);
            self.waiting.push_back((at, session));
        }
    }

    /// The first terminal that a process of a session has, as long as there is no row.
    fn terminal(&mut self, session: u32, task: &Task) {
        if let Some(tty) = &task.tty
            && let Some(known) = self.live.get_mut(&session)
            && known.row.is_none()
            && known.tty.is_none()
        {
            known.tty = Some(tty.clone());
        }
    }

    fn look_at(&mut self, ctx: &mut Context, processes: &mut Processes, (session, now): (u32, BootNs)) {
        let Some(known) = self.live.get(&session) else { return };
        if known.row.is_none() {
            self.tell(ctx, processes, session);
        }
        let over =
            |known: &mut Session| known.ended.is_some_and(|ended| ended.saturating_add(HELD_BACK) <= now);
        if self.live.get_mut(&session).is_some_and(over)
            && let Some(Session { row: Some(number), ended: Some(ended), began, .. }) =
                self.live.remove(&session)
        {
            let destroyed: Time = ctx.clock.time(ended.max(began));
            ctx.draft.end(number, end(destroyed, "exit"));
        }
    }
}
