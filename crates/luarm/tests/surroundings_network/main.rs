//! Interfaces, addresses and routes over time, in a network namespace of the test's own, whose recorder is in it.

#![expect(clippy::unwrap_used, reason = "a step that fails fails the test")]

mod interfaces;
mod overruns;
mod restarts;
mod routes;
#[path = "../support/mod.rs"]
mod support;

use std::{
    io::{BufRead, BufReader, Write},
    process::{Child, Command, ExitStatus, Stdio},
    time::{Duration, Instant},
};

use support::{Launch, Recording, Row, is_root, skip};

/// A network namespace, which lasts as long as this.
struct Namespace {
    holder: Child,
    path: String,
}

impl Namespace {
    /// `None` where there is none to be had.
    fn new() -> Option<Self> {
        if !is_root() {
            skip("needs root, for a network namespace");
            return None;
        }
        let mut holder = Command::new("unshare")
            .args(["--net", "sh", "-c", "ip link set lo up && echo ready && exec cat"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(holder.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line, "ready\n");
        let path = format!("--net=/proc/{}/ns/net", holder.id());
        Some(Self { holder, path })
    }

    fn recorder(&self, data: &std::path::Path) -> Launch {
        Launch::on(data).under(&["nsenter", &self.path, "--"]).with(&["--sensor", "poll"])
    }

    /// Runs a program in the namespace.
    fn run(&self, command: &str) {
        let words = command.split_whitespace();
        let status = Command::new("nsenter").arg(&self.path).arg("--").args(words).status().unwrap();
        assert!(status.success(), "{command}");
    }

    /// Gives `ip` many things to do.
    fn batch(&self, family: &str, lines: &str) {
        assert!(self.ip(&[family, "-batch", "-"], lines, Stdio::inherit()).success());
    }

    /// Gives `ip` many things to do, some of which may fail.
    fn try_batch(&self, family: &str, lines: &str) {
        self.ip(&[family, "-force", "-batch", "-"], lines, Stdio::null());
    }

    fn ip(&self, arguments: &[&str], lines: &str, complaints: Stdio) -> ExitStatus {
        let mut child = Command::new("nsenter")
            .args([&self.path, "--", "ip"])
            .args(arguments)
            .stdin(Stdio::piped())
            .stderr(complaints)
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(lines.as_bytes()).unwrap();
        child.wait().unwrap()
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        // Its standard input closes, and it ends.
        drop(self.holder.stdin.take());
        let _ = self.holder.wait();
    }
}

/// The columns of a row in one line, without those that are NULL.
fn line(row: &Row, columns: &str) -> String {
    let value = |column: &str| match &row[column] {
        serde_json::Value::String(text) => Some(text.clone()),
        serde_json::Value::Null => None,
        other => Some(other.to_string()),
    };
    columns.split_whitespace().filter_map(value).collect::<Vec<_>>().join(" ")
}

fn lines(rows: &[Row], columns: &str) -> Vec<String> {
    rows.iter().map(|row| line(row, columns)).collect()
}

/// Where one row of an interface ends as `changed`, the next begins.
fn are_one_after_the_other(rows: &[Row]) {
    for pair in rows.windows(2) {
        if pair[0]["ended"] == "changed" {
            assert_eq!(pair[0]["destroyed"], pair[1]["created"], "{pair:?}");
        }
    }
}

/// Waits until what the recorder was told is as wanted.
fn wait_until(recording: &Recording, wanted: impl Fn(&Recording) -> bool) {
    let deadline = Instant::now() + Duration::from_secs(90);
    loop {
        recording.sync();
        if wanted(recording) {
            return;
        }
        assert!(Instant::now() < deadline, "{:#?}", recording.sql("select * from netint order by netintid"));
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn nothing_lost(recording: &Recording) {
    assert_eq!(recording.sql("select * from lossinfo where class not like '%-digest'"), Vec::<Row>::new());
}
