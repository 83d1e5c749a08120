//! What every part of the recorder shares: the clock, the numbers, the users, and the batch being written.

use std::sync::Arc;

use luarm_sensor::HostFacts;

use crate::{
    Users,
    clock::{Clock, Numbers},
    digest::Digests,
    draft::Draft,
    identity::Identity,
};

/// Stands for a user or group id that was not seen: the id that setreuid(2) reserves for "none".
pub(crate) const UNKNOWN_ID: u32 = u32::MAX;

pub(crate) struct Context {
    pub(crate) host: HostFacts,
    pub(crate) clock: Clock,
    pub(crate) numbers: Numbers,
    pub(crate) identity: Identity,
    pub(crate) draft: Draft,
    pub(crate) users: Box<dyn Users>,
    pub(crate) digests: Digests,
}

impl Context {
    /// The user's name; empty for one that was not seen.
    pub(crate) fn username(&mut self, uid: u32) -> Arc<str> {
        if uid == UNKNOWN_ID { Arc::default() } else { self.users.name(uid) }
    }

    pub(crate) fn loginname(&mut self, auid: Option<u32>) -> Option<Arc<str>> {
        auid.map(|auid| self.users.name(auid))
    }

    /// The network namespace as columns show it: NULL for the host's own.
    pub(crate) fn netns(&self, netns: u32) -> Option<u32> {
        foreign(netns, self.host.namespaces.net)
    }
}

/// A namespace, unless it is unknown or the host's own.
pub(crate) fn foreign(namespace: u32, own: u32) -> Option<u32> {
    (namespace != 0 && namespace != own).then_some(namespace)
}
