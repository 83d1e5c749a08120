//! More than the socket holds, and whatever comes.

use std::{fmt::Write as _, process::Command};

use super::{Namespace, lines, nothing_lost};

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
