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
    /// Network interfaces with their addresses over time. Declared, not recorded yet: `coverageinfo` says so.
    netint: NetInt, NetIntEnd, key netintid;
    begin {
        /// Number of the row, ordered by time.
        netintid: i64,
        /// Name of the interface.
        interface: String,
        /// Link-layer address.
        mac: Option<String>,
        /// Address.
        ip: Option<String>,
        /// Length of the network prefix.
        prefix: Option<i32>,
        /// `up` or `down`.
        state: Word,
        /// When it came to be so.
        created: Time,
    }
    end {
        /// When it ceased to be so.
        destroyed: Time,
    }
    derived {}
    index {}
}

table! {
    /// Routes over time. Declared, not recorded yet: `coverageinfo` says so.
    netroute: NetRoute, NetRouteEnd, key netrouteid;
    begin {
        /// Number of the row, ordered by time.
        netrouteid: i64,
        /// Destination network, with prefix length.
        destination: String,
        /// The next hop.
        gateway: Option<String>,
        /// Name of the interface.
        interface: Option<String>,
        /// Metric.
        metric: Option<i64>,
        /// How the row began: `event`; `found`, it was so when the recorder started.
        origin: Word,
        /// When it was added.
        created: Time,
    }
    end {
        /// When it was removed.
        destroyed: Time,
        /// How it ended: `event`, it was removed; `changed`, the next row has its other values; `unseen`, while nothing watched, at the latest at `destroyed`; `boot`.
        ended: Word,
    }
    derived {}
    index {}
}
