//! A disk that fills up while the recorder runs, and empties again.

#![expect(clippy::unwrap_used, reason = "a step that fails fails the test")]

mod support;

use std::{
    io::{BufRead, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
};

use support::{Launch, is_root, skip};

/// A small file system in a mount namespace of its own, which lives as long as this.
struct SmallDisk {
    anchor: Child,
    mount: String,
}

impl SmallDisk {
    fn new(at: &Path, size: &str) -> Self {
        let script = format!(
            "mount -t tmpfs -o size={size},mode=700 luarm-test {} && echo ready && read end",
            at.display()
        );
        let mut anchor = Command::new("unshare")
            .args(["--mount", "sh", "-c", &script])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut ready = String::new();
        BufReader::new(anchor.stdout.take().unwrap()).read_line(&mut ready).unwrap();
        assert_eq!(ready, "ready\n", "no tmpfs at {}", at.display());
        let mount = format!("--mount=/proc/{}/ns/mnt", anchor.id());
        Self { anchor, mount }
    }

    fn prefix(&self) -> [&str; 2] {
        ["nsenter", &self.mount]
    }

    fn shell(&self, script: &str) {
        let status = Command::new("nsenter").arg(&self.mount).args(["sh", "-c", script]).status().unwrap();
        assert!(status.success(), "{script}");
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        drop(self.anchor.stdin.take());
        let _ = self.anchor.wait();
    }
}

const LENGTH: i64 = 100_000;

/// A process with that many bytes of arguments, which lives until its standard input is closed.
fn heavy(marker: &str) -> Child {
    let padding = "x".repeat(LENGTH as usize);
    Command::new("sh").args(["-c", "read line", &padding, marker]).stdin(Stdio::piped()).spawn().unwrap()
}

fn end(mut process: Child) {
    drop(process.stdin.take());
    process.wait().unwrap();
}

#[test]
fn a_full_disk_is_said_survived_and_counted() {
    if !is_root() {
        return skip("needs root, to mount a small file system");
    }
    const EARLY: i64 = 5;
    const LATE: i64 = 40;
    let data = tempfile::tempdir().unwrap();
    let disk = SmallDisk::new(data.path(), "16m");
    let recording = Launch::on(data.path())
        .with(&["--sensor", "poll", "--memory-limit", "1MiB"])
        .under(&disk.prefix())
        .start();
    recording.sync();
    let fill = data.path().join("fill");
    disk.shell(&format!("cat /dev/zero > {} 2>/dev/null || true", fill.display()));

    let early: Vec<Child> = (0..EARLY).map(|_| heavy("on-its-way")).collect();
    recording.wait_for("cannot store: no space is left");
    recording.wait_until("backlog bytes", |bytes| bytes > EARLY * LENGTH);
    let late: Vec<Child> = (0..LATE).map(|_| heavy("too-late")).collect();
    recording.wait_until("pending bytes", |bytes| bytes > LATE * LENGTH);
    // Rows of processes that live are kept, since their end refers to them.
    late.into_iter().for_each(end);
    recording.wait_for("newer rows are lost");
    recording.wait_until("pending bytes", |bytes| bytes < LENGTH);
    assert_eq!(recording.ask("sync", &["--timeout", "0.2"]).status.code(), Some(1));

    disk.shell(&format!("rm {}", fill.display()));
    recording.wait_for("the store works again");
    let later = heavy("after-the-full-disk");
    recording.sync();
    let lost = recording.count(
        "select coalesce(sum(count), 0) from lossinfo where class = 'psinfo' and cause = 'store-failed'",
    );
    assert!(lost >= LATE, "{lost} lost");
    assert_eq!(recording.count("select count(*) from lossinfo where class = 'psinfo'"), 1);
    let stored = |marker: &str| {
        recording.count(&format!("select count(*) from psinfo where arguments like '%{marker}'"))
    };
    assert_eq!((stored("on-its-way"), stored("too-late"), stored("after-the-full-disk")), (EARLY, 0, 1));
    assert_eq!(recording.count("select count(*) from lossinfo where created > until"), 0);
    let gaps = "select count(*) from batchinfo b where batchid > 1 and not exists (select 1 from batchinfo p where p.batchid = b.batchid - 1)";
    assert_eq!(recording.count(gaps), 0);
    early.into_iter().chain([later]).for_each(end);
    assert!(recording.stop().success());
}

#[test]
fn a_recorder_told_to_stop_says_what_the_full_disk_did_not_take() {
    if !is_root() {
        return skip("needs root, to mount a small file system");
    }
    let data = tempfile::tempdir().unwrap();
    let disk = SmallDisk::new(data.path(), "16m");
    let recording = Launch::on(data.path()).with(&["--sensor", "poll"]).under(&disk.prefix()).start();
    recording.sync();
    disk.shell(&format!("cat /dev/zero > {} 2>/dev/null || true", data.path().join("fill").display()));
    let process = heavy("never-stored");
    recording.wait_for("cannot store: no space is left");
    recording.signal(rustix::process::Signal::TERM);
    let mut recording = recording;
    assert_eq!(recording.wait().code(), Some(1));
    recording.wait_for("could not be stored before the end: no space is left");
    end(process);
    disk.shell(&format!("rm {}", data.path().join("fill").display()));
    let recording = recording.again();
    assert_eq!(
        recording.count("select count(*) from coverageinfo where ended = 'killed' and class = 'process'"),
        1
    );
    assert!(recording.stop().success());
}
