//! Users and groups of the local files, /etc/passwd, /etc/shadow and /etc/group, from the moment in which a file is replaced or closed by who wrote it.
//!
//! A file that is being written is not read: tools replace it whole, and who writes into it closes it in the end. Now and then the watcher looks by
//! itself, for files that another file system's watch does not reach (a bind mount of one file) and writers that never close.

mod lines;
mod source;
mod told;

use std::{
    fs::File,
    hash::{BuildHasher, RandomState},
    io,
    os::fd::BorrowedFd,
    path::Path,
    time::{Duration, Instant},
};

use rustix::fs::inotify::WatchFlags;

use self::{
    source::{Source, content, cut, whole},
    told::Told,
};
use super::{
    Watcher,
    directories::{Directories, Happening},
};
use crate::{
    condition::{Condition, ConditionKind, Group, User},
    observation::{Coverage, Inventory, Observation, Origin, Watch},
};

/// Between two looks without a cause.
const LOOK: Duration = Duration::from_secs(20);
/// How long a new user's line in the shadow file is waited for: tools replace the one file after the other.
const FOLLOWS: Duration = Duration::from_millis(200);

/// A passwd, group or shadow file, for fuzzing: each is read as all three.
#[cfg(any(test, fuzzing))]
pub fn try_files(bytes: &[u8]) {
    let lines = bytes.split(|byte| *byte == b'\n').count() as u64;
    let (shadow, mut users, mut groups) = (lines::shadow(bytes), Vec::new(), 0);
    let flaws = lines::users(bytes, Some(&shadow), |user| users.push(user));
    assert!(users.len() as u64 + flaws.malformed + flaws.repeated <= lines);
    assert!(users.iter().all(|user| !user.name.is_empty() && !user.name.contains(&b'\n')));
    let flaws = lines::groups(bytes, |_| groups += 1);
    assert!(groups + flaws.malformed + flaws.repeated <= lines);
}

/// Watches the accounts.
pub(super) struct Accounts {
    directories: Directories,
    passwd: Source,
    shadow: Source,
    group: Source,
    users: Told,
    groups: Told,
    hasher: RandomState,
    looked: Instant,
    /// Since when a new user's line in the shadow file is waited for.
    awaited: Option<Instant>,
}

impl Accounts {
    /// Those of the `etc` below `root`.
    pub(super) fn new(root: &Path) -> Self {
        let flags = WatchFlags::CLOSE_WRITE | WatchFlags::MOVED_TO;
        Self {
            directories: Directories::watch(vec![root.join("etc")], flags),
            passwd: Source::new(root, "passwd"),
            shadow: Source::new(root, "shadow"),
            group: Source::new(root, "group"),
            users: Told::default(),
            groups: Told::default(),
            hasher: RandomState::new(),
            looked: Instant::now(),
            awaited: None,
        }
    }

    fn read_users(&mut self, out: &mut Vec<Observation>, origin: Origin) -> bool {
        if !self.passwd.is_settled() || !self.shadow.is_settled() {
            return false;
        }
        let Some(passwd) = content(&mut self.passwd) else { return false };
        // Not for everyone to read; who may not is told less.
        let shadow = content(&mut self.shadow);
        let shadow = shadow.as_deref().map(lines::shadow);
        if let Some(shadow) = shadow.as_ref().filter(|_| origin == Origin::Event)
            && self.users.lacks(&passwd, shadow)
            && self.awaited.get_or_insert_with(Instant::now).elapsed() < FOLLOWS
        {
            self.passwd.due = true;
            return false;
        }
        self.awaited = None;
        let mut change = self.users.begin(out, "users", origin);
        let (told, hasher) = (&mut self.users, &self.hasher);
        let flaws = lines::users(whole(&passwd), shadow.as_ref(), |user| {
            let User { name, uid, gid, gecos, home, shell, password, changed, expires, remote: _ } = &user;
            let values = hasher.hash_one((uid, gid, gecos, home, shell, password, changed, expires));
            let name = name.clone();
            told.meet(&mut change, (&name, values), || Condition::User(user));
        });
        let flaws = cut(&passwd, flaws);
        self.users.end(change, flaws, |name| Condition::User(User { name, ..User::default() }));
        true
    }

    fn read_groups(&mut self, out: &mut Vec<Observation>, origin: Origin) -> bool {
        let Some(file) = content(&mut self.group) else { return false };
        let mut change = self.groups.begin(out, "groups", origin);
        let (told, hasher) = (&mut self.groups, &self.hasher);
        let flaws = lines::groups(whole(&file), |group| {
            let values = hasher.hash_one((group.gid, &group.members));
            let name = group.name.clone();
            told.meet(&mut change, (&name, values), || Condition::Group(group));
        });
        let flaws = cut(&file, flaws);
        self.groups.end(change, flaws, |name| Condition::Group(Group { name, ..Group::default() }));
        true
    }

    fn look(&mut self) {
        if self.looked.elapsed() < LOOK {
            return;
        }
        self.looked = Instant::now();
        self.directories.retry();
        for source in [&mut self.passwd, &mut self.shadow, &mut self.group] {
            source.look();
        }
    }
}

impl Watcher for Accounts {
    fn coverage(&self) -> Vec<Coverage> {
        let watch = if self.directories.error(0).is_some() { Watch::Sampled } else { Watch::Watched };
        let hook = "inotify /etc".to_owned();
        let watching = self.directories.error(0).map(|e| format!("cannot watch /etc: {e}"));
        let coverage = |class, reason| Coverage { class, watch, sensor: "files", hook: hook.clone(), reason };
        let unreadable = match File::open(&self.shadow.path) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => {
                Some(format!("passwords' state is not known: cannot read /etc/shadow: {e}"))
            }
            _ => None,
        };
        vec![coverage("users", watching.clone().or(unreadable)), coverage("groups", watching)]
    }

    fn descriptors(&self) -> Vec<BorrowedFd<'_>> {
        self.directories.descriptor().into_iter().collect()
    }

    fn patience(&self) -> Option<Duration> {
        Some(if self.awaited.is_some() { FOLLOWS } else { LOOK })
    }

    fn inventory(&mut self, out: &mut Vec<Observation>) {
        if self.read_users(out, Origin::Found) {
            out.push(Observation::Complete(Inventory::Conditions(ConditionKind::User)));
        }
        if self.read_groups(out, Origin::Found) {
            out.push(Observation::Complete(Inventory::Conditions(ConditionKind::Group)));
        }
    }

    fn changes(&mut self, out: &mut Vec<Observation>) {
        self.look();
        let mut sources = [&mut self.passwd, &mut self.shadow, &mut self.group];
        self.directories.happenings(|happening| {
            for source in &mut sources {
                source.due |= match happening {
                    Happening::File(_, name) => name == source.name,
                    Happening::Anything => true,
                };
            }
        });
        if self.passwd.due || self.shadow.due {
            self.read_users(out, Origin::Event);
        }
        if self.group.due {
            self.read_groups(out, Origin::Event);
        }
    }
}

#[cfg(test)]
mod tests;
