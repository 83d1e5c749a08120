//! What can go wrong between a host and its server.

use std::{io, path::PathBuf};

use luarm_store::StoreError;

/// Something about enrolment, certificates or the connection failed.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// What a server writes down cannot be sealed.
    #[error("what the server writes down itself cannot be sealed: {detail}")]
    Unsealed {
        /// Why not.
        detail: String,
    },
    /// The key that seals a server's own rows cannot be used.
    #[error(transparent)]
    Key(#[from] luarm_chain::KeyError),
    /// Too many servers run in one data directory.
    #[error("{most} servers run in {} already, each with a key of its own: give this one a data directory of its own", directory.display())]
    Crowded {
        /// The directory of the server.
        directory: PathBuf,
        /// As many may.
        most: u32,
    },
    /// The operating system refused a file or directory.
    #[error("cannot {action} {}: {source}", path.display())]
    File {
        /// What was attempted.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// A file is not what it should be.
    #[error("{} is damaged ({detail}): {advice}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// How that shows.
        detail: String,
        /// What to do.
        advice: &'static str,
    },
    /// There is no certificate authority in this directory.
    #[error("{} has no certificate authority: make one with luarm server init --data {}", data.display(), data.display())]
    NoAuthority {
        /// The data directory.
        data: PathBuf,
    },
    /// There is one already.
    #[error("{} has a certificate authority already: keep it, or remove {} and have every host join again", data.display(), directory.display())]
    HasAuthority {
        /// The data directory.
        data: PathBuf,
        /// What would have to go.
        directory: PathBuf,
    },
    /// This host has not joined.
    #[error("this host has not joined a server: get a token there with luarm enroll token, then run luarm enroll join https://SERVER:PORT --token TOKEN --data {}", data.display())]
    NotJoined {
        /// The data directory.
        data: PathBuf,
    },
    /// No analyst has joined with this directory.
    #[error("no analyst has joined a server with {}: get a token there with luarm enroll token --analyst NAME, then run luarm enroll join https://SERVER:PORT --token TOKEN --data {}", data.display(), data.display())]
    NoAnalyst {
        /// The data directory.
        data: PathBuf,
    },
    /// An analyst's certificate has expired.
    #[error(
        "the certificate of {name} expired at {expires} UTC: join again with a new token (luarm enroll token --analyst {name} on the server)"
    )]
    AnalystExpired {
        /// When.
        expires: luarm_schema::Time,
        /// The analyst's name.
        name: String,
    },
    /// The operating system does not give what is needed to speak to a server.
    #[error("cannot speak to a server: {0}")]
    System(io::Error),
    /// This directory belongs to another server's history.
    #[error("{} delivers to another server's authority: its spool cannot go on here; use another --data, or remove {} and {}", data.display(), data.join("agent").display(), data.join("spool.db").display())]
    OtherServer {
        /// The data directory.
        data: PathBuf,
    },
    /// Not a name for a server's certificate.
    #[error("{name:?} is no name or address that a server can answer to")]
    ServerName {
        /// What was given.
        name: String,
    },
    /// Not the address of a server.
    #[error("{text:?} is no server: write https://HOST or https://HOST:PORT")]
    Url {
        /// What was given.
        text: String,
    },
    /// Not a token.
    #[error("this is no token of luarm enroll token: {0}")]
    Token(&'static str),
    /// Not a name for a host.
    #[error(
        "{name:?} is no name for a host: 1 to 64 letters, digits, '.', '-' and '_', beginning with a letter or digit; choose one with --name"
    )]
    HostName {
        /// What was given.
        name: String,
    },
    /// Not a name for an analyst.
    #[error(
        "{name:?} is no name for an analyst: 1 to 48 letters, digits, '.', '-' and '_', beginning with a letter or digit"
    )]
    AnalystName {
        /// What was given.
        name: String,
    },
    /// An analyst cannot be limited to hosts here.
    #[error(
        "a SQLite store, which has no accounts, cannot keep an analyst to some hosts: leave out --host, or use a MariaDB or PostgreSQL store"
    )]
    Unlimited,
    /// Not a machine id.
    #[error("{machine_id:?} is no machine id: 32 hexadecimal digits")]
    MachineId {
        /// What was given.
        machine_id: String,
    },
    /// The request for a certificate is not sound.
    #[error("the request for a certificate is not sound: {0}")]
    Request(String),
    /// Certificates or TLS failed.
    #[error("cannot {action}: {detail}")]
    Certificate {
        /// What was attempted.
        action: &'static str,
        /// What was said.
        detail: String,
    },
    /// The server cannot be reached.
    #[error("cannot reach {url}: {detail}")]
    Unreachable {
        /// The server.
        url: String,
        /// What was said.
        detail: String,
    },
    /// The server refused.
    #[error("{url} refuses: {message}")]
    Refused {
        /// The server.
        url: String,
        /// What it said.
        message: String,
    },
    /// The address cannot be listened at.
    #[error("cannot listen at {address}: {source}")]
    Listen {
        /// The address.
        address: String,
        /// The system's error.
        source: io::Error,
    },
    /// The server has fewer batches than it acknowledged.
    #[error(
        "{url} has lost batches {first} to {last} of this host, which it had acknowledged and which are no longer here: was its store restored from a backup? Nothing is delivered to it; recording goes on into the spool"
    )]
    ServerLost {
        /// The server.
        url: String,
        /// The first that it lost.
        first: i64,
        /// The last.
        last: i64,
    },
    /// The server has more batches than this spool ever held.
    #[error(
        "{url} has batch {stored} of this host, and this spool made only {last}: was its data directory restored from a backup, or does another agent use its certificate? Nothing is delivered; recording goes on into the spool"
    )]
    ServerAhead {
        /// The server.
        url: String,
        /// The server's last batch.
        stored: i64,
        /// Ours.
        last: i64,
    },
    /// The certificate has expired.
    #[error(
        "this host's certificate expired at {expires} UTC: join again with a new token (luarm enroll token --host {name} on the server)"
    )]
    Expired {
        /// When.
        expires: luarm_schema::Time,
        /// The host's name.
        name: String,
    },
    /// The store or the spool failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl LinkError {
    #[expect(clippy::needless_pass_by_value, reason = "errors are mapped with it")]
    pub(crate) fn certificate(action: &'static str, error: impl ToString) -> Self {
        LinkError::Certificate { action, detail: error.to_string() }
    }
}
