//! Devices that come and go, and the mounts that follow.

use std::{io, os::fd::BorrowedFd, path::Path, time::Duration};

use nix::errno::Errno;

use super::{
    Watcher,
    devices::Devices,
    mounts::Mounts,
    uevent::{Message, Uevents},
};
use crate::{
    clock,
    condition::{Condition, ConditionKind},
    observation::{BootNs, Coverage, Inventory, Loss, Observation, Origin, Watch},
};

/// How many messages are taken before they are acted on, and how often before the others have their turn.
const MESSAGES: usize = 1024;
const ROUNDS: usize = 64;

/// Watches devices and mounts.
pub(super) struct Hardware {
    devices: Devices,
    uevents: Uevents,
    mounts: io::Result<Mounts>,
    /// Up to when nothing was lost.
    sound: BootNs,
    /// When the list of mounts was read.
    looked: BootNs,
    forged: u64,
    malformed: u64,
    /// The socket could not take all messages.
    overrun: bool,
}

impl Hardware {
    /// From now on the kernel's messages wait.
    pub(super) fn open(root: &Path) -> io::Result<Self> {
        Ok(Self {
            devices: Devices::new(root),
            uevents: Uevents::open()?,
            mounts: Mounts::open(root),
            sound: clock::now(),
            looked: clock::now(),
            forged: 0,
            malformed: 0,
            overrun: false,
        })
    }

    /// Takes what the kernel has said.
    fn listen(&mut self, out: &mut Vec<Observation>) {
        for _ in 0..ROUNDS {
            let mut events = Vec::new();
            let mut more = true;
            for _ in 0..MESSAGES {
                match self.uevents.receive() {
                    Ok(Some(Message::Event(event))) => events.push((clock::now(), event)),
                    Ok(Some(Message::Other)) => {}
                    Ok(Some(Message::Forged)) => self.forged += 1,
                    Ok(Some(Message::Malformed)) => self.malformed += 1,
                    Err(Errno::ENOBUFS) => self.overrun = true,
                    Ok(None) | Err(_) => {
                        more = false;
                        break;
                    }
                }
            }
            self.devices.act(&events, out);
            if !more {
                break;
            }
        }
        // After the messages that did fit, which are older.
        if std::mem::take(&mut self.overrun) {
            self.devices.scan(out);
            out.push(self.loss("socket-full", 1));
        }
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
        let difference = mounts.look(&self.devices.sysfs);
        for mount in difference.gone {
            out.push(Observation::ConditionEnd { at, condition: Box::new(Condition::Mount(mount)) });
        }
        if difference.new.iter().any(|mount| mount.attached_to.is_some()) {
            // What the mount leads to has to be told of before it.
            self.devices.settle(BootNs::MAX, out);
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
        let refused = self.devices.take_refused();
        let counts = [("forged", self.forged), ("malformed", self.malformed), ("table-full", refused)];
        out.extend(
            counts.iter().filter(|(_, count)| *count > 0).map(|&(cause, count)| self.loss(cause, count)),
        );
        (self.forged, self.malformed) = (0, 0);
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
        let due = self.devices.due()?;
        Some(Duration::from_nanos(due.saturating_sub(clock::now())))
    }

    fn inventory(&mut self, out: &mut Vec<Observation>) {
        let at = clock::now();
        self.devices.inventory(at, out);
        out.push(Observation::Complete(Inventory::Conditions(ConditionKind::Device)));
        if self.mounts.is_ok() {
            self.look(at, Origin::Found, out);
            out.push(Observation::Complete(Inventory::Conditions(ConditionKind::Mount)));
        }
    }

    fn changes(&mut self, out: &mut Vec<Observation>) {
        self.listen(out);
        self.remount(out);
        self.devices.settle(clock::now(), out);
        self.losses(out);
    }

    fn flush(&mut self, out: &mut Vec<Observation>) {
        self.devices.settle(BootNs::MAX, out);
    }
}
