//! Rows of `netroute`.

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
    destination: String,
    gateway: Option<String>,
    interface: Option<String>,
    metric: Option<i64>,
}

impl From<&Route> for RouteState {
    fn from(route: &Route) -> Self {
        let (network, prefix) = route.destination;
        Self {
            destination: format!("{network}/{prefix}"),
            gateway: route.gateway.map(|gateway| gateway.to_string()),
            interface: route.interface.as_deref().map(escape),
            metric: route.metric.map(i64::from),
        }
    }
}

impl State for RouteState {
    type Key = (String, Option<String>, Option<String>, Option<i64>);

    fn key(&self) -> Self::Key {
        (self.destination.clone(), self.gateway.clone(), self.interface.clone(), self.metric)
    }

    fn row(&self, number: i64, created: Time, origin: Word) -> Row {
        NetRoute {
            netrouteid: number,
            destination: self.destination.clone(),
            gateway: self.gateway.clone(),
            interface: self.interface.clone(),
            metric: self.metric,
            origin,
            created,
            end: None,
        }
        .into()
    }

    fn of(row: &Row) -> Option<Self> {
        let Row::NetRoute(row) = row else { return None };
        Some(Self {
            destination: row.destination.clone(),
            gateway: row.gateway.clone(),
            interface: row.interface.clone(),
            metric: row.metric,
        })
    }

    fn end(destroyed: Time, ended: Word) -> End {
        End::NetRoute(NetRouteEnd { destroyed, ended })
    }
}
