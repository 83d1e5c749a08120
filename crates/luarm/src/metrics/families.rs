//! Every figure that is served, declared once: name, meaning, labels, and who serves it. Names follow Prometheus' conventions: base units, `_total` for what
//! only grows.

/// What runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Program {
    /// `luarm run`
    Run,
    /// `luarm agent`
    Agent,
    /// `luarm server`
    Server,
}

use Program::{Agent, Run, Server};

const ALL_OF_THEM: &[Program] = &[Run, Agent, Server];
const RECORDERS: &[Program] = &[Run, Agent];
const AGENTS: &[Program] = &[Agent];
const SERVERS: &[Program] = &[Server];

/// How a figure behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// It only grows while the process lives.
    Counter,
    /// It goes up and down.
    Gauge,
}

/// A figure, or several that labels tell apart.
#[derive(Debug)]
pub(crate) struct Family {
    pub name: &'static str,
    pub kind: Kind,
    pub labels: &'static [&'static str],
    /// Who serves it.
    #[cfg_attr(not(test), expect(dead_code, reason = "for the documentation, which a test makes"))]
    pub of: &'static [Program],
    pub help: &'static str,
}

macro_rules! families {
    ($($name:ident: $kind:ident $metric:literal $labels:tt $of:ident $help:literal;)*) => {
        $(pub(crate) static $name: Family =
            Family { name: $metric, kind: Kind::$kind, labels: &$labels, of: $of, help: $help };)*

        /// All of them, in the order of the documentation.
        #[cfg(test)]
        pub(crate) static ALL: &[&Family] = &[$(&$name),*];
    };
}

families! {
    BUILD: Gauge "luarm_build_info" ["version", "command"] ALL_OF_THEM
        "Always 1; the labels say which version of luarm runs, and as what.";
    STARTED: Gauge "process_start_time_seconds" [] ALL_OF_THEM
        "When the process started, in seconds since 1970.";
    MEMORY: Gauge "process_resident_memory_bytes" [] ALL_OF_THEM
        "Resident memory.";

    RECORDER: Gauge "luarm_recorder_info" ["host", "sensor"] RECORDERS
        "Always 1; the labels say which host is recorded, and how it is watched.";
    EVENTS: Counter "luarm_events_total" [] RECORDERS
        "Observations that the sensors made.";
    ROWS: Counter "luarm_rows_stored_total" [] RECORDERS
        "Rows that were stored, or put into the agent's spool.";
    BATCHES: Counter "luarm_batches_stored_total" [] RECORDERS
        "Batches that were stored, or put into the agent's spool.";
    SEALING: Counter "luarm_sealing_cpu_seconds_total" [] RECORDERS
        "Processor time that digesting and signing these batches took.";
    LAST_BATCH: Gauge "luarm_last_batch" [] RECORDERS
        "Number of the last of them; it goes on where the run before ended.";
    LOST: Counter "luarm_lost_total" ["class", "cause"] RECORDERS
        "What was lost, as lossinfo tells it: events by class, rows by table. Absent until something was. It is counted when it is stored.";
    GIVEN_UP: Counter "luarm_rows_given_up_total" [] RECORDERS
        "Rows that were given up because the store could not take them or the spool was full; counted at once.";
    STORE_ERRORS: Counter "luarm_store_errors_total" [] ALL_OF_THEM
        "How often the store, or the agent's spool, could not take a batch or answer. It is tried again.";
    STORE_UP: Gauge "luarm_store_up" [] ALL_OF_THEM
        "1 if the store, or the agent's spool, took the last batch or answered the last question, 0 if it failed.";
    SENSOR_LAG: Gauge "luarm_sensor_lag_seconds" [] RECORDERS
        "By how much observing is behind the clock. Up to a second is usual.";
    STORE_LAG: Gauge "luarm_store_lag_seconds" [] RECORDERS
        "For how long the oldest row has waited for its batch.";
    QUEUED: Gauge "luarm_queue_bytes" [] RECORDERS
        "Observations that wait for the recorder.";
    PENDING: Gauge "luarm_pending_bytes" [] RECORDERS
        "Rows that are in no batch yet.";
    BACKLOG: Gauge "luarm_backlog_bytes" [] RECORDERS
        "Rows in batches that are not stored.";
    MEMORY_LIMIT: Gauge "luarm_memory_limit_bytes" [] RECORDERS
        "What luarm_pending_bytes and luarm_backlog_bytes may be together; beyond it rows are given up.";
    RING_PEAK: Gauge "luarm_ring_peak_bytes" ["ring"] RECORDERS
        "The most that was found in the kernel's ring when it was emptied, in the last half minute to minute. With eBPF only.";
    RING_SIZE: Gauge "luarm_ring_size_bytes" ["ring"] RECORDERS
        "What the kernel's ring holds; what does not fit is lost, and counted. With eBPF only.";
    CLASS: Gauge "luarm_class_watched" ["class"] RECORDERS
        "1 if a class of events is watched or sampled, 0 if it is not: coverageinfo says why.";
    CANARY_LATENCY: Gauge "luarm_canary_latency_seconds" ["class"] RECORDERS
        "From what the canary last did in a class of events until the row of it was in a batch. Absent until it has come back, and while it does not.";
    CANARY_MISSING: Gauge "luarm_canary_missing" ["class"] RECORDERS
        "1 if the canary last did not come back in a class of events: the class is a gap in coverageinfo, which says why. 0 if it did.";
    CANARY_ROUND: Gauge "luarm_canary_last_round_timestamp_seconds" [] RECORDERS
        "When the last round of the canary began, in seconds since 1970. Absent before the first, and with --canary off.";

    CONNECTED: Gauge "luarm_link_connected" [] AGENTS
        "1 if the agent is connected to a server, else 0: what is recorded waits in the spool.";
    DELIVERED: Gauge "luarm_delivered_batch" [] AGENTS
        "Number of the last batch that the server has stored.";
    WAITING: Gauge "luarm_waiting_batches" [] AGENTS
        "Batches that wait for the server.";
    DELIVERY_LAG: Gauge "luarm_delivery_lag_seconds" [] AGENTS
        "For how long the oldest of them has.";
    SPOOL: Gauge "luarm_spool_bytes" [] AGENTS
        "What waits in the spool.";
    SPOOL_LIMIT: Gauge "luarm_spool_limit_bytes" [] AGENTS
        "What may: from 80 % on reads of files are given up, from 90 % on all that is done with files, then everything.";
    CERTIFICATE: Gauge "luarm_certificate_expiry_timestamp_seconds" [] AGENTS
        "When the host's certificate expires, in seconds since 1970. It is renewed after two thirds of its life.";

    CONNECTIONS: Gauge "luarm_server_connections" ["kind"] SERVERS
        "Open connections: handshake, it is not finished; stranger, without a certificate; host and analyst, with one.";
    SERVED_BATCHES: Counter "luarm_server_batches_stored_total" [] SERVERS
        "Batches that this server stored.";
    SERVED_ROWS: Counter "luarm_server_rows_stored_total" [] SERVERS
        "Rows in them.";
    SERVED_BYTES: Counter "luarm_server_received_bytes_total" [] SERVERS
        "Bytes of them, compressed as they came.";
    RESTARTS: Counter "luarm_server_chain_restarts_total" [] SERVERS
        "How often the chain of a host's batches began anew: the host lost its key, or somebody else goes on in its name.";
    REFUSED: Counter "luarm_server_refused_total" ["kind"] SERVERS
        "Connections, calls and batches that were refused, by kind. A kind is absent until it occurs.";
    HOSTS: Gauge "luarm_server_hosts" [] SERVERS
        "Hosts that are enrolled and not revoked. Absent until the store has answered.";
    OVERDUE: Gauge "luarm_server_hosts_overdue" [] SERVERS
        "Of these, the ones that nothing was stored of for three minutes (`--overdue`), and that did not say that their recorder stops; an agent sends a sign of life each minute.";
    STOPPED: Gauge "luarm_server_hosts_stopped" [] SERVERS
        "Of these, the ones whose recorder said that it stops. It is seen within half a minute.";
    SILENT: Gauge "luarm_server_host_silent_seconds" ["host"] SERVERS
        "Seconds since something of the host was stored, here or by another server of the same store, as far as it was seen; since the server's start where nothing ever was. At most 1000 hosts, in the order of their names.";
}

#[cfg(test)]
mod tests {
    use std::fmt::Write;

    use super::*;

    #[test]
    fn the_documentation_lists_every_figure() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/metrics.md");
        let mut wanted = String::from(
            "# Figures for monitoring\n\n\
             With `--metrics ADDRESS` a recorder, an agent or a server answers two questions over HTTP: `GET /metrics` with these figures, in Prometheus' text format\n\
             0.0.4, and `GET /health` with 200 if all is well, else with 503 and one line that says what is not. ADDRESS is `127.0.0.1:7468` or the like, or a Unix\n\
             socket, `unix:/run/luarm/metrics.sock`. Nobody is asked who he is: whoever reaches the address reads the figures, so take loopback, or a socket in a\n\
             directory that only monitoring may enter. Counters begin at 0 with the process.\n\n\
             A recorder is not well while its store or spool fails, its spool is full, a class of events that was watched is not any more or the canary\n\
             does not come back in it, observing is 30 seconds behind, or what existed at the start is not stored yet. A server is not well while its store does\n\
             not answer. That an agent's server cannot be reached is no failure of the agent's: `luarm_link_connected` and `luarm_delivery_lag_seconds` tell of it.\n\n\
             This file is made of the declarations in `crates/luarm/src/metrics/families.rs` (`LUARM_RENEW=1 cargo test -p luarm families`).\n\n\
             | figure | kind | served by `luarm …` | meaning |\n| --- | --- | --- | --- |\n",
        );
        for family in ALL {
            let labels = match family.labels {
                [] => String::new(),
                labels => format!("{{{}}}", labels.join(", ")),
            };
            let of: Vec<_> = family.of.iter().map(|of| format!("{of:?}").to_lowercase()).collect();
            let kind = format!("{:?}", family.kind).to_lowercase();
            let (name, of, help) = (family.name, of.join(", "), family.help);
            writeln!(wanted, "| `{name}{labels}` | {kind} | {of} | {help} |").unwrap();
        }
        if std::env::var_os("LUARM_RENEW").is_some() {
            std::fs::write(path, &wanted).unwrap();
        }
        let written = std::fs::read_to_string(path).unwrap_or_default();
        assert!(
            written == wanted,
            "docs/metrics.md is not what families.rs declares: LUARM_RENEW=1 renews it"
        );
    }

    #[test]
    fn names_follow_the_conventions() {
        for family in ALL {
            let name = family.name;
            assert!(name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'), "{name}");
            assert_eq!(name.ends_with("_total"), family.kind == Kind::Counter, "{name}");
            assert!(name.starts_with("luarm_") || name.starts_with("process_"), "{name}");
            assert!(!family.help.is_empty() && !family.help.contains('\n'), "{name}");
            assert_eq!(ALL.iter().filter(|other| other.name == name).count(), 1, "{name}");
        }
    }
}
