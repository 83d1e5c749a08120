//! Logins, as those tell who keep records of them.

use std::net::IpAddr;

/// Who keeps the record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum LoginSource {
    /// utmp(5): who is logged in.
    Utmp,
    /// wtmp(5): who was.
    Wtmp,
    /// wtmpdb(8): who is, or was.
    Wtmpdb,
    /// systemd-logind.
    Logind,
}

/// A login that lasts, or is over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Login {
    /// Where it is recorded.
    pub source: LoginSource,
    /// Tells it from every other of the same source.
    pub id: Vec<u8>,
    /// Login name.
    pub user: Vec<u8>,
    /// Terminal below /dev.
    pub tty: Option<Vec<u8>>,
    /// The host from which the user came, as the service named it.
    pub host: Option<Vec<u8>>,
    /// Its address.
    pub address: Option<IpAddr>,
    /// The service, where it is told.
    pub service: Option<Vec<u8>>,
    /// The process that keeps the login; 0 where it is not told.
    pub pid: u32,
    /// Login session id of kernel audit, where it is told.
    pub session: Option<u32>,
    /// When it began by the wall clock, microseconds since 1970-01-01; 0 where unknown.
    pub since: i64,
    /// When it ended, where it has; such a one is told of once, and never ends.
    pub until: Option<i64>,
}
