//! Interfaces with their addresses.

use super::{Namespace, Row, are_one_after_the_other, line, lines, nothing_lost, wait_until};

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
