//! Rows of `netroute`.

use std::net::IpAddr;

use luarm_schema::{
    End, Row, Time, Word,
    escape::escape,
    tables::{NetRoute, NetRouteEnd},
};
use luarm_sensor::condition::Route;

use super::State;

/// The values of a row.
#[derive(PartialEq)]
pub(super) struct RouteState {
    way: Way,
    interface: Option<String>,
    weight: u16,
}

/// What tells one row from another.
#[derive(PartialEq, Eq, Hash, Clone)]
pub(super) struct Way {
    table: u32,
    destination: Network,
    source: Option<Network>,
    tos: u8,
    metric: u32,
    kind: Word,
    protocol: Word,
    scope: Word,
    preferred: Option<IpAddr>,
    gateway: Option<IpAddr>,
    index: Option<u32>,
}

type Network = (IpAddr, u8);

impl From<&Route> for RouteState {
    fn from(route: &Route) -> Self {
        Self {
            way: Way {
                table: route.table,
                destination: route.destination,
                source: route.source,
                tos: route.tos,
                metric: route.metric,
                kind: word(KINDS, route.kind),
                protocol: word(PROTOCOLS, route.protocol),
                scope: scope(route.scope),
                preferred: route.preferred,
                gateway: route.gateway,
                index: route.index,
            },
            interface: route.interface.as_deref().map(escape),
            weight: route.weight,
        }
    }
}

impl State for RouteState {
    type Key = Way;

    fn key(&self) -> Self::Key {
        self.way.clone()
    }

    fn row(&self, number: i64, created: Time, origin: Word) -> Row {
        let way = &self.way;
        NetRoute {
            netrouteid: number,
            destination: written(way.destination),
            source: way.source.map(written),
            gateway: way.gateway.map(|gateway| gateway.to_string()),
            interface: self.interface.clone(),
            ifindex: way.index,
            metric: (way.metric != 0).then(|| way.metric.into()),
            tos: way.tos.into(),
            routetable: way.table,
            routetype: way.kind.clone(),
            protocol: way.protocol.clone(),
            scope: way.scope.clone(),
            prefsource: way.preferred.map(|address| address.to_string()),
            weight: self.weight.into(),
            origin,
            created,
            end: None,
        }
        .into()
    }

    fn of(row: &Row) -> Option<Self> {
        let Row::NetRoute(row) = row else { return None };
        let address = |text: &Option<String>| text.as_ref().map(|text| text.parse()).transpose().ok();
        Some(Self {
            way: Way {
                table: row.routetable,
                destination: read(&row.destination)?,
                source: match &row.source {
                    Some(source) => Some(read(source)?),
                    None => None,
                },
                tos: row.tos.try_into().ok()?,
                metric: row.metric.unwrap_or(0).try_into().ok()?,
                kind: row.routetype.clone(),
                protocol: row.protocol.clone(),
                scope: row.scope.clone(),
                preferred: address(&row.prefsource)?,
                gateway: address(&row.gateway)?,
                index: row.ifindex,
            },
            interface: row.interface.clone(),
            weight: row.weight.try_into().ok()?,
        })
    }

    fn end(destroyed: Time, ended: Word) -> End {
        End::NetRoute(NetRouteEnd { destroyed, ended })
    }
}

fn written((address, prefix): Network) -> String {
    format!("{address}/{prefix}")
}

fn read(text: &str) -> Option<Network> {
    let (address, prefix) = text.split_once('/')?;
    Some((address.parse().ok()?, prefix.parse().ok()?))
}

/// Numbers and names, see linux/rtnetlink.h; the names are those of iproute2.
type Names = &'static [(u8, &'static str)];

const KINDS: Names = &[
    (0, "unspec"),
    (1, "unicast"),
    (2, "local"),
    (3, "broadcast"),
    (4, "anycast"),
    (5, "multicast"),
    (6, "blackhole"),
    (7, "unreachable"),
    (8, "prohibit"),
    (9, "throw"),
    (10, "nat"),
];

const PROTOCOLS: Names = &[
    (0, "unspec"),
    (1, "redirect"),
    (2, "kernel"),
    (3, "boot"),
    (4, "static"),
    (8, "gated"),
    (9, "ra"),
    (10, "mrt"),
    (11, "zebra"),
    (12, "bird"),
    (14, "xorp"),
    (16, "dhcp"),
    (17, "mrouted"),
    (18, "keepalived"),
    (42, "babel"),
    (186, "bgp"),
    (187, "isis"),
    (188, "ospf"),
    (189, "rip"),
    (192, "eigrp"),
];

const SCOPES: Names = &[(0, "global"), (200, "site"), (253, "link"), (254, "host"), (255, "nowhere")];

fn word(names: Names, number: u8) -> Word {
    let known = names.iter().find(|(of, _)| *of == number);
    known.map_or_else(|| Word::Owned(number.to_string()), |(_, name)| Word::Borrowed(name))
}

/// The name of a scope, of addresses as of routes.
pub(super) fn scope(number: u8) -> Word {
    word(SCOPES, number)
}
