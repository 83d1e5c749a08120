use netlink_packet_core::{NLM_F_APPEND, NLM_F_REPLACE, NetlinkHeader, NetlinkMessage, NetlinkPayload};
use netlink_packet_route::{
    RouteNetlinkMessage,
    address::{AddressAttribute, AddressMessage},
    link::{InfoKind, LinkAttribute, LinkInfo, LinkMessage},
    route::{
        RouteAddress, RouteAttribute, RouteMessage, RouteNextHop, RouteProtocol, RouteScope, RouteType,
        RouteVia,
    },
};
use proptest::prelude::*;

use super::*;

/// A message as the kernel would write it, by a writer that is not ours.
fn written(message: RouteNetlinkMessage, flags: u16) -> Vec<u8> {
    let mut header = NetlinkHeader::default();
    header.flags = flags;
    header.sequence_number = 7;
    let mut message = NetlinkMessage::new(header, NetlinkPayload::InnerMessage(message));
    message.finalize();
    let mut bytes = vec![0; message.buffer_len()];
    message.serialize(&mut bytes);
    bytes
}

fn read(bytes: &[u8]) -> Vec<Message> {
    datagram(bytes).map(|received| received.message.unwrap()).collect()
}

fn address_of(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn route_address(text: &str) -> RouteAddress {
    match address_of(text) {
        IpAddr::V4(ip) => RouteAddress::Inet(ip),
        IpAddr::V6(ip) => RouteAddress::Inet6(ip),
    }
}

fn a_link() -> LinkMessage {
    let mut link = LinkMessage::default();
    link.header.index = 5;
    link.header.link_layer_type = LinkLayerType::Ether;
    link.header.flags = LinkFlags::Up | LinkFlags::LowerUp;
    link.attributes = vec![
        LinkAttribute::IfName("veth0".to_owned()),
        LinkAttribute::Mtu(1400),
        LinkAttribute::Address(vec![2, 0, 0, 0, 0, 9]),
        LinkAttribute::Controller(3),
        LinkAttribute::IfAlias("uplink".to_owned()),
        LinkAttribute::Promiscuity(1),
        LinkAttribute::CarrierChanges(4),
        LinkAttribute::LinkInfo(vec![LinkInfo::Kind(InfoKind::Veth)]),
    ];
    link
}

fn a_route() -> RouteMessage {
    let mut route = RouteMessage::default();
    route.header.address_family = AddressFamily::Inet;
    route.header.destination_prefix_length = 24;
    route.header.table = 254;
    route.header.protocol = RouteProtocol::Static;
    route.header.scope = RouteScope::Universe;
    route.header.kind = RouteType::Unicast;
    route.attributes = vec![
        RouteAttribute::Destination(route_address("192.0.2.0")),
        RouteAttribute::Table(1000),
        RouteAttribute::Priority(50),
        RouteAttribute::PrefSource(route_address("10.0.0.1")),
        RouteAttribute::Gateway(route_address("10.0.0.254")),
        RouteAttribute::Oif(5),
    ];
    route
}

#[test]
fn an_interface_is_read() {
    let expected = Link {
        name: b"veth0".to_vec(),
        kind: b"veth".to_vec(),
        mac: vec![2, 0, 0, 0, 0, 9],
        alias: Some(b"uplink".to_vec()),
        master: Some(3),
        mtu: 1400,
        up: true,
        carrier: true,
        carrier_changes: 4,
        promiscuous: true,
    };
    assert_eq!(
        read(&written(RouteNetlinkMessage::NewLink(a_link()), 0)),
        [Message::Link(5, expected.clone())]
    );
    let mut plain = a_link();
    plain.attributes.pop();
    let [Message::Link(5, link)] = &read(&written(RouteNetlinkMessage::NewLink(plain), 0))[..] else {
        panic!()
    };
    assert_eq!(*link, Link { kind: b"ether".to_vec(), ..expected });
    assert_eq!(read(&written(RouteNetlinkMessage::DelLink(a_link()), 0)), [Message::LinkGone(5)]);
}

#[test]
fn a_name_may_be_any_bytes() {
    let mut bytes = written(RouteNetlinkMessage::NewLink(a_link()), 0);
    let name = bytes.windows(5).position(|window| window == b"veth0").unwrap();
    bytes[name..name + 5].copy_from_slice(b"\xff'\n\\\x01");
    let [Message::Link(5, link)] = &read(&bytes)[..] else { panic!() };
    assert_eq!(link.name, b"\xff'\n\\\x01");
}

#[test]
fn a_port_that_leaves_its_bridge_is_no_interface_that_is_gone() {
    let mut link = a_link();
    link.header.interface_family = AddressFamily::Bridge;
    link.attributes.truncate(2);
    assert_eq!(read(&written(RouteNetlinkMessage::DelLink(link), 0)), [Message::Other]);
}

#[test]
fn a_message_about_something_else_of_an_interface_is_passed_over() {
    let mut link = a_link();
    link.attributes.truncate(1);
    assert_eq!(read(&written(RouteNetlinkMessage::NewLink(link), 0)), [Message::Other]);
}

#[test]
fn the_local_address_is_the_one_and_the_other_the_peers() {
    let mut message = AddressMessage::default();
    message.header.family = AddressFamily::Inet;
    message.header.prefix_len = 32;
    message.header.index = 5;
    message.attributes = vec![
        AddressAttribute::Address(address_of("10.0.0.2")),
        AddressAttribute::Local(address_of("10.0.0.1")),
    ];
    let mut expected = InterfaceAddress {
        ip: address_of("10.0.0.1"),
        prefix: 32,
        peer: Some(address_of("10.0.0.2")),
        scope: 0,
    };
    let bytes = written(RouteNetlinkMessage::NewAddress(message.clone()), 0);
    assert_eq!(read(&bytes), [Message::Address(5, expected)]);
    message.header.family = AddressFamily::Inet6;
    message.attributes = vec![AddressAttribute::Address(address_of("fe80::1"))];
    expected = InterfaceAddress { ip: address_of("fe80::1"), prefix: 32, peer: None, scope: 0 };
    let bytes = written(RouteNetlinkMessage::DelAddress(message), 0);
    assert_eq!(read(&bytes), [Message::AddressGone(5, expected)]);
}

#[test]
fn a_route_is_read_with_its_place_among_others() {
    let group =
        Group { table: 1000, destination: (address_of("192.0.2.0"), 24), source: None, tos: 0, metric: 50 };
    let hop = Hop { gateway: Some(address_of("10.0.0.254")), index: Some(5), weight: 1 };
    let entry =
        Entry { kind: 1, protocol: 4, scope: 0, preferred: Some(address_of("10.0.0.1")), hops: vec![hop] };
    let flags = [(0, Place::First), (NLM_F_APPEND, Place::Last), (NLM_F_REPLACE, Place::Replaces)];
    for (flags, place) in flags {
        let bytes = written(RouteNetlinkMessage::NewRoute(a_route()), flags);
        assert_eq!(read(&bytes), [Message::Route(group.clone(), entry.clone(), place)]);
    }
    let bytes = written(RouteNetlinkMessage::DelRoute(a_route()), 0);
    assert_eq!(read(&bytes), [Message::RouteGone(group, entry)]);
}

#[test]
fn every_next_hop_is_read() {
    let mut route = a_route();
    route.attributes.truncate(1);
    let hop = |index, weight, attributes| {
        let mut hop = RouteNextHop::default();
        (hop.interface_index, hop.hops, hop.attributes) = (index, weight, attributes);
        hop
    };
    route.attributes.push(RouteAttribute::MultiPath(vec![
        hop(5, 0, vec![RouteAttribute::Gateway(route_address("10.0.0.254"))]),
        hop(6, 255, vec![RouteAttribute::Via(RouteVia::Inet6("fe80::9".parse().unwrap()))]),
        hop(7, 1, vec![]),
    ]));
    let bytes = written(RouteNetlinkMessage::NewRoute(route), 0);
    let [Message::Route(group, entry, _)] = &read(&bytes)[..] else { panic!() };
    assert_eq!(group.table, 254);
    let hops = [("10.0.0.254", 5, 1), ("fe80::9", 6, 256)];
    let mut hops: Vec<Hop> = hops
        .map(|(gateway, index, weight)| Hop {
            gateway: Some(address_of(gateway)),
            index: Some(index),
            weight,
        })
        .into();
    hops.push(Hop { gateway: None, index: Some(7), weight: 2 });
    assert_eq!(entry.hops, hops);
}

#[test]
fn the_default_route_has_no_destination_and_a_clone_is_none() {
    let mut route = a_route();
    route.header.address_family = AddressFamily::Inet6;
    route.header.destination_prefix_length = 0;
    route.attributes = vec![RouteAttribute::Oif(5)];
    let [Message::Route(group, ..)] = &read(&written(RouteNetlinkMessage::NewRoute(route.clone()), 0))[..]
    else {
        panic!()
    };
    assert_eq!(group.destination, (address_of("::"), 0));
    route.header.flags = RouteFlags::Cloned;
    assert_eq!(read(&written(RouteNetlinkMessage::NewRoute(route), 0)), [Message::Other]);
}

#[test]
fn what_is_broken_is_said_and_what_follows_is_read() {
    let mut wrong = a_route();
    wrong.header.destination_prefix_length = 33;
    let mut bytes = written(RouteNetlinkMessage::NewRoute(wrong), 0);
    let mut other_family = a_route();
    other_family.attributes[0] = RouteAttribute::Destination(route_address("2001:db8::"));
    bytes.extend(written(RouteNetlinkMessage::NewRoute(other_family), 0));
    bytes.extend(written(RouteNetlinkMessage::DelLink(a_link()), 0));
    let whole = bytes.len();
    bytes.extend([200, 0, 0, 0, 24, 0, 0, 0]);
    let messages: Vec<_> = datagram(&bytes).map(|received| received.message).collect();
    assert!(matches!(&messages[..], [Err(_), Err(_), Ok(Message::LinkGone(5)), Err(_)]), "{messages:?}");
    // A next hop that is shorter than itself, or longer than the message.
    let mut route = a_route();
    route.attributes = vec![RouteAttribute::MultiPath(vec![RouteNextHop::default()])];
    let bytes = written(RouteNetlinkMessage::NewRoute(route), 0);
    for length in [0u8, 3, 7, 9, 255] {
        let mut broken = bytes.clone();
        broken[HEADER + ROUTE_HEADER + 4] = length;
        assert!(datagram(&broken).all(|received| received.message.is_err()), "{length}");
    }
    assert!(whole > 0);
}

proptest! {
    #[test]
    fn no_datagram_makes_it_panic_or_go_on_for_ever(
        bytes in prop::collection::vec(any::<u8>(), 0..600),
        kind in 16u16..110,
        family in prop::sample::select(vec![0u8, 2, 7, 10]),
    ) {
        let mut bytes = bytes;
        if bytes.len() > HEADER {
            let length = bytes.len() as u32;
            bytes[..4].copy_from_slice(&length.to_ne_bytes());
            bytes[4..6].copy_from_slice(&kind.to_ne_bytes());
            bytes[HEADER] = family;
        }
        prop_assert!(datagram(&bytes).count() <= 600);
    }

    #[test]
    fn no_change_of_a_message_makes_it_panic(at in 0usize..200, byte: u8, more in 0usize..200, other: u8) {
        let messages = [
            RouteNetlinkMessage::NewLink(a_link()),
            RouteNetlinkMessage::NewRoute(a_route()),
        ];
        for message in messages {
            let mut bytes = written(message, 0);
            let length = bytes.len();
            bytes[at % length] = byte;
            bytes[more % length] = other;
            prop_assert!(datagram(&bytes).count() <= length);
            prop_assert!(datagram(&bytes[..more % length]).count() <= length);
        }
    }
}
