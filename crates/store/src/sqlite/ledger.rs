//! Appending batches of many hosts to one file.

use std::{collections::HashMap, path::Path};

use luarm_chain::Notary;
use luarm_schema::Batch;

use super::writer::Appender;
use crate::{HostIdentity, StoreError, Stored};

/// One connection for all hosts: a transaction holds the file while it looks up the host's last batch and appends the next one.
pub(crate) struct Ledger {
    appender: Appender,
    /// Numbers of hosts by machine id, once they are stored.
    hosts: HashMap<String, i64>,
}

impl Ledger {
    pub(crate) fn open(path: &Path) -> Result<Self, StoreError> {
        Ok(Ledger { appender: Appender::open(path)?, hosts: HashMap::new() })
    }

    pub(crate) fn last_batch(&mut self, machine_id: &str) -> Result<i64, StoreError> {
        self.appender.last_batch(machine_id)
    }

    pub(crate) fn find(&self, machine_id: &str) -> Result<Option<i64>, StoreError> {
        self.appender.find(machine_id)
    }

    pub(crate) fn enter(&self, server: &HostIdentity) -> Result<i64, StoreError> {
        self.appender.enter(&server.machine_id, server.hostname.as_deref().unwrap_or_default())
    }

    pub(crate) fn tip(&self, host: i64) -> Result<(i64, Option<String>), StoreError> {
        self.appender.tip(host)
    }

    pub(crate) fn append(
        &mut self,
        machine_id: &str,
        batch: &Batch,
        notary: Option<&Notary>,
    ) -> Result<Stored, StoreError> {
        let known = self.hosts.get(machine_id).copied();
        let (host, _, stored) = self.appender.append(machine_id, known, batch, notary)?;
        if known.is_none() {
            self.hosts.insert(machine_id.to_owned(), host);
        }
        Ok(stored)
    }
}
