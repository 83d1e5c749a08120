//! Interfaces, addresses and routes over time, in a network namespace of the test's own, whose recorder is in it.

#![expect(clippy::unwrap_used, reason = "a step that fails fails the test")]

mod support;

use std::{
    collections::BTreeMap,
    fmt::Write as _,
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

#[test]
fn an_interface_is_told_from_its_making_to_its_end() {
    let Some(namespace) = Namespace::new() else { return };
    // It would add an address of its own a second later.
    namespace.run("sysctl -q net.ipv6.conf.default.addr_gen_mode=1");
    let dir = tempfile::tempdir().unwrap();
    let recording = namespace.recorder(dir.path()).start();
    let coverage = recording.sql("select class, state, sensor, reason from coverageinfo where class in ('interfaces', 'routes') and destroyed is null order by class");
    assert_eq!(
        lines(&coverage, "class state sensor"),
        ["interfaces watched netlink", "routes watched netlink"]
    );
    assert!(coverage.iter().all(|row| row["reason"].as_str().unwrap().contains("not in others")));
    for step in [
        "ip link add one address 02:00:00:00:00:01 type veth peer two",
        "ip link set one name lan",
        "ip address add 10.1.2.3/24 dev lan",
        "ip address add fd00::1/64 dev lan nodad",
        "ip link set lan mtu 1400",
        "ip link set lan up",
        "ip link set lan alias uplink",
        "ip link set two up",
        // The kernel tells of the carrier some time later.
        "",
        "ip address del 10.1.2.3/24 dev lan",
        "ip link add br0 type bridge",
        "ip link set two master br0",
        "ip link set two nomaster",
        "ip link set lan down",
        "ip link del lan",
    ] {
        if step.is_empty() {
            let carrier =
                "select count(*) from netint where interface = 'lan' and carrier = 1 and destroyed is null";
            wait_until(&recording, |recording| recording.count(carrier) == 2);
            continue;
        }
        namespace.run(step);
        recording.sync();
    }
    let rows = recording.sql("select * from netint where ifindex > 1 order by created, netintid");
    let of = |ip: Option<&str>, name: &[&str]| {
        let wanted =
            |row: &&Row| row["ip"].as_str() == ip && name.contains(&row["interface"].as_str().unwrap());
        rows.iter().filter(wanted).cloned().collect::<Vec<_>>()
    };
    let bare = of(None, &["one", "lan"]);
    assert_eq!(
        lines(&bare, "interface kind mac state mtu origin ended"),
        [
            "one veth 02:00:00:00:00:01 down 1500 event changed",
            "lan veth 02:00:00:00:00:01 down 1500 event event",
            // Set down, it has lost its IPv6 address too.
            "lan veth 02:00:00:00:00:01 down 1400 event event",
        ]
    );
    are_one_after_the_other(&bare);
    let ipv4 = of(Some("10.1.2.3"), &["lan"]);
    assert_eq!(
        lines(&ipv4, "prefix scope state carrier mtu alias origin ended"),
        [
            "24 global down 0 1500 event changed",
            "24 global down 0 1400 event changed",
            "24 global up 0 1400 event changed",
            "24 global up 0 1400 uplink event changed",
            "24 global up 1 1400 uplink event event",
        ]
    );
    are_one_after_the_other(&ipv4);
    let ipv6 = of(Some("fd00::1"), &["lan"]);
    assert_eq!(
        lines(&ipv6, "prefix scope state carrier mtu alias ended").last().unwrap(),
        "64 global down 0 1400 uplink event"
    );
    // The bridge.
    assert_eq!(rows.iter().filter(|row| row["destroyed"].is_null()).count(), 1, "{rows:#?}");
    let two = of(None, &["two"]);
    let ports: Vec<_> = two.iter().filter(|row| row["master"] == "br0").collect();
    assert!(!ports.is_empty() && ports.iter().all(|row| row["ended"] == "changed"), "{two:#?}");
    assert_eq!(two.last().unwrap()["ended"], "event");
    assert_eq!(line(of(None, &["br0"]).last().unwrap(), "kind"), "bridge");
    nothing_lost(&recording);
    assert!(recording.stop().success());
}

#[test]
fn routes_are_told_as_they_are_added_replaced_and_deleted() {
    let Some(namespace) = Namespace::new() else { return };
    let dir = tempfile::tempdir().unwrap();
    namespace.batch("-4", "link add one type veth peer two\nlink set one up\nlink set two up\naddress add 10.1.2.3/24 dev one\n");
    namespace.batch("-6", "address add fd00::1/64 dev one nodad\n");
    let recording = namespace.recorder(dir.path()).start();
    namespace.batch(
        "-4",
        "route add 192.0.2.0/24 via 10.1.2.4 metric 7\n\
         route replace 192.0.2.0/24 via 10.1.2.5 metric 7 proto static\n\
         route append 192.0.2.0/24 via 10.1.2.6 metric 7\n\
         route replace 192.0.2.0/24 via 10.1.2.7 metric 7\n\
         route del 192.0.2.0/24 via 10.1.2.6 metric 7\n\
         route add blackhole 198.51.100.0/24\n\
         route add 198.18.0.0/15 src 10.1.2.3 nexthop via 10.1.2.8 weight 3 nexthop via 10.1.2.9\n\
         route add local 203.0.113.0/24 dev lo\n\
         route add default via 10.1.2.1 table 77\n\
         route del default table 77\n",
    );
    namespace.batch(
        "-6",
        "route add 2001:db8:1::/48 nexthop via fd00::4 nexthop via fd00::5\n\
         route append 2001:db8:1::/48 via fd00::6\n\
         route del 2001:db8:1::/48 via fd00::5\n\
         route replace 2001:db8:1::/48 via fd00::7\n\
         route add unreachable 2001:db8:2::/48\n",
    );
    recording.sync();
    let told = |where_: &str| {
        let rows = recording.sql(&format!(
            "select * from netroute where protocol <> 'kernel' and {where_} order by created, gateway, netrouteid"
        ));
        let end = |row: &Row| row["ended"].as_str().unwrap_or("holds").to_owned();
        let columns =
            "destination gateway interface metric routetype protocol scope prefsource weight routetable";
        rows.iter().map(|row| format!("{} {}", line(row, columns), end(row))).collect::<Vec<_>>()
    };
    assert_eq!(
        told("destination not like '%:%'"),
        [
            "192.0.2.0/24 10.1.2.4 one 7 unicast boot global 1 254 event",
            "192.0.2.0/24 10.1.2.5 one 7 unicast static global 1 254 event",
            "192.0.2.0/24 10.1.2.6 one 7 unicast boot global 1 254 event",
            "192.0.2.0/24 10.1.2.7 one 7 unicast boot global 1 254 holds",
            "198.51.100.0/24 blackhole boot global 1 254 holds",
            "198.18.0.0/15 10.1.2.8 one unicast boot global 10.1.2.3 3 254 holds",
            "198.18.0.0/15 10.1.2.9 one unicast boot global 10.1.2.3 1 254 holds",
            "203.0.113.0/24 lo local boot host 1 255 holds",
            "0.0.0.0/0 10.1.2.1 one unicast boot global 1 77 event",
        ]
    );
    assert_eq!(
        told("destination like '%:%'"),
        [
            "2001:db8:1::/48 fd00::4 one 1024 unicast boot global 1 254 event",
            "2001:db8:1::/48 fd00::5 one 1024 unicast boot global 1 254 event",
            "2001:db8:1::/48 fd00::6 one 1024 unicast boot global 1 254 event",
            "2001:db8:1::/48 fd00::7 one 1024 unicast boot global 1 254 holds",
            "2001:db8:2::/48 lo 1024 unreachable boot global 1 254 holds",
        ]
    );
    // What a replaced route was ends when the other begins.
    let replaced = recording.sql("select destroyed from netroute where gateway = '10.1.2.4'");
    let by = recording.sql("select created from netroute where gateway = '10.1.2.5'");
    assert_eq!(replaced[0]["destroyed"], by[0]["created"]);
    // What the kernel made by itself of each address stands in netint.
    assert_eq!(
        recording.count("select count(*) from netroute where routetable = 255 and protocol = 'kernel'"),
        0
    );

    // IPv4 says nothing of the routes of an interface that goes down.
    namespace.run("ip link set one down");
    recording.sync();
    let left =
        recording.sql("select destination from netroute where destroyed is null and interface = 'one'");
    assert_eq!(left, Vec::<Row>::new());
    assert_eq!(recording.count("select count(*) from netroute where destroyed is null and routetype in ('blackhole', 'unreachable', 'local')"), 3);

    // Nor of those that lead to a next hop object that is deleted.
    namespace.batch(
        "-4",
        "link set one up\nnexthop add id 9 via 10.1.2.2 dev one\nroute add 192.0.2.0/24 nhid 9\n",
    );
    recording.sync();
    let through = "select count(*) from netroute where destination = '192.0.2.0/24' and destroyed is null and gateway = '10.1.2.2'";
    assert_eq!(recording.count(through), 1);
    namespace.run("ip nexthop del id 9");
    recording.sync();
    assert_eq!(recording.count(through), 0);

    // A route's interface is renamed under it.
    namespace.batch("-4", "route add 192.0.2.0/24 dev one\nlink set two down\nlink set one down\n");
    namespace.batch("-4", "link set one up\nroute add 192.0.2.0/25 dev one\n");
    recording.sync();
    let before =
        recording.count("select count(*) from netroute where interface = 'one' and destroyed is null");
    namespace.run("ip link set one down");
    namespace.run("ip link set one name other");
    recording.sync();
    assert!(before > 0);
    assert_eq!(
        recording.count("select count(*) from netroute where interface = 'one' and destroyed is null"),
        0
    );
    nothing_lost(&recording);
    assert!(recording.stop().success());
}

/// What a batch of `ip` did to the routes.
#[derive(Default)]
struct Done {
    /// The gateways that each destination had, one after the other.
    begun: BTreeMap<String, Vec<String>>,
    /// The gateway of those that are still there.
    holding: BTreeMap<String, String>,
}

impl Done {
    fn set(&mut self, script: &mut String, verb: &str, destination: String, gateway: String) {
        writeln!(script, "route {verb} {destination} via {gateway}").unwrap();
        self.begun.entry(destination.clone()).or_default().push(gateway.clone());
        self.holding.insert(destination, gateway);
    }

    fn delete(&mut self, script: &mut String, destination: &str) {
        writeln!(script, "route del {destination}").unwrap();
        self.holding.remove(destination).unwrap();
    }
}

#[test]
fn ten_thousand_changes_of_routes_are_told_one_by_one() {
    let Some(namespace) = Namespace::new() else { return };
    let dir = tempfile::tempdir().unwrap();
    namespace.batch("-4", "link add one type veth peer two\nlink set one up\nlink set two up\naddress add 10.1.0.1/16 dev one\n");
    namespace.batch("-6", "address add fd00::1/64 dev one nodad\n");
    let recording = namespace.recorder(dir.path()).start();
    let mut expected = Done::default();
    for (family, count) in [("-4", 5000), ("-6", 5000)] {
        let mut script = String::new();
        let v4 = family == "-4";
        let destination = |n: usize| {
            if v4 { format!("172.16.{}.0/24", n % 100) } else { format!("2001:db8:{:x}::/48", n % 100 + 1) }
        };
        let gateway =
            |n: usize| if v4 { format!("10.1.{}.9", n % 200) } else { format!("fd00::{:x}", n % 200 + 9) };
        // A flap: each destination comes, moves to other gateways, goes, and comes again.
        for n in 0..count {
            match (n / 100) % 4 {
                0 => expected.set(&mut script, "add", destination(n), gateway(n)),
                1 | 2 => expected.set(&mut script, "replace", destination(n), gateway(n * 7 + n / 100)),
                _ => expected.delete(&mut script, &destination(n)),
            }
        }
        namespace.batch(family, &script);
    }
    recording.sync();
    let rows = recording.sql("select destination, gateway, ended, created, destroyed, netrouteid from netroute where protocol = 'boot' order by netrouteid");
    let mut begun: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut holding = BTreeMap::new();
    for row in &rows {
        let (destination, gateway) = (line(row, "destination"), line(row, "gateway"));
        begun.entry(destination.clone()).or_default().push(gateway.clone());
        if row["destroyed"].is_null() {
            assert!(holding.insert(destination, gateway).is_none(), "{row:?} twice");
        } else {
            assert_eq!(row["ended"], "event");
            assert!(row["created"].as_str() <= row["destroyed"].as_str());
        }
    }
    assert_eq!(begun, expected.begun);
    assert_eq!(holding, expected.holding);
    // At no time two for one destination.
    let overlapping = "select count(*) from netroute a join netroute b on a.destination = b.destination and a.netrouteid < b.netrouteid \
                       where a.protocol = 'boot' and b.protocol = 'boot' and (a.destroyed is null or a.destroyed > b.created)";
    assert_eq!(recording.count(overlapping), 0);
    nothing_lost(&recording);
    assert!(recording.stop().success());
}

#[test]
fn after_a_kill_nothing_is_doubled_and_what_changed_meanwhile_ended_unseen() {
    let Some(namespace) = Namespace::new() else { return };
    namespace.run("sysctl -q net.ipv6.conf.default.addr_gen_mode=1");
    let dir = tempfile::tempdir().unwrap();
    namespace.batch(
        "-4",
        "link add one type veth peer two\nlink add gone type veth peer also\nlink set one up\nlink set two up\n\
         address add 10.1.2.3/24 dev one\naddress add 10.9.9.9/24 dev one\n\
         route add 192.0.2.0/24 via 10.1.2.4\nroute add 198.51.100.0/24 via 10.1.2.4\nroute add blackhole 203.0.113.0/24\n",
    );
    namespace.batch("-6", "address add fd00::1/64 dev one nodad\n");
    let recording = namespace.recorder(dir.path()).start();
    recording.sync();
    let open = |recording: &Recording, table: &str, key: &str| {
        lines(
            &recording.sql(&format!("select {key} from {table} where destroyed is null order by {key}")),
            key,
        )
    };
    let interfaces = open(&recording, "netint", "netintid");
    let routes = open(&recording, "netroute", "netrouteid");
    assert!(interfaces.len() >= 7 && routes.len() >= 5, "{interfaces:?} {routes:?}");
    recording.kill();

    // Nothing happens: each row goes on.
    let recording = namespace.recorder(dir.path()).start();
    recording.sync();
    assert_eq!(open(&recording, "netint", "netintid"), interfaces);
    assert_eq!(open(&recording, "netroute", "netrouteid"), routes);
    assert_eq!(recording.count("select count(*) from netint") as usize, interfaces.len());
    assert_eq!(recording.count("select count(*) from netroute") as usize, routes.len());
    recording.kill();

    // Something happens, and nobody watches.
    namespace.batch(
        "-4",
        "link del gone\naddress del 10.9.9.9/24 dev one\nlink set one mtu 1300\n\
         route replace 192.0.2.0/24 via 10.1.2.5\nroute del 198.51.100.0/24\nroute add 198.18.0.0/15 via 10.1.2.4\n",
    );
    let recording = namespace.recorder(dir.path()).start();
    // And again somebody does.
    namespace.run("ip route del blackhole 203.0.113.0/24");
    recording.sync();
    let told = lines(
        &recording.sql("select * from netroute where protocol = 'boot' order by destination, netrouteid"),
        "destination gateway origin ended",
    );
    assert_eq!(
        told,
        [
            "192.0.2.0/24 10.1.2.4 found unseen",
            "192.0.2.0/24 10.1.2.5 found",
            "198.18.0.0/15 10.1.2.4 found",
            "198.51.100.0/24 10.1.2.4 found unseen",
            "203.0.113.0/24 found event",
        ]
    );
    let told = |where_: &str| {
        lines(
            &recording.sql(&format!("select * from netint where {where_} order by netintid")),
            "interface ip mtu ended",
        )
    };
    assert_eq!(told("interface = 'gone'"), ["gone 1500 unseen"]);
    assert_eq!(told("ip = '10.9.9.9'"), ["one 10.9.9.9 1500 unseen"]);
    assert_eq!(told("ip = '10.1.2.3'"), ["one 10.1.2.3 1500 unseen", "one 10.1.2.3 1300"]);
    nothing_lost(&recording);
    assert!(recording.stop().success());
}

#[test]
fn what_overflows_the_socket_is_counted_and_looked_up() {
    let Some(namespace) = Namespace::new() else { return };
    // It would add addresses of its own meanwhile, which would be lost and counted too.
    namespace.run("sysctl -q net.ipv6.conf.default.addr_gen_mode=1");
    let dir = tempfile::tempdir().unwrap();
    namespace.batch("-4", "link add one type veth peer two\nlink set one up\nlink set two up\naddress add 10.1.2.3/24 dev one\n");
    let recording = namespace.recorder(dir.path()).start();
    // It is stopped while more is told than the socket holds.
    recording.signal(rustix::process::Signal::STOP);
    let mut script = String::new();
    for _ in 0..200 {
        for verb in ["add", "del"] {
            for n in 0..256 {
                writeln!(script, "route {verb} 172.16.{n}.0/24 via 10.1.2.4").unwrap();
            }
        }
    }
    script.push_str("route add 192.0.2.0/24 via 10.1.2.4\n");
    namespace.batch("-4", &script);
    recording.signal(rustix::process::Signal::CONT);
    recording.sync();
    let losses = recording
        .sql("select class, cause, count from lossinfo where class not like '%-digest' order by class");
    assert_eq!(lines(&losses, "class cause"), ["interfaces socket-full", "routes socket-full"]);
    let lost = losses[1]["count"].as_i64().unwrap();
    // The last change was one of those that were lost: what it did was looked up.
    let told = recording.count(
        "select sum(origin = 'event') + sum(ended = 'event') from netroute where destination like '172.16.%'",
    );
    assert_eq!(told + lost, 200 * 2 * 256 + 1);
    let holding = recording
        .sql("select destination, origin from netroute where destroyed is null and protocol = 'boot'");
    assert_eq!(lines(&holding, "destination origin"), ["192.0.2.0/24 found"]);
    assert!(recording.stop().success());
}

#[test]
fn killed_in_a_storm_it_finds_the_routes_as_they_are() {
    let Some(namespace) = Namespace::new() else { return };
    let dir = tempfile::tempdir().unwrap();
    namespace.batch("-4", "link add one type veth peer two\nlink set one up\nlink set two up\naddress add 10.1.2.3/24 dev one\n");
    let mut script = String::new();
    for round in 0..40 {
        for n in 0..256 {
            writeln!(script, "route replace 172.16.{n}.0/24 via 10.1.2.{}", 4 + (round + n) % 200).unwrap();
        }
        for n in (round % 3..256).step_by(3) {
            writeln!(script, "route del 172.16.{n}.0/24").unwrap();
        }
    }
    std::thread::scope(|scope| {
        let storm = scope.spawn(|| namespace.batch("-4", &script));
        let mut kills = 0;
        while !storm.is_finished() {
            let recording = namespace.recorder(dir.path()).start();
            recording.sync();
            recording.kill();
            kills += 1;
        }
        assert!(kills > 0);
    });
    let recording = namespace.recorder(dir.path()).start();
    recording.sync();
    let holding = recording.sql("select destination, gateway from netroute where destroyed is null and protocol = 'boot' order by destination");
    let listed = Command::new("nsenter")
        .args([&namespace.path, "--", "ip", "route", "show", "proto", "boot"])
        .output()
        .unwrap();
    let listed = String::from_utf8(listed.stdout).unwrap();
    let mut expected: Vec<String> = listed
        .lines()
        .map(|line| {
            let words: Vec<&str> = line.split_whitespace().collect();
            format!("{} {}", words[0], words[2])
        })
        .collect();
    expected.sort();
    assert_eq!(lines(&holding, "destination gateway"), expected);
    assert!(expected.len() > 100);
    // At no time two for one destination, as far as it was seen.
    let overlapping = "select count(*) from netroute a join netroute b on a.destination = b.destination and a.netrouteid < b.netrouteid \
                       where a.protocol = 'boot' and b.protocol = 'boot' and a.ended is not 'unseen' and (a.destroyed is null or a.destroyed > b.created)";
    assert_eq!(recording.count(overlapping), 0);
    assert!(recording.stop().success());
}

/// What `ip` lists as JSON.
fn listed(namespace: &Namespace, arguments: &str) -> Vec<serde_json::Value> {
    let words = arguments.split_whitespace();
    let output =
        Command::new("nsenter").args([&namespace.path, "--", "ip", "-json"]).args(words).output().unwrap();
    serde_json::from_slice(&output.stdout).unwrap()
}

/// The routes that `ip` lists, one for each next hop, without those that the kernel keeps in the table `local`.
fn listed_routes(namespace: &Namespace) -> Vec<String> {
    let mut lines = Vec::new();
    for (family, any, longest) in [("-4", "0.0.0.0/0", "/32"), ("-6", "::/0", "/128")] {
        for route in listed(namespace, &format!("{family} route show table all")) {
            let text = |value: &serde_json::Value| value.as_str().unwrap_or("-").to_owned();
            let or = |value: &serde_json::Value, other: &str| value.as_str().unwrap_or(other).to_owned();
            let table = or(&route["table"], "254").replace("local", "255");
            if table == "255" && route["protocol"] == "kernel" {
                continue;
            }
            let destination = match route["dst"].as_str().unwrap() {
                "default" => any.to_owned(),
                host if !host.contains('/') => format!("{host}{longest}"),
                network => network.to_owned(),
            };
            let alone = vec![route.clone()];
            for hop in route["nexthops"].as_array().unwrap_or(&alone) {
                let (gateway, dev) = (text(&hop["gateway"]), text(&hop["dev"]));
                let (kind, protocol) = (or(&route["type"], "unicast"), or(&route["protocol"], "boot"));
                let metric = route["metric"].as_i64().unwrap_or(0);
                lines.push(format!("{destination} {gateway} {dev} {metric} {table} {kind} {protocol}"));
            }
        }
    }
    lines.sort();
    lines
}

#[test]
fn whatever_is_done_in_the_end_it_knows_what_is_there() {
    let Some(namespace) = Namespace::new() else { return };
    namespace.run("sysctl -q net.ipv6.conf.default.addr_gen_mode=1");
    let dir = tempfile::tempdir().unwrap();
    let recording = namespace.recorder(dir.path()).start();
    // Numbers that look like chance and are the same each time.
    let mut state = 1u64;
    let mut chance = |below: u64| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % below
    };
    let mut routes = 0;
    for round in 0..12 {
        let (mut v4, mut v6) = (String::new(), String::new());
        for link in ["east", "west"] {
            writeln!(v4, "link add {link} type veth peer {link}2\nlink set {link}2 up\nlink set {link} up")
                .unwrap();
            writeln!(v4, "address add 10.1.{}.1/24 dev {link}", chance(3)).unwrap();
            writeln!(v6, "address add fd00:{}::1/64 dev {link} nodad", chance(3)).unwrap();
        }
        for _ in 0..60 {
            let (to, table, metric) = (chance(6), 254 - chance(2) * 100, chance(2) * 10 + 5);
            let verb = ["add", "append", "replace", "prepend", "del", "change"][chance(6) as usize];
            let hop = |prefix: &str, n: u64, host: u64| {
                format!("via {prefix}{n}{}{host}", if prefix == "10.1." { "." } else { "::" })
            };
            let what = chance(10);
            for (script, network, prefix) in [(&mut v4, "172.16.", "10.1."), (&mut v6, "2001:db8:", "fd00:")]
            {
                let destination = if prefix == "10.1." {
                    format!("{network}{to}.0/24")
                } else {
                    format!("{network}{to}::/48")
                };
                let way = match what {
                    0 => {
                        format!("nexthop {} nexthop {}", hop(prefix, to % 3, 7), hop(prefix, (to + 1) % 3, 8))
                    }
                    1 => "dev east".to_owned(),
                    2 => "dev west".to_owned(),
                    n => hop(prefix, n % 3, n),
                };
                let kind = if what == 3 { "blackhole" } else { "" };
                let way = if what == 3 { String::new() } else { way };
                writeln!(script, "route {verb} {kind} {destination} {way} metric {metric} table {table}")
                    .unwrap();
            }
            match chance(12) {
                0 => writeln!(v4, "link set east down\nlink set east up").unwrap(),
                1 => writeln!(v4, "link set west down").unwrap(),
                2 => writeln!(v4, "link set west up").unwrap(),
                3 => writeln!(v4, "address del 10.1.1.1/24 dev east").unwrap(),
                4 => writeln!(v4, "address add 10.1.1.1/24 dev east").unwrap(),
                5 => writeln!(v6, "address del fd00:1::1/64 dev west").unwrap(),
                _ => {}
            }
        }
        if round % 3 == 2 {
            writeln!(v4, "link del east").unwrap();
        }
        // What makes no sense at that moment is refused.
        namespace.try_batch("-4", &v4);
        namespace.try_batch("-6", &v6);
        recording.sync();
        let open = recording.sql("select destination, coalesce(gateway, '-') as via, coalesce(interface, '-') as dev, coalesce(metric, 0) as metric, \
                                  routetable, routetype, protocol from netroute where destroyed is null");
        let mut open = lines(&open, "destination via dev metric routetable routetype protocol");
        open.sort();
        assert_eq!(open, listed_routes(&namespace), "round {round}");
        routes += open.len();
        let mut addresses = Vec::new();
        for link in listed(&namespace, "address show") {
            for address in link["addr_info"].as_array().unwrap() {
                let words = [&link["ifname"], &address["local"], &address["prefixlen"]];
                addresses.push(words.map(ToString::to_string).join(" ").replace('"', ""));
            }
        }
        addresses.sort();
        let known = recording
            .sql("select interface, ip, prefix from netint where destroyed is null and ip is not null");
        let mut known = lines(&known, "interface ip prefix");
        known.sort();
        assert_eq!(known, addresses, "round {round}");
    }
    assert!(routes > 100, "only {routes} routes were compared");
    nothing_lost(&recording);
    assert!(recording.stop().success());
}
