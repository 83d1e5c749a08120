//! What a recorder, and an agent, tell of themselves.

use std::sync::atomic::Ordering::Relaxed;

use luarm_schema::Time;

use super::{Figures, Monitored, families as f};
use crate::{
    control::{Instance, Vitals},
    size::Size,
};

/// Observing that is behind by more is not well, ms.
const BEHIND: u64 = 30_000;

impl Monitored for Instance {
    fn figures(&self) -> Figures {
        let vitals = self.vitals();
        let command = if vitals.link.is_some() { "agent" } else { "run" };
        let mut figures = Figures::of(command, self.uptime(), vitals.memory);
        self.recording(&vitals, &mut figures);
        if let Some(link) = &vitals.link {
            figures.one(&f::CONNECTED, f64::from(u8::from(link.connected.is_some())));
            figures.one(&f::DELIVERED, link.delivered as f64);
            figures.one(&f::WAITING, link.waiting as f64);
            figures.one(&f::DELIVERY_LAG, link.lag_ms as f64 / 1e3);
            figures.one(&f::SPOOL, link.spool_bytes as f64);
            figures.one(&f::SPOOL_LIMIT, link.spool_limit as f64);
            if let Some(expires) = link.expires.as_deref().and_then(|at| Time::parse(at).ok()) {
                figures.one(&f::CERTIFICATE, (expires.0 / 1_000_000) as f64);
            }
        }
        figures
    }

    fn health(&self) -> Result<(), String> {
        let vitals = self.vitals();
        let meters = &self.probe().meters;
        let mut wrong = Vec::new();
        if let Some(trouble) = &vitals.trouble {
            wrong.push(format!("what was recorded cannot be stored: {trouble}"));
        }
        if let Some(link) = vitals.link.as_ref().filter(|link| link.spool_bytes >= link.spool_limit) {
            wrong.push(format!("the spool is full ({}): newer rows are lost", Size(link.spool_limit)));
        }
        for (class, state) in meters.classes() {
            if let Some(reason) = state.given_up {
                wrong.push(format!("the class {class} is not watched any more: {reason}"));
            }
        }
        for (class, reason) in meters.canary().missing {
            wrong.push(format!("the class {class} is not watched: {reason}"));
        }
        if !meters.ready.load(Relaxed) {
            wrong.push("starting: what existed before is not stored yet".to_owned());
        } else if vitals.sensor_lag_ms > BEHIND {
            wrong.push(format!("observing is {} s behind", vitals.sensor_lag_ms / 1000));
        }
        if wrong.is_empty() { Ok(()) } else { Err(wrong.join("; ")) }
    }
}

impl Instance {
    fn recording(&self, vitals: &Vitals, figures: &mut Figures) {
        let meters = &self.probe().meters;
        figures.add(&f::RECORDER, &[&vitals.host, &vitals.sensor], 1.0);
        figures.one(&f::EVENTS, vitals.events as f64);
        figures.one(&f::ROWS, vitals.rows as f64);
        figures.one(&f::BATCHES, meters.batches.load(Relaxed) as f64);
        figures.one(&f::SEALING, meters.sealing_ns.load(Relaxed) as f64 / 1e9);
        figures.one(&f::LAST_BATCH, vitals.batch as f64);
        for ((class, cause), count) in meters.lost() {
            figures.add(&f::LOST, &[&class, &cause], count as f64);
        }
        figures.one(&f::GIVEN_UP, vitals.lost_rows as f64);
        figures.one(&f::STORE_ERRORS, meters.store_errors.load(Relaxed) as f64);
        figures.one(&f::STORE_UP, f64::from(u8::from(vitals.trouble.is_none())));
        figures.one(&f::SENSOR_LAG, vitals.sensor_lag_ms as f64 / 1e3);
        figures.one(&f::STORE_LAG, vitals.store_lag_ms as f64 / 1e3);
        figures.one(&f::QUEUED, vitals.queued_bytes as f64);
        figures.one(&f::PENDING, vitals.pending_bytes as f64);
        figures.one(&f::BACKLOG, vitals.backlog_bytes as f64);
        figures.one(&f::MEMORY_LIMIT, vitals.memory_limit as f64);
        let rings = self.probe().rings();
        for ring in &rings {
            figures.add(&f::RING_PEAK, &[ring.name], ring.peak as f64);
        }
        for ring in &rings {
            figures.add(&f::RING_SIZE, &[ring.name], ring.size as f64);
        }
        let canary = meters.canary();
        for (class, latency) in &canary.latencies {
            figures.add(&f::CANARY_LATENCY, &[class], *latency as f64 / 1e6);
        }
        for class in canary.latencies.keys() {
            figures.add(&f::CANARY_MISSING, &[class], 0.0);
        }
        for class in canary.missing.keys() {
            figures.add(&f::CANARY_MISSING, &[class], 1.0);
        }
        if let Some(began) = canary.began {
            figures.one(&f::CANARY_ROUND, (began.0 / 1_000_000) as f64);
        }
        for (class, state) in meters.classes() {
            let watched = state.watched && !canary.missing.contains_key(class);
            figures.add(&f::CLASS, &[class], f64::from(u8::from(watched)));
        }
    }
}
