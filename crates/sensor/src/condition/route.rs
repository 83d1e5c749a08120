//! Routes.

use std::net::IpAddr;

/// A route of the kernel's tables.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// The network that it leads to, and the length of its prefix.
    pub destination: (IpAddr, u8),
    /// The next hop.
    pub gateway: Option<IpAddr>,
    /// Name of the interface.
    pub interface: Option<Vec<u8>>,
    /// Its metric.
    pub metric: Option<u32>,
}
