//! The network namespaces of this host, as far as processes are in them.

use std::collections::{HashMap, HashSet};

use crate::{
    observation::Transport,
    proc::Reader,
    sockets::{Diag, Socket, SocketsError},
};

/// One way into each network namespace.
pub(super) struct NetworkNamespaces {
    own: u32,
    /// The diag of our own; or why there is none.
    first: Result<Diag, SocketsError>,
    others: HashMap<u32, Diag>,
    /// Those that cannot be entered.
    refused: HashSet<u32>,
}

/// The sockets of a network namespace.
pub(super) struct Listing {
    pub(super) netns: u32,
    pub(super) transport: Transport,
    pub(super) sockets: Vec<Socket>,
}

impl NetworkNamespaces {
    pub(super) fn new(own: u32) -> Self {
        let first = Diag::open().and_then(|mut diag| {
            for transport in [Transport::Tcp, Transport::Udp] {
                diag.sockets(transport)?;
            }
            Ok(diag)
        });
        Self { own, first, others: HashMap::new(), refused: HashSet::new() }
    }

    /// Why there are no sockets to be seen.
    pub(super) fn error(&self) -> Option<&SocketsError> {
        self.first.as_ref().err()
    }

    /// Enters the namespaces that are new, given one process in each, and leaves those without processes: a diag that stays would keep the
    /// namespace and its devices.
    pub(super) fn follow(&mut self, reader: &Reader, present: &HashMap<u32, u32>) {
        self.others.retain(|netns, _| present.contains_key(netns));
        self.refused.retain(|netns| present.contains_key(netns));
        for (netns, pid) in present {
            if *netns == self.own || self.others.contains_key(netns) || self.refused.contains(netns) {
                continue;
            }
            let namespace =
                reader.process(*pid).filter(|process| process.network_namespace() == Some(*netns));
            let Some(namespace) = namespace.and_then(|process| process.open_network_namespace()) else {
                continue;
            };
            match Diag::open_in(namespace) {
                Ok(diag) => {
                    self.others.insert(*netns, diag);
                }
                Err(error) => {
                    tracing::debug!(netns, %error, "a network namespace stays unseen");
                    self.refused.insert(*netns);
                }
            }
        }
    }

    /// Whether a namespace is still there.
    pub(super) fn has(&self, netns: u32) -> bool {
        netns == self.own || self.others.contains_key(&netns)
    }

    /// The sockets of every namespace; without those that could not be listed this time.
    pub(super) fn list(&mut self) -> Vec<Listing> {
        let first = self.first.as_mut().ok().map(|diag| (self.own, diag));
        let others = self.others.iter_mut().map(|(netns, diag)| (*netns, diag));
        let mut listings = Vec::new();
        for (netns, diag) in first.into_iter().chain(others) {
            for transport in [Transport::Tcp, Transport::Udp] {
                match diag.sockets(transport) {
                    Ok(sockets) => listings.push(Listing { netns, transport, sockets }),
                    Err(error) => tracing::warn!(netns, %error, "sockets were not seen in this round"),
                }
            }
        }
        listings
    }
}
