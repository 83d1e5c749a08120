//! Conditions of the host: which hold, under which row. A condition whose values change ends one row and begins another.

mod device;
mod mount;
mod route;

use std::{collections::HashMap, hash::Hash};

use luarm_schema::{End, Row, Time, Word};
use luarm_sensor::{
    BootNs,
    condition::{Condition, ConditionKind},
    observation::Origin,
};

use self::{device::DeviceState, mount::MountState, route::RouteState};
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

    fn end(&mut self, ctx: &mut Context, at: BootNs, key: &S::Key) {
        if let Some((number, _)) = self.holding.remove(key).or_else(|| self.remembered.remove(key)) {
            ctx.draft.end(number, S::end(ctx.clock.time(at), Word::Borrowed("event")));
        }
    }

    /// Ends what an earlier run remembers and an inventory did not meet.
    fn complete(&mut self, ctx: &mut Context) {
        for (_, (number, _)) in self.remembered.drain() {
            ctx.draft.end(number, S::end(ctx.clock.now(), Word::Borrowed("unseen")));
        }
    }
}

/// All conditions of the host.
pub(crate) struct Conditions {
    devices: Kind<DeviceState>,
    mounts: Kind<MountState>,
    routes: Kind<RouteState>,
}

impl Conditions {
    /// Takes up the rows that an earlier run left open.
    pub(crate) fn new(rows: &[Row]) -> Self {
        Self { devices: Kind::new(rows), mounts: Kind::new(rows), routes: Kind::new(rows) }
    }

    pub(crate) fn set(&mut self, ctx: &mut Context, at: BootNs, condition: Condition, origin: Origin) {
        match condition {
            Condition::Device(device) => self.devices.set(ctx, at, (&device).into(), origin),
            Condition::Mount(mount) => {
                let attachment = mount.attached_to.as_ref().and_then(|path| {
                    let (number, device) = self.devices.holding.get(path)?;
                    Some(device.attachment(*number))
                });
                self.mounts.set(ctx, at, MountState::new(&mount, attachment), origin);
            }
            Condition::Route(route) => self.routes.set(ctx, at, (&route).into(), origin),
        }
    }

    pub(crate) fn end(&mut self, ctx: &mut Context, at: BootNs, condition: &Condition) {
        match condition {
            Condition::Device(device) => self.devices.end(ctx, at, &device.path),
            Condition::Mount(mount) => self.mounts.end(ctx, at, &mount.id),
            Condition::Route(route) => self.routes.end(ctx, at, &RouteState::from(route).key()),
        }
    }

    pub(crate) fn complete(&mut self, ctx: &mut Context, kind: ConditionKind) {
        match kind {
            ConditionKind::Device => self.devices.complete(ctx),
            ConditionKind::Mount => self.mounts.complete(ctx),
            ConditionKind::Route => self.routes.complete(ctx),
        }
    }
}

/// Ends the rows of an earlier boot: what is still so is told anew.
pub(crate) fn end_all(ctx: &mut Context, rows: Vec<Row>, boottime: Time) {
    for row in rows {
        let ended = Word::Borrowed("boot");
        let end = match row {
            Row::HwInfo(_) => Some(DeviceState::end(boottime, ended)),
            Row::MountInfo(_) => Some(MountState::end(boottime, ended)),
            Row::NetRoute(_) => Some(RouteState::end(boottime, ended)),
            _ => None,
        };
        if let Some(end) = end {
            ctx.draft.end(row.key(), end);
        }
    }
}
