//! What changed while nothing watched.

use std::{fmt::Write as _, process::Command};

use super::{Namespace, Recording, lines, nothing_lost};

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
