//! Endpoints of this machine.

use std::{
    io::{Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket},
    process::Command,
};

use luarm_sensor::{
    Observation,
    observation::{Direction, Endpoint, EndpointEnd, Origin, Transport},
};

use crate::{
    puppet::{Puppet, perl, skipped_without_root},
    watched::Watched,
};

fn end_of(watched: &mut Watched, endpoint: &Endpoint) -> EndpointEnd {
    watched.until(|observation| match observation {
        Observation::EndpointEnd { endpoint: ended, end, .. } if **ended == *endpoint => Some(*end),
        _ => None,
    })
}

fn pid_of(endpoint: &Endpoint) -> Option<u32> {
    endpoint.actor.as_ref().map(|actor| actor.image.pid)
}

#[test]
fn a_connection_has_two_ends_each_with_its_owner_and_its_traffic() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let mut watched = Watched::start();
    let listening = watched.endpoint(|endpoint| endpoint.local == address);
    assert_eq!(
        (listening.direction, listening.origin, listening.remote),
        (Direction::Listen, Origin::Found, None)
    );
    assert_eq!(pid_of(&listening), Some(std::process::id()));

    let mut client = Puppet::start(&mut perl(&format!(
        "socket(S, PF_INET, SOCK_STREAM, 0); connect(S, sockaddr_in({}, INADDR_LOOPBACK)); syswrite(S, 'hello'); <STDIN>; \
         sysread(S, $x, 2); <STDIN>",
        address.port()
    )));
    let (mut server, peer) = listener.accept().unwrap();
    server.read_exact(&mut [0; 5]).unwrap();
    let outgoing = watched.endpoint(|endpoint| endpoint.local == peer);
    assert_eq!((outgoing.direction, outgoing.remote), (Direction::Out, Some(address)));
    assert_eq!((pid_of(&outgoing), outgoing.origin), (Some(client.pid()), Origin::Poll));
    assert!(outgoing.actor.as_ref().is_some_and(|actor| actor.comm == b"perl"));
    assert_eq!(outgoing.id.peer, None);
    let incoming = watched
        .seen()
        .iter()
        .find_map(|observation| match observation {
            Observation::Endpoint(endpoint) if endpoint.remote == Some(peer) => Some((**endpoint).clone()),
            _ => None,
        })
        .unwrap();
    assert_eq!(
        (incoming.direction, incoming.local, pid_of(&incoming)),
        (Direction::In, address, Some(std::process::id()))
    );

    server.write_all(b"ok").unwrap();
    client.go_on();
    watched.round();
    client.end();
    let end = end_of(&mut watched, &outgoing);
    let bytes = end.traffic.map(|traffic| (traffic.bytes_sent, traffic.bytes_received));
    assert_eq!((end.result, bytes), (Some(0), Some((5, 2))));
    drop(server);
    drop(listener);
    assert_eq!(end_of(&mut watched, &listening), EndpointEnd::default());
}

#[test]
fn a_connection_that_nobody_answers_ends_without_a_result() {
    // The queue of a listener that takes one connection is full with two; the rest wait.
    let mut watched = Watched::start();
    let mut client = Puppet::start(&mut perl(
        "socket(L, PF_INET, SOCK_STREAM, 0); bind(L, sockaddr_in(0, INADDR_LOOPBACK)); listen(L, 0); \
         ($port) = sockaddr_in(getsockname(L)); \
         for my $n (0..7) { socket(my $s, PF_INET, SOCK_STREAM, 0); $s->blocking(0); connect($s, sockaddr_in($port, INADDR_LOOPBACK)); \
         push @s, $s } print \"$port\\n\"; <STDIN>",
    ));
    let port: u16 = client.says().parse().unwrap();
    watched.round();
    client.end();
    watched.round();
    let results: Vec<_> = watched
        .seen()
        .iter()
        .filter_map(|observation| match observation {
            Observation::EndpointEnd { endpoint, end, .. }
                if endpoint.remote.is_some_and(|peer| peer.port() == port) =>
            {
                Some((end.result, endpoint.direction))
            }
            _ => None,
        })
        .collect();
    assert!(results.contains(&(None, Direction::Out)), "{results:?}");
    assert!(results.contains(&(Some(0), Direction::Out)), "{results:?}");
}

#[test]
fn a_connection_shorter_than_a_round_is_told_of_without_its_owner() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let mut watched = Watched::start();
    let client = std::net::TcpStream::connect(address).unwrap();
    let local = client.local_addr().unwrap();
    let (mut server, _) = listener.accept().unwrap();
    // Who closes first keeps the addresses.
    drop(client);
    assert_eq!(server.read(&mut [0; 1]).unwrap(), 0);
    drop(server);
    let endpoint = watched.endpoint(|endpoint| endpoint.local == local);
    assert_eq!(
        (endpoint.direction, endpoint.remote, &endpoint.actor),
        (Direction::Out, Some(address), &None)
    );
    assert_eq!(end_of(&mut watched, &endpoint).result, Some(0));
    watched.round();
    let told = watched
        .seen()
        .iter()
        .filter(|seen| matches!(seen, Observation::Endpoint(same) if same.id == endpoint.id));
    assert_eq!(told.count(), 1, "it lingers, and is told of once");
}

#[test]
fn datagram_sockets_listen_until_they_are_connected() {
    let mut watched = Watched::start();
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let local = socket.local_addr().unwrap();
    let bound = watched.endpoint(|endpoint| endpoint.local == local);
    assert_eq!(
        (bound.id.transport, bound.direction, bound.id.peer),
        (Transport::Udp, Direction::Listen, None)
    );
    assert_eq!(pid_of(&bound), Some(std::process::id()));
    let peer = SocketAddr::from((Ipv4Addr::LOCALHOST, 9));
    socket.connect(peer).unwrap();
    let connected = watched.endpoint(|endpoint| endpoint.local == local);
    assert_eq!(
        (connected.direction, connected.remote, connected.id.peer),
        (Direction::Out, Some(peer), Some(peer))
    );
    assert_eq!(connected.id.socket, bound.id.socket);
    let ended = |watched: &Watched, endpoint: &Endpoint| {
        let is_end = |seen: &&Observation| matches!(seen, Observation::EndpointEnd { endpoint: ended, .. } if **ended == *endpoint);
        watched.seen().iter().filter(is_end).count()
    };
    assert_eq!((ended(&watched, &bound), ended(&watched, &connected)), (1, 0));
    drop(socket);
    assert_eq!(end_of(&mut watched, &connected), EndpointEnd::default());
}

#[test]
fn other_network_namespaces_are_followed_and_let_go() {
    if skipped_without_root() {
        return;
    }
    let mut watched = Watched::start();
    let mut command = Command::new("unshare");
    command.args(["--net", "perl", "-MSocket", "-e"]).arg(
        "socket(S, PF_INET, SOCK_DGRAM, 0); bind(S, sockaddr_in(0, INADDR_ANY)); ($port) = sockaddr_in(getsockname(S)); \
         $| = 1; print \"$port\\n\"; <STDIN>",
    );
    let mut child = Puppet::start(&mut command);
    let port: u16 = child.says().parse().unwrap();
    let pid = child.pid();
    let endpoint =
        watched.endpoint(|endpoint| endpoint.local.port() == port && pid_of(endpoint) == Some(pid));
    let (own, other) = {
        let net = |pid: u32| {
            std::fs::read_link(format!("/proc/{pid}/ns/net")).unwrap().to_string_lossy().into_owned()
        };
        (net(std::process::id()), net(pid))
    };
    assert_ne!(own, other);
    assert_eq!(other, format!("net:[{}]", endpoint.netns));
    child.end();
    end_of(&mut watched, &endpoint);
}
