//! The interfaces and their addresses as the kernel has told of them, and which conditions were told of them.

use std::collections::{BTreeMap, BTreeSet};

use super::Telling;
use crate::condition::{Condition, Interface, InterfaceAddress};

/// Most addresses, and most interfaces, that are kept. Only root makes them.
pub(super) const LIMIT: usize = 1 << 17;

/// An interface, without its addresses.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Link {
    pub(super) name: Vec<u8>,
    pub(super) kind: Vec<u8>,
    pub(super) mac: Vec<u8>,
    pub(super) alias: Option<Vec<u8>>,
    pub(super) master: Option<u32>,
    pub(super) mtu: u32,
    pub(super) up: bool,
    pub(super) carrier: bool,
    pub(super) carrier_changes: u32,
    pub(super) promiscuous: bool,
}

/// What is there at one time.
#[derive(Default)]
pub(super) struct Census {
    pub(super) links: BTreeMap<u32, Link>,
    pub(super) addresses: BTreeMap<u32, BTreeSet<InterfaceAddress>>,
}

impl Census {
    pub(super) fn add(&mut self, index: u32, address: InterfaceAddress) {
        let addresses = self.addresses.entry(index).or_default();
        // What the address is valid for may have changed.
        addresses.retain(|known| !same(known, &address));
        addresses.insert(address);
    }
}

/// What is there, and what was told of it: each interface with each of its addresses.
#[derive(Default)]
pub(super) struct Interfaces {
    now: Census,
    /// Interfaces as they were told, without an address.
    told: BTreeMap<u32, Interface>,
    /// Those of them that were told of as having no address.
    plain: BTreeSet<u32>,
    /// Those that lost their last address, of which this is not told yet: most of them are about to go.
    bare: BTreeSet<u32>,
    /// How many were too many to be kept.
    pub(super) refused: u64,
}

fn same(a: &InterfaceAddress, b: &InterfaceAddress) -> bool {
    (a.ip, a.prefix, a.peer) == (b.ip, b.prefix, b.peer)
}

fn with(base: &Interface, address: InterfaceAddress) -> Condition {
    Condition::Interface(Interface { address: Some(address), ..base.clone() })
}

impl Interfaces {
    /// The name of an interface.
    pub(super) fn name(&self, index: u32) -> Option<&[u8]> {
        self.now.links.get(&index).map(|link| link.name.as_slice())
    }

    /// Takes all that is there, in place of what was known.
    pub(super) fn replace(&mut self, census: Census, telling: &mut Telling<'_>) {
        let before = std::mem::replace(&mut self.now, census);
        self.bare.clear();
        let gone: Vec<u32> =
            self.told.keys().filter(|index| !self.now.links.contains_key(index)).copied().collect();
        let nothing = BTreeSet::new();
        for (index, base) in &self.told {
            let now = self.now.addresses.get(index).unwrap_or(&nothing);
            for address in before.addresses.get(index).unwrap_or(&nothing) {
                if gone.contains(index) || !now.iter().any(|known| same(known, address)) {
                    telling.ended(with(base, *address));
                }
            }
            if self.plain.contains(index) && (gone.contains(index) || !now.is_empty()) {
                telling.ended(Condition::Interface(base.clone()));
                self.plain.remove(index);
            }
        }
        for index in gone {
            self.told.remove(&index);
        }
        for index in self.now.links.keys().copied().collect::<Vec<_>>() {
            let known = before.addresses.get(&index).unwrap_or(&nothing);
            self.tell(index, known, telling);
        }
    }

    /// Takes an interface as it is from now on. Gives whether it went down, and whether it has another name.
    pub(super) fn set(&mut self, index: u32, link: Link, telling: &mut Telling<'_>) -> (bool, bool) {
        if self.now.links.len() >= LIMIT && !self.now.links.contains_key(&index) {
            self.refused += 1;
            return (false, false);
        }
        let up = link.up;
        let before = self.now.links.insert(index, link);
        let went_down = !up && before.as_ref().is_some_and(|before| before.up);
        let renamed = before.as_ref().map(|before| before.name.as_slice()) != self.name(index);
        let known = self.now.addresses.get(&index).cloned().unwrap_or_default();
        self.tell(index, &known, telling);
        if renamed {
            let ports = self.now.links.iter().filter(|(_, link)| link.master == Some(index));
            for port in ports.map(|(&port, _)| port).collect::<Vec<_>>() {
                let known = self.now.addresses.get(&port).cloned().unwrap_or_default();
                self.tell(port, &known, telling);
            }
        }
        (went_down, renamed)
    }

    /// Takes that an interface is gone.
    pub(super) fn remove(&mut self, index: u32, telling: &mut Telling<'_>) {
        self.now.links.remove(&index);
        self.bare.remove(&index);
        let addresses = self.now.addresses.remove(&index).unwrap_or_default();
        if let Some(base) = self.told.remove(&index) {
            addresses.into_iter().for_each(|address| telling.ended(with(&base, address)));
            if self.plain.remove(&index) {
                telling.ended(Condition::Interface(base));
            }
        }
    }

    /// Takes that an interface has an address.
    pub(super) fn add(&mut self, index: u32, address: InterfaceAddress, telling: &mut Telling<'_>) {
        match self.now.addresses.get(&index) {
            Some(known) if known.contains(&address) => return,
            Some(known) if known.len() < LIMIT => {}
            None if self.now.addresses.len() < LIMIT => {}
            _ => {
                self.refused += 1;
                return;
            }
        }
        self.now.add(index, address);
        self.bare.remove(&index);
        if let Some(base) = self.told.get(&index) {
            if self.plain.remove(&index) {
                telling.ended(Condition::Interface(base.clone()));
            }
            telling.begun(with(base, address));
        }
    }

    /// Takes that an interface has an address no more.
    pub(super) fn take(&mut self, index: u32, address: &InterfaceAddress, telling: &mut Telling<'_>) {
        let Some(addresses) = self.now.addresses.get_mut(&index) else { return };
        let Some(known) = addresses.iter().find(|known| same(known, address)).copied() else { return };
        addresses.remove(&known);
        if addresses.is_empty() {
            self.now.addresses.remove(&index);
            self.bare.insert(index);
        }
        if let Some(base) = self.told.get(&index) {
            telling.ended(with(base, known));
        }
    }

    /// Tells of interfaces that have lost their last address, and are still there.
    pub(super) fn settle(&mut self, telling: &mut Telling<'_>) {
        for index in std::mem::take(&mut self.bare) {
            if let Some(base) = self.told.get(&index) {
                telling.begun(Condition::Interface(base.clone()));
                self.plain.insert(index);
            }
        }
    }

    /// An interface as it is now, without an address.
    fn base(&self, index: u32) -> Option<Interface> {
        let link = self.now.links.get(&index)?;
        Some(Interface {
            index,
            name: link.name.clone(),
            kind: link.kind.clone(),
            mac: link.mac.clone(),
            alias: link.alias.clone(),
            master: link.master.and_then(|master| self.name(master)).map(<[u8]>::to_vec),
            mtu: link.mtu,
            up: link.up,
            carrier: link.carrier,
            carrier_changes: link.carrier_changes,
            promiscuous: link.promiscuous,
            address: None,
        })
    }

    /// Tells of an interface that is there: of each address if anything but its addresses changed, else of those beyond the known ones.
    fn tell(&mut self, index: u32, known: &BTreeSet<InterfaceAddress>, telling: &mut Telling<'_>) {
        let Some(base) = self.base(index) else { return };
        let is_same = self.told.get(&index) == Some(&base);
        match self.now.addresses.get(&index).filter(|addresses| !addresses.is_empty()) {
            Some(addresses) => {
                let untold = addresses.iter().filter(|address| !is_same || !known.contains(address));
                untold.for_each(|address| telling.begun(with(&base, *address)));
            }
            None if self.bare.contains(&index) => {}
            None => {
                if self.plain.insert(index) || !is_same {
                    telling.begun(Condition::Interface(base.clone()));
                }
            }
        }
        self.told.insert(index, base);
    }
}
