//! What is true of the host for a time, over changes, restarts and boots.

use luarm_recorder::{Recorder, Setup};
use luarm_schema::{CONDITIONS, Row, tables::*};
use luarm_sensor::{
    BootNs, Observation,
    condition::{Condition, ConditionKind, Fact, Interface, InterfaceAddress, Route},
    observation::*,
};

use crate::scene::{BOOT, Memory, Passwd, SECOND, host, record, recorder, start, wall};

pub(crate) fn address(ip: &str) -> InterfaceAddress {
    InterfaceAddress { ip: ip.parse().unwrap(), prefix: 24, peer: None, scope: 0 }
}

pub(crate) fn interface() -> Interface {
    Interface {
        index: 2,
        name: b"eth0".to_vec(),
        kind: b"ether".to_vec(),
        mac: vec![2, 0, 0, 0, 0, 0xaf],
        alias: None,
        master: None,
        mtu: 1500,
        up: true,
        carrier: true,
        carrier_changes: 2,
        promiscuous: false,
        address: Some(address("10.0.0.1")),
    }
}

pub(crate) fn route(destination: &str) -> Route {
    Route {
        table: 254,
        destination: (destination.parse().unwrap(), 24),
        source: None,
        tos: 0,
        metric: 100,
        kind: 1,
        protocol: 16,
        scope: 0,
        preferred: None,
        gateway: Some("10.0.0.254".parse().unwrap()),
        index: Some(2),
        interface: Some(b"eth0".to_vec()),
        weight: 1,
    }
}

pub(crate) fn begun(at: BootNs, condition: Condition) -> Observation {
    Observation::Condition { at, condition: Box::new(condition), origin: Origin::Event }
}

pub(crate) fn ended(at: BootNs, condition: Condition) -> Observation {
    Observation::ConditionEnd { at, condition: Box::new(condition) }
}

fn found(at: BootNs, condition: Condition) -> Observation {
    Observation::Condition { at, condition: Box::new(condition), origin: Origin::Found }
}

fn is(interface: Interface) -> Condition {
    Condition::Interface(interface)
}

/// A row in few words.
fn line(row: &NetInt) -> String {
    let end = row.end.as_ref().map_or("holds".to_owned(), |end| {
        format!("{}@{}", end.ended, (end.destroyed.0 - wall(0).0) / 1_000_000)
    });
    format!(
        "{} {:?} {} {}@{} {end}",
        row.interface,
        row.ip,
        row.state,
        row.origin,
        (row.created.0 - wall(0).0) / 1_000_000
    )
}

fn lines(memory: &Memory) -> Vec<String> {
    memory.netint().into_iter().map(line).collect()
}

#[test]
fn what_changes_ends_a_row_and_begins_the_next() {
    let down = Interface { up: false, ..interface() };
    let renamed = Interface { name: b"lan\xff".to_vec(), ..down.clone() };
    let memory = record(
        recorder(),
        [
            begun(SECOND, is(interface())),
            begun(2 * SECOND, is(interface())),
            begun(3 * SECOND, is(down)),
            begun(4 * SECOND, is(renamed.clone())),
            ended(5 * SECOND, is(renamed)),
        ],
    );
    assert_eq!(
        lines(&memory),
        [
            r#"eth0 Some("10.0.0.1") up event@1 changed@3"#,
            r#"eth0 Some("10.0.0.1") down event@3 changed@4"#,
            r#"lan\xff Some("10.0.0.1") down event@4 event@5"#,
        ]
    );
}

#[test]
fn every_value_of_an_interface_has_its_column() {
    let bare = Interface { address: None, mac: Vec::new(), carrier: false, ..interface() };
    let point_to_point =
        InterfaceAddress { peer: Some("10.9.9.9".parse().unwrap()), scope: 253, ..address("10.0.0.1") };
    let port = Interface {
        master: Some(b"br0".to_vec()),
        alias: Some(b"to the \"attic\"".to_vec()),
        promiscuous: true,
        address: Some(point_to_point),
        ..interface()
    };
    let memory = record(recorder(), [begun(SECOND, is(bare)), begun(SECOND, is(port))]);
    let [bare, port] = memory.netint()[..] else { panic!() };
    assert_eq!((&bare.mac, &bare.ip, bare.prefix, &bare.scope, bare.carrier), (&None, &None, None, &None, 0));
    assert_eq!((port.ifindex, &*port.kind, port.mac.as_deref()), (2, "ether", Some("02:00:00:00:00:af")));
    assert_eq!(
        (port.peer.as_deref(), port.scope.as_deref(), port.prefix),
        (Some("10.9.9.9"), Some("link"), Some(24))
    );
    assert_eq!((port.master.as_deref(), port.alias.as_deref()), (Some("br0"), Some("to the \"attic\"")));
    assert_eq!((port.mtu, port.carrier, port.carrierchanges, port.promiscuous), (1500, 1, 2, 1));
}

#[test]
fn every_value_of_a_route_has_its_column() {
    let route = Route {
        source: Some(("2001:db8:1::".parse().unwrap(), 48)),
        preferred: Some("2001:db8::5".parse().unwrap()),
        metric: 0,
        kind: 6,
        protocol: 99,
        scope: 254,
        gateway: None,
        index: None,
        interface: None,
        tos: 16,
        weight: 256,
        ..route("2001:db8::")
    };
    let memory = record(recorder(), [begun(SECOND, Condition::Route(route))]);
    let [row] = memory.netroute()[..] else { panic!() };
    assert_eq!((&*row.destination, row.source.as_deref()), ("2001:db8::/24", Some("2001:db8:1::/48")));
    assert_eq!((&*row.routetype, &*row.protocol, &*row.scope), ("blackhole", "99", "host"));
    assert_eq!((row.metric, row.tos, row.weight, row.routetable), (None, 16, 256, 254));
    assert_eq!(
        (&row.gateway, &row.interface, row.ifindex, row.prefsource.as_deref()),
        (&None, &None, None, Some("2001:db8::5"))
    );
}

fn facts(memory: &Memory) -> Vec<String> {
    let line = |row: &FactInfo| {
        let end = row.end.as_ref().map_or(String::new(), |end| format!(" {}", end.ended));
        format!("{} {} {}{end}", row.fact, row.value, row.origin)
    };
    memory.factinfo().into_iter().map(line).collect()
}

#[test]
fn facts_of_the_host_change_within_a_boot_and_so_does_the_version_that_records() {
    let fact = |name, value: &str| Condition::Fact(Fact { name, value: value.to_owned() });
    let mut memory = Memory::default();
    let mut recorder = recorder();
    for observation in [
        found(SECOND, fact("hostname", "penguin")),
        found(SECOND, fact("timezone", "Europe/London")),
        complete(ConditionKind::Fact),
        begun(2 * SECOND, fact("hostname", "pwned'; --")),
        ended(3 * SECOND, fact("timezone", "Europe/London")),
    ] {
        recorder.observe(observation);
    }
    memory.append(recorder.stop(4 * SECOND));
    let mut recorder = Recorder::new(Setup {
        resume: memory.resume(),
        host: host(),
        run: wall(60 * SECOND),
        version: "0.2.0",
        users: Box::new(Passwd),
        clock_offset: BOOT,
        hosts_file: None,
        own: None,
    });
    recorder.observe(found(60 * SECOND, fact("hostname", "pwned'; --")));
    recorder.observe(complete(ConditionKind::Fact));
    memory.append(recorder.stop(61 * SECOND));
    assert_eq!(
        facts(&memory),
        [
            "agentversion 0.1.0 found unseen",
            "hostname penguin found changed",
            "timezone Europe/London found event",
            "hostname pwned'; -- event",
            "agentversion 0.2.0 found",
        ]
    );
    let [boot] = memory.hostinfo()[..] else { panic!("one row per boot") };
    assert_eq!(
        (&*boot.hostname, &*boot.agentversion, boot.cmdline.as_deref()),
        ("penguin", "0.1.0", Some("quiet"))
    );
}

/// A first run that leaves an interface with two addresses, and two routes.
fn first_run() -> Memory {
    let mut memory = Memory::default();
    let mut recorder = recorder();
    for condition in [
        is(interface()),
        is(Interface { address: Some(address("fe80::1")), ..interface() }),
        Condition::Route(route("192.0.2.0")),
        Condition::Route(route("198.51.100.0")),
    ] {
        recorder.observe(begun(SECOND, condition));
    }
    memory.append(recorder.flush(2 * SECOND).unwrap());
    memory
}

fn complete(kind: ConditionKind) -> Observation {
    Observation::Complete(Inventory::Conditions(kind))
}

#[test]
fn what_holds_over_a_restart_keeps_its_row_and_the_rest_ended_unseen() {
    let mut memory = first_run();
    let mut recorder = start(memory.resume(), host(), 60 * SECOND);
    for observation in [
        found(60 * SECOND, is(interface())),
        complete(ConditionKind::Interface),
        found(60 * SECOND, Condition::Route(Route { weight: 7, ..route("192.0.2.0") })),
        found(60 * SECOND, Condition::Route(route("198.51.100.0"))),
        complete(ConditionKind::Route),
        ended(61 * SECOND, Condition::Route(route("198.51.100.0"))),
    ] {
        recorder.observe(observation);
    }
    memory.append(recorder.stop(62 * SECOND));
    assert_eq!(
        lines(&memory),
        [r#"eth0 Some("10.0.0.1") up event@1 holds"#, r#"eth0 Some("fe80::1") up event@1 unseen@60"#,]
    );
    let routes: Vec<_> = memory
        .netroute()
        .into_iter()
        .map(|row| (&*row.destination, row.weight, &*row.origin, row.end.as_ref().map(|end| &*end.ended)))
        .collect();
    assert_eq!(
        routes,
        [
            ("192.0.2.0/24", 1, "event", Some("unseen")),
            ("198.51.100.0/24", 1, "event", Some("event")),
            ("192.0.2.0/24", 7, "found", None),
        ]
    );
}

#[test]
fn a_new_boot_ends_every_condition_and_none_before_it_began() {
    let mut memory = first_run();
    let tables: Vec<_> = memory.conditions().iter().map(|row| row.table().name).collect();
    for table in [FactInfo::TABLE, NetInt::TABLE, NetRoute::TABLE] {
        assert!(tables.contains(&table.name) && CONDITIONS.iter().any(|known| known.name == table.name));
    }
    let mut host = host();
    host.boot_id = "second boot".into();
    // The wall clock was set back: this boot seems to have begun before the conditions did.
    let mut recorder = start(memory.resume(), host, SECOND);
    recorder.observe(found(SECOND, is(interface())));
    memory.append(recorder.stop(2 * SECOND));
    let [version, again] = &memory.conditions()[..] else { panic!("{:?}", memory.conditions()) };
    assert!(matches!(version, Row::FactInfo(row) if row.fact == "agentversion"));
    assert!(matches!(again, Row::NetInt(row) if row.origin == "found"));
    assert_eq!(facts(&memory), ["agentversion 0.1.0 found boot", "agentversion 0.1.0 found"]);
    for row in memory.netint().into_iter().filter(|row| row.origin != "found") {
        let end = row.end.as_ref().unwrap();
        assert_eq!((&*end.ended, end.destroyed), ("boot", row.created));
    }
    assert!(memory.netroute().iter().all(|row| row.end.as_ref().is_some_and(|end| end.ended == "boot")));
}
