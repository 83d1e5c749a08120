//! The control socket of a running recorder: one line asks, one line answers.
//!
//! | asked | answered |
//! | --- | --- |
//! | `sync MILLISECONDS` | `ok` once everything that happened before is stored; `timeout` |
//! | `status` | [`Vitals`] as JSON |
//! | `question` and [`Asked`] as JSON | `ok` once the recorder has it; the connection stays until `ended` and [`Ended`] as JSON comes, or its end |
//!
//! Anything else is answered `error MESSAGE`.

mod client;
mod desk;
mod question;
mod server;
mod socket;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

pub(crate) use self::{
    client::{ControlError, Told, question, status, sync},
    desk::attend,
    question::{Asked, Ended, How},
    server::{Identity, Instance, resident, serve, settle, settle_unless},
};

/// The name of the socket of a server, beside its authority.
const DESK: &str = "luarm.sock";

/// How a running recorder is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Vitals {
    /// Version of luarm.
    pub version: String,
    /// Process id.
    pub pid: u32,
    /// The host that it records.
    pub host: String,
    /// How it watches.
    pub sensor: String,
    /// Where it stores.
    pub store: String,
    /// Seconds since it started.
    pub uptime: u64,
    /// Observations so far.
    pub events: u64,
    /// Observations per second over the last ten seconds.
    pub events_per_second: f64,
    /// Rows stored so far.
    pub rows: u64,
    /// Rows stored per second over the last ten seconds.
    pub rows_per_second: f64,
    /// Number of the last batch that was stored.
    pub batch: u64,
    /// Milliseconds by which observing is behind the clock.
    pub sensor_lag_ms: u64,
    /// Milliseconds for which the oldest row has waited for its batch.
    pub store_lag_ms: u64,
    /// Bytes of observations that wait for the recorder.
    pub queued_bytes: u64,
    /// Bytes of rows that wait in the recorder.
    pub pending_bytes: u64,
    /// Bytes of rows in batches that are not stored.
    pub backlog_bytes: u64,
    /// How many bytes both together may be.
    pub memory_limit: u64,
    /// Rows that were given up because the store could not take them.
    pub lost_rows: u64,
    /// What keeps the store from taking batches.
    pub trouble: Option<String>,
    /// Resident memory, bytes.
    pub memory: u64,
    /// What came of the last canary.
    #[serde(default)]
    pub canary: String,
    /// Classes of which it did not come back, and why.
    #[serde(default)]
    pub missing: BTreeMap<String, String>,
    /// How delivering to a server is, where there is one.
    pub link: Option<LinkVitals>,
}

/// How an agent's delivering is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct LinkVitals {
    /// The server that is connected.
    pub connected: Option<String>,
    /// What keeps batches from being delivered.
    pub trouble: Option<String>,
    /// Number of the last batch that the server has.
    pub delivered: i64,
    /// Batches that wait for the server.
    pub waiting: i64,
    /// For how long the oldest of them has, ms.
    pub lag_ms: u64,
    /// Bytes that wait.
    pub spool_bytes: u64,
    /// How many may.
    pub spool_limit: u64,
    /// When the host's certificate expires, in UTC.
    pub expires: Option<String>,
}
