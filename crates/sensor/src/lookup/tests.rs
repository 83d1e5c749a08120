use std::{
    os::unix::fs::{MetadataExt, symlink},
    sync::Barrier,
};

use super::*;

const LONG: Duration = Duration::from_secs(600);

/// Answers that do not come until this is dropped.
struct Stuck(Vec<mpsc::Sender<()>>);

impl Stuck {
    fn new() -> Self {
        Self(Vec::new())
    }

    fn question(&mut self) -> impl FnOnce() + Send + 'static {
        let (free, held) = mpsc::channel::<()>();
        self.0.push(free);
        move || {
            let _ = held.recv();
        }
    }
}

fn inode(file: OwnedFd, facts: &Statx) -> u64 {
    drop(file);
    facts.stx_ino
}

fn look(lookups: &Lookups, path: &Path) -> Result<u64, Errno> {
    lookups.look(path.as_os_str().as_bytes(), OFlags::empty(), ResolveFlags::CACHED, inode)
}

#[test]
fn what_is_asked_is_answered_by_one_thread() {
    let lookups = Lookups::new(Duty::Watching, LONG, LONG);
    let who = || lookups.ask(b"x", || thread::current().id()).unwrap();
    let first = who();
    assert_ne!(first, thread::current().id());
    assert_eq!(first, who());
}

#[test]
fn an_answer_that_does_not_come_is_not_waited_for_and_threads_are_bounded() {
    let lookups = Lookups::new(Duty::Watching, Duration::from_millis(10), Duration::ZERO);
    let mut stuck = Stuck::new();
    for n in 0..THREADS {
        assert_eq!(lookups.ask(n.to_string().as_bytes(), stuck.question()), Err(Errno::TIMEDOUT));
    }
    assert_eq!(lookups.threads.load(Ordering::Acquire), THREADS);
    assert_eq!(lookups.ask(b"x", || ()), Err(Errno::TIMEDOUT));
    assert_eq!(lookups.threads.load(Ordering::Acquire), THREADS, "one more was started");
    // They end when the kernel lets them, and others may be started.
    drop(stuck);
    while lookups.threads.load(Ordering::Acquire) > 0 {
        thread::yield_now();
    }
    while lookups.ask(b"x", || 7) != Ok(7) {}
}

#[test]
fn after_an_answer_that_did_not_come_nothing_is_asked_for_a_while() {
    let lookups = Lookups::new(Duty::Watching, Duration::from_millis(1), LONG);
    let mut stuck = Stuck::new();
    assert_eq!(lookups.ask(b"stuck", stuck.question()), Err(Errno::TIMEDOUT));
    let asked = Arc::new(AtomicUsize::new(0));
    for _ in 0..100 {
        let asked = Arc::clone(&asked);
        assert_eq!(lookups.ask(b"x", move || asked.fetch_add(1, Ordering::AcqRel)), Err(Errno::TIMEDOUT));
    }
    assert_eq!(asked.load(Ordering::Acquire), 0);
    assert_eq!(lookups.threads.load(Ordering::Acquire), 1);
    // What stays at home needs nobody.
    assert_eq!(look(&lookups, Path::new("/")), Ok(std::fs::metadata("/").unwrap().ino()));
}

#[test]
fn what_is_not_answered_is_not_asked_again() {
    let lookups = Lookups::new(Duty::Watching, Duration::from_millis(10), Duration::ZERO);
    let mut stuck = Stuck::new();
    assert_eq!(lookups.ask(b"stuck", stuck.question()), Err(Errno::TIMEDOUT));
    for _ in 0..100 {
        assert_eq!(lookups.ask(b"stuck", || ()), Err(Errno::TIMEDOUT));
    }
    assert_eq!(lookups.threads.load(Ordering::Acquire), 1);
    drop(stuck);
    while lookups.ask(b"stuck", || ()).is_err() {}
}

#[test]
fn what_comes_late_is_dropped_where_it_was_made() {
    struct Told(mpsc::Sender<thread::ThreadId>);
    impl Drop for Told {
        fn drop(&mut self) {
            let _ = self.0.send(thread::current().id());
        }
    }
    let lookups = Lookups::new(Duty::Watching, Duration::from_millis(1), LONG);
    let (dropped, told) = mpsc::channel();
    let both = Arc::new(Barrier::new(2));
    let held = Arc::clone(&both);
    let asked = lookups.ask(b"x", move || {
        held.wait();
        Told(dropped)
    });
    assert!(asked.is_err());
    both.wait();
    assert_ne!(told.recv().unwrap(), thread::current().id());
}

#[test]
fn a_question_that_panics_is_not_answered_and_the_next_one_is() {
    let lookups = Lookups::new(Duty::Watching, LONG, LONG);
    assert_eq!(lookups.ask(b"x", || -> u32 { panic!("on purpose") }), Err(Errno::TIMEDOUT));
    assert_eq!(lookups.ask(b"x", || 7), Ok(7));
}

#[test]
fn a_path_is_found_at_home_and_over_mounts() {
    let lookups = Lookups::new(Duty::Watching, LONG, LONG);
    let dir = tempfile::tempdir().unwrap();
    let top = dir.path().canonicalize().unwrap();
    std::fs::write(top.join("file"), "").unwrap();
    symlink("file", top.join("link")).unwrap();
    symlink("/proc/self/status", top.join("away")).unwrap();
    let file = std::fs::metadata(top.join("file")).unwrap().ino();
    for name in ["file", "link"] {
        assert_eq!(look(&lookups, &top.join(name)), Ok(file), "{name}");
    }
    assert!(look(&lookups, &top.join("missing")).is_err());
    // Whichever way, the thread finds what is on another mount.
    for path in [Path::new("/proc/self/status"), &top.join("away")] {
        let name = path.as_os_str().as_bytes();
        assert!(lookups.look(name, OFlags::empty(), ResolveFlags::empty(), inode).is_ok(), "{path:?}");
    }
    let way =
        lookups.look(b"/proc/self/status", OFlags::empty(), ResolveFlags::empty(), |file, _| path_of(&file));
    assert_eq!(way.unwrap(), Some(format!("/proc/{}/status", std::process::id()).into_bytes()));
}
