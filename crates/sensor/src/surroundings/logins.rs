//! Logins as those tell who keep records of them: the records of utmp(5), and the session files of systemd-logind where there are any. The kernel's
//! own login sessions come with the processes. What took place while nothing watched is told at the start by wtmp(5) and wtmpdb(8); where there is neither utmp
//! nor logind, wtmpdb tells who is logged in as well.

mod logind;
mod utmp;
mod wtmpdb;

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
/// Where wtmpdb keeps what wtmp kept, now and at first.
const WTMPDB: [&str; 2] = ["var/lib/wtmpdb/wtmp.db", "var/log/wtmp.db"];
const WTMPDB_DIRECTORY: &str = "var/lib/wtmpdb";
/// Records of one login in wtmp and in wtmpdb are written one after the other: so far apart at most, microseconds.
const APART: i64 = 5_000_000;

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
    /// The past logins of the database of wtmpdb were told.
    past_told: bool,
    /// Why that database could not be read, as told last.
    unread: Option<&'static str>,
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
        let paths = [SESSIONS, "run", "var/run", WTMPDB_DIRECTORY].map(|path| root.join(path));
        Self {
            root: root.to_owned(),
            directories: Directories::watch(paths.into(), flags),
            known: HashMap::new(),
            beyond: 0,
            looked: Instant::now(),
            past_told: false,
            unread: None,
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

    /// Whether the database of wtmpdb is all there is to tell who is logged in.
    fn has_database_alone(&self) -> bool {
        !UTMP.iter().chain([&SESSIONS]).any(|path| self.root.join(path).exists())
    }

    /// Tells of the past logins of the database of wtmpdb, once, and gives those that last where nothing else tells of them; `None` if it cannot be read now.
    fn database(&mut self, out: &mut Vec<Observation>) -> Option<Vec<Login>> {
        let alone = self.has_database_alone();
        if self.past_told && !alone {
            return Some(Vec::new());
        }
        let read = WTMPDB.iter().find_map(|path| wtmpdb::read(&self.root.join(path)));
        match read.unwrap_or_else(|| Ok(wtmpdb::Records::default())) {
            Ok(records) => {
                self.unread = None;
                if !std::mem::replace(&mut self.past_told, true) {
                    let past = told_once(records.past, &self.past());
                    out.extend(past.into_iter().map(|login| begun(Condition::Login(login), Origin::Found)));
                }
                Some(if alone { records.open } else { Vec::new() })
            }
            Err(wtmpdb::Unread { cause, reason }) => {
                if self.unread.replace(cause) != Some(cause) {
                    tracing::warn!("cannot read the logins that wtmpdb keeps: {reason}");
                    out.push(loss(cause, 1));
                }
                None
            }
        }
    }

    /// A record may outlast its login: whoever is killed does not clean up.
    fn is_alive(&self, login: &Login) -> bool {
        let key = (login.source, login.id.clone());
        self.known.contains_key(&key) || self.root.join("proc").join(login.pid.to_string()).exists()
    }

    fn compare(&mut self, out: &mut Vec<Observation>, origin: Origin) {
        let (mut logins, beyond) = self.recorded();
        let database = self.database(out);
        let mut before = std::mem::take(&mut self.known);
        match database {
            Some(open) => logins.extend(open),
            // What is not known now is as it was.
            None => self.known.extend(before.extract_if(|(source, _), _| *source == LoginSource::Wtmpdb)),
        }
        for login in logins {
            let key = (login.source, login.id.clone());
            if before.remove(&key).as_ref() != Some(&login) && self.known.get(&key) != Some(&login) {
                out.push(begun(Condition::Login(login.clone()), origin));
            }
            self.known.insert(key, login);
        }
        out.extend(before.into_values().map(|login| ended(Condition::Login(login))));
        if beyond > self.beyond {
            out.push(loss("table-full", beyond - self.beyond));
        }
        self.beyond = beyond;
    }
}

fn loss(cause: &'static str, count: u64) -> Observation {
    let at = clock::now();
    Observation::Loss(Loss { class: "logins", cause, count, from: at, until: at })
}

/// Those that are not among the others as well: each of the others stands for one.
fn told_once(logins: Vec<Login>, others: &[Login]) -> Vec<Login> {
    let key = |login: &Login| (login.user.clone(), login.tty.clone());
    let mut times: HashMap<_, Vec<i64>> = HashMap::new();
    for other in others {
        times.entry(key(other)).or_default().push(other.since);
    }
    let mut is_new = |login: &Login| {
        let Some(times) = times.get_mut(&key(login)) else { return true };
        let same = times.iter().position(|since| since.abs_diff(login.since) <= APART.unsigned_abs());
        same.map(|at| times.swap_remove(at)).is_none()
    };
    logins.into_iter().filter(|login| is_new(login)).collect()
}

impl Watcher for Logins {
    fn coverage(&self) -> Vec<Coverage> {
        let utmp = UTMP.iter().find(|path| self.root.join(path).exists());
        let logind = self.root.join(SESSIONS).is_dir().then_some(SESSIONS);
        let database = WTMPDB.iter().find(|path| self.root.join(path).exists()).copied();
        let sources = utmp.copied().into_iter().chain(logind).chain(database);
        let sources: Vec<String> = sources.map(|path| format!("/{path}")).collect();
        let unheard = self.directories.error(1).map(|e| format!("cannot watch /run: {e}"));
        let watch = if unheard.is_some() { Watch::Sampled } else { Watch::Watched };
        let nothing =
            || "no records of logins here: they are known by the login uid of processes alone".to_owned();
        let unread = database.and_then(|path| match wtmpdb::read(&self.root.join(path))? {
            Ok(_) => None,
            Err(wtmpdb::Unread { reason, .. }) => Some(format!("cannot read /{path}: {reason}")),
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
                Happening::File(3, name) => name == b"wtmp.db",
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

    fn database(tree: &Path) -> rusqlite::Connection {
        fs::create_dir_all(tree.join(WTMPDB_DIRECTORY)).unwrap();
        let database = rusqlite::Connection::open(tree.join(WTMPDB[0])).unwrap();
        database.execute_batch(wtmpdb::tests::SCHEMA).unwrap();
        database
    }

    #[test]
    fn a_database_alone_tells_who_is_logged_in() {
        let tree = tempfile::tempdir().unwrap();
        let database = database(tree.path());
        let change = |sql: &str| database.execute_batch(sql).unwrap();
        change(
            "insert into wtmp values (1, 3, 'alice', 20, 30, 'pts/0', 'client.example', 'sshd');
             insert into wtmp values (2, 3, 'bob', 40, null, 'pts/1', '192.0.2.7', 'sshd');",
        );
        let (mut watcher, mut out) = (Logins::new(tree.path()), Vec::new());
        let coverage = &watcher.coverage()[0];
        assert_eq!(coverage.hook, "inotify /var/lib/wtmpdb/wtmp.db");
        watcher.inventory(&mut out);
        assert_eq!(told(&mut out), ["+alice 0", "+bob 0", "Complete(Conditions(Login))"]);
        change("insert into wtmp values (3, 3, 'carol', 50, null, 'pts/2', null, 'sshd')");
        watcher.changes(&mut out);
        assert_eq!(told(&mut out), ["+carol 0"]);
        // Somebody writes: nobody is logged out by that.
        change("begin exclusive; update wtmp set Logout = 60 where User = 'bob'");
        watcher.compare(&mut out, Origin::Event);
        watcher.compare(&mut out, Origin::Event);
        assert_eq!(told(&mut out), ["1 locked"]);
        change("commit");
        watcher.changes(&mut out);
        assert_eq!(told(&mut out), ["-bob 0"]);
        // Where there are other records, they tell of those who are there.
        fs::create_dir_all(tree.path().join("run")).unwrap();
        fs::write(tree.path().join("run/utmp"), "").unwrap();
        watcher.compare(&mut out, Origin::Event);
        assert_eq!(told(&mut out), ["-carol 0"]);
    }

    #[test]
    fn a_past_login_that_both_have_is_told_once() {
        let tree = tempfile::tempdir().unwrap();
        let at = |path: &str| tree.path().join(path);
        for path in ["run/systemd/sessions", "var/log"] {
            fs::create_dir_all(at(path)).unwrap();
        }
        let past = [record(7, 40, "pts/2", "eve", ""), record(8, 40, "pts/2", "", "")].concat();
        fs::write(at("var/log/wtmp"), past).unwrap();
        let since = 1_700_000_000_000_005i64;
        let row = |id: u32, user: &str, tty: &str, since: i64| {
            format!(
                "insert into wtmp values ({id}, 3, '{user}', {since}, {}, '{tty}', null, 'sshd');",
                since + 9
            )
        };
        let rows = [
            row(1, "eve", "pts/2", since + 1_000_000),
            row(2, "eve", "pts/3", since),
            row(3, "eve", "pts/2", since + 2_000_000),
            row(4, "mallory", "pts/2", since),
        ];
        database(tree.path()).execute_batch(&rows.concat()).unwrap();
        let (mut watcher, mut out) = (Logins::new(tree.path()), Vec::new());
        watcher.inventory(&mut out);
        assert_eq!(
            told(&mut out),
            ["+eve 40", "+eve 0", "+eve 0", "+mallory 0", "Complete(Conditions(Login))"]
        );
        watcher.compare(&mut out, Origin::Event);
        assert!(out.is_empty());
    }

    #[test]
    fn a_database_that_cannot_be_read_is_said_and_counted_once() {
        let tree = tempfile::tempdir().unwrap();
        for path in ["run/systemd/sessions", WTMPDB_DIRECTORY] {
            fs::create_dir_all(tree.path().join(path)).unwrap();
        }
        let (mut watcher, mut out) = (Logins::new(tree.path()), Vec::new());
        assert_eq!(watcher.coverage()[0].reason, None);
        fs::write(tree.path().join(WTMPDB[0]), "SQLite format 3\0").unwrap();
        let reason = watcher.coverage()[0].reason.clone().unwrap();
        assert!(reason.starts_with("cannot read /var/lib/wtmpdb/wtmp.db: "), "{reason}");
        watcher.inventory(&mut out);
        watcher.compare(&mut out, Origin::Event);
        assert_eq!(told(&mut out), ["1 malformed", "Complete(Conditions(Login))"]);
        // It is tried again.
        fs::remove_file(tree.path().join(WTMPDB[0])).unwrap();
        database(tree.path())
            .execute_batch("insert into wtmp values (1, 3, 'alice', 20, 30, null, null, null)")
            .unwrap();
        watcher.changes(&mut out);
        assert_eq!(told(&mut out), ["+alice 0"]);
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
