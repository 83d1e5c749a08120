//! What a service manager has of luarm: units that are sound and locked down, a word when it is ready, and priorities for its journal.

#![expect(clippy::unwrap_used, reason = "a step that fails fails the test")]

mod support;

use std::{
    collections::BTreeSet,
    fs,
    io::{BufRead, BufReader},
    os::unix::{fs::MetadataExt, net::UnixDatagram},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use support::{Launch, complaint, http, link::Site, luarm, program, sensors, skip};

/// Each unit and what `systemd-analyze security` may say of its exposure at most, in tenths. What records runs as root, in the host's mount namespace, and its canary becomes
/// nobody.
const UNITS: [(&str, u32); 3] =
    [("luarm.service", 52), ("luarm-agent.service", 52), ("luarm-server.service", 15)];

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

/// What a unit's line `key=` lists, all such lines together.
fn listed(unit: &str, key: &str) -> Vec<String> {
    let text = fs::read_to_string(packaging().join("systemd").join(unit)).unwrap();
    let values = text.lines().filter_map(|line| line.strip_prefix(key)?.strip_prefix('='));
    values.flat_map(str::split_whitespace).map(str::to_owned).collect()
}

/// The system calls of a set (`@system-service`) or of that name.
fn calls(name: &str) -> BTreeSet<String> {
    if !name.starts_with('@') {
        return BTreeSet::from([name.to_owned()]);
    }
    let output =
        Command::new("systemd-analyze").args(["syscall-filter", "--no-pager", name]).output().unwrap();
    assert!(output.status.success(), "{name}: {}", complaint(&output));
    let text = String::from_utf8(output.stdout).unwrap();
    let names = text.lines().skip(1).map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    names.flat_map(calls).collect()
}

/// What a unit lets pass: allowed first, then taken away again.
fn allowed(unit: &str) -> BTreeSet<String> {
    let mut allowed = BTreeSet::new();
    for name in listed(unit, "SystemCallFilter") {
        match name.strip_prefix('~') {
            Some(name) => allowed.retain(|call| !calls(name).contains(call)),
            None => allowed.extend(calls(&name)),
        }
    }
    allowed
}

/// The unit forbids nothing of what strace has written down.
fn forbids_nothing(unit: &str, trace: &Path) {
    let (calls, families) = (allowed(unit), listed(unit, "RestrictAddressFamilies"));
    let text = fs::read_to_string(trace).unwrap();
    // Before it is replaced by the program it is strace's own child.
    let mut seen = BTreeSet::new();
    for line in text.lines() {
        let Some((call, arguments)) =
            line.split_once(' ').and_then(|(_, rest)| rest.trim_start().split_once('('))
        else {
            continue;
        };
        if !call.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_') {
            continue;
        }
        // SQLite gives files to the owner of the store, as root only: the server is not.
        if unit == "luarm-server.service" && call == "fchown" {
            continue;
        }
        seen.insert(call);
        assert!(calls.contains(call), "{unit} forbids {line}");
        if call == "socket" || call == "socketpair" {
            let family = arguments.split(',').next().unwrap();
            assert!(families.iter().any(|known| known == family), "{unit} forbids {line}");
        }
        // See systemd.exec(5), MemoryDenyWriteExecute= and RestrictNamespaces=.
        let executable = arguments.contains("PROT_EXEC");
        assert!(!(call == "mmap" && executable && arguments.contains("PROT_WRITE")), "{unit} forbids {line}");
        assert!(!(call == "mprotect" && executable), "{unit} forbids {line}");
        // Its mode lies in memory, where a filter cannot look: RestrictSUIDSGID= forbids it whole, with ENOSYS.
        let restricted = listed(unit, "RestrictSUIDSGID").iter().any(|value| value == "yes");
        assert!(!(call == "openat2" && restricted), "{unit} forbids {line}");
        assert!(call != "setns" || arguments.contains("CLONE_NEWNET"), "{unit} forbids {line}");
    }
    assert!(seen.contains("openat") && seen.contains("futex"), "{seen:?}");
}

/// Waits until everything can be queried; not under strace, as [`Recording::sync`](support::Recording::sync) would.
fn sync(data: &Path) {
    let output = luarm(&["sync", "--timeout", "60", "--data", data.to_str().unwrap()]);
    assert!(output.status.success(), "{}", complaint(&output));
}

#[test]
fn units_forbid_nothing_that_is_done() {
    if Command::new("strace").arg("--version").output().is_err()
        || Command::new("systemd-analyze").arg("--version").output().is_err()
    {
        return skip("needs strace and systemd-analyze");
    }
    let directory = tempfile::tempdir().unwrap();
    let trace = |name: &str| directory.path().join(name);
    // Strace is the grandchild, and the program the child, which gets the signals.
    let strace = |path: &Path| {
        ["strace", "-D", "-f", "-qq", "-e", "signal=none", "-s", "0", "-o", path.to_str().unwrap()]
            .map(str::to_owned)
    };
    for sensor in sensors() {
        let path = trace(sensor);
        let prefix = strace(&path);
        let prefix: Vec<_> = prefix.iter().map(String::as_str).collect();
        let recording = Launch::on(&trace(&format!("{sensor}-data")))
            .with(&["--sensor", sensor, "--metrics", "127.0.0.1:0"])
            .under(&prefix)
            .start();
        let mut other = Command::new("unshare").args(["--user", "--net", "sleep", "1000"]).spawn().unwrap();
        http::get(&http::address(&recording.wait_for("metrics and health are served at")), "/metrics");
        sync(recording.data());
        other.kill().unwrap();
        other.wait().unwrap();
        assert!(recording.stop().success());
        forbids_nothing("luarm.service", &path);
    }
    let site = Site::new(directory.path());
    let served = trace("server.trace");
    let mut server = Command::new("strace")
        .args(&strace(&served)[1..])
        .arg(program())
        .args(["server", "--data", site.data().to_str().unwrap(), "--store", &site.store()])
        .args(["--listen", site.url().trim_start_matches("https://"), "--metrics", "127.0.0.1:0"])
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    // It is there when somebody can join.
    let data = trace("penguin");
    let token = site.token(&[]);
    let deadline = std::time::Instant::now() + Duration::from_secs(90);
    while !site.try_join(&data, "penguin", &token).status.success() {
        assert!(std::time::Instant::now() < deadline && server.try_wait().unwrap().is_none(), "no server");
        std::thread::sleep(Duration::from_millis(100));
    }
    let delivering = trace("agent.trace");
    let prefix = strace(&delivering);
    let prefix: Vec<_> = prefix.iter().map(String::as_str).collect();
    let agent = Launch::agent(&data).with(&["--sensor", "poll"]).under(&prefix).start();
    sync(agent.data());
    assert!(agent.stop().success());
    rustix::process::kill_process(rustix::process::Pid::from_child(&server), rustix::process::Signal::TERM)
        .unwrap();
    assert!(server.wait().unwrap().success());
    forbids_nothing("luarm-agent.service", &delivering);
    forbids_nothing("luarm-server.service", &served);
}
