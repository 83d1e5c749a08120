//! What was told, so that only what changed is told again.

use std::collections::HashMap;

use super::{
    lines::{self, Flaws, Shadow},
    source::whole,
};
use crate::{
    clock,
    condition::Condition,
    observation::{BootNs, Loss, Observation, Origin},
};

/// How many users or groups are followed.
const LIMIT: usize = 1 << 18;

/// What was told of one kind: by name, a number for the values.
#[derive(Default)]
pub(super) struct Told {
    pub(super) known: HashMap<Box<[u8]>, u64>,
    flaws: Flaws,
    overfull: u64,
}

/// A change of the file, as it is told.
pub(super) struct Change<'a> {
    out: &'a mut Vec<Observation>,
    at: BootNs,
    origin: Origin,
    class: &'static str,
    before: HashMap<Box<[u8]>, u64>,
    overfull: u64,
}

impl Told {
    pub(super) fn begin<'a>(
        &mut self,
        out: &'a mut Vec<Observation>,
        class: &'static str,
        origin: Origin,
    ) -> Change<'a> {
        let before = std::mem::take(&mut self.known);
        Change { out, at: clock::now(), origin, class, before, overfull: 0 }
    }

    /// Tells of one member, unless it was told of with the same values.
    pub(super) fn meet(
        &mut self,
        change: &mut Change<'_>,
        (name, values): (&[u8], u64),
        condition: impl FnOnce() -> Condition,
    ) {
        if self.known.len() >= LIMIT {
            change.overfull += 1;
            return;
        }
        let (name, known) =
            change.before.remove_entry(name).map_or_else(|| (name.into(), None), |(n, v)| (n, Some(v)));
        self.known.insert(name, values);
        if known != Some(values) {
            let condition = Box::new(condition());
            change.out.push(Observation::Condition { at: change.at, condition, origin: change.origin });
        }
    }

    /// Whether a user who was not told of yet has no line in the shadow file where one belongs.
    pub(super) fn lacks(&self, passwd: &[u8], shadow: &HashMap<&[u8], Shadow>) -> bool {
        let mut lacks = false;
        lines::users(whole(passwd), Some(shadow), |user| {
            lacks |= user.password.is_none() && !self.known.contains_key(&user.name[..]);
        });
        lacks
    }

    /// Ends those that are no more, and tells of what could not be taken, once.
    pub(super) fn end(&mut self, change: Change<'_>, flaws: Flaws, condition: impl Fn(Vec<u8>) -> Condition) {
        let Change { out, at, class, before, overfull, .. } = change;
        for name in before.into_keys() {
            out.push(Observation::ConditionEnd { at, condition: Box::new(condition(name.into())) });
        }
        let counts = [
            ("malformed-line", flaws.malformed, self.flaws.malformed),
            ("repeated-name", flaws.repeated, self.flaws.repeated),
            ("table-full", overfull, self.overfull),
        ];
        for (cause, count, told) in counts {
            if count > told {
                out.push(Observation::Loss(Loss { class, cause, count: count - told, from: at, until: at }));
            }
        }
        (self.flaws, self.overfull) = (flaws, overfull);
    }
}
