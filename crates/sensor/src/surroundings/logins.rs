//! Logins as those tell who keep records of them: the records of utmp(5), and the session files of systemd-logind where there are any. The kernel's
//! own login sessions come with the processes. What took place while nothing watched is told at the start by wtmp(5).

mod logind;
mod utmp;

use std::{
    collections::HashMap,
    fs::File,
    io::{Read, Seek, SeekFrom},
    os::{fd::BorrowedFd, unix::ffi::OsStrExt},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use rustix::fs::inotify::WatchFlags;

use super::{
    Watcher, begun,
    directories::{Directories, Happening},
    ended,
};
use crate::{
    clock,
    condition::{Condition, ConditionKind, Login, LoginSource},
    observation::{Coverage, Inventory, Loss, Observation, Origin, Watch},
};

/// How many records of the one and files of the other kind are read.
const LIMIT: usize = 8192;
/// Between two looks without a cause.
const LOOK: Duration = Duration::from_secs(20);

/// Where the records are, below the root: the first that exists counts.
const UTMP: [&str; 2] = ["run/utmp", "var/run/utmp"];
const WTMP: &str = "var/log/wtmp";
const SESSIONS: &str = "run/systemd/sessions";
/// Where wtmpdb keeps what wtmp kept, now and at first: databases of SQLite, which are not read here.
const WTMPDB: [&str; 2] = ["var/lib/wtmpdb/wtmp.db", "var/log/wtmp.db"];

/// The records of a utmp or wtmp file, for fuzzing.
#[cfg(any(test, fuzzing))]
pub fn try_utmp(bytes: &[u8]) {
    let (records, _) = bytes.as_chunks::<{ utmp::RECORD }>();
    let logins: Vec<Login> = records.iter().filter_map(utmp::login).collect();
    assert!(logins.iter().all(|login| !login.user.is_empty() && login.pid > 0 && login.since >= 0));
    let past = utmp::past(records);
    assert!(past.len() <= logins.len());
    assert!(past.iter().all(|login| login.until >= Some(login.since)), "a login that ended before it began");
}

/// A session's file of logind, for fuzzing.
#[cfg(any(test, fuzzing))]
pub fn try_session(bytes: &[u8]) {
    if let Some(login) = logind::login(b"1", bytes) {
        assert!(!login.user.is_empty() && login.user.len() < bytes.len());
    }
}

/// Watches the records of logins.
pub(super) struct Logins {
    root: PathBuf,
    directories: Directories,
    known: HashMap<(LoginSource, Vec<u8>), Login>,
    /// How many more there were than are read, as told last.
    beyond: u64,
    looked: Instant,
}

impl Logins {
    /// Those below `root`.
    pub(super) fn new(root: &Path) -> Self {
        // A record is written in place, whole; a session's file is replaced.
        let flags = WatchFlags::MODIFY
            | WatchFlags::CLOSE_WRITE
            | WatchFlags::MOVED_TO
            | WatchFlags::MOVED_FROM
            | WatchFlags::DELETE;
        let paths = [SESSIONS, "run", "var/run"].map(|path| root.join(path));
        Self {
            root: root.to_owned(),
            directories: Directories::watch(paths.into(), flags),
            known: HashMap::new(),
            beyond: 0,
            looked: Instant::now(),
        }
    }

    /// All that are recorded now, and how many records were passed over because there are too many.
    fn recorded(&self) -> (Vec<Login>, u64) {
        let (mut logins, mut beyond) = self.utmp();
        if let Ok(entries) = std::fs::read_dir(self.root.join(SESSIONS)) {
            for (count, entry) in entries.flatten().enumerate() {
                let name = entry.file_name();
                // Files with a dot are on their way to replace another; those that end in .ref are pipes.
                if name.as_bytes().contains(&b'.') || !entry.file_type().is_ok_and(|kind| kind.is_file()) {
                    continue;
                }
                if count >= LIMIT {
                    beyond += 1;
                    continue;
                }
                let mut file = Vec::new();
                let read = File::open(entry.path())
                    .and_then(|opened| opened.take(logind::LONGEST_FILE).read_to_end(&mut file));
                if read.is_ok() {
                    logins.extend(logind::login(name.as_bytes(), &file));
                }
            }
        }
        (logins, beyond)
    }

    fn utmp(&self) -> (Vec<Login>, u64) {
        let mut bytes = Vec::new();
        let opened = UTMP.iter().find_map(|path| File::open(self.root.join(path)).ok());
        let Some(file) = opened else { return (Vec::new(), 0) };
        let length = file.metadata().map_or(0, |meta| meta.len());
        let limit = (LIMIT * utmp::RECORD) as u64;
        if file.take(limit).read_to_end(&mut bytes).is_err() {
            return (Vec::new(), 0);
        }
        let (records, _) = bytes.as_chunks::<{ utmp::RECORD }>();
        let logins = records.iter().filter_map(utmp::login).filter(|login| self.is_alive(login));
        (logins.collect(), length.saturating_sub(limit).div_ceil(utmp::RECORD as u64))
    }

    /// Logins that are over, by the latest records.
    fn past(&self) -> Vec<Login> {
        let limit = (LIMIT * utmp::RECORD) as u64;
        let mut bytes = Vec::new();
        let read = File::open(self.root.join(WTMP)).and_then(|mut file| {
            let whole = file.metadata()?.len() / utmp::RECORD as u64 * utmp::RECORD as u64;
            file.seek(SeekFrom::Start(whole.saturating_sub(limit)))?;
            file.take(limit).read_to_end(&mut bytes)
        });
        let (records, _) = bytes.as_chunks::<{ utmp::RECORD }>();
        if read.is_ok() { utmp::past(records) } else { Vec::new() }
    }

    /// A record may outlast its login: whoever is killed does not clean up.
    fn is_alive(&self, login: &Login) -> bool {
        let key = (login.source, login.id.clone());
        self.known.contains_key(&key) || self.root.join("proc").join(login.pid.to_string()).exists()
    }

    fn compare(&mut self, out: &mut Vec<Observation>, origin: Origin) {
        let (logins, beyond) = self.recorded();
        let mut before = std::mem::take(&mut self.known);
        for login in logins {
            let key = (login.source, login.id.clone());
            if before.remove(&key).as_ref() != Some(&login) && self.known.get(&key) != Some(&login) {
                out.push(begun(Condition::Login(login.clone()), origin));
            }
            self.known.insert(key, login);
        }
        out.extend(before.into_values().map(|login| ended(Condition::Login(login))));
        if beyond > self.beyond {
            let (at, count) = (clock::now(), beyond - self.beyond);
            out.push(Observation::Loss(Loss {
                class: "logins",
                cause: "table-full",
                count,
                from: at,
                until: at,
            }));
        }
        self.beyond = beyond;
    }
}

impl Watcher for Logins {
    fn coverage(&self) -> Vec<Coverage> {
        let utmp = UTMP.iter().find(|path| self.root.join(path).exists());
        let logind = self.root.join(SESSIONS).is_dir().then_some(SESSIONS);
        let sources: Vec<String> =
            utmp.copied().into_iter().chain(logind).map(|path| format!("/{path}")).collect();
        let unheard = self.directories.error(1).map(|e| format!("cannot watch /run: {e}"));
        let watch = if unheard.is_some() { Watch::Sampled } else { Watch::Watched };
        let nothing =
            || "no records of logins here: they are known by the login uid of processes alone".to_owned();
        let unread = WTMPDB.iter().find(|path| self.root.join(path).exists()).map(|path| {
            format!("past logins are not read from /{path}: those that were over when the recorder started are missing")
        });
        let reasons: Vec<String> =
            unheard.or_else(|| sources.is_empty().then(nothing)).into_iter().chain(unread).collect();
        let reason = (!reasons.is_empty()).then(|| reasons.join("; "));
        let hook = format!("inotify {}", sources.join(" "));
        vec![Coverage { class: "logins", watch, sensor: "files", hook: hook.trim_end().to_owned(), reason }]
    }

    fn descriptors(&self) -> Vec<BorrowedFd<'_>> {
        self.directories.descriptor().into_iter().collect()
    }

    fn patience(&self) -> Option<Duration> {
        Some(LOOK)
    }

    fn inventory(&mut self, out: &mut Vec<Observation>) {
        out.extend(self.past().into_iter().map(|login| begun(Condition::Login(login), Origin::Found)));
        self.compare(out, Origin::Found);
        out.push(Observation::Complete(Inventory::Conditions(ConditionKind::Login)));
    }

    fn changes(&mut self, out: &mut Vec<Observation>) {
        let mut due = false;
        self.directories.happenings(|happening| {
            due |= match happening {
                Happening::File(0, _) | Happening::Anything => true,
                Happening::File(_, name) => name == b"utmp",
            };
        });
        if self.looked.elapsed() >= LOOK {
            self.looked = Instant::now();
            self.directories.retry();
            due = true;
        }
        if due {
            self.compare(out, Origin::Event);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::{utmp::tests::record, *};

    fn told(out: &mut Vec<Observation>) -> Vec<String> {
        let line = |observation| match observation {
            Observation::Condition { condition, .. } => format!("+{}", name(&condition)),
            Observation::ConditionEnd { condition, .. } => format!("-{}", name(&condition)),
            Observation::Loss(loss) => format!("{} {}", loss.count, loss.cause),
            other => format!("{other:?}"),
        };
        std::mem::take(out).into_iter().map(line).collect()
    }

    fn name(condition: &Condition) -> String {
        let Condition::Login(login) = condition else { panic!("{condition:?}") };
        format!("{} {}", String::from_utf8_lossy(&login.user), login.pid)
    }

    #[test]
    fn records_are_followed_where_their_processes_live() {
        let tree = tempfile::tempdir().unwrap();
        let at = |path: &str| tree.path().join(path);
        for path in ["run/systemd/sessions", "proc/41", "proc/42"] {
            fs::create_dir_all(at(path)).unwrap();
        }
        let stale = record(7, 7, "pts/7", "ghost", "");
        fs::create_dir_all(at("var/log")).unwrap();
        let past = [record(7, 40, "pts/2", "eve", ""), record(8, 40, "pts/2", "", "")].concat();
        fs::write(at("var/log/wtmp"), [&past[..], &stale[..9]].concat()).unwrap();
        fs::write(at("run/utmp"), [stale, record(7, 41, "pts/1", "alice", "")].concat()).unwrap();
        let (mut watcher, mut out) = (Logins::new(tree.path()), Vec::new());
        watcher.inventory(&mut out);
        assert_eq!(told(&mut out), ["+eve 40", "+alice 41", "Complete(Conditions(Login))"]);
        watcher.changes(&mut out);
        assert!(out.is_empty());
        // Another user on the terminal, in the same place of the file; half a record behind it.
        let mut bytes = [stale, record(7, 42, "pts/1", "bob", "")].concat();
        bytes.extend(&stale[..100]);
        fs::write(at("run/utmp"), bytes).unwrap();
        watcher.changes(&mut out);
        assert_eq!(told(&mut out), ["+bob 42", "-alice 41"]);
        let session = "CLASS=user\nUSER=carol\nLEADER=43\nAUDIT=3\n";
        fs::write(at("run/systemd/sessions/.#3"), session).unwrap();
        fs::rename(at("run/systemd/sessions/.#3"), at("run/systemd/sessions/3")).unwrap();
        watcher.changes(&mut out);
        assert_eq!(told(&mut out), ["+carol 43"]);
        fs::remove_file(at("run/systemd/sessions/3")).unwrap();
        fs::write(at("run/utmp"), record(8, 42, "pts/1", "", "")).unwrap();
        watcher.changes(&mut out);
        let mut ends = told(&mut out);
        ends.sort_unstable();
        assert_eq!(ends, ["-bob 42", "-carol 43"]);
    }

    #[test]
    fn a_database_that_is_not_read_is_said() {
        let tree = tempfile::tempdir().unwrap();
        for path in ["run/systemd/sessions", "var/lib/wtmpdb"] {
            fs::create_dir_all(tree.path().join(path)).unwrap();
        }
        let reason = || Logins::new(tree.path()).coverage()[0].reason.clone();
        assert_eq!(reason(), None);
        fs::write(tree.path().join("var/lib/wtmpdb/wtmp.db"), "SQLite format 3\0").unwrap();
        assert!(reason().unwrap().contains("not read from /var/lib/wtmpdb/wtmp.db"));
    }

    #[test]
    fn more_records_than_are_kept_are_counted() {
        let tree = tempfile::tempdir().unwrap();
        fs::create_dir_all(tree.path().join("run")).unwrap();
        let records = vec![record(8, 1, "pts/1", "", ""); LIMIT + 3].concat();
        fs::write(tree.path().join("run/utmp"), records).unwrap();
        let (mut watcher, mut out) = (Logins::new(tree.path()), Vec::new());
        watcher.inventory(&mut out);
        assert_eq!(told(&mut out), ["3 table-full", "Complete(Conditions(Login))"]);
        watcher.compare(&mut out, Origin::Event);
        assert!(out.is_empty());
    }
}
