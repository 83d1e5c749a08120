//! Messages of rtnetlink (rtnetlink(7), linux/rtnetlink.h), as far as interfaces and routes need them.
//!
//! Only the attributes that are used are read. A name or an alias may be any bytes, and an attribute that a newer kernel or a strange driver
//! adds must not hide the interface that has it: messages are therefore not decoded whole.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use netlink_packet_core::{NetlinkBuffer, NlaBuffer, NlasIterator};
use netlink_packet_route::{
    AddressFamily,
    address::AddressHeader,
    link::{LinkFlags, LinkHeader, LinkLayerType},
    route::{RouteFlags, RouteHeader},
};

use super::{
    interfaces::Link,
    routes::{Entry, Group, Hop},
};
use crate::condition::InterfaceAddress;

const HEADER: usize = 16;
const LINK_HEADER: usize = 16;
const ADDRESS_HEADER: usize = 8;
const ROUTE_HEADER: usize = 12;
const NEXT_HOP_HEADER: usize = 8;

/// Longest string that is kept of an attribute: IFALIASZ, the longest that the kernel takes.
const LONGEST: usize = 256;
/// Most next hops of a route that are kept; a message of 64 KiB could hold some thousands.
const MOST_HOPS: usize = 4096;

/// One message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Message {
    /// An interface is so from now on.
    Link(u32, Link),
    /// An interface is gone.
    LinkGone(u32),
    /// An interface has an address.
    Address(u32, InterfaceAddress),
    /// It has it no more.
    AddressGone(u32, InterfaceAddress),
    /// There is a route.
    Route(Group, Entry, Place),
    /// A route is gone.
    RouteGone(Group, Entry),
    /// A next hop object, which routes may share, was made, changed or deleted.
    NextHop,
    /// The end of a dump, with its error number (0 for none).
    Done(i32),
    /// Nothing that matters here.
    Other,
}

/// Where a new route stands among those to the same destination.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    First,
    Last,
    /// It replaces the first.
    Replaces,
}

/// A message that cannot be understood.
#[derive(Debug, thiserror::Error)]
#[error("malformed rtnetlink message: {0}")]
pub(super) struct Malformed(pub(super) String);

impl From<netlink_packet_core::DecodeError> for Malformed {
    fn from(error: netlink_packet_core::DecodeError) -> Self {
        Self(error.to_string())
    }
}

/// Flags and sequence number of a message, and what it says.
pub(super) struct Received {
    pub(super) sequence: u32,
    pub(super) interrupted: bool,
    pub(super) message: Result<Message, Malformed>,
}

/// The messages of one datagram. What follows one whose length is wrong cannot be found any more.
pub(super) fn datagram(bytes: &[u8]) -> impl Iterator<Item = Received> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let buffer = match NetlinkBuffer::new_checked(rest) {
            Ok(buffer) => buffer,
            Err(error) => {
                rest = &[];
                return Some(Received { sequence: 0, interrupted: false, message: Err(error.into()) });
            }
        };
        let length = buffer.length() as usize;
        let payload = rest.get(HEADER..length).unwrap_or_default();
        let received = Received {
            sequence: buffer.sequence_number(),
            interrupted: buffer.flags() & netlink_packet_core::NLM_F_DUMP_INTR != 0,
            message: message(buffer.message_type(), buffer.flags(), payload),
        };
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some(received)
    })
}

fn message(kind: u16, flags: u16, payload: &[u8]) -> Result<Message, Malformed> {
    Ok(match kind {
        libc::RTM_NEWLINK | libc::RTM_DELLINK => link(kind == libc::RTM_DELLINK, payload)?,
        libc::RTM_NEWADDR => address(payload)?.map_or(Message::Other, |(n, a)| Message::Address(n, a)),
        libc::RTM_DELADDR => address(payload)?.map_or(Message::Other, |(n, a)| Message::AddressGone(n, a)),
        libc::RTM_NEWROUTE => {
            let has = |flag| flags & flag != 0;
            let place = if has(netlink_packet_core::NLM_F_REPLACE) {
                Place::Replaces
            } else if has(netlink_packet_core::NLM_F_APPEND) || has(netlink_packet_core::NLM_F_MULTIPART) {
                Place::Last
            } else {
                Place::First
            };
            route(payload)?.map_or(Message::Other, |(g, e)| Message::Route(g, e, place))
        }
        libc::RTM_DELROUTE => route(payload)?.map_or(Message::Other, |(g, e)| Message::RouteGone(g, e)),
        RTM_NEWNEXTHOP | RTM_DELNEXTHOP => Message::NextHop,
        NLMSG_ERROR | NLMSG_DONE => Message::Done(number(payload).unwrap_or(0)),
        NLMSG_OVERRUN => return Err(Malformed("overrun".to_owned())),
        _ => Message::Other,
    })
}

const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const NLMSG_OVERRUN: u16 = 4;
const RTM_NEWNEXTHOP: u16 = 104;
const RTM_DELNEXTHOP: u16 = 105;

fn number(payload: &[u8]) -> Option<i32> {
    payload.first_chunk::<4>().map(|bytes| i32::from_ne_bytes(*bytes))
}

fn u32_of(value: &[u8]) -> Option<u32> {
    value.first_chunk::<4>().map(|bytes| u32::from_ne_bytes(*bytes))
}

/// A string, which the kernel ends with NUL.
fn string(value: &[u8]) -> Vec<u8> {
    let end = value.iter().position(|&byte| byte == 0).unwrap_or(value.len());
    value[..end.min(LONGEST)].to_vec()
}

fn ip(value: &[u8]) -> Option<IpAddr> {
    match value.len() {
        4 => <[u8; 4]>::try_from(value).ok().map(|bytes| Ipv4Addr::from(bytes).into()),
        16 => <[u8; 16]>::try_from(value).ok().map(|bytes| Ipv6Addr::from(bytes).into()),
        _ => None,
    }
}

/// An attribute that holds an address must hold one of the message's family.
fn ip_of(family: AddressFamily, value: &[u8]) -> Result<IpAddr, Malformed> {
    match ip(value) {
        Some(ip) if ip.is_ipv4() == (family == AddressFamily::Inet) => Ok(ip),
        _ => Err(Malformed(format!("an address of {} bytes", value.len()))),
    }
}

fn attributes(bytes: &[u8]) -> impl Iterator<Item = Result<NlaBuffer<&[u8]>, Malformed>> {
    NlasIterator::new(bytes).map(|attribute| attribute.map_err(Malformed::from))
}

fn link(gone: bool, payload: &[u8]) -> Result<Message, Malformed> {
    let header = LinkHeader::parse(payload)?;
    // A bridge tells of its ports in messages of its own family: a port that leaves it is no interface that is gone.
    if header.interface_family != AddressFamily::Unspec {
        return Ok(Message::Other);
    }
    if gone {
        return Ok(Message::LinkGone(header.index));
    }
    let has = |flag| header.flags.contains(flag);
    let mut link = Link {
        kind: layer(header.link_layer_type),
        up: has(LinkFlags::Up),
        carrier: has(LinkFlags::LowerUp),
        ..Link::default()
    };
    let mut mtu = None;
    for attribute in attributes(payload.get(LINK_HEADER..).unwrap_or_default()) {
        let attribute = attribute?;
        let value = attribute.value();
        match attribute.kind() {
            libc::IFLA_IFNAME => link.name = string(value),
            libc::IFLA_ADDRESS => link.mac = value[..value.len().min(LONGEST)].to_vec(),
            libc::IFLA_MTU => mtu = u32_of(value),
            libc::IFLA_MASTER => link.master = u32_of(value).filter(|&index| index != 0),
            libc::IFLA_IFALIAS => link.alias = Some(string(value)).filter(|alias| !alias.is_empty()),
            libc::IFLA_PROMISCUITY => link.promiscuous = u32_of(value).is_some_and(|count| count > 0),
            libc::IFLA_CARRIER_CHANGES => link.carrier_changes = u32_of(value).unwrap_or(0),
            libc::IFLA_LINKINFO => {
                for inner in attributes(value) {
                    let inner = inner?;
                    if inner.kind() == libc::IFLA_INFO_KIND {
                        link.kind = string(inner.value());
                    }
                }
            }
            _ => {}
        }
    }
    // A message without is about something else, such as an event of a wireless network.
    let Some(mtu) = mtu else { return Ok(Message::Other) };
    if link.name.is_empty() {
        return Err(Malformed("an interface without a name".to_owned()));
    }
    link.mtu = mtu;
    Ok(Message::Link(header.index, link))
}

fn layer(layer: LinkLayerType) -> Vec<u8> {
    layer.to_string().to_ascii_lowercase().into_bytes()
}

fn address(payload: &[u8]) -> Result<Option<(u32, InterfaceAddress)>, Malformed> {
    let header = AddressHeader::parse(payload)?;
    if !is_ip(header.family) {
        return Ok(None);
    }
    let (mut address, mut local) = (None, None);
    for attribute in attributes(payload.get(ADDRESS_HEADER..).unwrap_or_default()) {
        let attribute = attribute?;
        match attribute.kind() {
            libc::IFA_ADDRESS => address = Some(ip_of(header.family, attribute.value())?),
            libc::IFA_LOCAL => local = Some(ip_of(header.family, attribute.value())?),
            _ => {}
        }
    }
    // On a point-to-point link the one that is not local is the peer's.
    let Some(ip) = local.or(address) else {
        return Err(Malformed("an address message without an address".to_owned()));
    };
    let peer = address.filter(|&other| other != ip);
    let scope = header.scope.into();
    Ok(Some((header.index, InterfaceAddress { ip, prefix: header.prefix_len, peer, scope })))
}

fn is_ip(family: AddressFamily) -> bool {
    matches!(family, AddressFamily::Inet | AddressFamily::Inet6)
}

fn route(payload: &[u8]) -> Result<Option<(Group, Entry)>, Malformed> {
    let header = RouteHeader::parse(payload)?;
    let family = header.address_family;
    if !is_ip(family) || header.flags.contains(RouteFlags::Cloned) {
        return Ok(None);
    }
    let v4 = family == AddressFamily::Inet;
    let any: IpAddr = if v4 { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let longest = if v4 { 32 } else { 128 };
    if header.destination_prefix_length > longest || header.source_prefix_length > longest {
        return Err(Malformed("a prefix that is longer than its address".to_owned()));
    }
    let mut group = Group {
        table: header.table.into(),
        destination: (any, header.destination_prefix_length),
        source: (header.source_prefix_length > 0).then_some((any, header.source_prefix_length)),
        tos: header.tos,
        metric: 0,
    };
    let mut entry = Entry {
        kind: header.kind.into(),
        protocol: header.protocol.into(),
        scope: header.scope.into(),
        preferred: None,
        hops: Vec::new(),
    };
    let mut only = Hop::default();
    for attribute in attributes(payload.get(ROUTE_HEADER..).unwrap_or_default()) {
        let attribute = attribute?;
        let value = attribute.value();
        match attribute.kind() {
            libc::RTA_DST => group.destination.0 = ip_of(family, value)?,
            libc::RTA_SRC => {
                if let Some(source) = &mut group.source {
                    source.0 = ip_of(family, value)?;
                }
            }
            libc::RTA_TABLE => group.table = u32_of(value).unwrap_or(group.table),
            libc::RTA_PRIORITY => group.metric = u32_of(value).unwrap_or(0),
            libc::RTA_PREFSRC => entry.preferred = Some(ip_of(family, value)?),
            libc::RTA_MULTIPATH => entry.hops = next_hops(family, value)?,
            _ => only.take(family, &attribute)?,
        }
    }
    if entry.hops.is_empty() {
        entry.hops.push(only);
    }
    Ok(Some((group, entry)))
}

impl Hop {
    /// Takes what an attribute says of the next hop.
    fn take(&mut self, family: AddressFamily, attribute: &NlaBuffer<&[u8]>) -> Result<(), Malformed> {
        let value = attribute.value();
        match attribute.kind() {
            libc::RTA_OIF => self.index = u32_of(value),
            libc::RTA_GATEWAY => self.gateway = Some(ip_of(family, value)?),
            // A gateway of the other family: its number, two bytes, stands before the address.
            libc::RTA_VIA => self.gateway = value.get(2..).and_then(ip),
            _ => {}
        }
        Ok(())
    }
}

/// struct rtnexthop: length (2 bytes), flags, weight less one, index of the interface (4 bytes), attributes.
fn next_hops(family: AddressFamily, value: &[u8]) -> Result<Vec<Hop>, Malformed> {
    let mut hops = Vec::new();
    let mut rest = value;
    while let Some(header) = rest.first_chunk::<NEXT_HOP_HEADER>() {
        let length = usize::from(u16::from_ne_bytes([header[0], header[1]]));
        let (Some(inside), true) = (rest.get(NEXT_HOP_HEADER..length), hops.len() < MOST_HOPS) else {
            return Err(Malformed(format!("a next hop of {length} bytes, in {}", rest.len())));
        };
        let index = u32::from_ne_bytes([header[4], header[5], header[6], header[7]]);
        let mut hop = Hop { index: Some(index), gateway: None, weight: u16::from(header[3]) + 1 };
        for attribute in attributes(inside) {
            hop.take(family, &attribute?)?;
        }
        hops.push(hop);
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    Ok(hops)
}

#[cfg(test)]
mod tests;
