//! UDP exchanges: the kernel counts their datagrams in a table, and here is known which of its entries belong to which socket.

use std::collections::HashMap;

use libbpf_rs::{MapCore, MapFlags};
use zerocopy::{FromBytes, IntoBytes};

use super::record::{Peer, PeerKey};
use crate::observation::{BootNs, Endpoint, EndpointEnd, Observation, Traffic};

/// An exchange without a datagram for so long has ended.
pub(super) const IDLE: BootNs = 120_000_000_000;

#[derive(Default)]
pub(super) struct Exchanges {
    by_socket: HashMap<u64, Vec<(Option<PeerKey>, Endpoint)>>,
}

impl Exchanges {
    /// Remembers an endpoint that began; a listener has no key.
    pub(super) fn begin(&mut self, key: Option<PeerKey>, endpoint: Endpoint) {
        self.by_socket.entry(endpoint.id.socket).or_default().push((key, endpoint));
    }

    /// The socket was closed: all its endpoints end.
    pub(super) fn release(
        &mut self,
        table: &impl MapCore,
        socket: u64,
        at: BootNs,
        out: &mut Vec<Observation>,
    ) {
        for (key, endpoint) in self.by_socket.remove(&socket).unwrap_or_default() {
            let traffic = key.and_then(|key| take(table, &key));
            out.push(end(endpoint, at, traffic, false));
        }
    }

    /// Ends the exchanges in which nothing was said for a while.
    pub(super) fn sweep(&mut self, table: &impl MapCore, now: BootNs, out: &mut Vec<Observation>) {
        self.by_socket.retain(|_, endpoints| {
            endpoints.retain(|(key, endpoint)| {
                let Some(key) = key else { return true };
                let last = look(table, key).map_or(0, |peer| peer.last);
                if now.saturating_sub(last) < IDLE {
                    return true;
                }
                let traffic = take(table, key);
                out.push(end(endpoint.clone(), last.max(endpoint.at), traffic, true));
                false
            });
            !endpoints.is_empty()
        });
    }
}

fn end(endpoint: Endpoint, at: BootNs, traffic: Option<Traffic>, idle: bool) -> Observation {
    Observation::EndpointEnd {
        at,
        endpoint: Box::new(endpoint),
        end: EndpointEnd { result: None, idle, traffic },
    }
}

fn look(table: &impl MapCore, key: &PeerKey) -> Option<Peer> {
    let bytes = table.lookup(key.as_bytes(), MapFlags::ANY).ok()??;
    Peer::read_from_bytes(&bytes).ok()
}

fn take(table: &impl MapCore, key: &PeerKey) -> Option<Traffic> {
    let bytes = table.lookup_and_delete(key.as_bytes()).ok()??;
    let peer = Peer::read_from_bytes(&bytes).ok()?;
    Some(Traffic {
        bytes_sent: peer.bytes_sent,
        bytes_received: peer.bytes_received,
        packets_sent: peer.packets_sent,
        packets_received: peer.packets_received,
    })
}
