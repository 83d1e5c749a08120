//! Rows of `netint`.

use std::net::IpAddr;

use luarm_schema::{
    End, Row, Time, Word,
    escape::escape,
    tables::{NetInt, NetIntEnd},
};
use luarm_sensor::condition::Interface;

use super::{State, route::scope};

/// The values of a row.
#[derive(PartialEq)]
pub(super) struct InterfaceState {
    index: u32,
    name: String,
    kind: String,
    mac: Option<String>,
    alias: Option<String>,
    master: Option<String>,
    mtu: u32,
    up: bool,
    carrier: bool,
    carrier_changes: i64,
    promiscuous: bool,
    address: Option<Address>,
    scope: Option<Word>,
}

/// What tells one address of an interface from another.
#[derive(PartialEq, Eq, Hash, Clone)]
pub(super) struct Address {
    ip: IpAddr,
    prefix: u8,
    peer: Option<IpAddr>,
}

impl From<&Interface> for InterfaceState {
    fn from(interface: &Interface) -> Self {
        let pairs = |mac: &[u8]| mac.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(":");
        Self {
            index: interface.index,
            name: escape(&interface.name),
            kind: escape(&interface.kind),
            mac: (!interface.mac.is_empty()).then(|| pairs(&interface.mac)),
            alias: interface.alias.as_deref().map(escape),
            master: interface.master.as_deref().map(escape),
            mtu: interface.mtu,
            up: interface.up,
            carrier: interface.carrier,
            carrier_changes: interface.carrier_changes.into(),
            promiscuous: interface.promiscuous,
            address: interface.address.map(|a| Address { ip: a.ip, prefix: a.prefix, peer: a.peer }),
            scope: interface.address.map(|address| scope(address.scope)),
        }
    }
}

impl State for InterfaceState {
    type Key = (u32, Option<Address>);

    fn key(&self) -> Self::Key {
        (self.index, self.address.clone())
    }

    fn row(&self, number: i64, created: Time, origin: Word) -> Row {
        let address = self.address.as_ref();
        NetInt {
            netintid: number,
            interface: self.name.clone(),
            ifindex: self.index,
            kind: self.kind.clone(),
            mac: self.mac.clone(),
            ip: address.map(|address| address.ip.to_string()),
            prefix: address.map(|address| address.prefix.into()),
            peer: address.and_then(|address| address.peer).map(|peer| peer.to_string()),
            scope: self.scope.clone(),
            state: Word::Borrowed(if self.up { "up" } else { "down" }),
            carrier: self.carrier.into(),
            carrierchanges: self.carrier_changes,
            promiscuous: self.promiscuous.into(),
            mtu: self.mtu,
            master: self.master.clone(),
            alias: self.alias.clone(),
            origin,
            created,
            end: None,
        }
        .into()
    }

    fn of(row: &Row) -> Option<Self> {
        let Row::NetInt(row) = row else { return None };
        let address = match &row.ip {
            Some(ip) => Some(Address {
                ip: ip.parse().ok()?,
                prefix: row.prefix?.try_into().ok()?,
                peer: row.peer.as_ref().map(|peer| peer.parse()).transpose().ok()?,
            }),
            None => None,
        };
        Some(Self {
            index: row.ifindex,
            name: row.interface.clone(),
            kind: row.kind.clone(),
            mac: row.mac.clone(),
            alias: row.alias.clone(),
            master: row.master.clone(),
            mtu: row.mtu,
            up: row.state == "up",
            carrier: row.carrier != 0,
            carrier_changes: row.carrierchanges,
            promiscuous: row.promiscuous != 0,
            address,
            scope: row.scope.clone(),
        })
    }

    fn end(destroyed: Time, ended: Word) -> End {
        End::NetInt(NetIntEnd { destroyed, ended })
    }
}
