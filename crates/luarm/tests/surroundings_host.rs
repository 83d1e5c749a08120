//! The computer as a whole, over time.

#![expect(clippy::unwrap_used, reason = "a step that fails fails the test")]

mod support;

use std::{
    fs,
    io::{BufRead, BufReader},
    process::{Command, Stdio},
};

use support::{Launch, Recording, is_root, skip};

fn facts(recording: &Recording, fact: &str) -> Vec<String> {
    let rows = recording
        .sql(&format!("select value, origin, ended from factinfo where fact = '{fact}' order by factid"));
    let text = |row: &support::Row, column: &str| row[column].as_str().unwrap_or("holds").to_owned();
    rows.iter().map(|row| ["value", "origin", "ended"].map(|column| text(row, column)).join(" ")).collect()
}

#[test]
fn a_boot_is_one_row_with_what_the_system_says_of_itself() {
    let dir = tempfile::tempdir().unwrap();
    let recording = Launch::on(dir.path()).with(&["--sensor", "poll"]).start();
    recording.sync();
    let recording = {
        assert!(recording.stop().success());
        Launch::on(dir.path()).with(&["--sensor", "poll"]).start()
    };
    let rows = recording.sql("select * from hostinfo");
    assert_eq!(rows.len(), 1, "a restart is no boot");
    let said = |path: &str| fs::read_to_string(path).map(|text| text.trim().to_owned()).unwrap();
    for (column, path) in [
        ("bootid", "/proc/sys/kernel/random/boot_id"),
        ("hostname", "/proc/sys/kernel/hostname"),
        ("kernel", "/proc/sys/kernel/osrelease"),
        ("cmdline", "/proc/cmdline"),
    ] {
        assert_eq!(rows[0][column].as_str().unwrap(), said(path), "{column}");
    }
    assert!(rows[0]["destroyed"].is_null() && rows[0]["boottime"].as_str() < rows[0]["created"].as_str());
    assert_eq!(facts(&recording, "hostname"), [format!("{} found holds", said("/proc/sys/kernel/hostname"))]);
    assert_eq!(facts(&recording, "agentversion"), [concat!(env!("CARGO_PKG_VERSION"), " found holds")]);
    assert!(recording.stop().success());
}

#[test]
fn a_host_name_that_changes_is_told_at_once() {
    if !is_root() {
        return skip("needs root, for a UTS namespace");
    }
    // The host name of a namespace of its own, which lasts as long as its standard input is open.
    let mut holder = Command::new("unshare")
        .args(["--uts", "sh", "-c", "hostname penguin && echo ready && exec cat"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(holder.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert_eq!(line, "ready\n");
    let namespace = format!("--uts=/proc/{}/ns/uts", holder.id());
    let dir = tempfile::tempdir().unwrap();
    let recording =
        Launch::on(dir.path()).under(&["nsenter", &namespace, "--"]).with(&["--sensor", "poll"]).start();
    for name in ["puffin", "o'brien", "penguin"] {
        let assignment = format!("kernel.hostname={name}");
        let status =
            Command::new("nsenter").args([&namespace, "--", "sysctl", "-q", &assignment]).status().unwrap();
        assert!(status.success());
        // Nobody asks: the kernel wakes the recorder.
        recording.wait_for_row(&format!(
            "select count(*) from factinfo where fact = 'hostname' and destroyed is null and value = '{}'",
            name.replace('\'', "''")
        ));
    }
    assert_eq!(
        facts(&recording, "hostname"),
        ["penguin found changed", "puffin event changed", "o'brien event changed", "penguin event holds"]
    );
    assert!(recording.stop().success());
    drop(holder.stdin.take());
    holder.wait().unwrap();
}
