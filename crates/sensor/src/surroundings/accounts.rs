//! Users and groups of the local files, /etc/passwd, /etc/shadow and /etc/group, from the moment in which a file is replaced or closed by who wrote it.
//!
//! A file that is being written is not read: tools replace it whole, and who writes into it closes it in the end. Now and then the watcher looks by
//! itself, for files that another file system's watch does not reach (a bind mount of one file) and writers that never close.

mod lines;

use std::{
    collections::HashMap,
    fs::File,
    hash::{BuildHasher, RandomState},
    io::{self, Read},
    os::{fd::BorrowedFd, unix::fs::MetadataExt},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use rustix::fs::inotify::WatchFlags;

use self::lines::Flaws;
use super::{
    Watcher,
    directories::{Directories, Happening},
};
use crate::{
    clock,
    condition::{Condition, ConditionKind, Group, User},
    observation::{BootNs, Coverage, Inventory, Loss, Observation, Origin, Watch},
};

/// What is read of a file at most: half a million lines.
const LONGEST_FILE: u64 = 64 << 20;
/// How many users or groups are followed.
const LIMIT: usize = 1 << 18;
/// Between two looks without a cause.
const LOOK: Duration = Duration::from_secs(20);

/// How long a new user's line in the shadow file is waited for: tools replace the one file after the other.
const FOLLOWS: Duration = Duration::from_millis(200);

/// Which content a file has: device, inode, size, time of the last change.
type Fingerprint = Option<(u64, u64, u64, i64, i64)>;

/// One of the files.
struct Source {
    path: PathBuf,
    name: &'static [u8],
    /// Which content was read last.
    taken: Fingerprint,
    /// It is to be read.
    due: bool,
    /// It was found changed, by whom or what nobody told; read once it stays so.
    restless: Option<Fingerprint>,
}

impl Source {
    fn new(root: &Path, name: &'static str) -> Self {
        let path = root.join("etc").join(name);
        Self { path, name: name.as_bytes(), taken: None, due: true, restless: None }
    }

    fn fingerprint(&self) -> Fingerprint {
        std::fs::metadata(&self.path).ok().map(|meta| print(&meta))
    }

    /// Nobody writes to it, as far as can be told.
    fn is_settled(&self) -> bool {
        self.due || self.fingerprint() == self.taken
    }

    /// Looks whether it changed without a word; what stays changed from one look to the next is read.
    fn look(&mut self) {
        let found = self.fingerprint();
        if found == self.taken {
            self.restless = None;
        } else if self.restless.replace(found) == Some(found) {
            self.restless = None;
            self.due = true;
        }
    }

    /// Its content; `Ok(None)` when it changed meanwhile.
    fn read(&mut self) -> io::Result<Option<Vec<u8>>> {
        self.due = false;
        let mut content = Vec::new();
        let opened = File::open(&self.path);
        let mut file = match opened {
            Ok(file) => file,
            Err(e) => {
                self.taken = self.fingerprint();
                return Err(e);
            }
        };
        let before = print(&file.metadata()?);
        Read::by_ref(&mut file).take(LONGEST_FILE + 1).read_to_end(&mut content)?;
        let after = print(&file.metadata()?);
        if before != after {
            return Ok(None);
        }
        self.taken = Some(after);
        Ok(Some(content))
    }
}

fn print(meta: &std::fs::Metadata) -> (u64, u64, u64, i64, i64) {
    (meta.dev(), meta.ino(), meta.size(), meta.mtime(), meta.mtime_nsec())
}

/// What was told of one kind: by name, a number for the values.
#[derive(Default)]
struct Told {
    known: HashMap<Box<[u8]>, u64>,
    flaws: Flaws,
    overfull: u64,
}

/// A change of the file, as it is told.
struct Change<'a> {
    out: &'a mut Vec<Observation>,
    at: BootNs,
    origin: Origin,
    class: &'static str,
    before: HashMap<Box<[u8]>, u64>,
    overfull: u64,
}

impl Told {
    fn begin<'a>(
        &mut self,
        out: &'a mut Vec<Observation>,
        class: &'static str,
        origin: Origin,
    ) -> Change<'a> {
        let before = std::mem::take(&mut self.known);
        Change { out, at: clock::now(), origin, class, before, overfull: 0 }
    }

    /// Tells of one member, unless it was told of with the same values.
    fn meet(
        &mut self,
        change: &mut Change<'_>,
        (name, values): (&[u8], u64),
        condition: impl FnOnce() -> Condition,
    ) {
        if self.known.len() >= LIMIT {
            change.overfull += 1;
            return;
        }
        let (name, known) =
            change.before.remove_entry(name).map_or_else(|| (name.into(), None), |(n, v)| (n, Some(v)));
        self.known.insert(name, values);
        if known != Some(values) {
            let condition = Box::new(condition());
            change.out.push(Observation::Condition { at: change.at, condition, origin: change.origin });
        }
    }

    /// Whether a user who was not told of yet has no line in the shadow file where one belongs.
    fn lacks(&self, passwd: &[u8], shadow: &HashMap<&[u8], lines::Shadow>) -> bool {
        let mut lacks = false;
        lines::users(whole(passwd), Some(shadow), |user| {
            lacks |= user.password.is_none() && !self.known.contains_key(&user.name[..]);
        });
        lacks
    }

    /// Ends those that are no more, and tells of what could not be taken, once.
    fn end(&mut self, change: Change<'_>, flaws: Flaws, condition: impl Fn(Vec<u8>) -> Condition) {
        let Change { out, at, class, before, overfull, .. } = change;
        for name in before.into_keys() {
            out.push(Observation::ConditionEnd { at, condition: Box::new(condition(name.into())) });
        }
        let counts = [
            ("malformed-line", flaws.malformed, self.flaws.malformed),
            ("repeated-name", flaws.repeated, self.flaws.repeated),
            ("table-full", overfull, self.overfull),
        ];
        for (cause, count, told) in counts {
            if count > told {
                out.push(Observation::Loss(Loss { class, cause, count: count - told, from: at, until: at }));
            }
        }
        (self.flaws, self.overfull) = (flaws, overfull);
    }
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

/// What the file holds; nothing where it does not exist; `None` when it cannot be read, or is being written.
fn content(source: &mut Source) -> Option<Vec<u8>> {
    match source.read() {
        Ok(content) => content,
        Err(e) if e.kind() == io::ErrorKind::NotFound => Some(Vec::new()),
        Err(_) => None,
    }
}

/// The lines that are read of a file.
fn whole(content: &[u8]) -> &[u8] {
    let limit = LONGEST_FILE as usize;
    if content.len() <= limit {
        return content;
    }
    let end = content[..limit].iter().rposition(|&b| b == b'\n').unwrap_or(0);
    &content[..end]
}

/// What is beyond them counts as one line that is none.
fn cut(content: &[u8], flaws: Flaws) -> Flaws {
    Flaws { malformed: flaws.malformed + u64::from(whole(content).len() < content.len()), ..flaws }
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
mod tests {
    use std::{fs, io::Write as _};

    use super::*;

    /// A made-up tree whose files are replaced as tools do it.
    struct Tree(tempfile::TempDir);

    impl Tree {
        fn new() -> Self {
            let tree = Self(tempfile::tempdir().unwrap());
            fs::create_dir(tree.0.path().join("etc")).unwrap();
            tree
        }

        fn replace(&self, name: &str, content: &str) {
            let path = self.0.path().join("etc").join(name);
            fs::write(path.with_extension("new"), content).unwrap();
            fs::rename(path.with_extension("new"), path).unwrap();
        }
    }

    /// What was told, in short: `+` begins, `-` ends.
    fn told(out: &mut Vec<Observation>) -> Vec<String> {
        let name = |condition: &Condition| match condition {
            Condition::User(user) => String::from_utf8_lossy(&user.name).into_owned(),
            Condition::Group(group) => String::from_utf8_lossy(&group.name).into_owned(),
            other => format!("{other:?}"),
        };
        let line = |observation| match observation {
            Observation::Condition { condition, .. } => format!("+{}", name(&condition)),
            Observation::ConditionEnd { condition, .. } => format!("-{}", name(&condition)),
            Observation::Complete(_) => "complete".to_owned(),
            Observation::Loss(loss) => format!("{} {}", loss.count, loss.cause),
            other => format!("{other:?}"),
        };
        let mut lines: Vec<String> = std::mem::take(out).into_iter().map(line).collect();
        lines.sort_unstable();
        lines
    }

    #[test]
    fn only_what_changed_is_told() {
        let tree = Tree::new();
        tree.replace("passwd", "a:x:1:1:::\nb:x:2:2:::\nbroken\n");
        tree.replace("shadow", "a:!:1::::::\nb:*:1::::::\n");
        tree.replace("group", "g:x:1:a\n");
        let (mut watcher, mut out) = (Accounts::new(tree.0.path()), Vec::new());
        watcher.inventory(&mut out);
        assert_eq!(told(&mut out), ["+a", "+b", "+g", "1 malformed-line", "complete", "complete"]);
        watcher.changes(&mut out);
        assert!(out.is_empty());
        // The same again, another order, another file's time: nothing.
        tree.replace("passwd", "b:x:2:2:::\na:x:1:1:::\nbroken\n");
        watcher.changes(&mut out);
        assert!(told(&mut out).is_empty());
        tree.replace("shadow", "a:!:1::::::\nb:!:1::::::\n");
        tree.replace("group", "g:x:1:a,b\nh:x:2:\n");
        watcher.changes(&mut out);
        assert_eq!(told(&mut out), ["+b", "+g", "+h"]);
        tree.replace("passwd", "a:x:1:1:::\nbroken\nbroken\na:x:0:0:::\n");
        watcher.changes(&mut out);
        assert_eq!(told(&mut out), ["-b", "1 malformed-line", "1 repeated-name"]);
        fs::remove_file(tree.0.path().join("etc/passwd")).unwrap();
        watcher.changes(&mut out);
        assert!(told(&mut out).is_empty(), "it may come back at once");
    }

    #[test]
    fn a_new_user_waits_for_its_line_in_the_shadow_file() {
        let tree = Tree::new();
        tree.replace("passwd", "a:x:1:1:::\n");
        tree.replace("shadow", "a:!:1::::::\n");
        let (mut watcher, mut out) = (Accounts::new(tree.0.path()), Vec::new());
        watcher.inventory(&mut out);
        out.clear();
        tree.replace("passwd", "a:x:1:1:::\nb:x:2:2:::\n");
        watcher.awaited = Some(Instant::now() + LOOK);
        watcher.changes(&mut out);
        assert!(out.is_empty() && watcher.patience() == Some(FOLLOWS));
        tree.replace("shadow", "a:!:1::::::\nb:!:1::::::\n");
        watcher.changes(&mut out);
        let Some(Observation::Condition { condition, .. }) = out.first() else { panic!("{out:?}") };
        assert!(matches!(&**condition, Condition::User(user) if user.password.is_some()), "{condition:?}");
        // One that never comes is not waited for.
        out.clear();
        tree.replace("passwd", "a:x:1:1:::\nb:x:2:2:::\nc:x:3:3:::\n");
        watcher.awaited = Instant::now().checked_sub(FOLLOWS);
        watcher.changes(&mut out);
        assert_eq!(told(&mut out), ["+c"]);
    }

    #[test]
    fn what_changes_without_a_word_is_found_by_looking() {
        let tree = Tree::new();
        tree.replace("passwd", "a:*:1:1:::\n");
        let (mut watcher, mut out) = (Accounts::new(tree.0.path()), Vec::new());
        watcher.inventory(&mut out);
        out.clear();
        // Open for as long as this test: nobody closes it.
        let mut file = fs::OpenOptions::new().append(true).open(tree.0.path().join("etc/passwd")).unwrap();
        file.write_all(b"b:*:2:2:::\n").unwrap();
        let mut look = |watcher: &mut Accounts| {
            watcher.looked = Instant::now().checked_sub(LOOK).unwrap();
            watcher.changes(&mut out);
            told(&mut out)
        };
        assert!(look(&mut watcher).is_empty(), "it may be half written");
        assert_eq!(look(&mut watcher), ["+b"]);
        file.write_all(b"c:*:3:3:::\n").unwrap();
        assert!(look(&mut watcher).is_empty());
        file.write_all(b"d:*:4:4:::\n").unwrap();
        assert!(look(&mut watcher).is_empty(), "it goes on changing");
        assert_eq!(look(&mut watcher), ["+c", "+d"]);
    }

    #[test]
    fn a_queue_that_ran_over_means_reading_again() {
        let tree = Tree::new();
        tree.replace("passwd", "a:*:1:1:::\n");
        let (mut watcher, mut out) = (Accounts::new(tree.0.path()), Vec::new());
        watcher.inventory(&mut out);
        out.clear();
        let limit = fs::read_to_string("/proc/sys/fs/inotify/max_queued_events").unwrap();
        let limit: usize = limit.trim().parse().unwrap();
        // Two names by turns: the kernel folds only repeats.
        for n in 0..=limit {
            tree.replace(["x", "y"][n % 2], "");
        }
        tree.replace("passwd", "b:*:2:2:::\n");
        watcher.changes(&mut out);
        assert_eq!(told(&mut out), ["+b", "-a"]);
        // A directory that was replaced is watched anew.
        fs::rename(tree.0.path().join("etc"), tree.0.path().join("old")).unwrap();
        fs::remove_dir_all(tree.0.path().join("old")).unwrap();
        fs::create_dir(tree.0.path().join("etc")).unwrap();
        watcher.changes(&mut out);
        tree.replace("passwd", "c:*:3:3:::\n");
        watcher.changes(&mut out);
        assert!(told(&mut out).contains(&"+c".to_owned()));
    }
}
