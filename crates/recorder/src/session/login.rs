//! What login records say. Each belongs to the session that it names; else to that of its process; else to that on its terminal. One that belongs to no
//! session has a row of its own.

use std::collections::{HashMap, VecDeque};

use luarm_schema::{Time, escape::escape, tables::SessionInfo};
use luarm_sensor::{
    BootNs,
    condition::{Login, LoginSource},
    observation::ImageId,
};

use super::{Sessions, end};
use crate::{bounded::QuickMap, context::Context, identity::same_process, process::Processes};

/// How many records are kept.
const LIMIT: usize = 1 << 14;

pub(super) type Key = (LoginSource, Vec<u8>);

/// A record, and the row that it has if it belongs to no session.
pub(super) struct Known {
    pub(super) login: Login,
    pub(super) at: BootNs,
    pub(super) row: Option<i64>,
}

/// What tells a row of an earlier run from others: process, terminal and user.
type Mark = (Option<u32>, Option<String>, String);

#[derive(Default)]
pub(super) struct Logins {
    pub(super) known: HashMap<Key, Known>,
    waiting: VecDeque<(BootNs, Key)>,
    /// The processes of those that have rows.
    processes: QuickMap<u32, (ImageId, Key)>,
    remembered: HashMap<Mark, i64>,
}

/// The terminal as columns show it.
pub(super) fn terminal(tty: &[u8]) -> Vec<u8> {
    tty.iter().copied().filter(|&b| b != b'/').collect()
}

fn mark(login: &Login) -> Mark {
    let tty = login.tty.as_deref().map(|tty| escape(&terminal(tty)));
    (Some(login.pid).filter(|&pid| pid != 0), tty, escape(&login.user))
}

impl Logins {
    pub(super) fn remember(&mut self, row: &SessionInfo) {
        let mark = (row.pid, row.tty.clone(), row.username.to_string());
        self.remembered.insert(mark, row.sessionentity);
    }

    /// Those that have waited since `since`.
    pub(super) fn waited(&mut self, since: BootNs) -> Vec<Key> {
        let count = self.waiting.iter().take_while(|(at, _)| *at <= since).count();
        self.waiting.drain(..count).map(|(_, key)| key).collect()
    }

    pub(super) fn oldest_waiting(&self) -> Option<BootNs> {
        self.waiting.front().map(|(at, _)| *at)
    }

    /// The process of a record ended, and with it the login.
    pub(super) fn exit(&mut self, ctx: &mut Context, at: BootNs, image: ImageId) {
        if !self.processes.get(&image.pid).is_some_and(|(known, _)| same_process(*known, image)) {
            return;
        }
        if let Some((_, key)) = self.processes.remove(&image.pid)
            && let Some(number) = self.known.get_mut(&key).and_then(|known| known.row.take())
        {
            ctx.draft.end(number, end(ctx.clock.time(at), "exit"));
        }
    }

    /// Another row tells of it from now on, or it is over.
    pub(super) fn end_row(&mut self, ctx: &mut Context, at: BootNs, key: &Key, ended: &'static str) {
        if let Some(known) = self.known.get_mut(key)
            && let Some(number) = known.row.take()
        {
            self.processes.remove(&known.login.pid);
            ctx.draft.end(number, end(ctx.clock.time(at), ended));
        }
    }

    fn set(&mut self, ctx: &mut Context, at: BootNs, login: Login) {
        let key = (login.source, login.id.clone());
        if let Some(known) = self.known.get_mut(&key) {
            known.login = login;
            return;
        }
        if self.known.len() >= LIMIT {
            let now = ctx.clock.time(at);
            crate::ledger::loss(ctx, ("logins", "table-full"), 1, now, now);
            return;
        }
        let row = self.remembered.remove(&mark(&login));
        self.known.insert(key.clone(), Known { login, at, row });
        self.waiting.push_back((at, key));
    }
}

impl Sessions {
    /// A record exists, or says something else from now on.
    pub(crate) fn login(&mut self, ctx: &mut Context, at: BootNs, login: Login) {
        match login.until {
            Some(until) => self.past_login(ctx, &login, (Time(login.since), Time(until))),
            None => self.logins.set(ctx, at, login),
        }
    }

    /// A login that began and ended while nothing watched; what began or ended at another time has its row by other means.
    fn past_login(&mut self, ctx: &mut Context, login: &Login, (created, destroyed): (Time, Time)) {
        if self.gap.is_some_and(|(from, to)| from < created && created <= destroyed && destroyed < to) {
            let number = ctx.numbers.next(created);
            let row = self.login_row(number, login, (created, None));
            ctx.draft.push(row);
            ctx.draft.end(number, end(destroyed, "logout"));
        }
    }

    /// A record is no more.
    pub(crate) fn logout(&mut self, ctx: &mut Context, processes: &mut Processes, at: BootNs, login: &Login) {
        let key = (login.source, login.id.clone());
        // What still waits is told of while the record is at hand.
        match self.session_of(login) {
            Some(session) if self.live.get(&session).is_some_and(|known| known.row.is_none()) => {
                self.tell(ctx, processes, session);
            }
            Some(_) => {}
            None => self.tell_login(ctx, processes, &key),
        }
        self.logins.end_row(ctx, at, &key, "logout");
        self.logins.known.remove(&key);
    }

    /// Ends the rows of records that are no more.
    pub(crate) fn logins_complete(&mut self, ctx: &mut Context) {
        for number in std::mem::take(&mut self.logins.remembered).into_values() {
            ctx.draft.end(number, end(ctx.clock.now(), "unseen"));
        }
    }

    /// The session to which a record belongs.
    pub(super) fn session_of(&self, login: &Login) -> Option<u32> {
        let named = login.session.filter(|session| self.live.contains_key(session));
        let by_process = || self.members.get(&login.pid).map(|(_, session)| *session);
        let by_terminal = || {
            let tty = terminal(login.tty.as_deref()?);
            let mut on_it = self.live.iter().filter(|(_, session)| session.tty.as_ref() == Some(&tty));
            on_it.find(|(_, session)| session.ended.is_none()).map(|(&session, _)| session)
        };
        named.or_else(by_process).or_else(by_terminal)
    }

    /// Makes a row for a record that belongs to no session.
    pub(super) fn tell_login(&mut self, ctx: &mut Context, processes: &mut Processes, key: &Key) {
        let Some(Known { login, at, row }) = self.logins.known.get(key) else { return };
        let (at, login) = (*at, login.clone());
        let told = row.is_some();
        if self.session_of(&login).is_some() {
            self.logins.end_row(ctx, at, key, "changed");
            return;
        }
        let image = processes.with_pid(login.pid);
        if !told {
            // Two sources may keep a record of one login.
            let same = |known: &Known| known.row.is_some() && mark(&known.login) == mark(&login);
            if self.logins.known.values().any(same) {
                return;
            }
            let psentity = image.and_then(|image| processes.creator(ctx, Some(image)));
            let created =
                if login.since > 0 { Time(login.since).min(ctx.clock.now()) } else { ctx.clock.time(at) };
            let number = ctx.numbers.next(created);
            let row = self.login_row(number, &login, (created, psentity));
            ctx.draft.push(row);
            if let Some(known) = self.logins.known.get_mut(key) {
                known.row = Some(number);
            }
        }
        if let Some(image) = image {
            self.logins.processes.insert(image.pid, (image, key.clone()));
        }
    }
}
