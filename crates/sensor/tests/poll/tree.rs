//! The sensor on a made-up /proc, where anything can be made to happen.

use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
};

use luarm_sensor::{Observation, observation::ImageId};
use tempfile::TempDir;

use crate::watched::Watched;

const TICK: u64 = 10_000_000;

/// What the made-up kernel says of a process that it does not let us look into.
#[derive(Clone)]
struct Made {
    pid: u32,
    comm: &'static [u8],
    state: char,
    flags: u32,
    faults: u64,
    start: u64,
    uid: u32,
    arguments: &'static [u8],
}

const SSHD: Made = Made {
    pid: 42,
    comm: b"sshd) S 1 (",
    state: 'S',
    flags: 0,
    faults: 1,
    start: 7,
    uid: 0,
    arguments: b"sshd\0-D\0",
};

struct Tree(TempDir);

impl Tree {
    fn with(made: &Made) -> Self {
        let tree = Self(tempfile::tempdir().unwrap());
        tree.make(made);
        tree
    }

    fn process(&self, pid: u32) -> PathBuf {
        self.root().join(format!("proc/{pid}"))
    }

    fn root(&self) -> &Path {
        self.0.path()
    }

    fn make(&self, made: &Made) {
        let directory = self.process(made.pid);
        fs::create_dir_all(&directory).unwrap();
        let Made { pid, comm, state, flags, faults, start, uid, arguments } = made;
        let fields =
            format!(") {state} 1 1 1 0 -1 {flags} {faults} 0 0 0 5 6 0 0 20 0 1 0 {start} 4096 3 0 0 0 0\n");
        let stat = [format!("{pid} (").as_bytes(), comm, fields.as_bytes()].concat();
        // In one step each, as the kernel's own files change.
        let put = |name: &str, content: &[u8]| {
            fs::write(directory.join("new"), content).unwrap();
            fs::rename(directory.join("new"), directory.join(name)).unwrap();
        };
        put("status", format!("Name:\tx\nUid:\t{uid}\t{uid}\t{uid}\t{uid}\nGid:\t0\t0\t0\t0\n").as_bytes());
        put("cmdline", arguments);
        put("loginuid", b"4294967295");
        put("sessionid", b"3");
        put("cgroup", b"0::/user.slice\n");
        put("stat", &stat);
    }
}

/// What is told of processes in one round after another state was made.
fn told(watched: &mut Watched) -> Vec<Observation> {
    let before = watched.seen().len();
    watched.round();
    let told = watched.seen()[before..].iter().filter(|seen| {
        !matches!(seen, Observation::Reached(_) | Observation::Endpoint(_) | Observation::EndpointEnd { .. })
    });
    told.cloned().collect()
}

#[test]
fn the_facts_are_those_of_the_tree() {
    let tree = Tree::with(&SSHD);
    symlink("/srv", tree.process(42).join("cwd")).unwrap();
    symlink("/bin/sh", tree.process(42).join("exe")).unwrap();
    let (task, program, _) = Watched::below(tree.root()).found(42);
    assert_eq!(task.image, ImageId { pid: 42, start: 7 * TICK, execs: 0 });
    assert_eq!((task.comm.as_slice(), task.ppid, task.sid, task.tty), (SSHD.comm, 1, Some(1), None));
    assert_eq!((task.auid, task.session, task.cgroup.as_deref()), (None, Some(3), Some(&b"/user.slice"[..])));
    assert_eq!((program.path.as_slice(), program.cwd.as_deref()), (&b"/bin/sh"[..], Some(&b"/srv"[..])));
    assert_eq!((program.arguments.bytes.as_slice(), program.arguments.length), (SSHD.arguments, 8));
}

#[test]
fn a_new_title_is_no_exec_and_a_new_name_no_exec_but_both_are() {
    let tree = Tree::with(&SSHD);
    let mut watched = Watched::below(tree.root());
    let titled = Made { arguments: b"sshd: user [priv]\0", faults: 2, ..SSHD };
    tree.make(&titled);
    // Long enough for a close look.
    for _ in 0..20 {
        assert_eq!(told(&mut watched), []);
    }
    tree.make(&Made { comm: b"crond", ..titled.clone() });
    assert!(matches!(told(&mut watched).as_slice(), [Observation::Rename { actor, old, .. }]
        if actor.comm == b"crond" && old == SSHD.comm && actor.image.execs == 0));
    tree.make(&Made { comm: b"bash", arguments: b"-bash\0", ..titled });
    assert!(matches!(told(&mut watched).as_slice(), [Observation::Found { task, program, .. }]
        if task.comm == b"bash" && task.image.execs == 1 && program.arguments.bytes == b"-bash\0"));
}

#[test]
fn what_an_idle_process_hides_is_seen_at_the_close_look() {
    let tree = Tree::with(&SSHD);
    let mut watched = Watched::below(tree.root());
    tree.make(&Made { uid: 1000, ..SSHD });
    let changed = watched.until(|observation| match observation {
        Observation::Credentials { actor, credentials, .. } => Some((actor.euid, credentials.suid)),
        _ => None,
    });
    assert_eq!(changed, (1000, 1000));
}

#[test]
fn kernel_threads_change_their_names_all_the_time() {
    let kworker = Made { comm: b"kworker/0:1-events", flags: 0x0020_0000, arguments: b"", ..SSHD };
    let tree = Tree::with(&kworker);
    let mut watched = Watched::below(tree.root());
    tree.make(&Made { comm: b"kworker/0:1-mm_percpu_wq", faults: 9, ..kworker.clone() });
    assert_eq!(told(&mut watched), []);
    tree.make(&Made { comm: b"modprobe", flags: 0, arguments: b"/sbin/modprobe\0", ..kworker });
    assert!(
        matches!(told(&mut watched).as_slice(), [Observation::Found { task, .. }] if task.image.execs == 1)
    );
}

#[test]
fn ends_are_told_once_whether_it_is_fetched_replaced_or_gone() {
    let tree = Tree::with(&SSHD);
    let mut watched = Watched::below(tree.root());
    let ended = |told: &[Observation], start: u64| {
        let image = ImageId { pid: 42, start: start * TICK, execs: 0 };
        matches!(told.first(), Some(Observation::Exit { image: ended, status: None, .. }) if *ended == image)
    };
    tree.make(&Made { start: 8, ..SSHD });
    let both = told(&mut watched);
    assert!(ended(&both, 7) && matches!(both.as_slice(), [_, Observation::Found { .. }]), "{both:?}");
    tree.make(&Made { start: 8, state: 'Z', ..SSHD });
    let zombie = told(&mut watched);
    assert!(ended(&zombie, 8) && zombie.len() == 1, "{zombie:?}");
    assert_eq!(told(&mut watched), []);
    tree.make(&Made { start: 9, ..SSHD });
    assert!(matches!(told(&mut watched).as_slice(), [Observation::Found { .. }]));
    fs::remove_dir_all(tree.process(42)).unwrap();
    assert!(ended(&told(&mut watched), 9));
}

#[test]
fn files_that_make_no_sense_are_passed_over() {
    let tree = Tree::with(&SSHD);
    for (pid, stat) in [(43, &b""[..]), (44, b"44 (x"), (45, b"\xff\xfe)("), (46, b"46 (x) R 1 1 1")] {
        fs::create_dir_all(tree.process(pid)).unwrap();
        fs::write(tree.process(pid).join("stat"), stat).unwrap();
    }
    fs::create_dir_all(tree.process(47)).unwrap();
    let mut watched = Watched::below(tree.root());
    watched.found(42);
    let strangers = watched
        .seen()
        .iter()
        .filter(|seen| matches!(seen, Observation::Found { task, .. } if task.image.pid != 42));
    assert_eq!(strangers.count(), 0);
}
