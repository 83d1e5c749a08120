//! Sockets on the loopback, whose both ends are the canary's own. The question to a name server is asked of itself, about a name that nobody has (RFC 6761), and the
//! answer is an address that nobody has (RFC 5737).

use std::{
    io,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket},
    os::fd::OwnedFd,
    time::Duration,
};

use luarm_recorder::canary::NOBODYS;
use rustix::net::{AddressFamily, SendFlags, SocketFlags, SocketType, connect as connect_to, socket_with};
use simple_dns::{
    CLASS, Name, Packet, PacketFlag, QCLASS, QTYPE, Question, ResourceRecord, TYPE,
    rdata::{A, RData},
};

use super::{Group, Stage};

const PATIENCE: Duration = Duration::from_secs(1);
const DNS: u16 = 53;
/// For documentation: nobody has it.
const ANSWER: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 53);

/// Sockets that the canary and its copy send through.
pub(super) struct Sockets {
    /// Where datagrams go: at the port of name servers if that could be had.
    stub: io::Result<UdpSocket>,
    /// Where the copy's datagrams go: they are none of a name server's.
    targets: Vec<UdpSocket>,
    /// What the copy sends through, each unconnected.
    relays: Vec<(OwnedFd, SocketAddr)>,
    /// A connection for the copy to accept: it does not belong to whom the listener belongs to.
    connection: Option<(TcpStream, TcpListener)>,
}

/// A connection that cannot be made.
pub(super) fn connect_in_vain(stage: &mut Stage) {
    // No socket has a connection to it: nothing is sent.
    let nobodys = NOBODYS.parse().unwrap_or(Ipv4Addr::BROADCAST);
    match TcpStream::connect_timeout(&(nobodys, 9).into(), PATIENCE) {
        Err(error) if error.raw_os_error().is_some() => stage.did("connect in vain"),
        Err(error) => stage.not("connect in vain", &error.to_string()),
        Ok(_) => stage.not("connect in vain", "it was not in vain"),
    }
}

/// A connection to itself, which nobody has accepted yet.
fn connection() -> io::Result<(TcpStream, TcpListener)> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let near = TcpStream::connect_timeout(&listener.local_addr()?, PATIENCE)?;
    Ok((near, listener))
}

/// What a sensor that looks at times comes to see, as long as this is held.
pub(super) fn lasting(stage: &mut Stage) -> impl Sized + use<> {
    let connection = stage.done("connect", connection());
    let stub = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0));
    let sent = stub.and_then(|stub| Ok((client(&stub)?, stub)));
    (connection, stage.done("send", sent))
}

/// A socket that is connected, and bound by nothing else.
fn client(stub: &UdpSocket) -> io::Result<OwnedFd> {
    let client = datagrams(AddressFamily::INET)?;
    connect_to(&client, &stub.local_addr()?)?;
    rustix::net::send(&client, b"tweet", SendFlags::empty())?;
    Ok(client)
}

fn datagrams(family: AddressFamily) -> io::Result<OwnedFd> {
    Ok(socket_with(family, SocketType::DGRAM, SocketFlags::CLOEXEC, None)?)
}

impl Sockets {
    /// Binds what needs the privilege to.
    pub(super) fn open(stage: &mut Stage) -> Self {
        // Of all addresses of the loopback one that nobody else is likely to listen at, by the process's own number.
        let [_, high, middle, low] = std::process::id().to_be_bytes();
        let own = Ipv4Addr::new(127, 64 | high & 63, middle, low);
        let stub = UdpSocket::bind((own, DNS)).or_else(|error| {
            stage.not("question", &format!("port {DNS} of {own}: {error}"));
            UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))
        });
        match &stub {
            Ok(_) => stage.did("bind"),
            Err(error) => stage.not("bind", &error.to_string()),
        }
        let connection = stage.done("connect", connection());
        if connection.is_some() {
            stage.did("close of a connection");
        }
        let mut sockets = Self { stub, targets: Vec::new(), relays: Vec::new(), connection };
        if stage.does(Group::Network) {
            let four = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).ok();
            let six = stage.done("bind by IPv6", UdpSocket::bind((Ipv6Addr::LOCALHOST, 0)));
            for (target, family) in [(four, AddressFamily::INET), (six, AddressFamily::INET6)] {
                let Some(target) = target else { continue };
                if let (Ok(to), Ok(relay)) = (target.local_addr(), datagrams(family)) {
                    sockets.relays.push((relay, to));
                }
                sockets.targets.push(target);
            }
        }
        sockets
    }

    /// What the copy does: it sends through sockets that it did not make, and accepts what came to one.
    pub(super) fn relay(&self) {
        let _ = self.connection.as_ref().map(|(_, listener)| listener.accept());
        for (relay, to) in &self.relays {
            let _ = rustix::net::sendto(relay, b"tweet", SendFlags::empty(), to);
        }
    }

    /// What the copy is to do, by the names of the acts.
    pub(super) fn relayed(&self) -> impl Iterator<Item = &'static str> {
        let sent = self.relays.iter().map(|(_, to)| match to {
            SocketAddr::V4(_) => "sendto of a copy",
            SocketAddr::V6(_) => "sendto of a copy by IPv6",
        });
        sent.chain(self.connection.as_ref().map(|_| "accept"))
    }

    /// A datagram there, and, at the port of name servers, an answer back.
    pub(super) fn exchange(&self, stage: &mut Stage) {
        const UDP: [&str; 3] = ["send", "receive", "close"];
        let Ok(stub) = &self.stub else { return };
        let asks = stub.local_addr().is_ok_and(|address| address.port() == DNS);
        match exchange(stub, asks) {
            Ok(()) => {
                UDP.into_iter().for_each(|name| stage.did(name));
                if asks {
                    stage.did("question");
                }
            }
            Err(error) => {
                let why = error.to_string();
                UDP.into_iter().chain(asks.then_some("question")).for_each(|name| stage.not(name, &why));
            }
        }
    }
}

fn exchange(stub: &UdpSocket, asks: bool) -> io::Result<()> {
    let client = datagrams(AddressFamily::INET)?;
    connect_to(&client, &stub.local_addr()?)?;
    let client = UdpSocket::from(client);
    let (question, answer) = if asks { messages().map_err(io::Error::other)? } else { Default::default() };
    client.set_read_timeout(Some(PATIENCE))?;
    stub.set_read_timeout(Some(PATIENCE))?;
    client.send(&question)?;
    let mut room = [0; 512];
    let own = client.local_addr()?;
    loop {
        let (_, from) = stub.recv_from(&mut room)?;
        // Anybody may send something there.
        if from == own {
            break;
        }
    }
    stub.send_to(&answer, own)?;
    client.recv(&mut room)?;
    Ok(())
}

fn messages() -> Result<(Vec<u8>, Vec<u8>), simple_dns::SimpleDnsError> {
    let pid = std::process::id();
    let text = format!("canary-{pid}.luarm.invalid");
    let name = Name::new(&text)?;
    let id = (pid & 0xffff) as u16;
    let asked = Question::new(name.clone(), QTYPE::TYPE(TYPE::A), QCLASS::CLASS(CLASS::IN), false);
    let mut question = Packet::new_query(id);
    question.questions.push(asked.clone());
    let mut answer = Packet::new_reply(id);
    answer.set_flags(PacketFlag::RECURSION_AVAILABLE);
    answer.questions.push(asked);
    let data = RData::A(A { address: ANSWER.into() });
    answer.answers.push(ResourceRecord::new(name, CLASS::IN, 0, data));
    Ok((question.build_bytes_vec()?, answer.build_bytes_vec()?))
}
