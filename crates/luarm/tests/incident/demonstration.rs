//! The demonstration itself: it says what it should, and leaves nothing behind.

use std::{
    fs,
    io::{BufRead, BufReader, Read},
    os::unix::process::CommandExt,
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process_group};

use crate::{
    scene::{alone, demo},
    support::{has_ebpf, program},
};

const PATIENCE: Duration = Duration::from_secs(90);

fn start(temporary: &Path, visits: [&str; 2]) -> Child {
    let mut command = Command::new(demo("run"));
    command.arg(program()).args(visits).env("TMPDIR", temporary).process_group(0);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap()
}

/// Names of processes that were started with this directory for temporary files, or are in it.
fn remaining(temporary: &Path) -> Vec<String> {
    let text = temporary.to_str().unwrap();
    let pids = fs::read_dir("/proc").unwrap().map(|entry| entry.unwrap().path());
    let pids = pids.filter(|path| path.file_name().unwrap().as_encoded_bytes()[0].is_ascii_digit());
    let own = std::process::id().to_string();
    let related = pids.filter(|path| {
        let environment = fs::read(path.join("environ")).unwrap_or_default();
        let inside = fs::read_link(path.join("cwd")).is_ok_and(|cwd| cwd.starts_with(temporary));
        !path.ends_with(&own) && (inside || String::from_utf8_lossy(&environment).contains(text))
    });
    related
        .filter_map(|path| Some(fs::read_to_string(path.join("comm")).ok()?.trim_end().to_owned()))
        .collect()
}

fn wait_until(what: &str, mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !done() {
        assert!(Instant::now() < deadline, "{what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn left_nothing(temporary: &Path) {
    wait_until("processes are left", || remaining(temporary).is_empty());
    assert_eq!(fs::read_dir(temporary).unwrap().count(), 0);
}

#[test]
fn the_demonstration_answers_and_leaves_nothing_behind() {
    if !has_ebpf() {
        return;
    }
    let _alone = alone();
    let temporary = tempfile::tempdir().unwrap();
    let output = start(temporary.path(), ["9", "11"]).wait_with_output().unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{said}");
    for line in [
        "luarm> show tables;",
        "luarm> select COUNT(*) from netinfo where destfqdn='dana.basefreak.nl ' ;",
        "|       12 |",
        "luarm> select command,username,arguments,pid,ppid from psinfo where username='nobody' \\G;",
        "arguments: ./x 79.125.109.171 0 0",
        "luarm> select n.application, p.command, p.username, p.pid, p.arguments, count(n.destfqdn) as connections",
        "luarm> select distinct f.location, f.filename, f.device, f.inode, p.pid, p.arguments",
    ] {
        assert!(said.lines().any(|one| one == line), "no {line:?} in {said}");
    }
    // What came before: who wrote the bot, from which connection, behind which login.
    for beginning in [
        "| create    | fetch       | nobody   | nobody    |",
        "| fetch       | out       | 127.0.0.1 |",
        "| nobody   | login   |",
    ] {
        assert!(said.lines().any(|line| line.starts_with(beginning)), "no {beginning:?} in {said}");
    }
    assert!(!said.contains("29312'"), "{said}");
    left_nothing(temporary.path());
}

#[test]
fn an_interrupted_demonstration_leaves_nothing_behind() {
    if !has_ebpf() {
        return;
    }
    let _alone = alone();
    let temporary = tempfile::tempdir().unwrap();
    let mut demonstration = start(temporary.path(), ["1000000", "1000000"]);
    let mut said = BufReader::new(demonstration.stdout.take().unwrap());
    let mut line = String::new();
    while !line.starts_with("# The incident") {
        line.clear();
        assert!(said.read_line(&mut line).unwrap() > 0);
    }
    wait_until("no bot came up", || remaining(temporary.path()).contains(&"crond".to_owned()));
    let group = Pid::from_raw(demonstration.id().try_into().unwrap()).unwrap();
    kill_process_group(group, Signal::INT).unwrap();
    assert_eq!(demonstration.wait().unwrap().code(), Some(1));
    said.read_to_string(&mut line).unwrap();
    left_nothing(temporary.path());
}
