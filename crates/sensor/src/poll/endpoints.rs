//! The endpoints that are known, and what a listing of the sockets tells of them.

use std::collections::{HashMap, HashSet};

use super::{
    namespaces::{Listing, NetworkNamespaces},
    outbox::Outbox,
    processes::Processes,
};
use crate::{
    Observation, clock,
    observation::{Actor, Direction, Endpoint, EndpointEnd, EndpointId, Origin, Traffic, Transport},
    proc::Reader,
    sockets::{Socket, State},
};

/// An endpoint that is known.
struct Known {
    endpoint: Endpoint,
    established: bool,
    traffic: Option<Traffic>,
    /// Its end was told, though the socket lingers.
    ended: bool,
    /// The last round that saw it.
    round: u64,
}

/// The table of endpoints.
#[derive(Default)]
pub(super) struct Endpoints {
    known: HashMap<EndpointId, Known>,
    round: u64,
}

impl Endpoints {
    /// Takes one listing of all sockets; says what began and ended.
    pub(super) fn look(
        &mut self,
        reader: &Reader,
        processes: &mut Processes,
        namespaces: &mut NetworkNamespaces,
        origin: Origin,
        out: &mut Outbox,
    ) {
        self.round += 1;
        let listings = namespaces.list();
        let listening = listening(&listings);
        let mut begun = Vec::new();
        for Listing { netns, sockets, .. } in &listings {
            for socket in sockets.iter().filter(|socket| is_endpoint(socket)) {
                let endpoint = endpoint(socket, *netns, &listening, origin);
                if !self.update(socket, &endpoint, out) {
                    begun.push((*socket, endpoint));
                }
            }
        }
        let listed: HashSet<_> = listings.iter().map(|listing| (listing.netns, listing.transport)).collect();
        self.end_unseen(
            |netns, transport| listed.contains(&(netns, transport)) || !namespaces.has(netns),
            out,
        );
        let mut owners = owners(reader, processes, &begun, out);
        for (socket, mut endpoint) in begun {
            endpoint.actor = owners.remove(&socket.inode);
            self.begin(&socket, endpoint, out);
        }
    }

    /// False if the endpoint is not known yet.
    fn update(&mut self, socket: &Socket, endpoint: &Endpoint, out: &mut Outbox) -> bool {
        let Some(known) = self.known.get_mut(&endpoint.id) else { return false };
        // A socket may be bound and connected anew.
        let same = |known: &Endpoint| {
            known.remote == endpoint.remote
                && known.local.port() == endpoint.local.port()
                && (known.direction == Direction::Listen) == (endpoint.direction == Direction::Listen)
        };
        if !same(&known.endpoint) {
            if let Some(known) = self.known.remove(&endpoint.id) {
                known.end(out);
            }
            return false;
        }
        known.round = self.round;
        known.sample(socket);
        if has_closed(socket) && !known.ended {
            known.tell_end(out);
        }
        true
    }

    fn begin(&mut self, socket: &Socket, endpoint: Endpoint, out: &mut Outbox) {
        let id = endpoint.id;
        let mut known =
            Known { endpoint, established: false, traffic: None, ended: false, round: self.round };
        known.sample(socket);
        if has_closed(socket) && known.endpoint.origin == Origin::Found {
            // It was over before we came.
            known.ended = true;
        } else {
            out.push(Observation::Endpoint(Box::new(known.endpoint.clone())));
            if has_closed(socket) {
                known.tell_end(out);
            }
        }
        self.known.insert(id, known);
    }

    fn end_unseen(&mut self, is_listed: impl Fn(u32, Transport) -> bool, out: &mut Outbox) {
        let round = self.round;
        let gone = self
            .known
            .extract_if(|id, known| known.round != round && is_listed(known.endpoint.netns, id.transport));
        for (_, known) in gone {
            known.end(out);
        }
    }
}

impl Known {
    fn sample(&mut self, socket: &Socket) {
        let is_connection =
            socket.transport == Transport::Tcp && self.endpoint.direction != Direction::Listen;
        self.established |= is_connection && socket.state != State::SynSent;
        if is_connection {
            self.traffic = socket.traffic.or(self.traffic);
        }
    }

    fn end(mut self, out: &mut Outbox) {
        if !self.ended {
            self.tell_end(out);
        }
    }

    fn tell_end(&mut self, out: &mut Outbox) {
        self.ended = true;
        let result = self.established.then_some(0);
        let end = EndpointEnd { result, idle: false, traffic: self.traffic };
        out.push(Observation::EndpointEnd {
            at: clock::now(),
            endpoint: Box::new(self.endpoint.clone()),
            end,
        });
    }
}

/// Sockets that nobody has connected, and connections that nobody has accepted, are no endpoints yet.
fn is_endpoint(socket: &Socket) -> bool {
    match socket.transport {
        Transport::Udp => socket.local.port() != 0,
        Transport::Tcp => match socket.state {
            State::Listen => true,
            State::Close | State::SynReceived => false,
            State::Established | State::CloseWait => socket.inode != 0,
            _ => socket.remote.is_some(),
        },
    }
}

/// The process has closed it and the peer has agreed; the kernel keeps the addresses for a while.
fn has_closed(socket: &Socket) -> bool {
    socket.transport == Transport::Tcp
        && (socket.state == State::TimeWait || socket.state == State::FinWait2 && socket.inode == 0)
}

fn listening(listings: &[Listing]) -> HashSet<(u32, u16)> {
    let listeners = |listing: &Listing| {
        let netns = listing.netns;
        let sockets = listing.sockets.iter().filter(|socket| socket.state == State::Listen);
        sockets.map(|socket| (netns, socket.local.port())).collect::<Vec<_>>()
    };
    listings.iter().flat_map(listeners).collect()
}

fn endpoint(socket: &Socket, netns: u32, listening: &HashSet<(u32, u16)>, origin: Origin) -> Endpoint {
    let direction = match (socket.transport, socket.remote) {
        (_, None) => Direction::Listen,
        (Transport::Tcp, _) if listening.contains(&(netns, socket.local.port())) => Direction::In,
        _ => Direction::Out,
    };
    let peer = socket.remote.filter(|_| socket.transport == Transport::Udp);
    Endpoint {
        id: EndpointId { transport: socket.transport, socket: socket.cookie, peer },
        direction,
        local: socket.local,
        remote: socket.remote,
        actor: None,
        netns,
        origin,
        at: clock::now(),
    }
}

/// Who holds the sockets that begin.
fn owners(
    reader: &Reader,
    processes: &mut Processes,
    begun: &[(Socket, Endpoint)],
    out: &mut Outbox,
) -> HashMap<u32, Actor> {
    let mut wanted: HashSet<u32> =
        begun.iter().map(|(socket, _)| socket.inode).filter(|inode| *inode != 0).collect();
    let mut owners = HashMap::new();
    let mut search = |pids: Vec<u32>, processes: &Processes| {
        for pid in pids {
            if wanted.is_empty() {
                break;
            }
            let (Some(process), Some(actor)) = (reader.process(pid), processes.actor(pid)) else { continue };
            let held = process.sockets().into_iter().filter(|inode| wanted.remove(inode));
            owners.extend(held.map(|inode| (inode, actor.clone())));
        }
        wanted.is_empty()
    };
    if !search(processes.by_age(), processes) {
        // The owner may have come after the processes were looked at.
        let newcomers = processes.look_for_newcomers(reader, out);
        search(newcomers, processes);
    }
    owners
}
