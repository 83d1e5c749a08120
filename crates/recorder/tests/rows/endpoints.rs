//! One row per endpoint, from its beginning to its end.

use luarm_schema::tables::NetInfo;
use luarm_sensor::{Observation, observation::*};

use crate::scene::*;

const PERL: ImageId = ImageId { pid: 29312, start: 1_000_000, execs: 1 };
const T: u64 = 50 * MS;

fn line(row: &NetInfo) -> String {
    let end = row
        .end
        .as_ref()
        .map_or("lasts".to_owned(), |end| format!("{} {:?} {:?}", end.ended, end.result, end.bytessent));
    format!(
        "{} {} {}:{} {}:{} {} {end}",
        row.transport, row.direction, row.sourceip, row.sourceport, row.destip, row.destport, row.origin
    )
}

fn check(observations: impl IntoIterator<Item = Observation>, expected: &[&str]) -> Memory {
    let perl = exec(MS, PERL, "/usr/bin/perl");
    let memory = record(recorder(), std::iter::once(perl).chain(observations));
    assert_eq!(memory.netinfo().into_iter().map(line).collect::<Vec<_>>(), expected);
    memory
}

fn connects(at: u64) -> Endpoint {
    connection(7, at, actor(PERL))
}

#[test]
fn source_is_who_began() {
    let accepts = Endpoint {
        id: EndpointId { transport: Transport::Tcp, socket: 8, peer: None },
        direction: Direction::In,
        local: address("[::ffff:10.0.0.1]:80"),
        ..connects(T)
    };
    let listens = Endpoint {
        id: EndpointId { transport: Transport::Tcp, socket: 9, peer: None },
        direction: Direction::Listen,
        local: address("[::]:65535"),
        remote: None,
        ..connects(T)
    };
    let memory = check(
        [begins(connects(T)), begins(accepts), begins(listens)],
        &[
            "tcp out 10.0.0.1:45678 79.125.109.171:6667 event lasts",
            "tcp in 79.125.109.171:6667 10.0.0.1:80 event lasts",
            "tcp listen :::65535 :0 event lasts",
        ],
    );
    let [out, accepted, listener] = memory.netinfo()[..] else { panic!() };
    assert_eq!((out.ipversion, accepted.ipversion, listener.ipversion), (4, 4, 6));
    assert_eq!((out.psentity, out.pid, &*out.username), (Some(psentity(PERL)), 29312, "alice"));
    assert_eq!((out.application.as_str(), out.netns), ("acting", None));
}

#[test]
fn ends_say_how() {
    let end = |result, idle| EndpointEnd {
        result,
        idle,
        traffic: Some(Traffic { bytes_sent: 5, ..Traffic::default() }),
    };
    for (end, expected) in [
        (end(Some(0), false), "close Some(0) Some(5)"),
        (end(Some(111), false), "refused Some(111) Some(5)"),
        (end(None, true), "idle None Some(5)"),
        (EndpointEnd::default(), "close None None"),
    ] {
        let row = format!("tcp out 10.0.0.1:45678 79.125.109.171:6667 event {expected}");
        check([begins(connects(T)), ends(T + MS, connects(T), end)], &[&row]);
        // The same when the beginning was lost, or is late.
        check([ends(T + MS, connects(T), end)], &[&row]);
        check([ends(T + MS, connects(T), end), begins(connects(T))], &[&row]);
    }
}

#[test]
fn a_connection_that_ended_while_it_was_accepted_is_one_endpoint() {
    let established = Endpoint { direction: Direction::In, ..connects(T) };
    let accepted = Endpoint { at: T + MS, ..established.clone() };
    let end = EndpointEnd { result: Some(0), ..EndpointEnd::default() };
    check(
        [ends(T + 2 * MS, established, end), begins(accepted)],
        &["tcp in 79.125.109.171:6667 10.0.0.1:45678 event close Some(0) None"],
    );
}

#[test]
fn a_socket_that_connects_again_is_another_endpoint() {
    let found = Endpoint { origin: Origin::Found, ..connects(T + 2 * MS) };
    check(
        [begins(connects(T)), begins(connects(T)), begins(found), begins(connects(T + 3 * MS))],
        &[
            "tcp out 10.0.0.1:45678 79.125.109.171:6667 event unseen None None",
            "tcp out 10.0.0.1:45678 79.125.109.171:6667 event lasts",
        ],
    );
}

#[test]
fn a_udp_socket_has_an_endpoint_for_each_peer() {
    let to = |peer: &str| {
        let peer = address(peer);
        let id = EndpointId { transport: Transport::Udp, socket: 7, peer: Some(peer) };
        begins(Endpoint { id, remote: Some(peer), ..connects(T) })
    };
    check(
        [to("192.0.2.1:53"), to("192.0.2.2:53"), to("192.0.2.1:53")],
        &[
            "udp out 10.0.0.1:45678 192.0.2.1:53 event lasts",
            "udp out 10.0.0.1:45678 192.0.2.2:53 event lasts",
        ],
    );
}

#[test]
fn an_endpoint_without_owner_says_so() {
    let memory = check(
        [begins(Endpoint { actor: None, netns: 77, ..connects(T) })],
        &["tcp out 10.0.0.1:45678 79.125.109.171:6667 event lasts"],
    );
    let row = memory.netinfo()[0];
    assert_eq!(
        (row.psentity, row.pid, &*row.username, row.uid, row.netns),
        (None, 0, "", u32::MAX, Some(77))
    );
}
