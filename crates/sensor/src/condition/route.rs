//! Routes.

use std::net::IpAddr;

/// One way out of a route of the kernel's tables: a route with several next hops is several of these.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Route {
    /// Number of the routing table (254 main, 255 local).
    pub table: u32,
    /// The network that it leads to, and the length of its prefix.
    pub destination: (IpAddr, u8),
    /// The network of the senders that it is for, where it is not for all (IPv6).
    pub source: Option<(IpAddr, u8)>,
    /// Type of service that it is for; 0 for all (IPv4).
    pub tos: u8,
    /// Its metric; 0 is the kernel's way to say that there is none.
    pub metric: u32,
    /// What happens to packets: the kernel's number (1 unicast, 2 local, 6 blackhole…), see rtnetlink(7).
    pub kind: u8,
    /// Who put it there: the kernel's number (2 kernel, 3 boot, 4 static…), see rtnetlink(7).
    pub protocol: u8,
    /// How far away the destination is: the kernel's number (0 anywhere, 253 on the link, 254 on this host).
    pub scope: u8,
    /// The source address that it prefers.
    pub preferred: Option<IpAddr>,
    /// The next hop.
    pub gateway: Option<IpAddr>,
    /// Number of the interface.
    pub index: Option<u32>,
    /// Name of the interface.
    pub interface: Option<Vec<u8>>,
    /// Share of this next hop among several; 1 for the only one.
    pub weight: u16,
}
