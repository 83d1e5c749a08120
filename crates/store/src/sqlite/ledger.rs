//! Appending batches of many hosts: what a server does.

use std::{collections::HashMap, fmt};

use luarm_schema::Batch;

use super::{append::Refused, resume, writer::Appender};
use crate::{StoreError, StoreUrl};

/// The one who appends the batches of many hosts, over one connection. Several may do so at once, in several processes: a transaction holds the
/// database while it looks up the host's last batch and appends the next one.
pub struct Ledger {
    appender: Appender,
    /// Numbers of hosts by machine id, once they are stored.
    hosts: HashMap<String, i64>,
}

impl Ledger {
    /// Opens the store, and makes it where there is none (the file for its owner only).
    pub fn open(url: &StoreUrl) -> Result<Self, StoreError> {
        Ok(Ledger { appender: Appender::open(url)?, hosts: HashMap::new() })
    }

    /// Number of the last batch of the host with that machine id; 0 for none.
    pub fn last_batch(&mut self, machine_id: &str) -> Result<i64, StoreError> {
        let Appender { conn, path, .. } = &self.appender;
        let failed = |e| StoreError::from_append(path, e);
        match resume::host_number(conn, machine_id).map_err(failed)? {
            Some(host) => resume::last_batch(conn, host).map_err(failed),
            None => Ok(0),
        }
    }

    /// Stores a batch of the host with that machine id, wholly and durably, or on an error not at all. A batch that is stored already is stored
    /// no second time; one that leaves a gap is [`StoreError::Gap`], another one under a number that is taken [`StoreError::Conflict`].
    ///
    /// The caller has made sure that the `hostinfo` rows of the batch carry this machine id, and that a host's first batch has one: the
    /// host is found by them.
    pub fn append(&mut self, machine_id: &str, batch: &Batch) -> Result<Vec<Refused>, StoreError> {
        let known = self.hosts.get(machine_id).copied();
        let (host, _, refused) = self.appender.append(machine_id, known, batch)?;
        if known.is_none() {
            self.hosts.insert(machine_id.to_owned(), host);
        }
        Ok(refused)
    }
}

impl fmt::Debug for Ledger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ledger").field("hosts", &self.hosts.len()).finish_non_exhaustive()
    }
}
