//! The sockets of this machine, as sock_diag gives them.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::{
    io::{Read, Write},
    net::{Shutdown, TcpListener, TcpStream, UdpSocket},
    os::fd::{AsFd, OwnedFd},
};

use luarm_sensor::{
    observation::Transport,
    sockets::{Diag, Socket, SocketsError, State},
};

fn inode(socket: impl AsFd) -> u32 {
    rustix::fs::fstat(socket).unwrap().st_ino as u32
}

fn of(sockets: &[Socket], socket: impl AsFd) -> Socket {
    let inode = inode(socket);
    *sockets.iter().find(|socket| socket.inode == inode).unwrap_or_else(|| panic!("{inode} in {sockets:?}"))
}

#[test]
fn listeners_connections_and_their_traffic_are_listed() {
    for (address, shown) in
        [("127.0.0.1:0", "127.0.0.1"), ("[::1]:0", "::1"), ("[::ffff:127.0.0.1]:0", "127.0.0.1")]
    {
        let listener = TcpListener::bind(address).unwrap();
        let port = listener.local_addr().unwrap().port();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (mut server, _) = listener.accept().unwrap();
        client.write_all(&[b'x'; 1000]).unwrap();
        server.read_exact(&mut [0; 1000]).unwrap();
        server.write_all(b"answer").unwrap();
        client.read_exact(&mut [0; 6]).unwrap();
        let mut diag = Diag::open().unwrap();

        let sockets = diag.sockets(Transport::Tcp).unwrap();
        let listening = of(&sockets, &listener);
        assert_eq!((listening.state, listening.remote), (State::Listen, None));
        assert_eq!(listening.local.port(), port);
        let connected = of(&sockets, &client);
        assert_eq!(connected.state, State::Established);
        assert_eq!(connected.local.ip().to_string(), shown);
        assert_eq!(
            connected.remote.map(|remote| (remote.ip().to_string(), remote.port())),
            Some((shown.to_owned(), port))
        );
        assert_eq!(connected.uid, rustix::process::geteuid().as_raw());
        let bytes =
            |socket: Socket| socket.traffic.map(|traffic| (traffic.bytes_sent, traffic.bytes_received));
        assert_eq!(bytes(connected), Some((1000, 6)));
        assert_eq!(bytes(of(&sockets, &server)), Some((6, 1000)));

        client.shutdown(Shutdown::Write).unwrap();
        assert_eq!(server.read(&mut [0; 1]).unwrap(), 0);
        let sockets = diag.sockets(Transport::Tcp).unwrap();
        let closing = of(&sockets, &server);
        assert_eq!(
            (closing.state, bytes(closing)),
            (State::CloseWait, Some((6, 1000))),
            "the end is no byte"
        );
        assert_eq!(of(&sockets, &client).cookie, connected.cookie);
        assert_ne!(closing.cookie, connected.cookie);
    }
}

#[test]
fn connected_and_unconnected_datagram_sockets_are_told_apart() {
    let unconnected = UdpSocket::bind("127.0.0.1:0").unwrap();
    let connected = UdpSocket::bind("127.0.0.1:0").unwrap();
    connected.connect(unconnected.local_addr().unwrap()).unwrap();
    let sockets = Diag::open().unwrap().sockets(Transport::Udp).unwrap();
    assert_eq!(of(&sockets, &unconnected).remote, None);
    assert_eq!(of(&sockets, &connected).remote, Some(unconnected.local_addr().unwrap()));
    assert_eq!(of(&sockets, &connected).local, connected.local_addr().unwrap());
}

#[test]
fn the_answer_may_take_many_datagrams() {
    let bound: Vec<UdpSocket> = (0..800).map(|_| UdpSocket::bind("127.0.0.1:0").unwrap()).collect();
    let sockets = Diag::open().unwrap().sockets(Transport::Udp).unwrap();
    for socket in &bound {
        assert_eq!(of(&sockets, socket).local, socket.local_addr().unwrap());
    }
}

#[test]
fn another_network_namespace_is_seen_through_its_own_diag() {
    let entered = std::thread::spawn(|| {
        let Err(errno) = unshare() else {
            let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
            let namespace = std::fs::File::open("/proc/thread-self/ns/net").unwrap();
            return Ok((socket, OwnedFd::from(namespace)));
        };
        Err(errno)
    });
    let Ok((socket, namespace)) = entered.join().unwrap() else {
        eprintln!("skipped: takes CAP_SYS_ADMIN");
        assert!(std::env::var_os("CI").is_none_or(|ci| ci != "true"), "CI must not skip this");
        return;
    };
    let inode = inode(&socket);
    let has = |sockets: &[Socket]| sockets.iter().any(|socket| socket.inode == inode);
    assert!(has(&Diag::open_in(namespace).unwrap().sockets(Transport::Udp).unwrap()));
    assert!(!has(&Diag::open().unwrap().sockets(Transport::Udp).unwrap()), "this thread stayed where it was");
}

#[test]
fn what_is_no_network_namespace_cannot_be_entered() {
    let file = OwnedFd::from(std::fs::File::open("/dev/null").unwrap());
    assert!(matches!(Diag::open_in(file), Err(SocketsError::Enter(_))));
}

#[expect(unsafe_code, reason = "unshare(2) has no safe wrapper for threads")]
fn unshare() -> std::io::Result<()> {
    // SAFETY: a new network namespace concerns no memory, and only the calling thread, which ends after the test.
    match unsafe { libc::unshare(libc::CLONE_NEWNET) } {
        0 => Ok(()),
        _ => Err(std::io::Error::last_os_error()),
    }
}
