//! Acts of privilege: changes of credentials, and what a process does to the kernel and to other processes.

use luarm_schema::{Word, escape::escape, tables::PrivInfo};
use luarm_sensor::{
    BootNs,
    observation::{Actor, Capabilities, Credentials, Privilege},
};

use super::{Process, Processes, activity::UNKNOWN};
use crate::context::{Context, UNKNOWN_ID};

/// What a row tells beside who did it.
struct Act<'a> {
    at: BootNs,
    operation: &'static str,
    result: i32,
    detail: &'a [u8],
    old: Credentials,
    new: Credentials,
    target: Option<(i64, &'a Actor)>,
}

impl Processes {
    pub(crate) fn credentials(
        &mut self,
        ctx: &mut Context,
        at: BootNs,
        actor: &Actor,
        operation: &'static str,
        new: Credentials,
    ) {
        // Every thread of a process tells of the change.
        if self.running(actor.image).is_some_and(|process| process.task.credentials == new) {
            return;
        }
        let psentity = self.actor(ctx, actor, at, true);
        let old = self.take_on(actor, new);
        let act = Act { at, operation, result: 0, detail: &[], old, new, target: None };
        privinfo(ctx, psentity, actor, &act);
    }

    /// The change of credentials by the exec of a file that grants them.
    pub(super) fn privileges_at_exec(&mut self, ctx: &mut Context, at: BootNs, old: &Process) {
        let Some(process) = self.live.get(&old.image.pid) else { return };
        let (before, after) = (old.task.credentials, process.task.credentials);
        if before == after || before.uid == UNKNOWN_ID || after.uid == UNKNOWN_ID {
            return;
        }
        let actor = Actor {
            image: process.image,
            comm: process.task.comm.clone(),
            euid: after.euid,
            auid: process.task.auid,
            session: process.task.session,
        };
        let psentity = process.psentity;
        let act =
            Act { at, operation: "exec", result: 0, detail: &[], old: before, new: after, target: None };
        privinfo(ctx, psentity, &actor, &act);
    }

    /// Gives the numbers of the row and of the image that did it.
    pub(crate) fn privilege(&mut self, ctx: &mut Context, privilege: &Privilege) -> (i64, i64) {
        let Privilege { at, actor, credentials, operation, result, target, detail } = privilege;
        let psentity = self.actor(ctx, actor, *at, true);
        // The target may have ended, and be forgotten already.
        let target = target.as_ref().map(|target| (self.actor(ctx, target, *at, false), target));
        // Entering a user namespace gives capabilities there.
        let changes = *result == 0 && ["setns", "unshare"].contains(operation);
        let old = if changes { self.take_on(actor, *credentials) } else { *credentials };
        let act = Act { at: *at, operation, result: *result, detail, old, new: *credentials, target };
        (privinfo(ctx, psentity, actor, &act), psentity)
    }

    /// The process has these credentials from now on; gives those before.
    fn take_on(&mut self, actor: &Actor, new: Credentials) -> Credentials {
        match self.running(actor.image) {
            Some(process) => std::mem::replace(&mut process.task.credentials, new),
            None => UNKNOWN,
        }
    }
}

/// Gives the row's number.
fn privinfo(ctx: &mut Context, psentity: i64, actor: &Actor, act: &Act<'_>) -> i64 {
    let created = ctx.clock.time(act.at);
    let privid = ctx.numbers.next(created);
    let Act { old, new, .. } = *act;
    let set = |of: Credentials, which: fn(Capabilities) -> u64| {
        of.capabilities.map(|all| format!("{:016x}", which(all)))
    };
    let target = act.target.map(|(_, target)| target);
    let row = PrivInfo {
        privid,
        psentity,
        username: ctx.username(new.euid),
        loginname: ctx.loginname(actor.auid),
        pid: actor.image.pid,
        application: escape(&actor.comm),
        operation: Word::Borrowed(act.operation),
        result: act.result,
        detail: (!act.detail.is_empty()).then(|| escape(act.detail)),
        targetentity: act.target.map(|(psentity, _)| psentity),
        targetpid: target.map(|target| target.image.pid),
        targetusername: target.map(|target| ctx.username(target.euid)),
        targetapplication: target.map(|target| escape(&target.comm)),
        olduid: old.uid,
        oldeuid: old.euid,
        oldgid: old.gid,
        oldegid: old.egid,
        oldcapinh: set(old, |all| all.inheritable),
        oldcapprm: set(old, |all| all.permitted),
        oldcapeff: set(old, |all| all.effective),
        uid: new.uid,
        euid: new.euid,
        suid: new.suid,
        fsuid: new.fsuid,
        gid: new.gid,
        egid: new.egid,
        sgid: new.sgid,
        fsgid: new.fsgid,
        capinh: set(new, |all| all.inheritable),
        capprm: set(new, |all| all.permitted),
        capeff: set(new, |all| all.effective),
        auid: actor.auid,
        session: actor.session,
        created,
        end: None,
    };
    ctx.draft.push(row);
    privid
}
