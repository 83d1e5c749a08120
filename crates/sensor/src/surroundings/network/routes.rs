//! The routes as the kernel has told of them.
//!
//! A message about a route names it by its destination, table, type of service and metric; several routes may share these. IPv4 keeps such
//! routes in a list, and what replaces a route replaces the first (fib_table_insert of Linux 4.6 and later). IPv6 keeps each next hop as a
//! route of its own (fib6_add_rt2node). Neither tells of everything: IPv4 forgets the routes of an interface that goes down without a word, and a
//! route that was replaced is not told of as gone. What cannot be derived here is marked as doubtful, and then the kernel is asked for all.

use std::{
    collections::{HashMap, HashSet},
    net::IpAddr,
};

use super::{Telling, decode::Place};
use crate::condition::{Condition, Route};

/// Most routes that are kept: those of a router that has the Internet's are not all.
pub(super) const LIMIT: usize = 1 << 18;

/// The table that the kernel fills from the addresses of interfaces.
const LOCAL: u32 = 255;
const BY_KERNEL: u8 = 2;

/// What names a route to the kernel.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Group {
    pub(super) table: u32,
    pub(super) destination: (IpAddr, u8),
    pub(super) source: Option<(IpAddr, u8)>,
    pub(super) tos: u8,
    pub(super) metric: u32,
}

impl Group {
    fn is_v4(&self) -> bool {
        self.destination.0.is_ipv4()
    }
}

/// A route of a group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) kind: u8,
    pub(super) protocol: u8,
    pub(super) scope: u8,
    pub(super) preferred: Option<IpAddr>,
    pub(super) hops: Vec<Hop>,
}

/// A next hop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Hop {
    pub(super) gateway: Option<IpAddr>,
    pub(super) index: Option<u32>,
    pub(super) weight: u16,
}

impl Default for Hop {
    fn default() -> Self {
        Self { gateway: None, index: None, weight: 1 }
    }
}

impl Entry {
    /// What the kernel puts into the table `local` by itself says no more than the addresses of the interfaces.
    fn is_told(&self, group: &Group) -> bool {
        group.table != LOCAL || self.protocol != BY_KERNEL
    }

    fn uses(&self, index: u32) -> bool {
        self.hops.iter().any(|hop| hop.index == Some(index))
    }

    /// One for each next hop.
    fn split(self) -> impl Iterator<Item = Self> {
        let Self { kind, protocol, scope, preferred, hops } = self;
        hops.into_iter().map(move |hop| Self { kind, protocol, scope, preferred, hops: vec![hop] })
    }

    fn has_gateway(&self) -> bool {
        self.hops.iter().all(|hop| hop.gateway.is_some())
    }
}

/// All routes at one time.
pub(super) type Census = HashMap<Group, Vec<Entry>>;

/// Puts a route of a dump where it belongs; gives whether there is room for it.
pub(super) fn collect(census: &mut Census, group: &Group, entry: Entry) -> bool {
    if census.len() >= LIMIT && !census.contains_key(group) {
        return false;
    }
    if entry.is_told(group) {
        place(group, census.entry(group.clone()).or_default(), entry, Place::Last);
    }
    true
}

/// Puts a route among those of its group; false when what it replaces cannot be told from here.
fn place(group: &Group, entries: &mut Vec<Entry>, entry: Entry, place: Place) -> bool {
    if group.is_v4() {
        if entries.contains(&entry) {
            return true;
        }
        match place {
            Place::Last => entries.push(entry),
            Place::Replaces if !entries.is_empty() => entries[0] = entry,
            _ => entries.insert(0, entry),
        }
        return true;
    }
    // Those that have gateways are one route over several next hops, and replaced together.
    let mut certain = true;
    if place == Place::Replaces {
        let together = entry.has_gateway() && entries.iter().all(Entry::has_gateway);
        certain = together || entries.len() <= 1;
        if certain {
            entries.clear();
        }
    }
    for single in entry.split() {
        if !entries.contains(&single) {
            entries.push(single);
        }
    }
    certain
}

/// What is there.
#[derive(Default)]
pub(super) struct Routes {
    groups: Census,
    /// What is there may differ from what is known here.
    pub(super) doubtful: bool,
    /// How many were too many to be kept.
    pub(super) refused: u64,
}

impl Routes {
    /// Whether there is any route.
    pub(super) fn is_empty(&self) -> bool {
        self.groups.is_empty()
    }

    /// Takes all that is there, in place of what was known.
    pub(super) fn replace(&mut self, census: Census, telling: &mut Telling<'_>) {
        let before = std::mem::replace(&mut self.groups, census);
        self.doubtful = false;
        for (group, entries) in &before {
            let now = self.groups.get(group).map_or(&[][..], Vec::as_slice);
            tell(group, entries, now, telling);
        }
        for (group, entries) in &self.groups {
            if !before.contains_key(group) {
                tell(group, &[], entries, telling);
            }
        }
    }

    /// Takes a route.
    pub(super) fn add(&mut self, group: &Group, entry: Entry, at: Place, telling: &mut Telling<'_>) {
        if !entry.is_told(group) {
            return;
        }
        if self.groups.len() >= LIMIT && !self.groups.contains_key(group) {
            self.refused += 1;
            return;
        }
        let entries = self.groups.entry(group.clone()).or_default();
        let before = entries.clone();
        self.doubtful |= !place(group, entries, entry, at);
        tell(group, &before, entries, telling);
    }

    /// Takes that a route is gone.
    pub(super) fn remove(&mut self, group: &Group, entry: Entry, telling: &mut Telling<'_>) {
        if !entry.is_told(group) {
            return;
        }
        let Some(entries) = self.groups.get_mut(group) else { return };
        let before = entries.clone();
        if group.is_v4() {
            match entries.iter().position(|known| *known == entry) {
                Some(found) => drop(entries.remove(found)),
                None => self.doubtful = true,
            }
        } else {
            for single in entry.split() {
                // Its share may be another, once a next hop beside it is gone.
                let is_it = |known: &Entry| {
                    known.kind == single.kind
                        && known
                            .hops
                            .iter()
                            .zip(&single.hops)
                            .all(|(a, b)| (a.gateway, a.index) == (b.gateway, b.index))
                };
                match entries.iter().position(is_it) {
                    Some(found) => drop(entries.remove(found)),
                    None => self.doubtful = true,
                }
            }
        }
        tell(group, &before, entries, telling);
        if entries.is_empty() {
            self.groups.remove(group);
        }
    }

    /// Takes that an interface went down: IPv4 forgets the routes that lead there only. What may have become of others is for the kernel to say.
    pub(super) fn went_down(&mut self, index: u32, telling: &mut Telling<'_>) {
        let doubtful = &mut self.doubtful;
        self.groups.retain(|group, entries| {
            if !entries.iter().any(|entry| entry.uses(index)) {
                return true;
            }
            *doubtful = true;
            if !group.is_v4() {
                return true;
            }
            let before = entries.clone();
            entries.retain(|entry| !entry.hops.iter().all(|hop| hop.index == Some(index)));
            tell(group, &before, entries, telling);
            !entries.is_empty()
        });
    }

    /// Notes that an interface lost an address: routes may go with it.
    pub(super) fn lost_address(&mut self, index: u32, ip: IpAddr) {
        let touched = |entry: &Entry| entry.uses(index) || entry.preferred == Some(ip);
        self.doubtful |= self.groups.values().flatten().any(touched);
    }

    /// Tells again of the routes of an interface, which has another name.
    pub(super) fn renamed(&self, index: u32, telling: &mut Telling<'_>) {
        for (group, entries) in &self.groups {
            for route in
                rows(group, entries, telling).filter(|route| route.index == Some(index)).collect::<Vec<_>>()
            {
                telling.begun(Condition::Route(route));
            }
        }
    }
}

/// What is to be told of a group: each next hop of each route.
fn rows<'a>(
    group: &'a Group,
    entries: &'a [Entry],
    telling: &'a Telling<'_>,
) -> impl Iterator<Item = Route> + use<'a> {
    let hops = entries.iter().flat_map(|entry| entry.hops.iter().map(move |hop| (entry, hop)));
    hops.map(|(entry, hop)| Route {
        table: group.table,
        destination: group.destination,
        source: group.source,
        tos: group.tos,
        metric: group.metric,
        kind: entry.kind,
        protocol: entry.protocol,
        scope: entry.scope,
        preferred: entry.preferred,
        gateway: hop.gateway,
        index: hop.index,
        interface: hop.index.and_then(|index| telling.name(index)),
        weight: hop.weight,
    })
}

/// Tells how a group differs from what it was. The name of an interface does not count: who renames it tells of it.
fn tell(group: &Group, before: &[Entry], after: &[Entry], telling: &mut Telling<'_>) {
    let before: HashSet<Route> = rows(group, before, telling).collect();
    let after: HashSet<Route> = rows(group, after, telling).collect();
    for gone in before.difference(&after) {
        telling.ended(Condition::Route(gone.clone()));
    }
    for new in after.difference(&before) {
        telling.begun(Condition::Route(new.clone()));
    }
}
