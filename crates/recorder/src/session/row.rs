//! Rows of `sessioninfo`, and what ends them.

use std::sync::Arc;

use luarm_schema::{
    End, Row, Time, Word,
    escape::escape,
    tables::{SessionInfo, SessionInfoEnd},
};
use luarm_sensor::condition::{Login, LoginSource};

use super::{
    Sessions,
    login::{Key, terminal},
};
use crate::{context::Context, process::Processes};

/// What ends a row.
pub(crate) fn end(destroyed: Time, ended: &'static str) -> End {
    End::SessionInfo(SessionInfoEnd { destroyed, ended: Word::Borrowed(ended) })
}

impl Sessions {
    /// Makes the row of a session, with what login records say of it: that of its own process first, then the oldest.
    pub(super) fn tell(&mut self, ctx: &mut Context, processes: &mut Processes, session: u32) {
        let Some(known) = self.live.get(&session) else { return };
        let leader = known.leader;
        let found = known.origin != "event";
        let mut keys: Vec<&Key> = self.logins.known.keys().filter(|key| self.belongs(key, session)).collect();
        keys.sort_by_key(|key| {
            self.logins.known.get(*key).map(|k| (k.login.pid != leader.pid, k.login.since))
        });
        let keys: Vec<Key> = keys.into_iter().cloned().collect();
        let records: Vec<&Login> =
            keys.iter().filter_map(|key| Some(&self.logins.known.get(key)?.login)).collect();
        let text = |of: fn(&Login) -> Option<&Vec<u8>>| {
            records.iter().find_map(|record| of(record)).map(|t| escape(t))
        };
        let service = text(|login| login.service.as_ref());
        let tty = records.iter().find_map(|record| record.tty.as_deref()).map(terminal);
        let host = text(|login| login.host.as_ref());
        let user = text(|login| Some(&login.user));
        let address = records.iter().find_map(|record| record.address);
        let loginname = ctx.loginname(known.auid);
        let began = if found { leader.start.min(known.began) } else { known.began };
        let created = ctx.clock.time(began);
        let number = ctx.numbers.next(created);
        let mut row = SessionInfo {
            sessionentity: number,
            bootentity: self.bootentity,
            session: Some(session),
            username: user.map(Arc::from).or_else(|| loginname.clone()).unwrap_or_default(),
            loginname,
            auid: known.auid,
            service: service.or_else(|| known.service.clone()),
            tty: tty.as_deref().or(known.tty.as_deref()).map(escape),
            remotehost: host,
            remoteaddress: address.or(known.address).map(|address| address.to_string()),
            pid: Some(leader.pid),
            psentity: known.psentity,
            origin: Word::Borrowed(known.origin),
            created,
            end: None,
        };
        if row.psentity.is_none()
            && let Some(image) = processes.running_image(leader)
        {
            row.psentity = processes.creator(ctx, Some(image));
            row.service = row.service.or_else(|| processes.application(leader));
        }
        ctx.draft.push(row);
        if let Some(known) = self.live.get_mut(&session) {
            known.row = Some(number);
        }
        let now = ctx.clock.latest();
        for key in keys {
            self.logins.end_row(ctx, now, &key, "changed");
        }
    }

    fn belongs(&self, key: &Key, session: u32) -> bool {
        self.logins.known.get(key).is_some_and(|known| self.session_of(&known.login) == Some(session))
    }

    /// The row of a login that a record alone tells of.
    pub(super) fn login_row(
        &self,
        number: i64,
        login: &Login,
        (created, psentity): (Time, Option<i64>),
    ) -> SessionInfo {
        SessionInfo {
            sessionentity: number,
            bootentity: self.bootentity,
            session: None,
            username: escape(&login.user).into(),
            loginname: None,
            auid: None,
            service: login.service.as_deref().map(escape),
            tty: login.tty.as_deref().map(|tty| escape(&terminal(tty))),
            remotehost: login.host.as_deref().map(escape),
            remoteaddress: login.address.map(|address| address.to_string()),
            pid: Some(login.pid).filter(|&pid| pid != 0),
            psentity,
            origin: Word::Borrowed(match login.source {
                LoginSource::Utmp => "utmp",
                LoginSource::Wtmp => "wtmp",
                LoginSource::Wtmpdb => "wtmpdb",
                LoginSource::Logind => "logind",
            }),
            created,
            end: None,
        }
    }
}

/// What ends the row of an earlier boot; `None` for one of another table.
pub(crate) fn boot(row: &Row, boottime: Time) -> Option<End> {
    matches!(row, Row::SessionInfo(_)).then(|| end(boottime.max(row.created()), "boot"))
}
