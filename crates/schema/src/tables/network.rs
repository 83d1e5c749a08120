//! The network: endpoints, names, interfaces, routes.

use std::sync::Arc;

use crate::{HostName, Time, Word};

table! {
    /// Network endpoints: TCP connections and listeners, and UDP exchanges (one row per socket and peer). Source is the initiator of
    /// the flow and dest its target, whichever of them is this host; for a listener source is where it listens and dest is empty
    /// (`destip` '', `destport` 0).
    netinfo: NetInfo, NetInfoEnd, key endpointinfo;
    begin {
        /// Number of the endpoint, ordered by time.
        endpointinfo: i64,
        /// The image that made it: which connected, accepted, listened, or sent (for a datagram that came unasked: which owns the socket).
        psentity: Option<i64>,
        /// `tcp` or `udp`.
        transport: Word,
        /// `out`, this host began it; `in`, the peer did; `listen`.
        direction: Word,
        /// Address of the initiator. IPv4 inside an IPv6 socket is written as IPv4.
        sourceip: String,
        /// Name of `sourceip`, where one is known (`nameinfo` says from where).
        sourcefqdn: Option<HostName>,
        /// Port of the initiator, 0 to 65535.
        sourceport: u16,
        /// Address of the target; empty for a listener.
        destip: String,
        /// The name that was asked for when `destip` was the answer, where it was seen.
        destfqdn: Option<HostName>,
        /// Port of the target, 0 to 65535.
        destport: u16,
        /// 4 or 6.
        ipversion: i32,
        /// Effective user at that moment.
        username: Arc<str>,
        /// User who logged in.
        loginname: Option<Arc<str>>,
        /// Process id.
        pid: u32,
        /// Task name at that moment (`psinfo.application` is the one that the image began with).
        application: String,
        /// Effective user id.
        uid: u32,
        /// Login user id.
        auid: Option<u32>,
        /// Login session id.
        session: Option<u32>,
        /// Network namespace (inode number); NULL where it is the host's own.
        netns: Option<u32>,
        /// How the row began: `event`; `found`, it was there when the recorder started; `poll`, first met by the polling sensor.
        origin: Word,
        /// The kernel's cookie of the socket, unique until the next boot.
        socket: u64,
        /// When it began.
        created: Time,
    }
    end {
        /// When it ended; NULL while it lasts.
        destroyed: Time,
        /// How it ended: `close`; `refused`, never established (see `result`); `idle`, a UDP exchange without a datagram for a while;
        /// `unseen`, it ended while nothing watched; `boot`.
        ended: Word,
        /// The error number of a connection that failed (111 ECONNREFUSED, 110 ETIMEDOUT…), 0 where it was established; NULL where unknown.
        result: Option<i32>,
        /// Bytes of payload that this host sent.
        bytessent: Option<i64>,
        /// Bytes of payload that this host received.
        bytesreceived: Option<i64>,
        /// Segments or datagrams that this host sent.
        packetssent: Option<i64>,
        /// Segments or datagrams that this host received.
        packetsreceived: Option<i64>,
    }
    derived {}
    index { (destfqdn) (destip) (username, pid) (psentity) }
}

table! {
    /// Which name stood for which address, and how that is known.
    nameinfo: NameInfo, NameInfoEnd, key nameid;
    begin {
        /// Number of the fact, ordered by time.
        nameid: i64,
        /// The name that was asked for, lower case, without the final dot; unusual bytes as `\DDD` (RFC 4343).
        name: HostName,
        /// An address that it stood for.
        address: String,
        /// `dns`, an answer seen on the wire to a question that this host asked; `hosts`, from /etc/hosts.
        origin: Word,
        /// The names between (CNAME), in order, separated by blanks.
        chain: Option<String>,
        /// Time to live of the answer, seconds.
        ttl: Option<u32>,
        /// Address of the server that answered.
        server: Option<String>,
        /// The image that asked.
        psentity: Option<i64>,
        /// Effective user of the asker.
        username: Option<Arc<str>>,
        /// Process id of the asker.
        pid: Option<u32>,
        /// Task name of the asker.
        application: Option<String>,
        /// Network namespace in which it was asked; NULL where it is the host's own.
        netns: Option<u32>,
        /// When the answer was seen, or the file read.
        created: Time,
    }
    end {}
    derived {}
    index { (name) (address) }
}

table! {
    /// Network interfaces with their addresses over time: one row per interface and address, or one per interface that has no address. Whatever of it
    /// changes ends the row and begins another. Those of the network namespace that the recorder is in.
    netint: NetInt, NetIntEnd, key netintid;
    begin {
        /// Number of the row, ordered by time.
        netintid: i64,
        /// Name of the interface.
        interface: String,
        /// Number of the interface, which stays when its name changes.
        ifindex: u32,
        /// What it is: the kernel's name of its driver's kind (`veth`, `bridge`, `tun`…), else of its link layer (`loopback`, `ether`…).
        kind: String,
        /// Link-layer address.
        mac: Option<String>,
        /// Address; NULL where it has none.
        ip: Option<String>,
        /// Length of the network prefix.
        prefix: Option<i32>,
        /// Address of the other end of a point-to-point link.
        peer: Option<String>,
        /// Where the address is valid: `global`, `site`, `link`, `host` or the kernel's number.
        scope: Option<Word>,
        /// `up` or `down`, as somebody set it.
        state: Word,
        /// 1 where it can carry packets, 0 where it cannot: no cable, no peer, or down.
        carrier: i32,
        /// How often the carrier came or went since the interface was made; the kernel tells of a quick series once, and counts all.
        carrierchanges: i64,
        /// 1 where it takes packets that are for others: somebody listens, or it is the port of a bridge.
        promiscuous: i32,
        /// Largest packet, bytes.
        mtu: u32,
        /// Name of the bridge, bond or team that it is a port of.
        master: Option<String>,
        /// Alias that somebody gave it. The kernel does not tell when an interface that is down gets one: it shows with the next change.
        alias: Option<String>,
        /// How the row began: `event`; `found`, it was so when the recorder started, or when it looked again after a loss.
        origin: Word,
        /// When it came to be so.
        created: Time,
    }
    end {
        /// When it ceased to be so.
        destroyed: Time,
        /// How it ended: `event`, interface or address was removed; `changed`, the next row has its other values; `unseen`, while nothing watched or
        /// without being told of, at the latest at `destroyed`; `boot`.
        ended: Word,
    }
    derived {}
    index { (ip) (interface) }
}

table! {
    /// Routes over time: one row per route and next hop. Those of the network namespace that the recorder is in, without what the kernel itself keeps in
    /// the table `local` (255): it follows from `netint`.
    netroute: NetRoute, NetRouteEnd, key netrouteid;
    begin {
        /// Number of the row, ordered by time.
        netrouteid: i64,
        /// Destination network, with prefix length.
        destination: String,
        /// Network of the senders that it is for, with prefix length; NULL where it is for all.
        source: Option<String>,
        /// The next hop.
        gateway: Option<String>,
        /// Name of the interface.
        interface: Option<String>,
        /// Number of the interface.
        ifindex: Option<u32>,
        /// Metric; NULL where it has none.
        metric: Option<i64>,
        /// Type of service that it is for, 0 for all.
        tos: i32,
        /// Number of the routing table: 254 main, 253 default, 255 local.
        routetable: u32,
        /// What happens to packets: `unicast`, `local`, `blackhole`, `unreachable`, `prohibit`, `throw`… or the kernel's number.
        routetype: Word,
        /// Who put it there: `kernel`, `boot` (a person, or what did not say), `static`, `ra`, `dhcp`, `bgp`… or the kernel's number.
        protocol: Word,
        /// How far away the destination is: `global`, `site`, `link`, `host`, `nowhere` or the kernel's number.
        scope: Word,
        /// The source address that it prefers.
        prefsource: Option<String>,
        /// Share of this next hop among several of one route; 1 for the only one.
        weight: i32,
        /// How the row began: `event`; `found`, it was so when the recorder started, or when it looked again because the kernel had not told of all.
        origin: Word,
        /// When it was added.
        created: Time,
    }
    end {
        /// When it was removed.
        destroyed: Time,
        /// How it ended: `event`, it was removed or replaced; `changed`, the next row has its other values; `unseen`, while nothing watched or without
        /// being told of, at the latest at `destroyed`; `boot`.
        ended: Word,
    }
    derived {}
    index { (destination) (gateway) (interface) }
}
