//! The sockets of rtnetlink: one that hears of changes, one that asks.

use std::{
    fs, io,
    os::fd::{AsFd, BorrowedFd},
    time::Duration,
};

use netlink_packet_core::{NLM_F_DUMP, NLM_F_REQUEST, NetlinkBuffer};
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};
use rustix::net::sockopt::{
    Timeout, set_socket_recv_buffer_size, set_socket_recv_buffer_size_force, set_socket_timeout,
};

use super::{
    decode::{self, Malformed, Message},
    interfaces, routes,
};

/// Bytes of messages that may wait in the kernel, which counts some 1 KiB for each. An ordinary user gets what net.core.rmem_max allows.
const WAITING: usize = 32 << 20;
// A message about an interface may have some KiB; the kernel fills at most 32 KiB in a dump.
const BUFFER: usize = 128 << 10;
const PATIENCE: Duration = Duration::from_secs(5);
const ATTEMPTS: u32 = 3;

const GROUPS: [u32; 6] = [
    libc::RTNLGRP_LINK,
    libc::RTNLGRP_IPV4_IFADDR,
    libc::RTNLGRP_IPV6_IFADDR,
    libc::RTNLGRP_IPV4_ROUTE,
    libc::RTNLGRP_IPV6_ROUTE,
    libc::RTNLGRP_NEXTHOP,
];

/// Both sockets.
pub(super) struct Channel {
    listening: Socket,
    asking: Socket,
    /// Port of the listening socket, by which /proc/net/netlink names it.
    port: u32,
    dropped: u64,
    sequence: u32,
    buffer: Vec<u8>,
}

/// What the listening socket had.
pub(super) enum Heard {
    /// The messages of one datagram.
    Messages(Vec<Result<Message, Malformed>>),
    /// The kernel had no room for so many messages.
    Overflow(u64),
    /// It is empty.
    Nothing,
}

impl Channel {
    pub(super) fn open() -> io::Result<Self> {
        let mut listening = Socket::new(NETLINK_ROUTE)?;
        let address = listening.bind_auto()?;
        // More than the limit takes CAP_NET_ADMIN.
        if set_socket_recv_buffer_size_force(listening.as_fd(), WAITING).is_err() {
            set_socket_recv_buffer_size(listening.as_fd(), WAITING)?;
        }
        for group in GROUPS {
            match listening.add_membership(group) {
                // Next hop objects came with Linux 5.3.
                Err(_) if group == libc::RTNLGRP_NEXTHOP => {}
                result => result?,
            }
        }
        listening.set_non_blocking(true)?;
        let mut asking = Socket::new(NETLINK_ROUTE)?;
        asking.bind_auto()?;
        asking.connect(&SocketAddr::new(0, 0))?;
        set_socket_timeout(asking.as_fd(), Timeout::Recv, Some(PATIENCE))?;
        let port = address.port_number();
        let buffer = Vec::with_capacity(BUFFER);
        Ok(Self { listening, asking, port, dropped: 0, sequence: 0, buffer })
    }

    pub(super) fn descriptor(&self) -> BorrowedFd<'_> {
        self.listening.as_fd()
    }

    /// Takes what came next.
    pub(super) fn hear(&mut self) -> Heard {
        loop {
            self.buffer.clear();
            match self.listening.recv_from(&mut self.buffer, libc::MSG_TRUNC) {
                // Whoever may administer the network may send to the groups: only the kernel is believed.
                Ok((_, from)) if from.port_number() != 0 => {}
                Ok((length, _)) if length > self.buffer.len() => {
                    return Heard::Messages(vec![Err(Malformed(format!("truncated, of {length} bytes")))]);
                }
                Ok(_) => {
                    let messages = decode::datagram(&self.buffer).map(|received| received.message);
                    return Heard::Messages(messages.collect());
                }
                Err(error) => match error.raw_os_error() {
                    Some(libc::EINTR) => {}
                    Some(libc::ENOBUFS) => return Heard::Overflow(self.newly_dropped()),
                    _ => return Heard::Nothing,
                },
            }
        }
    }

    /// How many messages the kernel dropped since this was last asked; it counts them for each socket.
    pub(super) fn newly_dropped(&mut self) -> u64 {
        let listed = fs::read_to_string("/proc/thread-self/net/netlink").unwrap_or_default();
        let dropped = drops(&listed, self.port).unwrap_or(self.dropped);
        let newly = dropped.saturating_sub(self.dropped);
        self.dropped = dropped;
        newly
    }

    /// Every interface with its addresses.
    pub(super) fn interfaces(&mut self) -> io::Result<interfaces::Census> {
        let mut census: interfaces::Census =
            self.dump(libc::RTM_GETLINK, libc::AF_UNSPEC, |census, message| {
                let census: &mut interfaces::Census = census;
                if let Message::Link(index, link) = message
                    && census.links.len() < interfaces::LIMIT
                {
                    census.links.insert(index, link);
                }
            })?;
        let with: interfaces::Census = self.dump(libc::RTM_GETADDR, libc::AF_UNSPEC, |census, message| {
            let census: &mut interfaces::Census = census;
            if let Message::Address(index, address) = message {
                census.add(index, address);
            }
        })?;
        census.addresses = with.addresses;
        Ok(census)
    }

    /// Every route, and how many there was no room for.
    pub(super) fn routes(&mut self) -> io::Result<(routes::Census, u64)> {
        let (mut census, mut refused) = self.routes_of(libc::AF_INET)?;
        let (of_ipv6, more) = self.routes_of(libc::AF_INET6)?;
        census.extend(of_ipv6);
        refused += more;
        Ok((census, refused))
    }

    fn routes_of(&mut self, family: i32) -> io::Result<(routes::Census, u64)> {
        self.dump(libc::RTM_GETROUTE, family, |found: &mut (routes::Census, u64), message| {
            // A kernel without a family answers with the routes of those that it has.
            if let Message::Route(group, entry, _) = message
                && group.destination.0.is_ipv4() == (family == libc::AF_INET)
            {
                found.1 += u64::from(!routes::collect(&mut found.0, &group, entry));
            }
        })
    }

    /// Asks for everything of a kind. When something changed meanwhile it is asked again, a few times.
    fn dump<T: Default>(
        &mut self,
        kind: u16,
        family: i32,
        mut take: impl FnMut(&mut T, Message),
    ) -> io::Result<T> {
        let mut found = T::default();
        for _ in 0..ATTEMPTS {
            found = T::default();
            self.ask(kind, family as u8)?;
            if self.answer(|message| take(&mut found, message))? {
                break;
            }
        }
        Ok(found)
    }

    fn ask(&mut self, kind: u16, family: u8) -> io::Result<()> {
        self.sequence = self.sequence.wrapping_add(1);
        // A header, and the family: struct rtgenmsg, which all of these questions may be.
        let mut question = [0; 20];
        let mut buffer = NetlinkBuffer::new(&mut question);
        buffer.set_length(17);
        buffer.set_message_type(kind);
        buffer.set_flags(NLM_F_REQUEST | NLM_F_DUMP);
        buffer.set_sequence_number(self.sequence);
        question[16] = family;
        again(|| self.asking.send(&question, 0)).map(drop)
    }

    /// Takes the answers to the last question; gives whether they are of one moment.
    fn answer(&mut self, mut take: impl FnMut(Message)) -> io::Result<bool> {
        let mut consistent = true;
        loop {
            again(|| {
                self.buffer.clear();
                self.asking.recv(&mut self.buffer, libc::MSG_TRUNC)
            })?;
            if self.buffer.is_empty() {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            for received in decode::datagram(&self.buffer) {
                if received.sequence != self.sequence {
                    continue;
                }
                consistent &= !received.interrupted;
                match received.message {
                    Ok(Message::Done(0)) => return Ok(consistent),
                    Ok(Message::Done(code)) => {
                        return Err(io::Error::from_raw_os_error(code.saturating_abs()));
                    }
                    Ok(message) => take(message),
                    Err(error) => tracing::warn!("{error}"),
                }
            }
        }
    }
}

/// The column `Drops` of the line whose `Eth` is the protocol and whose `Pid` is the port, see linux/net/netlink/af_netlink.c.
fn drops(listed: &str, port: u32) -> Option<u64> {
    listed.lines().find_map(|line| {
        let mut columns = line.split_ascii_whitespace().skip(1);
        let is_it = columns.next()? == "0" && columns.next()?.parse() == Ok(port);
        if is_it { columns.nth(5)?.parse().ok() } else { None }
    })
}

fn again<T>(mut call: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match call() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drops_are_those_of_the_port() {
        let listed = "sk               Eth Pid        Groups   Rmem     Wmem     Dump  Locks    Drops    Inode\n\
                      0000000000000000 0   4242       00000551 0        0        0     2        17       31337   \n\
                      0000000000000000 4   4242       00000000 0        0        0     2        99       31338   \n\
                      0000000000000000 0   0          00000000 0        0        0     2        1        9       \n";
        assert_eq!((drops(listed, 4242), drops(listed, 0), drops(listed, 7)), (Some(17), Some(1), None));
        assert_eq!(drops("0 0 4242\n\n \nx", 4242), None);
    }
}
