//! What is done through the kernel's door for 32-bit programs is told like everything else, whichever program uses it.
#![cfg(target_arch = "x86_64")]
#![expect(clippy::unwrap_used, reason = "a step that fails fails the test")]

mod support;

use std::{os::unix::process::CommandExt, process::Command};

use support::{Launch, NOBODY, has_ebpf, programs};

/// Runs the program in a directory of its own as `nobody`, and gives what the recorder tells of it.
fn told_of(flags: &[&str]) -> Vec<String> {
    let dir = tempfile::tempdir().unwrap();
    let program = programs::compat_program(dir.path(), flags);
    let work = dir.path().canonicalize().unwrap().join("work");
    std::fs::create_dir(&work).unwrap();
    std::os::unix::fs::chown(&work, Some(NOBODY), None).unwrap();
    std::os::unix::fs::chown(dir.path(), Some(NOBODY), None).unwrap();
    let recording = Launch::on(&dir.path().join("data")).start();
    let mut child = Command::new(program).current_dir(&work).uid(NOBODY).spawn().unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0));
    recording.sync();
    let pid = child.id();
    let rows = recording.sql(&format!(
        "select operation || ' ' || filename || ' ' || result as line from (select * from fileinfo where pid = {pid} order by fileaccessid)
         union all select 'exec ' || command || ' ' || replace(argv, char(10), ' ') || ' ' || result from execinfo where pid = {pid}
         union all select operation || ' ' || coalesce(detail, '') || ' ' || result from (select * from privinfo where pid = {pid} order by privid)
         union all select transport || ' ' || destip || ' ' || destport || ' ' || coalesce(result, '') from netinfo where pid = {pid}"
    ));
    assert!(recording.stop().success());
    rows.iter().map(|row| row["line"].as_str().unwrap().to_owned()).collect()
}

const TOLD: [&str; 13] = [
    "create made 0",
    "chmod made 0",
    "open made 0",
    "exec-map made 0",
    "rename made 0",
    "mkdir dir 0",
    "unlink moved 0",
    "exec /etc/passwd first second 13",
    "setgroups none 0",
    "setuid  0",
    "setuid 0 1",
    "signal SIGTERM 1",
    "tcp 255.255.255.255 7 101",
];

#[test]
fn a_32_bit_program_is_seen() {
    if has_ebpf() {
        assert_eq!(told_of(&["-m32"]), TOLD);
    }
}

#[test]
fn a_64_bit_program_does_not_hide_behind_the_door_for_others() {
    if has_ebpf() {
        assert_eq!(told_of(&["-no-pie"]), TOLD);
    }
}
