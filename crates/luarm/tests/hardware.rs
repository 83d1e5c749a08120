//! Devices come and go under a recorder: loop devices, tunnels, and messages that are not what they seem.

#![expect(clippy::unwrap_used, reason = "a step that fails fails the test")]

mod support;

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use rustix::{
    fs::Mode,
    process::{Signal, geteuid},
};
use support::{Launch, NOBODY, Recording, Row, is_root, skip};

fn run(command: &str, arguments: &[&str]) -> String {
    let output = Command::new(command).args(arguments).output().unwrap();
    assert!(output.status.success(), "{command} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// A loop device with a file in it; taken out at the end.
struct Loop {
    name: String,
    file: PathBuf,
}

impl Loop {
    fn attach(directory: &Path, file: &str) -> Self {
        let file = directory.join(file);
        fs::File::create(&file).unwrap().set_len(4 << 20).unwrap();
        let device = run("losetup", &["--find", "--show", file.to_str().unwrap()]);
        Self { name: device.strip_prefix("/dev/").unwrap().to_owned(), file }
    }

    fn detach(&self) {
        run("losetup", &["--detach", &format!("/dev/{}", self.name)]);
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        let _ = Command::new("losetup").arg("--detach").arg(format!("/dev/{}", self.name)).output();
    }
}

/// A name for an interface of this test alone, of this process alone.
fn tunnel(letter: char) -> String {
    format!("l{letter}{}", std::process::id())
}

fn words<'a>(row: &'a Row, columns: &[&str]) -> Vec<&'a str> {
    columns.iter().map(|column| row[*column].as_str().unwrap_or("NULL")).collect()
}

fn start(directory: &Path) -> Option<Recording> {
    if !is_root() {
        skip("needs root, to make devices");
        return None;
    }
    let recording = Launch::on(&directory.join("data")).with(&["--sensor", "poll"]).start();
    recording.sync();
    Some(recording)
}

fn devices(recording: &Recording, name: &str) -> Vec<Row> {
    recording.sql(&format!("select * from hwinfo where devstring = '{name}' order by hwdevid"))
}

#[test]
fn loop_devices_are_told_of_with_what_is_in_them_and_where_it_was_mounted() {
    let dir = tempfile::tempdir().unwrap();
    let Some(recording) = start(dir.path()) else { return };
    let first = Loop::attach(dir.path(), "first medium");
    run("mkfs.ext4", &["-q", first.file.to_str().unwrap()]);
    let point = dir.path().join("mount point");
    fs::create_dir(&point).unwrap();
    run("mount", &[&format!("/dev/{}", first.name), point.to_str().unwrap()]);
    recording.sync();
    let open = devices(&recording, first.file.to_str().unwrap());
    assert_eq!(open.len(), 1, "{open:?}");
    assert_eq!(
        words(&open[0], &["devbus", "blockdevices", "origin", "ended"]),
        ["block", &first.name, "event", "NULL"]
    );
    run("mount", &["-o", "remount,ro", point.to_str().unwrap()]);
    recording.sync();
    run("umount", &[point.to_str().unwrap()]);
    recording.sync();
    first.detach();
    recording.sync();
    // Another file in the same device is another medium, and another attachment.
    let second = Loop::attach(dir.path(), "second medium");
    recording.sync();
    second.detach();
    recording.sync();

    let ended = devices(&recording, first.file.to_str().unwrap());
    assert_eq!(ended.len(), 1, "{ended:?}");
    assert_eq!(words(&ended[0], &["ended"]), ["event"]);
    let other = devices(&recording, second.file.to_str().unwrap());
    assert_eq!(words(&other[0], &["ended"]), ["event"]);
    assert_ne!(other[0]["attachment"], ended[0]["attachment"]);
    let mounts = recording.sql(&format!(
        "select m.* from mountinfo m join hwinfo h on h.attachment = m.attachment where h.hwdevid = {} order by m.mountid",
        ended[0]["hwdevid"]
    ));
    let columns = ["location", "filesystem", "blockdevice", "ended"];
    let location = point.to_str().unwrap();
    assert_eq!(mounts.len(), 2, "{mounts:?}");
    assert_eq!(words(&mounts[0], &columns), [location, "ext4", &first.name, "changed"]);
    assert_eq!(words(&mounts[1], &columns), [location, "ext4", &first.name, "event"]);
    assert!(mounts[0]["options"].as_str().unwrap().starts_with("rw"), "{mounts:?}");
    assert!(mounts[1]["options"].as_str().unwrap().starts_with("ro"), "{mounts:?}");
    let instants = [
        ended[0]["created"].as_str(),
        mounts[0]["created"].as_str(),
        mounts[0]["destroyed"].as_str(),
        mounts[1]["destroyed"].as_str(),
        ended[0]["destroyed"].as_str(),
    ];
    assert!(instants.is_sorted(), "{instants:?}");
    assert!(recording.stop().success());
}

#[test]
fn every_tunnel_of_a_flood_is_told_of() {
    const TUNNELS: usize = 200;
    let dir = tempfile::tempdir().unwrap();
    let Some(recording) = start(dir.path()) else { return };
    let name = |n: usize| format!("{}x{n}", tunnel('a'));
    let batch = |action: &str| {
        let lines: String =
            (0..TUNNELS).map(|n| format!("tuntap {action} dev {} mode tun\n", name(n))).collect();
        let file = dir.path().join(action);
        fs::write(&file, lines).unwrap();
        run("ip", &["-batch", file.to_str().unwrap()]);
    };
    batch("add");
    recording.sync();
    let like = format!("devstring like '{}x%' and devbus = 'net'", tunnel('a'));
    let open = format!("select count(*) from hwinfo where {like} and destroyed is null");
    assert_eq!(recording.count(&open), TUNNELS as i64);
    let kinds = recording.sql(&format!("select distinct devclass, origin from hwinfo where {like}"));
    assert_eq!(kinds.len(), 1);
    assert_eq!(words(&kinds[0], &["devclass", "origin"]), ["tun", "event"]);
    batch("del");
    recording.sync();
    let ends =
        format!("select devstring, count(*) as n from hwinfo where {like} and ended = 'event' group by 1");
    let ended = recording.sql(&ends);
    assert_eq!(ended.len(), TUNNELS);
    assert!(ended.iter().all(|row| row["n"] == 1), "{ended:?}");
    assert_eq!(recording.count("select count(*) from lossinfo where class = 'hardware'"), 0);
    assert!(recording.stop().success());
}

#[test]
fn a_renamed_interface_is_followed() {
    let dir = tempfile::tempdir().unwrap();
    let Some(recording) = start(dir.path()) else { return };
    let (old, new) = (tunnel('b'), tunnel('c'));
    run("ip", &["tuntap", "add", "dev", &old, "mode", "tap"]);
    recording.sync();
    run("ip", &["link", "set", &old, "name", &new]);
    recording.sync();
    run("ip", &["tuntap", "del", "dev", &new, "mode", "tap"]);
    recording.sync();
    let (before, after) = (devices(&recording, &old), devices(&recording, &new));
    assert_eq!((before.len(), after.len()), (1, 1));
    assert_eq!(words(&before[0], &["ended"]), ["event"]);
    assert_eq!(words(&after[0], &["origin", "ended"]), ["event", "event"]);
    assert_eq!(before[0]["instance"], after[0]["instance"]);
    assert!(recording.stop().success());
}

#[test]
fn what_somebody_writes_to_a_uevent_file_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let Some(recording) = start(dir.path()) else { return };
    let before = recording.count("select count(*) from hwinfo where devstring = 'lo' and devbus = 'net'");
    assert_eq!(before, 1);
    for action in ["add", "change", "remove", "online", "bind"] {
        fs::write("/sys/class/net/lo/uevent", action).unwrap();
    }
    recording.sync();
    let after = devices(&recording, "lo");
    assert_eq!(after.len(), 1, "{after:?}");
    assert_eq!(
        words(&after[0], &["devbus", "devclass", "devpath", "origin", "ended"]),
        ["net", "loopback", "/devices/virtual/net/lo", "found", "NULL"]
    );
    assert!(recording.stop().success());
}

/// The address of the recorder's socket for uevents.
fn port(recording: &Recording) -> u32 {
    let list = fs::read_to_string("/proc/net/netlink").unwrap();
    let fields = list.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    // sk, protocol (15 is NETLINK_KOBJECT_UEVENT), port, groups…; the first of a process's ports is its pid.
    let mut found =
        fields.filter(|f| f[1] == "15" && f[3] == "00000001").map(|f| f[2].parse::<u32>().unwrap());
    found.find(|port| *port == recording.pid()).expect("the recorder listens")
}

/// A program that sends a message to that address, and says how that went.
fn forge(to: u32, bytes: usize) -> String {
    let message = format!(
        r"my $m = join qq(\0), 'add@/devices/forged', 'ACTION=add', 'DEVPATH=/devices/forged', 'SUBSYSTEM=net', 'INTERFACE=forged', ''; $m .= 'x' x {bytes};"
    );
    format!(
        r"use Socket; socket(my $s, 16, SOCK_DGRAM, 15) or die $!; {message} print send($s, $m, 0, pack('S S L L', 16, 0, {to}, 0)) ? 'sent' : $! + 0;"
    )
}

#[test]
fn forged_messages_are_counted_and_not_believed() {
    let dir = tempfile::tempdir().unwrap();
    let Some(recording) = start(dir.path()) else { return };
    let to = port(&recording);
    let user = NOBODY.to_string();
    // The kernel lets an ordinary user send to no such socket.
    let drop = ["--reuid", &user, "--regid", &user, "--clear-groups", "perl", "-e"];
    let refused = run("setpriv", &[&drop[..], &[&forge(to, 0)]].concat());
    assert_eq!(refused, "1", "EPERM was expected");
    let lost = "select coalesce(sum(count), 0) from lossinfo where class = 'hardware' and cause = 'forged'";
    recording.sync();
    assert_eq!(recording.count(lost), 0);
    // Whoever may administer the network is not the kernel either, be the message short or longer than any of the kernel's.
    let mut sent = 0;
    for bytes in [0, 100, 2_000, 60_000] {
        assert_eq!(run("perl", &["-e", &forge(to, bytes)]), "sent");
        sent += 1;
    }
    // Nor is another user with nothing but that right.
    let able = ["--ambient-caps", "+net_admin", "--inh-caps", "+net_admin"];
    let forged = run("setpriv", &[&able[..], &drop[..], &[&forge(to, 0)]].concat());
    assert_eq!(forged, "sent");
    sent += 1;
    // What the kernel says in between is heard.
    let name = tunnel('d');
    run("ip", &["tuntap", "add", "dev", &name, "mode", "tun"]);
    run("ip", &["tuntap", "del", "dev", &name, "mode", "tun"]);
    recording.sync();
    assert_eq!(recording.count(lost), sent);
    assert_eq!(devices(&recording, "forged").len(), 0);
    assert_eq!(devices(&recording, &name).len(), 1);
    assert!(recording.stop().success());
}

#[test]
fn after_more_than_the_socket_holds_the_devices_are_counted_anew() {
    if !is_root() {
        return skip("needs root, to make devices");
    }
    let dir = tempfile::tempdir().unwrap();
    // In a network namespace of its own: what is said of its interfaces is said to nobody else, and other tests keep their messages.
    let space = tunnel('n');
    let inside = ["netns", "exec", &space];
    let ip = |arguments: &[&str]| run("ip", &[&inside[..], &["ip"], arguments].concat());
    run("ip", &["netns", "add", &space]);
    let launch = Launch::on(&dir.path().join("data")).with(&["--sensor", "poll"]);
    let recording = launch.under(&[&["ip"], &inside[..]].concat()).start();
    ip(&["tuntap", "add", "dev", "gone", "mode", "tun"]);
    recording.sync();
    recording.signal(Signal::STOP);
    // More messages than its buffer takes, before the two that count.
    let flood = "for (1..20000) { open my $f, '>', '/sys/class/net/lo/uevent' or die; print $f 'change' }";
    run("ip", &[&inside[..], &["perl", "-e", flood]].concat());
    ip(&["tuntap", "del", "dev", "gone", "mode", "tun"]);
    ip(&["tuntap", "add", "dev", "stays", "mode", "tun"]);
    recording.signal(Signal::CONT);
    recording.sync();
    let full = "select count(*) from lossinfo where class = 'hardware' and cause = 'socket-full'";
    let lost = recording.count(full);
    let (gone, stays) = (devices(&recording, "gone"), devices(&recording, "stays"));
    assert!(recording.stop().success());
    run("ip", &["netns", "del", &space]);
    assert!(lost >= 1);
    assert_eq!((gone.len(), stays.len()), (1, 1));
    assert_eq!((words(&gone[0], &["ended"]), words(&stays[0], &["ended"])), (vec!["event"], vec!["NULL"]));
}

#[test]
fn what_happened_while_nobody_watched_is_found_at_the_start() {
    let dir = tempfile::tempdir().unwrap();
    let Some(recording) = start(dir.path()) else { return };
    let medium = Loop::attach(dir.path(), "medium");
    let (stays, goes) = (tunnel('g'), tunnel('h'));
    run("ip", &["tuntap", "add", "dev", &stays, "mode", "tun"]);
    run("ip", &["tuntap", "add", "dev", &goes, "mode", "tun"]);
    recording.sync();
    let before = [devices(&recording, &stays), devices(&recording, medium.file.to_str().unwrap())].concat();
    recording.signal(Signal::KILL);
    run("ip", &["tuntap", "del", "dev", &goes, "mode", "tun"]);
    let late = tunnel('i');
    run("ip", &["tuntap", "add", "dev", &late, "mode", "tun"]);
    let recording = recording.again();
    recording.sync();
    let after = [devices(&recording, &stays), devices(&recording, medium.file.to_str().unwrap())].concat();
    let (gone, found) = (devices(&recording, &goes), devices(&recording, &late));
    for name in [&stays, &late] {
        run("ip", &["tuntap", "del", "dev", name, "mode", "tun"]);
    }
    // What was there all the time goes on in its row.
    assert_eq!(before, after);
    assert_eq!(before.len(), 2);
    assert_eq!(words(&gone[0], &["ended"]), ["unseen"]);
    assert_eq!(words(&found[0], &["origin", "userslogged", "ended"]), ["found", "NULL", "NULL"]);
    assert!(recording.stop().success());
}

#[test]
fn an_ordinary_user_sees_devices_too() {
    if !geteuid().is_root() {
        return skip("needs root, to become nobody");
    }
    let dir = tempfile::tempdir().unwrap();
    rustix::fs::chmod(dir.path(), Mode::from_raw_mode(0o777)).unwrap();
    let data = dir.path().join("data");
    fs::create_dir(&data).unwrap();
    let recording = Launch::on(&data).with(&["--sensor", "poll"]).by_user(NOBODY).start();
    let name = tunnel('j');
    run("ip", &["tuntap", "add", "dev", &name, "mode", "tun"]);
    run("ip", &["tuntap", "del", "dev", &name, "mode", "tun"]);
    recording.sync();
    let rows = devices(&recording, &name);
    assert_eq!(rows.len(), 1);
    assert_eq!(words(&rows[0], &["ended"]), ["event"]);
    assert!(recording.stop().success());
}
