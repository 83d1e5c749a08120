//! What a recorder may do while it records: what SECURITY.md says of each thread, and nothing else; and that it suffices.

#![expect(clippy::unwrap_used, reason = "a step that fails fails the test")]

mod support;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    io::Read,
    os::unix::{
        fs::{MetadataExt, PermissionsExt, chown},
        process::CommandExt,
    },
    path::Path,
    process::{Command, Stdio},
};

use support::{Launch, NOBODY, Recording, has_ebpf, http, is_root, link::Site, skip, sleeper::Sleeper};

/// Numbers in capability.h.
const NUMBERS: [(&str, u32); 7] = [
    ("CAP_CHOWN", 0),
    ("CAP_DAC_OVERRIDE", 1),
    ("CAP_DAC_READ_SEARCH", 2),
    ("CAP_FOWNER", 3),
    ("CAP_SYS_PTRACE", 19),
    ("CAP_SYS_ADMIN", 21),
    ("CAP_BPF", 39),
];

fn bits(names: impl Iterator<Item = &'static str>) -> u64 {
    names.map(|name| 1 << NUMBERS.iter().find(|(known, _)| *known == name).unwrap().1).sum()
}

/// The table in SECURITY.md: what each thread keeps, by its name; `others` for the rest.
fn documented() -> BTreeMap<String, u64> {
    let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../SECURITY.md")).unwrap();
    let text: &'static str = Box::leak(text.into_boxed_str());
    let (_, table) = text.split_once("| threads | keep | for |").unwrap();
    let mut threads = BTreeMap::new();
    for line in table.lines().skip(2).take_while(|line| line.starts_with('|')) {
        let cells: Vec<_> = line.trim_matches('|').split('|').collect();
        let kept = bits(cells[1].split('`').skip(1).step_by(2));
        let names: Vec<_> = cells[0].split('`').skip(1).step_by(2).collect();
        for name in if names.is_empty() { vec!["others"] } else { names } {
            threads.insert(name.to_owned(), kept);
        }
    }
    threads
}

/// A thread's name, its permitted, effective, inheritable, bounding and ambient sets, and whether it can gain any.
struct Thread {
    name: String,
    sets: [u64; 5],
    gains: bool,
}

fn threads(pid: u32) -> Vec<Thread> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    let read = |path: &Path| {
        // It may have ended.
        let status = fs::read_to_string(path).ok()?;
        let field =
            |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).unwrap().trim().to_owned();
        let set = |name: &str| u64::from_str_radix(&field(name), 16).unwrap();
        let sets = ["CapPrm:", "CapEff:", "CapInh:", "CapBnd:", "CapAmb:"].map(set);
        Some(Thread { name: field("Name:"), sets, gains: field("NoNewPrivs:") != "1" })
    };
    tasks.filter_map(|task| read(&task.unwrap().path().join("status"))).collect()
}

/// Every thread keeps what is documented, but what its user has not got anyway. Gives the names.
fn keeps_what_is_documented(recording: &Recording, others: u64) -> BTreeSet<String> {
    let documented = documented();
    assert_eq!(documented["others"], 0);
    let mut names = BTreeSet::new();
    for thread in threads(recording.pid()) {
        let kept = documented.get(&thread.name).copied().unwrap_or(others);
        let Thread { name, sets, gains } = thread;
        assert_eq!(
            sets.map(|set| format!("{set:x}")),
            [kept, kept, 0, kept, 0].map(|set| format!("{set:x}")),
            "{name}"
        );
        assert!(!gains, "{name} could gain privileges");
        names.insert(name);
    }
    names
}

/// A process of nobody's in a network namespace of its own, until it is dropped, with an argument to know it by.
fn stranger(marker: &str) -> Sleeper {
    Sleeper::start_by(&["unshare", "--net", "setpriv", "--reuid=65534", "--clear-groups"], marker)
}

#[test]
fn threads_keep_what_they_need_and_it_suffices() {
    if !has_ebpf() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let top = directory.path().canonicalize().unwrap();
    // What only its owner may enter and read.
    let secret = top.join("secret");
    fs::create_dir(&secret).unwrap();
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o700)).unwrap();
    chown(&secret, Some(NOBODY), Some(NOBODY)).unwrap();
    let _before = stranger("was-there-before");
    let options =
        ["--sensor", "ebpf", "--metrics", "127.0.0.1:0", "--files-digest", secret.to_str().unwrap()];
    let recording = Launch::on(&top.join("data")).with(&options).start();
    // Threads that answer are made by others, which have nothing to give.
    http::get(&http::address(&recording.wait_for("metrics and health are served at")), "/metrics");
    recording.sync();
    let names = keeps_what_is_documented(&recording, 0);
    for name in
        ["luarm", "ebpf", "digests", "surroundings", "recorder", "store", "control", "signals", "metrics"]
    {
        assert!(names.contains(name), "no thread {name}: {names:?}");
    }
    assert!(!names.contains("launcher"), "what attached is still there");

    let file = secret.join("file");
    let wrote = Command::new("sh")
        .args(["-c", "umask 077; echo secret > \"$1\"", "sh", file.to_str().unwrap()])
        .uid(NOBODY)
        .gid(NOBODY)
        .status()
        .unwrap();
    assert!(wrote.success());
    let written = fs::metadata(&file).unwrap();
    let location = secret.display();
    recording.wait_for_row(&format!(
        "SELECT count(*) FROM contentinfo WHERE location = '{location}' AND sha256 IS NOT NULL"
    ));
    assert_eq!(fs::metadata(&file).unwrap().atime_nsec(), written.atime_nsec(), "reading left a trace");
    let _after = stranger("came-after");
    recording.sync();
    for marker in ["was-there-before", "came-after"] {
        // A row waits for a digest for a second at most: what else is running may be read before.
        recording.wait_for_row(&format!(
            "SELECT count(*) FROM psinfo p LEFT JOIN imageinfo i ON i.imagedev = p.imagedev AND i.imageinode = p.imageinode \
             WHERE p.arguments LIKE '%read line %{marker}%' AND coalesce(p.imagesha256, i.sha256) IS NOT NULL AND p.euid = {NOBODY}"
        ));
    }
    let unwatched = recording
        .sql("SELECT class, reason FROM coverageinfo WHERE state = 'unwatched' AND class <> 'canary'");
    // The kernel's own matter: as many as before anything was given up.
    let doctor = support::luarm(&["doctor"]);
    let there = String::from_utf8_lossy(&doctor.stdout).matches("nothing ").count();
    assert!(unwatched.len() <= there, "{unwatched:?}");
    assert!(recording.stop().success());
}

#[test]
fn polling_keeps_what_it_needs_to_enter_network_namespaces() {
    if !is_root() {
        return skip("needs root");
    }
    let directory = tempfile::tempdir().unwrap();
    let mut listening = Command::new("unshare")
        .args(["--net", "sh", "-c", "ip link set lo up; exec perl -MIO::Socket::INET -e '$|=1; $s=IO::Socket::INET->new(Listen=>1,LocalAddr=>\"127.0.0.1:7\"); $c=IO::Socket::INET->new(\"127.0.0.1:7\"); print \"up\\n\"; <STDIN>'"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    listening.stdout.take().unwrap().read_exact(&mut [0; 3]).unwrap();
    let recording = Launch::on(directory.path()).with(&["--sensor", "poll"]).start();
    let names = keeps_what_is_documented(&recording, 0);
    assert!(names.contains("poll") && names.contains("surroundings"), "{names:?}");
    recording.wait_for_row("SELECT count(*) FROM netinfo WHERE destip = '127.0.0.1' AND destport = 7");
    drop(listening.stdin.take());
    listening.wait().unwrap();
}

#[test]
fn an_agent_has_none_where_it_speaks_to_its_server() {
    if !is_root() {
        return skip("needs root");
    }
    let directory = tempfile::tempdir().unwrap();
    let site = Site::new(directory.path());
    let _server = site.serve(&[]);
    let agent = site.agent("penguin", &["--sensor", "poll"]);
    agent.sync();
    let names = keeps_what_is_documented(&agent, 0);
    assert!(names.contains("courier"), "{names:?}");
}

#[test]
fn a_directory_of_another_users_can_be_written_still() {
    if !is_root() {
        return skip("needs root");
    }
    let directory = tempfile::tempdir().unwrap();
    chown(directory.path(), Some(NOBODY), Some(NOBODY)).unwrap();
    let recording = Launch::on(directory.path()).with(&["--sensor", "poll"]).start();
    recording.sync();
    keeps_what_is_documented(&recording, bits(["CAP_DAC_OVERRIDE", "CAP_CHOWN"].into_iter()));
}
