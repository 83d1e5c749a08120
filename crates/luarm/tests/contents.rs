//! What is left in files that are changed, by its digest.

#![expect(clippy::unwrap_used, reason = "a step that fails fails the test")]

mod support;

use std::{
    fs::{self, File, OpenOptions},
    io::Write,
    os::unix::{
        fs::{PermissionsExt, symlink},
        process::CommandExt,
    },
    path::{Path, PathBuf},
    process::{Child, Command},
};

use rustix::process::{Pid, Signal, kill_process};
use support::{Launch, NOBODY, Recording, Row, count, has_ebpf, skip, sql};

/// A recorder that digests what is changed in one directory, and everything beside it.
struct Scene {
    recording: Recording,
    watched: PathBuf,
    beside: PathBuf,
    dir: tempfile::TempDir,
}

impl Scene {
    fn start(arguments: &[&str]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let top = dir.path().canonicalize().unwrap();
        let (watched, beside) = (top.join("watched"), top.join("beside"));
        for work in [&watched, &beside] {
            fs::create_dir(work).unwrap();
            std::os::unix::fs::chown(work, Some(NOBODY), Some(NOBODY)).unwrap();
        }
        let places = ["--files-digest", watched.to_str().unwrap()];
        let recording = Launch::on(&top.join("data")).with(&places).with(arguments).start();
        Self { recording, watched, beside, dir }
    }

    /// Accesses to write, of files in the watched directory and below: name and digest.
    fn told(&self) -> Vec<(String, Option<String>)> {
        self.recording.sync();
        let query = format!(
            "select filename, sha256 from fileinfo where location like '{}%' and access like '%w%' order by fileaccessid",
            self.watched.display()
        );
        let text = |row: &Row, column: &str| row[column].as_str().map(str::to_owned);
        let rows = self.recording.sql(&query);
        rows.iter().map(|row| (text(row, "filename").unwrap(), text(row, "sha256"))).collect()
    }

    /// The rows of contents whose file has that name by now.
    fn contents(&self, name: &str) -> Vec<Row> {
        self.recording.sql(&format!(
            "select c.*, f.filename as opened, f.sha256 as told from contentinfo c join fileinfo f using (fileaccessid)
             where c.location like '{}%' and c.filename = '{name}' order by contentid",
            self.watched.display()
        ))
    }

    fn lost(&self, cause: &str) -> i64 {
        self.recording.count(&format!(
            "select coalesce(sum(count), 0) from lossinfo where class = 'file-digest' and cause = '{cause}'"
        ))
    }
}

fn sha256sum(path: &Path) -> String {
    let output = Command::new("sha256sum").arg(path).output().unwrap();
    assert!(output.status.success());
    String::from_utf8(output.stdout).unwrap().split(' ').next().unwrap().to_owned()
}

fn run(user: u32, directory: &Path, script: &str) {
    let mut shell = Command::new("sh");
    shell.uid(user).gid(user).current_dir(directory).args(["-ec", script]);
    assert!(shell.status().unwrap().success(), "{script}");
}

#[test]
fn each_change_of_a_file_has_its_digest() {
    if !has_ebpf() {
        return;
    }
    let scene = Scene::start(&[]);
    let (deep, file) = (scene.watched.join("a/b"), scene.watched.join("file"));
    let mut sums = Vec::new();
    // Of contents that nobody waits for before they are changed again there may be none.
    let mut changed = |path: &Path| {
        scene.recording.sync();
        sums.push((path.file_name().unwrap().to_str().unwrap().to_owned(), Some(sha256sum(path))));
    };
    run(0, &scene.watched, "echo one > file");
    changed(&file);
    run(0, &scene.watched, "echo two >> file");
    changed(&file);
    run(0, &scene.watched, "echo three > file");
    changed(&file);
    run(
        NOBODY,
        &scene.watched,
        "mkdir -p a/b; perl -e 'open(F, \">\", \"a/b/large\"); print F \"x\" x 3000000'",
    );
    changed(&deep.join("large"));
    // What is read, made empty, or changed elsewhere has none.
    run(0, &scene.watched, "cat file > ../beside/file; : > empty; echo same <> file");
    sums.push(("empty".into(), None));
    sums.push(("file".into(), None));
    assert_eq!(scene.told(), sums);
    let elsewhere =
        format!("select count(*) from contentinfo where location like '{}%'", scene.beside.display());
    assert_eq!(scene.recording.count(&elsewhere), 0);
    let rows = scene.contents("file");
    let columns = |row: &Row| (row["sha256"] == row["told"], row["asclosed"].as_i64());
    assert_eq!(rows.iter().map(columns).collect::<Vec<_>>(), [(true, Some(1)); 3]);
    let policy = format!(
        "select count(*) from coverageinfo where class = 'file-digest' and state = 'watched' and reason like '%below {} by policy%'",
        scene.watched.display()
    );
    assert_eq!(scene.recording.count(&policy), 1);
    assert_eq!(scene.recording.count("select count(*) from lossinfo where class = 'file-digest'"), 0);
}

#[test]
fn a_file_that_is_put_in_place_by_a_rename_is_found() {
    if !has_ebpf() {
        return;
    }
    let scene = Scene::start(&[]);
    fs::write(scene.watched.join("edited"), "one").unwrap();
    scene.recording.sync();
    for (name, script) in [
        ("edited", "sed -i s/one/two/ edited"),
        ("installed", "printf abc > ../beside/i; install -m 640 ../beside/i installed"),
        (
            "preserved",
            "printf abc > ../beside/p; touch -d @1000000000 ../beside/p; cp -p ../beside/p preserved",
        ),
        (
            "renamed",
            "perl -e 'open(F, \">\", \"r~\"); print F \"abc\"; close F; chmod 0600, \"r~\"; rename \"r~\", \"renamed\"'",
        ),
        // As dpkg does: times, owner and permissions after the close, then the name.
        (
            "stamped",
            "perl -e 'open(F, \">\", \"s~\"); print F \"abc\"; close F; utime 1, 1, \"s~\"; rename \"s~\", \"stamped\"'",
        ),
        (
            "linked",
            "perl -e 'open(F, \">\", \"l~\"); print F \"abc\"; close F; link \"l~\", \"linked\"; unlink \"l~\"'",
        ),
        (
            "there/moved",
            "perl -e 'mkdir \"here\"; open(F, \">\", \"here/moved\"); print F \"abc\"; close F; rename \"here\", \"there\"'",
        ),
        ("unpacked", "printf abc > ../beside/unpacked; tar -C ../beside -c unpacked | tar -x"),
    ] {
        run(0, &scene.watched, script);
        scene.recording.sync();
        let path = scene.watched.join(name);
        let rows = scene.contents(path.file_name().unwrap().to_str().unwrap());
        let last = rows.last().unwrap_or_else(|| panic!("nothing of {name}: {:?}", scene.told()));
        let sum = sha256sum(&path);
        assert_eq!(
            (last["sha256"].as_str(), last["told"].as_str()),
            (Some(&*sum), Some(&*sum)),
            "{name}: {rows:?}"
        );
        assert_eq!(last["location"].as_str(), path.parent().unwrap().to_str(), "{name}");
    }
    assert_eq!(scene.recording.count("select count(*) from lossinfo where class = 'file-digest'"), 0);
}

#[test]
fn what_is_moved_or_linked_into_a_directory_of_the_policy_has_its_digest() {
    if !has_ebpf() {
        return;
    }
    let scene = Scene::start(&[]);
    for (name, operation, script) in [
        ("moved", "rename", "echo moved > ../beside/m; perl -e 'rename \"../beside/m\", \"moved\" or die'"),
        ("mv", "rename", "echo mv > ../beside/mv; chmod 600 ../beside/mv; mv ../beside/mv mv"),
        ("deep", "rename", "mkdir -p a/b; echo deep > ../beside/d; mv ../beside/d a/b/deep"),
        ("moved", "rename", "echo new > ../beside/n; mv ../beside/n moved"),
        ("linked", "link", "echo linked > ../beside/l; perl -e 'link \"../beside/l\", \"linked\" or die'"),
        ("empty", "rename", ": > ../beside/e; mv ../beside/e empty"),
        ("exchanged", "rename", "echo one > ../beside/x; echo two > exchanged"),
    ] {
        run(NOBODY, &scene.watched, script);
        scene.recording.sync();
        if name == "exchanged" {
            let (here, there) = (scene.watched.join(name), scene.beside.join("x"));
            let flags = rustix::fs::RenameFlags::EXCHANGE;
            rustix::fs::renameat_with(rustix::fs::CWD, here, rustix::fs::CWD, there, flags).unwrap();
            scene.recording.sync();
        }
        let path = if name == "deep" { scene.watched.join("a/b/deep") } else { scene.watched.join(name) };
        let rows = scene.contents(name);
        let last = rows.last().unwrap_or_else(|| panic!("nothing of {name}"));
        let sum = sha256sum(&path);
        let told = (last["sha256"].as_str(), last["told"].as_str(), last["asclosed"].as_i64());
        assert_eq!(told, (Some(&*sum), Some(&*sum), Some(0)), "{name}");
        assert_eq!(last["location"].as_str(), path.parent().unwrap().to_str(), "{name}");
        let access = &scene.recording.sql(&format!(
            "select operation, ended, created = destroyed as instant from fileinfo where fileaccessid = {}",
            last["fileaccessid"]
        ))[0];
        let told = (access["operation"].as_str(), access["ended"].as_str(), access["instant"].as_i64());
        assert_eq!(told, (Some(operation), Some("done"), Some(1)), "{name}");
        let facts = fs::metadata(&path).unwrap();
        assert_eq!(last["inode"].as_u64(), Some(std::os::unix::fs::MetadataExt::ino(&facts)), "{name}");
    }
    let known = scene.recording.count("select count(*) from contentinfo");
    // What was there before, what leaves, and what has no contents.
    run(
        NOBODY,
        &scene.watched,
        "mv moved again; ln again twice; mv linked ../beside/back; ln -s again ../beside/s; mv ../beside/s s; perl -e 'require POSIX; POSIX::mkfifo(\"../beside/p\", 0600)'; mv ../beside/p p",
    );
    scene.recording.sync();
    assert_eq!(scene.recording.count("select count(*) from contentinfo"), known);
    assert_eq!(scene.recording.count("select count(*) from lossinfo where class = 'file-digest'"), 0);
    // Of a directory it is counted that what is in it has none.
    run(NOBODY, &scene.watched, "mkdir ../beside/dir; echo in it > ../beside/dir/file; mv ../beside/dir dir");
    scene.recording.sync();
    assert_eq!(scene.lost("directory"), 1);
    // As well as what is too large, or gone at once.
    run(NOBODY, &scene.watched, "truncate -s 100G ../beside/sparse; mv ../beside/sparse sparse");
    run(
        NOBODY,
        &scene.watched,
        "echo x > ../beside/b; perl -e 'rename \"../beside/b\", \"b\"; unlink \"b\"'",
    );
    while scene.lost("gone") + scene.lost("too-large") < 2 {
        scene.recording.sync();
    }
}

#[test]
fn a_file_that_is_made_without_a_name_and_given_one_has_its_digest() {
    if !has_ebpf() {
        return;
    }
    let scene = Scene::start(&[]);
    let nameless = |directory: &Path, contents: &str| {
        use std::os::unix::fs::OpenOptionsExt;
        let flags = rustix::fs::OFlags::TMPFILE.bits().cast_signed();
        let mut file = OpenOptions::new().write(true).custom_flags(flags).open(directory).unwrap();
        file.write_all(contents.as_bytes()).unwrap();
        file
    };
    let give_name = |file: &File, path: &Path| {
        let way = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(file));
        let follow = rustix::fs::AtFlags::SYMLINK_FOLLOW;
        rustix::fs::linkat(rustix::fs::CWD, way, rustix::fs::CWD, path, follow).unwrap();
    };
    let digested = |name: &str| {
        scene.recording.sync();
        let rows = scene.contents(name);
        assert!(!rows.is_empty(), "nothing of {name}");
        let sum = sha256sum(&scene.watched.join(name));
        assert!(rows.iter().all(|row| row["sha256"] == *sum && row["told"] == *sum), "{name}: {rows:?}");
        rows.len()
    };
    // Closed long after it got its name: digested then, and with what was written since.
    let mut file = nameless(&scene.watched, "open");
    give_name(&file, &scene.watched.join("open"));
    assert_eq!(digested("open"), 1);
    file.write_all(b" longer").unwrap();
    drop(file);
    scene.recording.sync();
    let rows = scene.contents("open");
    assert_eq!(rows.last().unwrap()["sha256"], *sha256sum(&scene.watched.join("open")), "{rows:?}");
    // Closed at once.
    let file = nameless(&scene.watched, "closed");
    give_name(&file, &scene.watched.join("closed"));
    drop(file);
    digested("closed");
    // By its descriptor, and made elsewhere.
    let file = nameless(&scene.beside, "elsewhere");
    let (flags, name) = (rustix::fs::AtFlags::EMPTY_PATH, scene.watched.join("elsewhere"));
    rustix::fs::linkat(&file, "", rustix::fs::CWD, &name, flags).unwrap();
    drop(file);
    assert_eq!(digested("elsewhere"), 1);
    // Written by one descriptor, and named by another that cannot write.
    let file = nameless(&scene.watched, "twice");
    let again = File::open(format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&file))).unwrap();
    drop(file);
    give_name(&again, &scene.watched.join("twice"));
    scene.recording.sync();
    let rows = scene.contents("twice");
    assert_eq!(rows.last().unwrap()["sha256"], *sha256sum(&scene.watched.join("twice")), "{rows:?}");
    assert_eq!(scene.recording.count("select count(*) from lossinfo where class = 'file-digest'"), 0);
}

#[test]
fn another_mount_namespace_and_a_place_that_comes_later_are_seen() {
    if !has_ebpf() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let top = dir.path().canonicalize().unwrap();
    let home = top.join("homes/alice");
    fs::create_dir_all(home.join(".keys")).unwrap();
    fs::create_dir(top.join("elsewhere")).unwrap();
    // Also where the way to it leads over a symbolic link.
    symlink("homes", top.join("way")).unwrap();
    let pattern = top.join("way/*/.keys");
    let recording =
        Launch::on(&top.join("data")).with(&["--files-digest", pattern.to_str().unwrap()]).start();
    let digested = |sum: &str| {
        recording.sync();
        recording.sql(&format!("select location from contentinfo where sha256 = '{sum}'"))
    };
    run(
        0,
        &top,
        "unshare --mount sh -ec 'mount --bind homes/alice elsewhere; echo in another namespace > elsewhere/.keys/k~; mv elsewhere/.keys/k~ elsewhere/.keys/k'",
    );
    let rows = digested(&sha256sum(&home.join(".keys/k")));
    assert_eq!(rows.len(), 1);
    assert_eq!(rows[0]["location"].as_str(), home.join(".keys").to_str());
    // A place that is made later is looked up within seconds.
    let later = top.join("homes/bob/.keys");
    fs::create_dir_all(&later).unwrap();
    let mut round = 0;
    loop {
        round += 1;
        let file = later.join(format!("{round}"));
        fs::write(&file, format!("round {round}")).unwrap();
        if !digested(&sha256sum(&file)).is_empty() {
            break;
        }
        assert!(round < 600);
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
}

#[test]
fn what_cannot_be_digested_is_counted_with_its_cause() {
    if !has_ebpf() {
        return;
    }
    let scene = Scene::start(&["--digest-limit", "1MiB"]);
    run(NOBODY, &scene.watched, "truncate -s 100G sparse");
    run(
        NOBODY,
        &scene.watched,
        "perl -e 'open(F, \">\", \"brief\"); print F \"abc\"; close F; unlink \"brief\"'",
    );
    // Who puts something else in its place has neither that nor the old contents read.
    run(
        NOBODY,
        &scene.watched,
        "perl -e 'open(F, \">\", \"bait\"); print F \"abc\"; close F; unlink \"bait\"; symlink \"/dev/zero\", \"bait\"'
         perl -e 'open(F, \">\", \"pipe\"); print F \"abc\"; close F; unlink \"pipe\"; require POSIX; POSIX::mkfifo(\"pipe\", 0600)'",
    );
    let told = scene.told();
    assert!(told.iter().all(|(_, sha256)| sha256.is_none()), "{told:?}");
    // Numbers of inodes are used again at once, so that a file may be taken for later contents of the one before.
    let gone = || scene.lost("gone") + scene.lost("changed");
    while gone() < 3 {
        scene.recording.sync();
    }
    assert_eq!((scene.lost("too-large"), gone()), (1, 3));
    // The thread goes on.
    run(0, &scene.watched, "echo after > after");
    assert_eq!(scene.told().last().unwrap().1, Some(sha256sum(&scene.watched.join("after"))));
    let bait = scene.watched.join("link");
    symlink(scene.beside.join("target"), &bait).unwrap();
    fs::write(&bait, "through a link").unwrap();
    assert_eq!(scene.contents("target").len(), 0);
}

#[test]
fn changes_without_end_are_bounded_and_keep_nobody_waiting() {
    if !has_ebpf() {
        return;
    }
    let scene = Scene::start(&[]);
    // 3,000 files of 8 MB of holes are 24 GB, of which a user has not more than his share read.
    let script = "perl -e 'for (1..3000) { open(F, \">\", \"f$_\"); truncate F, 8000000; seek F, 8000000, 0; syswrite F, $_; close F }'";
    let mut flood = Command::new("sh");
    flood.uid(NOBODY).gid(NOBODY).current_dir(&scene.watched).args(["-c", script]);
    let mut flood = flood.spawn().unwrap();
    assert!(flood.wait().unwrap().success());
    run(0, &scene.watched, "echo of another user > other");
    scene.recording.sync();
    let sum = sha256sum(&scene.watched.join("other"));
    let told = || scene.recording.count(&format!("select count(*) from contentinfo where sha256 = '{sum}'"));
    while told() == 0 {
        scene.recording.sync();
    }
    let of_flood = scene.recording.count("select count(*) from contentinfo where filename like 'f%'");
    assert!(of_flood < 3000, "the other waited for {of_flood}");
    assert!(scene.lost("queue-full") > 0);
    let rows = scene.recording.count(&format!(
        "select count(*) from fileinfo where location = '{}' and uid = {NOBODY} and operation = 'create' and ended is not null",
        scene.watched.display()
    ));
    assert_eq!(rows, 3000);
    assert!(scene.recording.stop().success());
    // Each has its digest, or is counted.
    let data = scene.dir.path().join("data");
    let digested = count(&data, "select count(*) from contentinfo where filename like 'f%'");
    let lost = count(&data, "select sum(count) from lossinfo where class = 'file-digest'");
    assert_eq!(
        digested + lost,
        3000,
        "{digested} {:?}, more than once {:?}",
        sql(&data, "select class, cause, sum(count) as n from lossinfo group by 1, 2"),
        sql(&data, "select filename, count(*) as n from contentinfo group by 1 having n > 1")
    );
}

/// A file system of FUSE, over a directory; its process is ended when this is dropped, even where it was stopped.
struct Mirror {
    daemon: Child,
    mount: PathBuf,
}

impl Mirror {
    /// Shows `of` at `mount`; `None` where there is none to be had.
    fn new(of: &Path, mount: PathBuf) -> Option<Self> {
        if Command::new("bindfs").arg("--version").output().is_err() {
            skip("needs bindfs, a file system of FUSE");
            return None;
        }
        fs::create_dir(&mount).unwrap();
        let mut bindfs = Command::new("bindfs");
        let daemon = bindfs.args(["-f", "-o", "allow_other"]).arg(of).arg(&mount).spawn().unwrap();
        let mut mirror = Self { daemon, mount };
        while !fs::read_to_string("/proc/self/mountinfo").unwrap().contains(mirror.mount.to_str().unwrap()) {
            assert!(mirror.daemon.try_wait().unwrap().is_none(), "bindfs ended");
            std::thread::yield_now();
        }
        Some(mirror)
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_raw(self.daemon.id().try_into().unwrap()).unwrap(), signal).unwrap();
    }
}

impl Drop for Mirror {
    fn drop(&mut self) {
        let _ = self.daemon.kill();
        let _ = self.daemon.wait();
        let _ = Command::new("umount").arg("--lazy").arg(&self.mount).status();
    }
}

/// A rule of kernel audit that matches nothing, while this lives. With any rule loaded, the kernel asks at the end of each walk along a path for the
/// file's capabilities.
struct AuditRule {
    /// Audit was on before.
    on: bool,
}

/// By a user whom nobody is.
const NOTHING: [&str; 7] = ["always,exit", "-F", "arch=b64", "-S", "openat2", "-F", "uid=4000000123"];

impl AuditRule {
    fn new() -> Option<Self> {
        let loaded = Command::new("auditctl").arg("-a").args(NOTHING).output();
        if loaded.is_ok_and(|output| output.status.success()) {
            let state = Command::new("auditctl").arg("-s").output().unwrap();
            let rule = Self { on: !String::from_utf8_lossy(&state.stdout).contains("enabled 0") };
            assert!(rule.on || Self::switch("1"), "audit is off and cannot be switched on");
            return Some(rule);
        }
        skip("needs auditctl, and a kernel with audit");
        None
    }

    fn switch(to: &str) -> bool {
        Command::new("auditctl").args(["-e", to]).output().is_ok_and(|output| output.status.success())
    }
}

impl Drop for AuditRule {
    fn drop(&mut self) {
        if !self.on {
            Self::switch("0");
        }
        let _ = Command::new("auditctl").arg("-d").args(NOTHING).output();
    }
}

/// What is on a file system that does not answer has no digest, and keeps nobody else's from being made.
fn a_silent_file_system_is_survived() {
    let scene = Scene::start(&[]);
    let mount = scene.watched.join("mount");
    let Some(mirror) = Mirror::new(&scene.beside, mount.clone()) else { return };
    let program = support::programs::exit_program(&mount);
    assert!(Command::new(&program).status().unwrap().success());
    run(0, &mount, "echo in user space > file");
    // A way that does not say where it leads, and that those who use it do not get to the end of.
    let closed = scene.watched.join("closed");
    fs::create_dir_all(mount.join("dir")).unwrap();
    fs::create_dir(&closed).unwrap();
    fs::set_permissions(&closed, fs::Permissions::from_mode(0o700)).unwrap();
    symlink(&mount, closed.join("way")).unwrap();
    mirror.signal(Signal::STOP);
    let refused = "perl -e 'for (1..5) { rename \"closed/way/dir/x$_\", \"y\" and die }'";
    run(NOBODY, &scene.watched, refused);
    run(0, &scene.watched, "echo local > local; echo moved > ../beside/m; mv ../beside/m moved");
    let told = scene.told();
    mirror.signal(Signal::CONT);
    drop(mirror);
    let digest = |name: &str| told.iter().find(|(told, _)| told == name).unwrap().1.clone();
    assert_eq!(digest("file"), None);
    assert_eq!(digest("local"), Some(sha256sum(&scene.watched.join("local"))));
    let moved = scene.contents("moved");
    assert_eq!(moved[0]["sha256"], *sha256sum(&scene.watched.join("moved")));
    assert!(scene.lost("remote") > 0);
    let images = "select count(*) from lossinfo where class = 'image-digest' and cause = 'remote'";
    assert!(scene.recording.count(images) > 0);
}

#[test]
fn a_file_system_that_does_not_answer_is_not_waited_for() {
    if has_ebpf() {
        a_silent_file_system_is_survived();
    }
}

#[test]
fn with_audit_rules_a_file_system_that_does_not_answer_is_not_waited_for() {
    if has_ebpf()
        && let Some(_rule) = AuditRule::new()
    {
        a_silent_file_system_is_survived();
    }
}

#[test]
fn a_stop_and_a_kill_leave_no_digest_behind_that_was_told() {
    if !has_ebpf() {
        return;
    }
    let scene = Scene::start(&[]);
    let data = scene.dir.path().join("data");
    for n in 0..50 {
        fs::write(scene.watched.join(format!("before{n}")), format!("before {n}")).unwrap();
    }
    let mut open = File::create(scene.watched.join("open")).unwrap();
    open.write_all(b"abc").unwrap();
    let places = ["--files-digest".to_owned(), scene.watched.display().to_string()];
    // Not synchronized: a stop stores what there is, with its digests; what it has no time for is counted.
    assert!(scene.recording.stop().success());
    let unread =
        "select coalesce(sum(count), 0) from lossinfo where class = 'file-digest' and cause = 'stopped'";
    // The row of an access waits for its digest for a second at most: what comes later is in contentinfo alone.
    let with_digest = |name: &str| {
        format!(
            "select count(distinct f.fileaccessid) as n from fileinfo f left join contentinfo c on c.fileaccessid = f.fileaccessid \
             where f.filename like '{name}%' and (f.sha256 is not null or c.sha256 is not null)"
        )
    };
    let digested = |name: &str| count(&data, &with_digest(name));
    assert!(digested("before") > 0);
    assert_eq!(digested("before") + count(&data, unread), 50);
    let launch = || Launch::on(&data).with(&[&places[0], &places[1]]).start();
    let recording = launch();
    drop(open);
    for n in 0..50 {
        fs::write(scene.watched.join(format!("synced{n}")), format!("synced {n}")).unwrap();
    }
    recording.sync();
    recording.wait_for_row(&format!("select n = 50 as n from ({}) as digested", with_digest("synced")));
    for n in 0..200 {
        fs::write(scene.watched.join(format!("killed{n}")), format!("killed {n}")).unwrap();
    }
    recording.kill();
    let orphans =
        "select count(*) from contentinfo where fileaccessid not in (select fileaccessid from fileinfo)";
    assert_eq!(count(&data, orphans), 0);
    let recording = launch();
    OpenOptions::new().append(true).open(scene.watched.join("synced7")).unwrap().write_all(b"more").unwrap();
    recording.sync();
    let sum = sha256sum(&scene.watched.join("synced7"));
    let appended = format!("select count(*) from contentinfo where sha256 = '{sum}'");
    recording.wait_for_row(&appended);
    assert_eq!(count(&data, &appended), 1);
    // What was open when nobody watched is over, and no digest is made up for it.
    let open = sql(&data, "select ended, sha256 from fileinfo where filename = 'open'");
    assert_eq!((open.len(), open[0]["sha256"].is_null()), (1, true), "{open:?}");
}
