//! `luarm doctor` explains itself as root, as an ordinary user, and where BPF is denied.

#![expect(clippy::unwrap_used, reason = "a step that fails fails the test")]

mod support;

use std::{
    fs,
    os::unix::{fs::PermissionsExt, process::CommandExt},
    process::{Command, Output},
};

use support::{NOBODY, complaint, copy_program, is_root, luarm, program, skip};

#[track_caller]
fn explains(output: &Output, wanted: &[&str]) {
    let text = String::from_utf8(output.stdout.clone()).unwrap();
    assert!(output.status.success(), "{text}{}", complaint(output));
    for line in ["kernel ", "user ", "capabilities ", "BTF ", "lockdown ", "eBPF ", "sensor "] {
        assert!(text.lines().any(|has| has.starts_with(line)), "no line {line:?} in:\n{text}");
    }
    for class in ["process ", "exec-denied ", "rename ", "credentials ", "tcp ", "udp ", "names "] {
        assert!(text.lines().any(|line| line.starts_with(class)), "no class {class:?} in:\n{text}");
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
    explains(&luarm(&["doctor"]), &["luarm run watches with eBPF", " eBPF  "]);
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
        &["uid 65534", "luarm run watches by polling", "CAP_PERFMON, CAP_NET_ADMIN", " polling  "],
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
