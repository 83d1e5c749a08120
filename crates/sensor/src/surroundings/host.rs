//! The computer as a whole: its names, its time zone, its system.
//!
//! The kernel wakes who polls its files of the host name (sethostname(2), Linux 3.3, fs/proc/proc_sysctl.c); inotify tells of the files in /etc.
//! What changes and changes back before anybody looks is not seen.

use std::{
    fs::File,
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::{Path, PathBuf},
};

use rustix::{
    event::epoll,
    fs::inotify::{self, WatchFlags},
};

use super::Watcher;
use crate::{
    clock,
    condition::{Condition, ConditionKind, Fact},
    host,
    observation::{Coverage, Inventory, Observation, Origin, Watch},
};

const CLASS: &str = "host";

/// Watches the facts of the computer that may change while it runs.
pub struct Host {
    root: PathBuf,
    files: OwnedFd,
    names: OwnedFd,
    /// The files that `names` watches.
    _open: Vec<File>,
    told: Vec<Fact>,
}

impl Host {
    /// For the system below `root`: `/`, or a made-up tree.
    pub fn open(root: &Path) -> Result<Self, Vec<Coverage>> {
        Self::try_open(root).map_err(|error| {
            let reason = Some(error.to_string());
            vec![Coverage {
                class: CLASS,
                watch: Watch::Unwatched,
                sensor: "none",
                hook: String::new(),
                reason,
            }]
        })
    }

    fn try_open(root: &Path) -> io::Result<Self> {
        let files = inotify::init(inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK)?;
        let names = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let mut open = Vec::new();
        for name in ["hostname", "domainname"] {
            let Ok(file) = File::open(root.join("proc/sys/kernel").join(name)) else { continue };
            // An ordinary file, of a made-up tree, cannot be polled.
            let _ = epoll::add(&names, &file, epoll::EventData::new_u64(0), epoll::EventFlags::PRI);
            open.push(file);
        }
        let host = Self { root: root.to_owned(), files, names, _open: open, told: Vec::new() };
        host.watch_files();
        Ok(host)
    }

    /// Asks to be told of the files, some of which may be others by now.
    fn watch_files(&self) {
        let in_directory = WatchFlags::CREATE
            | WatchFlags::DELETE
            | WatchFlags::MOVED_FROM
            | WatchFlags::MOVED_TO
            | WatchFlags::CLOSE_WRITE;
        let replaced =
            WatchFlags::CLOSE_WRITE | WatchFlags::ATTRIB | WatchFlags::DELETE_SELF | WatchFlags::MOVE_SELF;
        // A system may lack either.
        let _ = inotify::add_watch(&self.files, self.root.join("etc"), in_directory);
        let _ = inotify::add_watch(&self.files, self.root.join("usr/lib/os-release"), replaced);
    }

    /// Whether inotify had anything to tell; what, does not matter.
    fn files_changed(&self) -> bool {
        let mut changed = false;
        while let Ok(1..) = rustix::io::read(&self.files, &mut [0u8; 4096]) {
            changed = true;
        }
        changed
    }

    /// Tells of what is other than it was told, among the facts of these names.
    fn tell(
        &mut self,
        facts: Vec<(&'static str, String)>,
        of: &[&str],
        origin: Origin,
        out: &mut Vec<Observation>,
    ) {
        let at = clock::now();
        let facts: Vec<Fact> = facts.into_iter().map(|(name, value)| Fact { name, value }).collect();
        let gone = |told: &Fact| of.contains(&told.name) && !facts.iter().any(|fact| fact.name == told.name);
        for fact in self.told.iter().filter(|told| gone(told)) {
            out.push(Observation::ConditionEnd { at, condition: Box::new(Condition::Fact(fact.clone())) });
        }
        for fact in facts.iter().filter(|fact| !self.told.contains(fact)) {
            out.push(Observation::Condition {
                at,
                condition: Box::new(Condition::Fact(fact.clone())),
                origin,
            });
        }
        self.told.retain(|told| !of.contains(&told.name));
        self.told.extend(facts);
    }

    fn look(&mut self, files: bool, origin: Origin, out: &mut Vec<Observation>) {
        self.tell(host::names(&self.root), &["hostname", "domainname"], origin, out);
        if files {
            self.tell(host::settings(&self.root), &["machineid", "os", "timezone"], origin, out);
        }
    }
}

impl Watcher for Host {
    fn coverage(&self) -> Vec<Coverage> {
        let hook = "poll /proc/sys/kernel/hostname, inotify /etc".to_owned();
        let reason = Some("what changes and changes back at once is not seen".to_owned());
        vec![Coverage { class: CLASS, watch: Watch::Watched, sensor: "proc", hook, reason }]
    }

    fn descriptors(&self) -> Vec<BorrowedFd<'_>> {
        vec![self.files.as_fd(), self.names.as_fd()]
    }

    fn inventory(&mut self, out: &mut Vec<Observation>) {
        self.look(true, Origin::Found, out);
        out.push(Observation::Complete(Inventory::Conditions(ConditionKind::Fact)));
    }

    fn changes(&mut self, out: &mut Vec<Observation>) {
        let files = self.files_changed();
        if files {
            self.watch_files();
        }
        self.look(files, Origin::Event, out);
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::symlink};

    use super::*;

    /// The facts that began, and the names of those that ended.
    fn told(out: &[Observation]) -> Vec<String> {
        let line = |observation: &Observation| match observation {
            Observation::Condition { condition, .. } => match &**condition {
                Condition::Fact(fact) => Some(format!("{}={}", fact.name, fact.value)),
                _ => None,
            },
            Observation::ConditionEnd { condition, .. } => match &**condition {
                Condition::Fact(fact) => Some(format!("{} ended", fact.name)),
                _ => None,
            },
            _ => None,
        };
        out.iter().filter_map(line).collect()
    }

    #[test]
    fn what_changes_in_the_files_is_told_once() {
        let root = tempfile::tempdir().unwrap();
        let path = |name: &str| root.path().join(name);
        for dir in ["etc", "usr/lib", "proc/sys/kernel"] {
            fs::create_dir_all(path(dir)).unwrap();
        }
        fs::write(path("proc/sys/kernel/hostname"), "penguin\n").unwrap();
        fs::write(path("proc/sys/kernel/domainname"), "(none)\n").unwrap();
        fs::write(path("usr/lib/os-release"), "PRETTY_NAME=\"Debian 12\"\n").unwrap();
        symlink("../usr/lib/os-release", path("etc/os-release")).unwrap();
        symlink("/usr/share/zoneinfo/Europe/London", path("etc/localtime")).unwrap();
        let mut host = Host::open(root.path()).unwrap_or_else(|_| panic!());
        let mut out = Vec::new();
        host.inventory(&mut out);
        assert_eq!(told(&out), ["hostname=penguin", "os=Debian 12", "timezone=Europe/London"]);
        let mut changes = || {
            let mut out = Vec::new();
            host.changes(&mut out);
            told(&out)
        };
        assert_eq!(changes(), Vec::<String>::new());
        // As timedatectl does it.
        symlink("/usr/share/zoneinfo/Asia/Tokyo", path("etc/new")).unwrap();
        fs::rename(path("etc/new"), path("etc/localtime")).unwrap();
        assert_eq!(changes(), ["timezone=Asia/Tokyo"]);
        fs::remove_file(path("etc/localtime")).unwrap();
        assert_eq!(changes(), ["timezone ended"]);
        // As dpkg does it, twice.
        for version in ["13", "14"] {
            fs::write(path("usr/lib/new"), format!("PRETTY_NAME=\"Debian {version}\"\n")).unwrap();
            fs::rename(path("usr/lib/new"), path("usr/lib/os-release")).unwrap();
            assert_eq!(changes(), [format!("os=Debian {version}")]);
        }
        fs::write(path("proc/sys/kernel/hostname"), "puffin\n").unwrap();
        assert_eq!(changes(), ["hostname=puffin"]);
        assert_eq!(changes(), Vec::<String>::new());
    }

    #[test]
    fn on_this_computer_nothing_is_told_while_nothing_changes() {
        let mut host = Host::open(Path::new("/")).unwrap_or_else(|_| panic!());
        let mut out = Vec::new();
        host.inventory(&mut out);
        assert!(told(&out).iter().any(|line| line.starts_with("hostname=")), "{out:?}");
        // Neither descriptor is readable all the time.
        let names = rustix::event::PollFd::new(&host.names, rustix::event::PollFlags::IN);
        let ready =
            rustix::event::poll(&mut [names], Some(&rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 }));
        assert_eq!(ready.unwrap(), 0);
    }
}
