//! What a server tells of itself.

use luarm_link::server::Monitor;
use luarm_store::State;

use super::{Figures, Monitored, families as f};
use crate::control;

/// Hosts that have a figure of their own.
const MOST_HOSTS: usize = 1000;

impl Monitored for Monitor {
    fn figures(&self) -> Figures {
        let vitals = self.vitals();
        let mut figures = Figures::of("server", vitals.uptime, control::resident());
        figures.one(&f::STORE_ERRORS, vitals.store_errors as f64);
        figures.one(&f::STORE_UP, f64::from(u8::from(vitals.trouble.is_none())));
        for (kind, count) in ["handshake", "stranger", "host", "analyst"].into_iter().zip(vitals.connections)
        {
            figures.add(&f::CONNECTIONS, &[kind], count as f64);
        }
        for (family, count) in
            [&f::SERVED_BATCHES, &f::SERVED_ROWS, &f::SERVED_BYTES].into_iter().zip(vitals.stored)
        {
            figures.one(family, count as f64);
        }
        figures.one(&f::RESTARTS, vitals.restarts as f64);
        for (kind, count) in vitals.refused {
            figures.add(&f::REFUSED, &[kind], count as f64);
        }
        if let Some(hosts) = vitals.hosts {
            figures.one(&f::HOSTS, hosts.len() as f64);
            let count = |state| hosts.iter().filter(|host| host.state == state).count() as f64;
            figures.one(&f::OVERDUE, count(State::Overdue));
            figures.one(&f::STOPPED, count(State::Stopped));
            for host in hosts.iter().take(MOST_HOSTS) {
                figures.add(&f::SILENT, &[&host.name], host.silent.as_secs_f64().round());
            }
        }
        figures
    }

    fn health(&self) -> Result<(), String> {
        match self.vitals().trouble {
            Some(trouble) => Err(format!("the store does not answer: {trouble}")),
            None => Ok(()),
        }
    }
}
