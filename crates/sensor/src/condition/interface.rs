//! Network interfaces and their addresses.

use std::net::IpAddr;

/// An interface with one of its addresses, or without any.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Interface {
    /// Number of the interface, unique in its network namespace.
    pub index: u32,
    /// Name.
    pub name: Vec<u8>,
    /// What it is: the kernel's name of its driver's kind (`veth`, `bridge`…), else that of its link layer (`loopback`, `ether`…).
    pub kind: Vec<u8>,
    /// Link-layer address; empty where it has none.
    pub mac: Vec<u8>,
    /// Alias that somebody gave it.
    pub alias: Option<Vec<u8>>,
    /// Name of the bridge, bond or team that it is a port of.
    pub master: Option<Vec<u8>>,
    /// Largest packet, bytes.
    pub mtu: u32,
    /// Somebody has set it up (IFF_UP).
    pub up: bool,
    /// It can carry packets (IFF_LOWER_UP).
    pub carrier: bool,
    /// How often the carrier came or went since the interface was made. The kernel tells of a quick series once.
    pub carrier_changes: u32,
    /// It takes packets that are for others.
    pub promiscuous: bool,
    /// One of its addresses; `None` where it has none.
    pub address: Option<InterfaceAddress>,
}

/// An address of an interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct InterfaceAddress {
    /// The address.
    pub ip: IpAddr,
    /// Length of the network prefix.
    pub prefix: u8,
    /// The other end of a point-to-point link, where it is not the address itself.
    pub peer: Option<IpAddr>,
    /// Where it is valid: the kernel's number (0 everywhere, 253 on the link, 254 on the host).
    pub scope: u8,
}
