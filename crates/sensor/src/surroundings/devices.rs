//! Which devices are attached, by what the kernel says and what /sys shows.
//!
//! A device is not told of at once: its driver binds later, and a disk takes a second or more to show what is on it. It is told of when nothing was
//! heard of it for [`SETTLE`], at the latest after [`LONGEST`], when it goes, when something on it is mounted, and whenever somebody asks; always
//! with the instant of the first message. What changes of it afterwards waits in the same way.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

use super::{
    hwdata::Hwdata,
    sysfs::{Blocks, Sysfs, ancestors},
    uevent::{Uevent, Variables},
    utmp,
};
use crate::{
    clock,
    condition::{Condition, Device},
    observation::{BootNs, Observation, Origin},
};

/// A USB disk is asked what it holds a second after its driver was bound (usb-storage's delay_use).
const SETTLE: BootNs = 2_000_000_000;
const LONGEST: BootNs = 10_000_000_000;
/// How many devices are known at once.
const DEVICES: usize = 1 << 16;

/// A device that is not told of yet, or not with its latest values.
struct Waiting {
    /// When it was first heard of.
    since: BootNs,
    /// When it is to be told of, unless more is heard.
    due: BootNs,
    /// Its values, as far as they could be read.
    device: Device,
}

/// The devices.
pub(super) struct Devices {
    root: PathBuf,
    pub(super) sysfs: Sysfs,
    names: Hwdata,
    /// What was told of each device.
    known: BTreeMap<Vec<u8>, Device>,
    waiting: BTreeMap<Vec<u8>, Waiting>,
    /// How many there was no room for.
    refused: u64,
}

impl Devices {
    /// Of the `sys` below `root`.
    pub(super) fn new(root: &Path) -> Self {
        let (sysfs, names) = (Sysfs::new(root), Hwdata::new(root));
        let (known, waiting) = Default::default();
        Self { root: root.to_owned(), sysfs, names, known, waiting, refused: 0 }
    }

    /// Tells of every device that is there when this starts.
    pub(super) fn inventory(&mut self, at: BootNs, out: &mut Vec<Observation>) {
        let blocks = self.sysfs.blocks();
        for path in self.sysfs.all() {
            let Some(device) = self.read(&path, &Variables::default(), &blocks) else { continue };
            if self.known.len() >= DEVICES {
                self.refused += 1;
                continue;
            }
            let condition = Box::new(Condition::Device(device.clone()));
            out.push(Observation::Condition { at, condition, origin: Origin::Found });
            self.known.insert(path, device);
        }
    }

    /// When the next device is to be told of.
    pub(super) fn due(&self) -> Option<BootNs> {
        self.waiting.values().map(|waiting| waiting.due).min()
    }

    /// How many devices there was no room for since this was asked before.
    pub(super) fn take_refused(&mut self) -> u64 {
        std::mem::take(&mut self.refused)
    }

    /// Acts on messages, in their order. What /sys shows is at least as new as the last of them.
    pub(super) fn act(&mut self, events: &[(BootNs, Uevent)], out: &mut Vec<Observation>) {
        if events.is_empty() {
            return;
        }
        let blocks = self.sysfs.blocks();
        for (at, event) in events {
            let (at, path) = (*at, &event.path[..]);
            match &event.action[..] {
                b"remove" if !event.is_synthetic() => {
                    self.remove(at, path, out);
                    self.defer_above(at, path);
                }
                b"unbind" | b"offline" => {
                    self.defer(at, path);
                    self.defer_above(at, path);
                }
                b"move" => {
                    if let Some(old) = event.variables.get("DEVPATH_OLD") {
                        self.relocate(at, (old, path), (&event.variables, &blocks), out);
                    }
                }
                _ => {
                    self.hear(at, path, (&event.variables, &blocks), out);
                    for above in self.above(path) {
                        if self.sysfs.exists(&above) {
                            self.hear(at, &above, (&Variables::default(), &blocks), out);
                        }
                    }
                }
            }
        }
        // Disks that stand on others are below none of them.
        let now = clock::now();
        let none = BTreeSet::new();
        let names = |device: &Device| blocks.get(&device.path).unwrap_or(&none);
        let changed = self.known.values().filter(|device| !names(device).iter().eq(&device.block_devices));
        let changed: Vec<Vec<u8>> = changed.map(|device| device.path.clone()).collect();
        for path in changed {
            self.defer(now, &path);
        }
    }

    /// Something was said of a device: it is new, or may have changed.
    fn hear(
        &mut self,
        at: BootNs,
        path: &[u8],
        (said, blocks): (&Variables, &Blocks),
        out: &mut Vec<Observation>,
    ) {
        let Some(mut device) = self.read(path, said, blocks) else {
            // Its medium was taken out, or it never was a device to be told of.
            if self.sysfs.exists(path) {
                self.remove(at, path, out);
            }
            return;
        };
        match (self.waiting.get_mut(path), self.known.get(path)) {
            (Some(waiting), _) if self.sysfs.exists(path) => {
                waiting.due = at.saturating_add(SETTLE).min(waiting.since.saturating_add(LONGEST));
                device.logged_in = waiting.device.logged_in.take();
                waiting.device = device;
            }
            (None, known) if known.is_none() || self.sysfs.exists(path) => {
                if known.is_none() && self.known.len() + self.waiting.len() >= DEVICES {
                    self.refused += 1;
                    return;
                }
                device.logged_in = match known {
                    Some(known) => known.logged_in.clone(),
                    None => utmp::logged_in(&self.root),
                };
                let due = at.saturating_add(SETTLE);
                self.waiting.insert(path.to_vec(), Waiting { since: at, due, device });
            }
            // Read while it went: what was known before says more.
            _ => self.defer(at, path),
        }
    }

    /// Something of a device is going, maybe because all of it is: until that is clear, what was known of it stands.
    fn defer(&mut self, at: BootNs, path: &[u8]) {
        let known = self.known.get(path).cloned();
        let due = at.saturating_add(SETTLE);
        match (self.waiting.get_mut(path), known) {
            (Some(waiting), _) => waiting.due = due.min(waiting.since.saturating_add(LONGEST)),
            (None, Some(device)) => {
                self.waiting.insert(path.to_vec(), Waiting { since: at, due, device });
            }
            (None, None) => {}
        }
    }

    fn defer_above(&mut self, at: BootNs, path: &[u8]) {
        for above in self.above(path) {
            self.defer(at, &above);
        }
    }

    /// What a part belongs to: a partition to a disk, and that to what it is plugged into. Further up are hubs and controllers.
    fn above(&self, path: &[u8]) -> Vec<Vec<u8>> {
        let is_one = |path: &&[u8]| self.known.contains_key(*path) || self.waiting.contains_key(*path);
        ancestors(path).filter(is_one).take(2).map(<[u8]>::to_vec).collect()
    }

    fn read(&mut self, path: &[u8], said: &Variables, blocks: &Blocks) -> Option<Device> {
        let mut device = self.sysfs.device(path, said, &mut self.names)?;
        if let Some(names) = blocks.get(path) {
            device.block_devices = names.iter().cloned().collect();
        }
        Some(device)
    }

    /// A device is gone. It is told of with the values that it had before its parts went.
    fn remove(&mut self, at: BootNs, path: &[u8], out: &mut Vec<Observation>) {
        let instance = self.known.get(path).map(|known| known.instance);
        if self
            .waiting
            .get(path)
            .is_some_and(|waiting| instance.is_some_and(|i| i != waiting.device.instance))
        {
            // Another one came to the same place before this could be read.
            self.waiting.remove(path);
        }
        self.tell(path, out);
        if let Some(device) = self.known.remove(path) {
            out.push(Observation::ConditionEnd { at, condition: Box::new(Condition::Device(device)) });
        }
    }

    /// A device has another path now, and so has what is below it.
    fn relocate(
        &mut self,
        at: BootNs,
        (old, new): (&[u8], &[u8]),
        (said, blocks): (&Variables, &Blocks),
        out: &mut Vec<Observation>,
    ) {
        let below = |path: &&Vec<u8>| {
            path.strip_prefix(old).is_some_and(|rest| matches!(rest.first(), None | Some(b'/')))
        };
        let mut moved: Vec<Vec<u8>> =
            self.known.keys().chain(self.waiting.keys()).filter(below).cloned().collect();
        moved.sort_unstable();
        moved.dedup();
        for path in moved {
            self.remove(at, &path, out);
            let to = [new, &path[old.len()..]].concat();
            if to != new {
                self.hear(at, &to, (&Variables::default(), blocks), out);
            }
        }
        self.hear(at, new, (said, blocks), out);
    }

    /// Tells of a device what is not told yet.
    fn tell(&mut self, path: &[u8], out: &mut Vec<Observation>) {
        let Some(Waiting { since, device, .. }) = self.waiting.remove(path) else { return };
        if self.known.get(path) == Some(&device) {
            return;
        }
        let condition = Box::new(Condition::Device(device.clone()));
        out.push(Observation::Condition { at: since, condition, origin: Origin::Event });
        self.known.insert(path.to_vec(), device);
    }

    /// Tells of the devices whose time has come.
    pub(super) fn settle(&mut self, now: BootNs, out: &mut Vec<Observation>) {
        if self.waiting.values().all(|waiting| waiting.due > now) {
            return;
        }
        let blocks = self.sysfs.blocks();
        let due = self.waiting.iter().filter(|(_, waiting)| waiting.due <= now);
        let due: Vec<Vec<u8>> = due.map(|(path, _)| path.clone()).collect();
        for path in due {
            // Not all that a driver finds is announced.
            if let Some(mut device) = self.read(&path, &Variables::default(), &blocks)
                && self.sysfs.exists(&path)
                && let Some(waiting) = self.waiting.get_mut(&path)
            {
                device.logged_in = waiting.device.logged_in.take();
                waiting.device = device;
            }
            self.tell(&path, out);
        }
    }

    /// Tells of every device that is there, and that others are not.
    pub(super) fn scan(&mut self, out: &mut Vec<Observation>) {
        let (now, blocks) = (clock::now(), self.sysfs.blocks());
        let there = self.sysfs.all();
        for path in &there {
            self.hear(now, path, (&Variables::default(), &blocks), out);
        }
        let gone: Vec<Vec<u8>> = self.known.keys().filter(|path| !self.sysfs.exists(path)).cloned().collect();
        for path in gone {
            self.remove(now, &path, out);
        }
        self.settle(BootNs::MAX, out);
    }
}

#[cfg(test)]
mod tests;
