//! What a service manager has of luarm: units that are sound and locked down, a word when it is ready, and priorities for its journal.

#![expect(clippy::unwrap_used, reason = "a step that fails fails the test")]

mod support;

use std::{
    fs,
    io::{BufRead, BufReader},
    os::unix::{fs::MetadataExt, net::UnixDatagram},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use support::{complaint, link::Site, program, skip};

/// Each unit and what `systemd-analyze security` may say of its exposure at most, in tenths. What records runs as root, in the host's mount namespace.
const UNITS: [(&str, u32); 3] =
    [("luarm.service", 49), ("luarm-agent.service", 49), ("luarm-server.service", 15)];

fn packaging() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../packaging")
}

/// The units, with the program where it is now.
fn units(directory: &Path) -> Vec<PathBuf> {
    let copy = |(name, _): &(&str, u32)| {
        let text = fs::read_to_string(packaging().join("systemd").join(name)).unwrap();
        let path = directory.join(name);
        fs::write(&path, text.replace("/usr/bin/luarm", program().to_str().unwrap())).unwrap();
        path
    };
    UNITS.iter().map(copy).collect()
}

#[test]
fn units_are_sound_and_locked_down() {
    if Command::new("systemd-analyze").arg("--version").output().is_err() {
        return skip("needs systemd-analyze");
    }
    let directory = tempfile::tempdir().unwrap();
    let units = units(directory.path());
    let verified = Command::new("systemd-analyze")
        .args(["verify", "--man=no", "--recursive-errors=no"])
        .args(&units)
        .output()
        .unwrap();
    let said = complaint(&verified);
    assert!(verified.status.success() && said.is_empty(), "{said}");
    for (unit, (name, most)) in units.iter().zip(UNITS) {
        let threshold = format!("--threshold={most}");
        let output = Command::new("systemd-analyze")
            .args(["security", "--offline=true", "--no-pager", &threshold])
            .arg(unit)
            .output()
            .unwrap();
        let report = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{name} is more exposed than {most} tenths:\n{report}");
    }
    // An unknown setting is only warned of: the check itself has to notice.
    fs::write(&units[0], "[Service]\nExecStart=/bin/true\nProtectEverything=yes\n").unwrap();
    let wrong = Command::new("systemd-analyze").args(["verify", "--man=no"]).arg(&units[0]).output().unwrap();
    assert!(complaint(&wrong).contains("ProtectEverything"), "{}", complaint(&wrong));
}

#[test]
fn what_records_stays_in_the_hosts_mount_namespace() {
    // Each of these gives a service mounts of its own, see systemd.exec(5).
    let mounting = [
        "ProtectSystem",
        "ProtectHome",
        "PrivateTmp",
        "PrivateDevices",
        "PrivateMounts",
        "PrivateUsers",
        "ProtectKernelTunables",
        "ProtectKernelModules",
        "ProtectKernelLogs",
        "ProtectControlGroups",
        "ProtectProc",
        "ProcSubset",
        "ProtectHostname",
        "ReadWritePaths",
        "ReadOnlyPaths",
        "InaccessiblePaths",
        "BindPaths",
        "TemporaryFileSystem",
        "RootDirectory",
        "PrivateNetwork",
        "PrivateIPC",
    ];
    for name in ["luarm.service", "luarm-agent.service"] {
        let text = fs::read_to_string(packaging().join("systemd").join(name)).unwrap();
        for line in text.lines() {
            let key = line.split('=').next().unwrap();
            assert!(!mounting.contains(&key), "{name}: {line}");
        }
    }
}

/// The next message that comes, within a minute and a half.
fn told(manager: &UnixDatagram) -> String {
    let mut message = [0; 4096];
    manager.set_read_timeout(Some(Duration::from_secs(90))).unwrap();
    let length = manager.recv(&mut message).unwrap();
    String::from_utf8(message[..length].to_vec()).unwrap()
}

#[test]
fn a_service_manager_is_told_when_it_is_ready_and_when_it_stops() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("notify");
    let manager = UnixDatagram::bind(&socket).unwrap();
    let site = Site::new(directory.path());
    let recorder = directory.path().join("recorder");
    let store = site.store();
    let data = site.data();
    let run = ["run", "--sensor", "poll", "--data", recorder.to_str().unwrap()];
    let serve = ["server", "--listen", "127.0.0.1:0", "--store", &store, "--data", data.to_str().unwrap()];
    for (arguments, doing) in [(&run[..], "recording "), (&serve[..], "serving at ")] {
        let mut child = Command::new(program())
            .args(arguments)
            .env("NOTIFY_SOCKET", &socket)
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let ready = told(&manager);
        assert!(ready.starts_with(&format!("READY=1\nSTATUS={doing}")), "{ready}");
        let pid = rustix::process::Pid::from_child(&child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        let stopping = told(&manager);
        assert!(stopping.starts_with("STOPPING=1\n"), "{stopping}");
        assert!(child.wait().unwrap().success());
    }
}

/// What the program says on standard error when it is told that the journal listens there, which is true or not; once it records it is stopped.
fn said(arguments: &[&str], truly: bool) -> String {
    let (reader, writer) = std::io::pipe().unwrap();
    let file = fs::File::from(std::os::fd::OwnedFd::from(writer.try_clone().unwrap()));
    let facts = file.metadata().unwrap();
    let inode = facts.ino() + u64::from(!truly);
    let mut child = Command::new(program())
        .args(arguments)
        .env("JOURNAL_STREAM", format!("{}:{inode}", facts.dev()))
        .stdin(Stdio::null())
        .stderr(writer)
        .spawn()
        .unwrap();
    drop(file);
    let mut text = String::new();
    for line in BufReader::new(reader).lines() {
        let line = line.unwrap();
        if line.contains("luarm: recording") {
            let pid = rustix::process::Pid::from_child(&child);
            rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        }
        text += &(line + "\n");
    }
    child.wait().unwrap();
    text
}

#[test]
fn the_journal_has_priorities_and_nobody_else() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().to_str().unwrap();
    let failing = ["sync", "--data", data];
    assert!(said(&failing, true).starts_with("<3>luarm: no recorder is running on "));
    assert!(said(&failing, false).starts_with("luarm: no recorder is running on "));
    let recording = ["run", "--data", data, "--sensor", "poll", "--log", "debug"];
    let text = said(&recording, true);
    assert!(text.contains("<6>luarm: info: polling, as asked"), "{text}");
    assert!(text.contains("<5>luarm: recording "), "{text}");
    let prefixed = |line: &str| line.starts_with('<') && line[2..].starts_with(">luarm: ");
    assert!(text.lines().all(prefixed), "{text}");
    let text = said(&recording, false);
    assert!(
        text.contains("luarm: recording ") && text.lines().all(|line| line.starts_with("luarm: ")),
        "{text}"
    );
    let init = ["server", "init", "--data", data];
    assert!(said(&init, true).starts_with("<5>luarm: the authority is in "));
}
