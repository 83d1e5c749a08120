//! Network endpoints: which are open, under which row.

use std::{
    collections::{HashMap, VecDeque},
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use luarm_schema::{
    End, HostName, OpenEndpoint, Word,
    escape::escape,
    tables::{NetInfo, NetInfoEnd},
};
use luarm_sensor::{
    BootNs,
    observation::{Direction, Endpoint, EndpointEnd, EndpointId, Origin, Transport},
};

use crate::{
    bounded::{Generations, QuickMap},
    context::{Context, UNKNOWN_ID},
    names::{Asker, Names},
    process::Processes,
};

/// How many endpoints may be open at once.
const OPEN: usize = 1 << 20;
/// How many ends are remembered whose beginning was not seen: it may be on its way.
const EARLY_ENDS: usize = 1024;

struct Open {
    endpointinfo: i64,
    began: BootNs,
}

pub(crate) struct Endpoints {
    open: QuickMap<EndpointId, Open>,
    /// In the order in which they began; some have ended.
    order: VecDeque<(EndpointId, i64)>,
    limit: usize,
    early_ends: Generations<EndpointId, BootNs>,
    /// Rows that had not ended when the recorder started, by transport and socket.
    remembered: HashMap<(String, u64), Vec<OpenEndpoint>>,
    evicted: [u64; 2],
}

impl Endpoints {
    pub(crate) fn new(remembered: Vec<OpenEndpoint>) -> Self {
        let mut by_socket: HashMap<_, Vec<OpenEndpoint>> = HashMap::new();
        for open in remembered {
            by_socket.entry((open.transport.clone(), open.socket)).or_default().push(open);
        }
        Self {
            open: QuickMap::default(),
            order: VecDeque::new(),
            limit: OPEN,
            early_ends: Generations::new(EARLY_ENDS),
            remembered: by_socket,
            evicted: [0; 2],
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.open.len()
    }

    pub(crate) fn begin(
        &mut self,
        ctx: &mut Context,
        processes: &mut Processes,
        names: &mut Names,
        endpoint: &Endpoint,
    ) {
        let id = endpoint.id;
        // A connection in has its socket to itself: an end of the socket that was told of before was its own. It may be accepted on
        // one processor while another closes it.
        let own = |ended: &BootNs| {
            *ended == endpoint.at || endpoint.direction == Direction::In && id.transport == Transport::Tcp
        };
        if self.early_ends.get(&id).is_some_and(own) {
            return;
        }
        // A connection that begins now is not the one that the same socket had before.
        let anew = id.transport == Transport::Tcp && endpoint.origin == Origin::Event;
        if let Some(known) = self.recall(ctx, endpoint, anew) {
            self.insert(ctx, id, known, endpoint.at);
            return;
        }
        if let Some(open) = self.open.get(&id) {
            if endpoint.origin != Origin::Event || open.began == endpoint.at {
                return;
            }
            if let Some(open) = self.open.remove(&id) {
                let end = plain_end(ctx, endpoint.at.max(open.began), "unseen");
                ctx.draft.end(open.endpointinfo, End::NetInfo(end));
            }
        }
        let key = row(ctx, processes, names, endpoint, true);
        self.insert(ctx, id, key, endpoint.at);
    }

    pub(crate) fn end(
        &mut self,
        ctx: &mut Context,
        processes: &mut Processes,
        names: &mut Names,
        (at, endpoint, end): (BootNs, &Endpoint, EndpointEnd),
    ) {
        let (key, began) = match self.open.remove(&endpoint.id) {
            Some(open) => (open.endpointinfo, open.began),
            None => match self.recall(ctx, endpoint, false) {
                Some(key) => (key, endpoint.at),
                None => {
                    self.early_ends.insert(endpoint.id, endpoint.at);
                    (row(ctx, processes, names, endpoint, false), endpoint.at)
                }
            },
        };
        let ended = match end {
            EndpointEnd { result: Some(error), .. } if error != 0 => "refused",
            EndpointEnd { idle: true, .. } => "idle",
            _ => "close",
        };
        let mut row = plain_end(ctx, at.max(began), ended);
        row.result = end.result;
        if let Some(traffic) = end.traffic {
            let count = |n: u64| Some(i64::try_from(n).unwrap_or(i64::MAX));
            row.bytessent = count(traffic.bytes_sent);
            row.bytesreceived = count(traffic.bytes_received);
            row.packetssent = count(traffic.packets_sent);
            row.packetsreceived = count(traffic.packets_received);
        }
        ctx.draft.end(key, End::NetInfo(row));
        names.socket_closed(endpoint.id);
    }

    /// Ends the remembered rows that an inventory did not meet.
    pub(crate) fn complete(&mut self, ctx: &mut Context) {
        for open in std::mem::take(&mut self.remembered).into_values().flatten() {
            let end = plain_end(ctx, ctx.clock.latest(), "unseen");
            ctx.draft.end(open.endpointinfo, End::NetInfo(end));
        }
    }

    /// How many TCP and UDP endpoints were given up because too many were open, since this was asked last.
    pub(crate) fn take_evicted(&mut self) -> [(&'static str, u64); 2] {
        let [tcp, udp] = std::mem::take(&mut self.evicted);
        [("tcp", tcp), ("udp", udp)]
    }

    /// The row that an earlier run of the recorder began for this endpoint. Rows of what else the socket was before end.
    fn recall(&mut self, ctx: &mut Context, endpoint: &Endpoint, anew: bool) -> Option<i64> {
        if self.remembered.is_empty() {
            return None;
        }
        let id = endpoint.id;
        let socket = (transport(id.transport).to_owned(), id.socket);
        let rows = self.remembered.get_mut(&socket)?;
        let peer = endpoint.remote.map(|remote| (canonical(remote.ip()).to_string(), remote.port()));
        let place = rows.iter().position(|open| {
            open.peer == peer
                && (open.direction == direction(endpoint.direction) || id.transport == Transport::Udp)
        });
        let found = place.filter(|_| !anew).map(|place| rows.swap_remove(place).endpointinfo);
        if id.transport == Transport::Tcp {
            for open in rows.drain(..) {
                let end = plain_end(ctx, endpoint.at, "unseen");
                ctx.draft.end(open.endpointinfo, End::NetInfo(end));
            }
        }
        if rows.is_empty() {
            self.remembered.remove(&socket);
        }
        found
    }

    fn insert(&mut self, ctx: &mut Context, id: EndpointId, endpointinfo: i64, began: BootNs) {
        while self.open.len() >= self.limit {
            let Some((oldest, key)) = self.order.pop_front() else { break };
            if self.open.get(&oldest).is_some_and(|open| open.endpointinfo == key) {
                self.open.remove(&oldest);
                self.evicted[usize::from(oldest.transport == Transport::Udp)] += 1;
                let end = plain_end(ctx, ctx.clock.latest(), "unseen");
                ctx.draft.end(key, End::NetInfo(end));
            }
        }
        if self.order.len() > 2 * self.open.len() + 1024 {
            let open = &self.open;
            self.order.retain(|(id, key)| open.get(id).is_some_and(|open| open.endpointinfo == *key));
        }
        self.order.push_back((id, endpointinfo));
        self.open.insert(id, Open { endpointinfo, began });
    }
}

/// Pushes the row of an endpoint; its number.
fn row(
    ctx: &mut Context,
    processes: &mut Processes,
    names: &mut Names,
    endpoint: &Endpoint,
    begins: bool,
) -> i64 {
    let Endpoint { id, actor, netns, at, .. } = endpoint;
    // A datagram that comes unasked finds a socket whose creator may be gone.
    let unasked = endpoint.direction == Direction::In && id.transport == Transport::Udp;
    let alive = begins && !(unasked && endpoint.origin == Origin::Event);
    let seen = if endpoint.origin == Origin::Event { *at } else { ctx.clock.latest() };
    let psentity = actor.as_ref().map(|actor| processes.actor(ctx, actor, seen, alive));
    let asker = Asker {
        psentity,
        euid: actor.as_ref().map_or(UNKNOWN_ID, |actor| actor.euid),
        netns: ctx.netns(*netns),
    };
    let local = Some((endpoint.local, names.local(endpoint.local.ip(), asker.netns)));
    let remote = endpoint.remote.map(|remote| (remote, names.lookup(remote.ip(), asker)));
    let (source, dest) = match endpoint.direction {
        Direction::Out => (local, remote),
        Direction::In => (remote, local),
        Direction::Listen => (local, None),
    };
    let (sourceip, sourceport, sourcefqdn) = columns(source);
    let (destip, destport, destfqdn) = columns(dest);
    let created = ctx.clock.time(*at);
    let endpointinfo = ctx.numbers.next(created);
    let auid = actor.as_ref().and_then(|actor| actor.auid);
    let row = NetInfo {
        endpointinfo,
        psentity,
        transport: Word::Borrowed(transport(id.transport)),
        direction: Word::Borrowed(direction(endpoint.direction)),
        sourceip,
        sourcefqdn,
        sourceport,
        destip,
        destfqdn,
        destport,
        ipversion: if canonical(endpoint.local.ip()).is_ipv4() { 4 } else { 6 },
        username: ctx.username(asker.euid),
        loginname: ctx.loginname(auid),
        pid: actor.as_ref().map_or(0, |actor| actor.image.pid),
        application: actor.as_ref().map(|actor| escape(&actor.comm)).unwrap_or_default(),
        uid: asker.euid,
        auid,
        session: actor.as_ref().and_then(|actor| actor.session),
        netns: asker.netns,
        origin: Word::Borrowed(match endpoint.origin {
            Origin::Event => "event",
            Origin::Found => "found",
            Origin::Poll => "poll",
        }),
        socket: id.socket,
        created,
        end: None,
    };
    ctx.draft.push(row);
    endpointinfo
}

fn columns(side: Option<(SocketAddr, Option<Arc<str>>)>) -> (String, u16, Option<HostName>) {
    match side {
        Some((address, name)) => (
            canonical(address.ip()).to_string(),
            address.port(),
            name.map(|name| HostName(name.as_ref().to_owned())),
        ),
        None => (String::new(), 0, None),
    }
}

fn plain_end(ctx: &Context, at: BootNs, ended: &'static str) -> NetInfoEnd {
    NetInfoEnd {
        destroyed: ctx.clock.time(at),
        ended: Word::Borrowed(ended),
        result: None,
        bytessent: None,
        bytesreceived: None,
        packetssent: None,
        packetsreceived: None,
    }
}

/// IPv4 inside IPv6 is IPv4.
fn canonical(address: IpAddr) -> IpAddr {
    address.to_canonical()
}

fn transport(transport: Transport) -> &'static str {
    match transport {
        Transport::Tcp => "tcp",
        Transport::Udp => "udp",
    }
}

fn direction(direction: Direction) -> &'static str {
    match direction {
        Direction::Out => "out",
        Direction::In => "in",
        Direction::Listen => "listen",
    }
}
