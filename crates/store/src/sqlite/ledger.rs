//! Appending batches of many hosts: what a server does.

use std::{collections::HashMap, path::Path};

use luarm_schema::Batch;

use super::writer::Appender;
use crate::{Refused, StoreError};

/// The one who appends the batches of many hosts, over one connection. Several may do so at once, in several processes: a transaction holds the
/// database while it looks up the host's last batch and appends the next one.
pub(crate) struct Ledger {
    appender: Appender,
    /// Numbers of hosts by machine id, once they are stored.
    hosts: HashMap<String, i64>,
}

impl Ledger {
    /// Opens the file, and makes it where there is none (for its owner only).
    pub(crate) fn open(path: &Path) -> Result<Self, StoreError> {
        Ok(Ledger { appender: Appender::open(path)?, hosts: HashMap::new() })
    }

    /// See [`crate::Ledger::last_batch`].
    pub(crate) fn last_batch(&mut self, machine_id: &str) -> Result<i64, StoreError> {
        self.appender.last_batch(machine_id)
    }

    /// See [`crate::Ledger::append`].
    pub(crate) fn append(&mut self, machine_id: &str, batch: &Batch) -> Result<Vec<Refused>, StoreError> {
        let known = self.hosts.get(machine_id).copied();
        let (host, _, refused) = self.appender.append(machine_id, known, batch)?;
        if known.is_none() {
            self.hosts.insert(machine_id.to_owned(), host);
        }
        Ok(refused)
    }

    /// How many hosts it has met.
    pub(crate) fn hosts(&self) -> usize {
        self.hosts.len()
    }
}
