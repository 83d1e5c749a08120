//! `luarm doctor` explains itself as root, as an ordinary user, and where BPF is denied.

#![expect(clippy::unwrap_used, reason = "a step that fails fails the test")]

mod support;

use std::{
    fs,
    os::unix::{fs::PermissionsExt, process::CommandExt},
    process::{Command, Output},
};

use support::{Launch, NOBODY, complaint, copy_program, is_root, luarm, program, sensors, skip};

/// What stands beside a class: by what it is watched.
fn watched_by<'a>(text: &'a str, class: &str) -> Option<&'a str> {
    let mut rows = text.lines().skip_while(|line| !line.starts_with("CLASS"));
    let row = rows.find(|line| line.split_whitespace().next() == Some(class))?;
    row.split_whitespace().nth(1)
}

#[track_caller]
fn explains(output: &Output, wanted: &[&str]) {
    let text = String::from_utf8(output.stdout.clone()).unwrap();
    assert!(output.status.success(), "{text}{}", complaint(output));
    for line in ["kernel ", "user ", "capabilities ", "BTF ", "lockdown ", "eBPF ", "sensor "] {
        assert!(text.lines().any(|has| has.starts_with(line)), "no line {line:?} in:\n{text}");
    }
    let processes =
        ["process", "exec-denied", "rename", "credentials", "tcp", "udp", "names", "image-digest"];
    let around = ["interfaces", "routes", "hardware", "mounts", "users", "groups", "logins", "host"];
    for class in [&processes[..], &around].concat() {
        assert!(watched_by(&text, class).is_some(), "no class {class:?} in:\n{text}");
    }
    for words in wanted {
        assert!(text.contains(words), "no {words:?} in:\n{text}");
    }
}

#[test]
fn as_root_it_names_the_hook_of_each_class() {
    if !is_root() {
        return skip("needs root");
    }
    explains(
        &luarm(&["doctor"]),
        &["luarm run watches with eBPF", " eBPF  ", " netlink ", " rtnetlink LINK", " /sys"],
    );
}

#[test]
fn what_it_says_of_each_class_is_what_a_recorder_does() {
    for sensor in sensors() {
        let directory = tempfile::tempdir().unwrap();
        let recording = Launch::on(&directory.path().join("data")).with(&["--sensor", sensor]).start();
        recording.sync();
        let rows = recording
            .sql("select class, state, sensor, hook from coverageinfo where class not in ('all', 'canary')");
        assert!(rows.len() > 15, "{rows:?}");
        if sensor == "poll" && is_root() {
            // The doctor would choose the other sensor: only what is around the processes is the same.
            continue;
        }
        let text = String::from_utf8(luarm(&["doctor"]).stdout).unwrap();
        for row in &rows {
            let word = match (row["state"].as_str().unwrap(), row["sensor"].as_str().unwrap()) {
                ("unwatched", _) => "nothing",
                (_, "ebpf") => "eBPF",
                (_, "poll") => "polling",
                (_, other) => other,
            };
            assert_eq!(watched_by(&text, row["class"].as_str().unwrap()), Some(word), "{row:?} in:\n{text}");
        }
    }
}

#[test]
fn as_an_ordinary_user_it_says_what_is_missing() {
    if !is_root() {
        return skip("needs root, to become nobody");
    }
    let directory = tempfile::tempdir().unwrap();
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let binary = directory.path().join("luarm");
    copy_program(&binary);
    let output =
        Command::new(&binary).arg("doctor").uid(NOBODY).gid(NOBODY).current_dir("/").output().unwrap();
    explains(
        &output,
        &[
            "uid 65534",
            "luarm run watches by polling",
            "CAP_PERFMON, CAP_NET_ADMIN",
            " polling  ",
            "passwords' state is not known",
        ],
    );
}

#[test]
fn where_bpf_is_denied_it_says_so() {
    if !is_root() {
        return skip("needs root, to drop capabilities");
    }
    let denied = "-bpf,-perfmon,-sys_admin,-net_admin";
    let output = Command::new("setpriv")
        .args(["--bounding-set", denied, "--inh-caps", denied, "--ambient-caps", "-all"])
        .arg(program())
        .arg("doctor")
        .output()
        .unwrap();
    explains(
        &output,
        &[
            "root",
            "cannot be used: ",
            "luarm run watches by polling",
            "with the capabilities that are missing",
        ],
    );
}
