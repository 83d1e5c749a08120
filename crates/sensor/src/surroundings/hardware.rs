//! Devices that come and go, and the mounts that follow.
//!
//! A device is not told of at once: its driver binds later, and a disk takes a second or more to show what is on it. It is told of when nothing was
//! heard of it for [`SETTLE`], at the latest after [`LONGEST`], when it goes, when something on it is mounted, and whenever somebody asks; always
//! with the instant of the first message. What changes of it afterwards waits in the same way.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    os::fd::BorrowedFd,
    path::{Path, PathBuf},
    time::Duration,
};

use nix::errno::Errno;

use super::{
    Watcher,
    hwdata::Hwdata,
    mounts::Mounts,
    sysfs::{Blocks, Sysfs, ancestors},
    uevent::{Message, Uevent, Uevents, Variables},
    utmp,
};
use crate::{
    clock,
    condition::{Condition, ConditionKind, Device},
    observation::{BootNs, Coverage, Inventory, Loss, Observation, Origin, Watch},
};

/// A USB disk is asked what it holds a second after its driver was bound (usb-storage's delay_use).
const SETTLE: BootNs = 2_000_000_000;
const LONGEST: BootNs = 10_000_000_000;
/// How many devices are known at once.
const DEVICES: usize = 1 << 16;
/// How many messages are taken before they are acted on, and how often before the others have their turn.
const MESSAGES: usize = 1024;
const ROUNDS: usize = 64;

/// A device that is not told of yet, or not with its latest values.
struct Waiting {
    /// When it was first heard of.
    since: BootNs,
    /// When it is to be told of, unless more is heard.
    due: BootNs,
    /// Its values, as far as they could be read.
    device: Device,
}

/// Watches devices and mounts.
pub(super) struct Hardware {
    root: PathBuf,
    sysfs: Sysfs,
    uevents: Uevents,
    mounts: io::Result<Mounts>,
    names: Hwdata,
    /// What was told of each device.
    known: BTreeMap<Vec<u8>, Device>,
    waiting: BTreeMap<Vec<u8>, Waiting>,
    /// Up to when nothing was lost.
    sound: BootNs,
    /// When the list of mounts was read.
    looked: BootNs,
    forged: u64,
    malformed: u64,
    refused: u64,
}

impl Hardware {
    /// From now on the kernel's messages wait.
    pub(super) fn open(root: &Path) -> io::Result<Self> {
        Ok(Self {
            root: root.to_owned(),
            sysfs: Sysfs::new(root),
            uevents: Uevents::open()?,
            mounts: Mounts::open(root),
            names: Hwdata::new(root),
            known: BTreeMap::new(),
            waiting: BTreeMap::new(),
            sound: clock::now(),
            looked: clock::now(),
            forged: 0,
            malformed: 0,
            refused: 0,
        })
    }

    /// Takes what the kernel has said.
    fn listen(&mut self, out: &mut Vec<Observation>) {
        for _ in 0..ROUNDS {
            let mut events = Vec::new();
            let mut more = true;
            while more && events.len() < MESSAGES {
                match self.uevents.receive() {
                    Ok(Some(Message::Event(event))) => events.push((clock::now(), event)),
                    Ok(Some(Message::Other)) => {}
                    Ok(Some(Message::Forged)) => self.forged += 1,
                    Ok(Some(Message::Malformed)) => self.malformed += 1,
                    Ok(None) => more = false,
                    Err(Errno::ENOBUFS) => {
                        self.act(&std::mem::take(&mut events), out);
                        self.scan(out);
                    }
                    Err(_) => more = false,
                }
            }
            self.act(&events, out);
            if !more {
                return;
            }
        }
    }

    /// Acts on messages, in their order. What /sys shows is at least as new as the last of them.
    fn act(&mut self, events: &[(BootNs, Uevent)], out: &mut Vec<Observation>) {
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
    fn settle(&mut self, now: BootNs, out: &mut Vec<Observation>) {
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
    fn scan(&mut self, out: &mut Vec<Observation>) {
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
        out.push(self.loss("socket-full", 1));
    }

    /// Tells of mounts that came, changed or went.
    fn remount(&mut self, out: &mut Vec<Observation>) {
        for round in 0..ROUNDS {
            let changed = self.mounts.as_ref().ok().map(Mounts::have_changed);
            if matches!(changed, None | Some(Some(false))) || changed == Some(None) && round > 0 {
                return;
            }
            let at = clock::now();
            let unchanged = self.look(at, Origin::Event, out);
            // In a later round this may be because the list was read after the change already.
            if unchanged && round == 0 && changed == Some(Some(true)) {
                let (from, until) = (self.looked, at);
                out.push(Observation::Loss(Loss {
                    class: "mounts",
                    cause: "came-and-went",
                    count: 1,
                    from,
                    until,
                }));
            }
            self.looked = at;
        }
    }

    /// Reads the list of mounts; says whether it is as it was.
    fn look(&mut self, at: BootNs, origin: Origin, out: &mut Vec<Observation>) -> bool {
        let Ok(mounts) = &mut self.mounts else { return true };
        let difference = mounts.look(&self.sysfs);
        for mount in difference.gone {
            out.push(Observation::ConditionEnd { at, condition: Box::new(Condition::Mount(mount)) });
        }
        if difference.new.iter().any(|mount| mount.attached_to.is_some()) && !self.waiting.is_empty() {
            // What the mount leads to has to be told of before it.
            self.settle(BootNs::MAX, out);
        }
        for mount in difference.new {
            out.push(Observation::Condition { at, condition: Box::new(Condition::Mount(mount)), origin });
        }
        if difference.cut {
            let from = self.looked;
            out.push(Observation::Loss(Loss {
                class: "mounts",
                cause: "list-cut",
                count: 1,
                from,
                until: at,
            }));
        }
        difference.none
    }

    fn loss(&self, cause: &'static str, count: u64) -> Observation {
        Observation::Loss(Loss { class: "hardware", cause, count, from: self.sound, until: clock::now() })
    }

    /// Tells of messages that were not the kernel's, or could not be used.
    fn losses(&mut self, out: &mut Vec<Observation>) {
        let counts = [("forged", self.forged), ("malformed", self.malformed), ("table-full", self.refused)];
        out.extend(
            counts.iter().filter(|(_, count)| *count > 0).map(|&(cause, count)| self.loss(cause, count)),
        );
        (self.forged, self.malformed, self.refused) = (0, 0, 0);
        self.sound = clock::now();
    }
}

impl Watcher for Hardware {
    fn coverage(&self) -> Vec<Coverage> {
        let class = |class, hook: Result<String, String>| {
            let (watch, sensor) =
                if hook.is_ok() { (Watch::Watched, "netlink") } else { (Watch::Unwatched, "none") };
            let (hook, reason) =
                hook.map_or_else(|reason| (String::new(), Some(reason)), |hook| (hook, None));
            Coverage { class, watch, sensor, hook, reason }
        };
        let hook = self.mounts.as_ref().map(Mounts::hook);
        let mut mounts =
            class("mounts", hook.map_err(|error| format!("cannot watch the list of mounts: {error}")));
        if mounts.watch == Watch::Watched {
            mounts.sensor = "proc";
            mounts.reason =
                Some("what is mounted and unmounted at once may only be counted as lost".to_owned());
        }
        vec![class("hardware", Ok("NETLINK_KOBJECT_UEVENT, /sys".to_owned())), mounts]
    }

    fn descriptors(&self) -> Vec<BorrowedFd<'_>> {
        let mounts = self.mounts.as_ref().ok().map(Mounts::descriptor);
        std::iter::once(self.uevents.descriptor()).chain(mounts).collect()
    }

    fn patience(&self) -> Option<Duration> {
        let due = self.waiting.values().map(|waiting| waiting.due).min()?;
        Some(Duration::from_nanos(due.saturating_sub(clock::now())))
    }

    fn inventory(&mut self, out: &mut Vec<Observation>) {
        let (at, blocks) = (clock::now(), self.sysfs.blocks());
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
        out.push(Observation::Complete(Inventory::Conditions(ConditionKind::Device)));
        if self.mounts.is_ok() {
            self.look(at, Origin::Found, out);
            out.push(Observation::Complete(Inventory::Conditions(ConditionKind::Mount)));
        }
    }

    fn changes(&mut self, out: &mut Vec<Observation>) {
        self.listen(out);
        self.remount(out);
        self.settle(clock::now(), out);
        self.losses(out);
    }

    fn flush(&mut self, out: &mut Vec<Observation>) {
        self.settle(BootNs::MAX, out);
    }
}
