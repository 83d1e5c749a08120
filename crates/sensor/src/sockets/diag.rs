//! Asking sock_diag over netlink.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    os::fd::{AsFd, OwnedFd},
    thread,
    time::Duration,
};

use netlink_packet_core::{
    NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload,
};
use netlink_packet_sock_diag::{
    SockDiagMessage,
    constants::{AF_INET, AF_INET6, IPPROTO_TCP, IPPROTO_UDP},
    inet::{ExtensionFlags, InetRequest, InetResponse, SocketId, StateFlags, nlas::Nla},
};
use netlink_sys::protocols::NETLINK_SOCK_DIAG;
use rustix::{
    net::sockopt::{Timeout, set_socket_timeout},
    thread::{LinkNameSpaceType, move_into_link_name_space},
};

use super::{Socket, SocketsError, State, tcp_info};
use crate::observation::Transport;

const HEADER: usize = 16;
// The kernel fills at most 32 KiB at a time.
const BUFFER: usize = 64 << 10;
const PATIENCE: Duration = Duration::from_secs(5);
const ATTEMPTS: u32 = 3;

/// Sees the sockets of one network namespace.
pub struct Diag {
    netlink: netlink_sys::Socket,
    sequence: u32,
    buffer: Vec<u8>,
}

impl Diag {
    /// For the network namespace of the calling thread.
    pub fn open() -> Result<Self, SocketsError> {
        let open = || {
            let mut netlink = netlink_sys::Socket::new(NETLINK_SOCK_DIAG)?;
            netlink.bind_auto()?;
            netlink.connect(&netlink_sys::SocketAddr::new(0, 0))?;
            set_socket_timeout(netlink.as_fd(), Timeout::Recv, Some(PATIENCE))?;
            Ok(netlink)
        };
        let netlink = open().map_err(SocketsError::Open)?;
        Ok(Self { netlink, sequence: 0, buffer: Vec::with_capacity(BUFFER) })
    }

    /// For another network namespace, which lives at least as long as this does. Takes CAP_SYS_ADMIN.
    pub fn open_in(namespace: OwnedFd) -> Result<Self, SocketsError> {
        // A netlink socket stays in the namespace where it was made; the thread that enters it ends, so nothing else ever runs there.
        let entered = thread::Builder::new().name("netns".to_owned()).spawn(move || {
            move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))
                .map_err(|errno| SocketsError::Enter(errno.into()))?;
            Self::open()
        });
        match entered.map_err(SocketsError::Enter)?.join() {
            Ok(diag) => diag,
            Err(_) => Err(SocketsError::Enter(io::Error::other("its thread panicked"))),
        }
    }

    /// Every socket of a protocol, IPv4 and IPv6.
    pub fn sockets(&mut self, transport: Transport) -> Result<Vec<Socket>, SocketsError> {
        let mut sockets = self.dump(transport, AF_INET)?;
        match self.dump(transport, AF_INET6) {
            Ok(more) => sockets.extend(more),
            // A kernel without IPv6.
            Err(SocketsError::Dump { source, .. }) if source.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        Ok(sockets)
    }

    fn dump(&mut self, transport: Transport, family: u8) -> Result<Vec<Socket>, SocketsError> {
        let failed = |source| SocketsError::Dump { transport, source };
        let mut sockets = Vec::new();
        for _ in 0..ATTEMPTS {
            sockets.clear();
            self.ask(transport, family).map_err(failed)?;
            let mut consistent = true;
            loop {
                self.receive().map_err(failed)?;
                let answer = parse(&self.buffer, self.sequence, transport, &mut sockets)?;
                consistent &= !answer.interrupted;
                match answer.done {
                    None => {}
                    Some(0) => break,
                    Some(code) => return Err(failed(io::Error::from_raw_os_error(code.saturating_abs()))),
                }
            }
            if consistent {
                break;
            }
        }
        Ok(sockets)
    }

    fn ask(&mut self, transport: Transport, family: u8) -> io::Result<()> {
        self.sequence = self.sequence.wrapping_add(1);
        let mut header = NetlinkHeader::default();
        header.flags = NLM_F_REQUEST | NLM_F_DUMP;
        header.sequence_number = self.sequence;
        let (protocol, extensions) = match transport {
            Transport::Tcp => (IPPROTO_TCP, ExtensionFlags::INFO),
            Transport::Udp => (IPPROTO_UDP, ExtensionFlags::empty()),
        };
        let request = InetRequest {
            family,
            protocol,
            extensions,
            states: StateFlags::all(),
            socket_id: if family == AF_INET { SocketId::new_v4() } else { SocketId::new_v6() },
        };
        let mut message = NetlinkMessage::new(header, SockDiagMessage::InetRequest(request).into());
        message.finalize();
        let mut bytes = vec![0; message.buffer_len()];
        message.serialize(&mut bytes);
        again(|| self.netlink.send(&bytes, 0)).map(drop)
    }

    fn receive(&mut self) -> io::Result<()> {
        again(|| {
            self.buffer.clear();
            self.netlink.recv(&mut self.buffer, libc::MSG_TRUNC).and_then(|length| {
                if length > self.buffer.len() {
                    Err(io::Error::other("the answer was truncated"))
                } else {
                    Ok(length)
                }
            })
        })
        .map(drop)
    }
}

fn again<T>(mut call: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match call() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}

#[derive(Default)]
struct Answer {
    /// The dump is over, with this code (negative error number, or 0).
    done: Option<i32>,
    /// Something changed while the kernel walked its tables.
    interrupted: bool,
}

/// Takes the sockets out of one datagram. What answers an earlier question is passed over.
fn parse(
    datagram: &[u8],
    sequence: u32,
    transport: Transport,
    sockets: &mut Vec<Socket>,
) -> Result<Answer, SocketsError> {
    let mut answer = Answer::default();
    let mut rest = datagram;
    while !rest.is_empty() && answer.done.is_none() {
        let length = rest.first_chunk::<4>().map_or(0, |bytes| u32::from_ne_bytes(*bytes) as usize);
        if length < HEADER || length > rest.len() {
            return Err(SocketsError::Malformed(format!("a message of {length} bytes in {}", rest.len())));
        }
        let message = NetlinkMessage::<SockDiagMessage>::deserialize(&rest[..length])
            .map_err(|error| SocketsError::Malformed(error.to_string()))?;
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        if message.header.sequence_number != sequence {
            continue;
        }
        answer.interrupted |= message.header.flags & NLM_F_DUMP_INTR != 0;
        match message.payload {
            NetlinkPayload::InnerMessage(SockDiagMessage::InetResponse(response)) => {
                sockets.extend(socket(&response, transport));
            }
            NetlinkPayload::Done(done) => answer.done = Some(done.code),
            NetlinkPayload::Error(error) => answer.done = Some(error.raw_code()),
            NetlinkPayload::Overrun(_) => return Err(SocketsError::Malformed("overrun".to_owned())),
            _ => {}
        }
    }
    Ok(answer)
}

/// `None` for a state that we do not know: a TCP socket that is bound, and neither listens nor connects (Linux 6.8).
fn socket(response: &InetResponse, transport: Transport) -> Option<Socket> {
    let header = &response.header;
    let id = &header.socket_id;
    let state = State::from_kernel(header.state)?;
    let address = |ip: IpAddr, port| SocketAddr::new(ip.to_canonical(), port);
    let has_peer = id.destination_port != 0 || !id.destination_address.is_unspecified();
    let info = response.nlas.iter().find_map(|attribute| match attribute {
        Nla::TcpInfo(info) => Some(info.as_slice()),
        _ => None,
    });
    Some(Socket {
        transport,
        state,
        local: address(id.source_address, id.source_port),
        remote: has_peer.then(|| address(id.destination_address, id.destination_port)),
        inode: header.inode,
        uid: header.uid,
        // Two halves, the lower one first, whatever the byte order of the machine.
        cookie: u64::from(u32::from_ne_bytes([id.cookie[0], id.cookie[1], id.cookie[2], id.cookie[3]]))
            | u64::from(u32::from_ne_bytes([id.cookie[4], id.cookie[5], id.cookie[6], id.cookie[7]])) << 32,
        traffic: info.and_then(|info| tcp_info::traffic(info, state)),
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn no_answer_makes_it_panic(mut bytes in proptest::collection::vec(any::<u8>(), 0..300), whole: bool, kind in 0..24u8) {
            if whole && bytes.len() >= HEADER {
                let length = bytes.len() as u32;
                bytes[..4].copy_from_slice(&length.to_ne_bytes());
                bytes[4..6].copy_from_slice(&u16::from(kind).to_ne_bytes());
                bytes[8..12].copy_from_slice(&1u32.to_ne_bytes());
                if let Some(family) = bytes.get_mut(HEADER) {
                    *family = if *family & 1 == 0 { AF_INET } else { AF_INET6 };
                }
            }
            let _ = parse(&bytes, 1, Transport::Tcp, &mut Vec::new());
        }
    }

    #[test]
    fn a_message_longer_than_the_datagram_is_malformed() {
        let mut bytes = vec![0; HEADER];
        bytes[..4].copy_from_slice(&17u32.to_ne_bytes());
        assert!(matches!(
            parse(&bytes, 1, Transport::Tcp, &mut Vec::new()),
            Err(SocketsError::Malformed(reason)) if reason.contains("17")
        ));
        assert!(parse(&bytes[..3], 1, Transport::Tcp, &mut Vec::new()).is_err());
    }
}
