//! The sockets that exist, as the kernel's sock_diag gives them (Linux 3.3; cookies and traffic as below). See sock_diag(7).
//!
//! One [`Diag`] sees the sockets of one network namespace. An unprivileged reader sees the sockets of every user, but not whose they are.

mod diag;
mod tcp_info;

use std::net::SocketAddr;

pub use diag::Diag;

use crate::observation::{Traffic, Transport};

/// Why sockets could not be listed.
#[derive(Debug, thiserror::Error)]
pub enum SocketsError {
    /// The namespace cannot be entered.
    #[error("cannot enter a network namespace: {0}")]
    Enter(#[source] std::io::Error),
    /// There is no netlink socket to be had.
    #[error("cannot open sock_diag: {0}")]
    Open(#[source] std::io::Error),
    /// The kernel refuses, or its answer does not come.
    #[error("cannot list {transport:?} sockets: {source}")]
    Dump {
        /// Of this protocol.
        transport: Transport,
        /// What the system says.
        source: std::io::Error,
    },
    /// The answer cannot be understood.
    #[error("sock_diag gave a malformed answer: {0}")]
    Malformed(String),
}

/// The state of a socket; UDP knows `Established` (connected) and `Close`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "the kernel's names, see RFC 9293")]
pub enum State {
    Established,
    SynSent,
    SynReceived,
    FinWait1,
    FinWait2,
    TimeWait,
    Close,
    CloseWait,
    LastAck,
    Listen,
    Closing,
}

impl State {
    /// The kernel's number, see linux/tcp_states.h.
    fn from_kernel(number: u8) -> Option<Self> {
        Some(match number {
            1 => Self::Established,
            2 => Self::SynSent,
            // TCP_NEW_SYN_RECV, 12, is the same to everyone but the kernel.
            3 | 12 => Self::SynReceived,
            4 => Self::FinWait1,
            5 => Self::FinWait2,
            6 => Self::TimeWait,
            7 => Self::Close,
            8 => Self::CloseWait,
            9 => Self::LastAck,
            10 => Self::Listen,
            11 => Self::Closing,
            _ => return None,
        })
    }

    /// The peer has said that it sends no more.
    fn has_received_fin(self) -> bool {
        matches!(self, Self::CloseWait | Self::LastAck | Self::Closing | Self::TimeWait)
    }
}

/// A socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Socket {
    /// Its protocol.
    pub transport: Transport,
    /// Its state.
    pub state: State,
    /// The address on this host. IPv4-mapped addresses are given as IPv4.
    pub local: SocketAddr,
    /// The address of the peer, where it has one.
    pub remote: Option<SocketAddr>,
    /// Inode in sockfs, by which /proc/PID/fd names it; 0 once no process holds it any more.
    pub inode: u32,
    /// Who made it.
    pub uid: u32,
    /// The number that the kernel gives a socket for as long as it exists, and never again.
    pub cookie: u64,
    /// What went over it; TCP only, and not once it waits for the last segments.
    pub traffic: Option<Traffic>,
}
