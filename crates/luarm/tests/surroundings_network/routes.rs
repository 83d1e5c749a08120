//! Routes, and many changes of them.

use std::{collections::BTreeMap, fmt::Write as _};

use super::{Namespace, Row, line, nothing_lost};

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
