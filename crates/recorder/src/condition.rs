//! Conditions of the host: which hold, under which row. A condition whose values change ends one row and begins another.

mod account;
mod device;
mod fact;
mod interface;
mod mount;
mod route;

use std::{collections::HashMap, hash::Hash};

use luarm_schema::{End, Row, Time, Word, escape::escape};
use luarm_sensor::{
    BootNs,
    condition::{Condition, ConditionKind, User},
    observation::Origin,
};

use self::{
    account::{GroupState, UserKey, UserState},
    device::DeviceState,
    fact::FactState,
    interface::InterfaceState,
    mount::MountState,
    route::RouteState,
};
use crate::context::Context;

/// How many conditions of a kind may hold at once. Only root makes them.
const LIMIT: usize = 1 << 18;

/// What is kept of a kind of conditions: the values of an open row.
trait State: PartialEq + Sized {
    /// What tells one condition of the kind from another.
    type Key: Hash + Eq + Clone;

    /// Which it is.
    fn key(&self) -> Self::Key;

    /// Takes over what stays of the condition's row before, whose number is given.
    fn follow(&mut self, _before: &Self, _number: i64) {}

    /// Its row.
    fn row(&self, number: i64, created: Time, origin: Word) -> Row;

    /// What the open row of an earlier run says; `None` for a row of another table.
    fn of(row: &Row) -> Option<Self>;

    /// What ends its row.
    fn end(destroyed: Time, ended: Word) -> End;

    /// Whether it is among those that an inventory meets as long as it holds.
    fn is_listed(&self) -> bool {
        true
    }
}

/// When and how a condition ended.
#[derive(Clone, Copy)]
pub(crate) struct Ending {
    at: BootNs,
    ended: &'static str,
}

impl Ending {
    /// The sensor was told of it.
    pub(crate) fn seen(at: BootNs) -> Self {
        Self { at, ended: "event" }
    }

    /// The sensor found later that it had ended.
    pub(crate) fn unseen(at: BootNs) -> Self {
        Self { at, ended: "unseen" }
    }
}

/// The conditions of one kind.
struct Kind<S: State> {
    holding: HashMap<S::Key, (i64, S)>,
    /// Of an earlier run, and not met yet.
    remembered: HashMap<S::Key, (i64, S)>,
}

impl<S: State> Kind<S> {
    fn new(rows: &[Row]) -> Self {
        let states = rows.iter().filter_map(|row| S::of(row).map(|state| (row.key(), state)));
        let remembered = states.map(|(number, state)| (state.key(), (number, state))).collect();
        Self { holding: HashMap::new(), remembered }
    }

    fn set(&mut self, ctx: &mut Context, at: BootNs, mut state: S, origin: Origin) {
        let key = state.key();
        if self.holding.get(&key).is_some_and(|(_, known)| *known == state) {
            return;
        }
        if let Some(same) = self.remembered.remove(&key) {
            if same.1 == state {
                self.holding.insert(key, same);
                return;
            }
            // Seen now, it may have changed at any time since the recorder ended.
            let end = S::end(ctx.clock.time(at), Word::Borrowed("unseen"));
            ctx.draft.end(same.0, end);
            state.follow(&same.1, same.0);
        }
        let created = ctx.clock.time(at);
        if let Some((number, before)) = self.holding.remove(&key) {
            ctx.draft.end(number, S::end(created, Word::Borrowed("changed")));
            state.follow(&before, number);
        }
        if self.holding.len() >= LIMIT {
            let now = ctx.clock.now();
            crate::ledger::loss(ctx, ("conditions", "table-full"), 1, created, now);
            return;
        }
        let number = ctx.numbers.next(created);
        let origin = match origin {
            Origin::Event => "event",
            Origin::Found => "found",
            Origin::Poll => "poll",
        };
        ctx.draft.push(state.row(number, created, Word::Borrowed(origin)));
        self.holding.insert(key, (number, state));
    }

    fn end(&mut self, ctx: &mut Context, ending: Ending, key: &S::Key) {
        self.end_as(ctx, ending.at, key, ending.ended);
    }

    fn end_as(&mut self, ctx: &mut Context, at: BootNs, key: &S::Key, ended: &'static str) {
        if let Some((number, _)) = self.holding.remove(key).or_else(|| self.remembered.remove(key)) {
            ctx.draft.end(number, S::end(ctx.clock.time(at), Word::Borrowed(ended)));
        }
    }

    /// Ends what an earlier run remembers and an inventory did not meet.
    fn complete(&mut self, ctx: &mut Context) {
        for (key, (number, state)) in self.remembered.drain() {
            if !state.is_listed() {
                self.holding.insert(key, (number, state));
                continue;
            }
            ctx.draft.end(number, S::end(ctx.clock.now(), Word::Borrowed("unseen")));
        }
    }
}

/// All conditions of the host.
pub(crate) struct Conditions {
    facts: Kind<FactState>,
    interfaces: Kind<InterfaceState>,
    devices: Kind<DeviceState>,
    mounts: Kind<MountState>,
    routes: Kind<RouteState>,
    users: Kind<UserState>,
    groups: Kind<GroupState>,
}

impl Conditions {
    /// Takes up the rows that an earlier run left open.
    pub(crate) fn new(rows: &[Row]) -> Self {
        Self {
            facts: Kind::new(rows),
            interfaces: Kind::new(rows),
            routes: Kind::new(rows),
            users: Kind::new(rows),
            groups: Kind::new(rows),
            devices: Kind::new(rows),
            mounts: Kind::new(rows),
        }
    }

    pub(crate) fn set(&mut self, ctx: &mut Context, at: BootNs, condition: Condition, origin: Origin) {
        match condition {
            Condition::Fact(fact) => self.facts.set(ctx, at, (&fact).into(), origin),
            Condition::Interface(interface) => self.interfaces.set(ctx, at, (&interface).into(), origin),
            Condition::Device(device) => self.devices.set(ctx, at, (&device).into(), origin),
            Condition::Mount(mount) => {
                let attachment = mount.attached_to.as_ref().and_then(|path| {
                    let (number, device) = self.devices.holding.get(path)?;
                    Some(device.attachment(*number))
                });
                self.mounts.set(ctx, at, MountState::new(&mount, attachment), origin);
            }
            Condition::Route(route) => self.routes.set(ctx, at, (&route).into(), origin),
            Condition::User(user) => self.set_user(ctx, at, &user, origin),
            Condition::Group(group) => self.groups.set(ctx, at, (&group).into(), origin),
            Condition::Login(_) => {}
        }
    }

    fn set_user(&mut self, ctx: &mut Context, at: BootNs, user: &User, origin: Origin) {
        let state = UserState::from(user);
        if user.remote {
            let local = self.users.holding.get(&UserKey::File(escape(&user.name)));
            if local.is_some_and(|(_, local)| local.uid == user.uid) {
                return;
            }
        } else {
            self.users.end_as(ctx, at, &UserKey::Nss(user.uid), "changed");
        }
        self.users.set(ctx, at, state, origin);
    }

    /// What other sources than the local files say of a user who was met; `None` when they know nothing, or no more.
    pub(crate) fn met(&mut self, ctx: &mut Context, at: BootNs, uid: u32, user: Option<User>) {
        match user {
            Some(user) => self.set_user(ctx, at, &user, Origin::Event),
            None => self.users.end_as(ctx, at, &UserKey::Nss(uid), "unseen"),
        }
    }

    pub(crate) fn end(&mut self, ctx: &mut Context, at: Ending, condition: &Condition) {
        match condition {
            Condition::Fact(fact) => self.facts.end(ctx, at, &FactState::from(fact).key()),
            Condition::Interface(interface) => {
                self.interfaces.end(ctx, at, &InterfaceState::from(interface).key());
            }
            Condition::Device(device) => self.devices.end(ctx, at, &device.path),
            Condition::Mount(mount) => self.mounts.end(ctx, at, &mount.id),
            Condition::Route(route) => self.routes.end(ctx, at, &RouteState::from(route).key()),
            Condition::User(user) => self.users.end(ctx, at, &UserState::from(user).key()),
            Condition::Group(group) => self.groups.end(ctx, at, &GroupState::from(group).key()),
            Condition::Login(_) => {}
        }
    }

    pub(crate) fn complete(&mut self, ctx: &mut Context, kind: ConditionKind) {
        match kind {
            ConditionKind::Fact => self.facts.complete(ctx),
            ConditionKind::Interface => self.interfaces.complete(ctx),
            ConditionKind::Device => self.devices.complete(ctx),
            ConditionKind::Mount => self.mounts.complete(ctx),
            ConditionKind::Route => self.routes.complete(ctx),
            ConditionKind::User => self.users.complete(ctx),
            ConditionKind::Group => self.groups.complete(ctx),
            ConditionKind::Login => {}
        }
    }
}

/// Ends the rows of an earlier boot: what is still so is told anew.
pub(crate) fn end_all(ctx: &mut Context, rows: Vec<Row>, boottime: Time) {
    let kinds = [
        boot::<FactState>,
        boot::<InterfaceState>,
        boot::<RouteState>,
        boot::<UserState>,
        boot::<GroupState>,
        boot::<DeviceState>,
        boot::<MountState>,
        crate::session::boot,
    ];
    for row in rows {
        if let Some(end) = kinds.iter().find_map(|kind| kind(&row, boottime)) {
            ctx.draft.end(row.key(), end);
        }
    }
}

/// What ends the row of a kind when the host booted; `None` for a row of another.
fn boot<S: State>(row: &Row, boottime: Time) -> Option<End> {
    S::of(row).map(|_| S::end(boottime.max(row.created()), Word::Borrowed("boot")))
}
