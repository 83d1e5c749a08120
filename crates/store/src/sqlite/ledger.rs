//! Appending batches of many hosts to one file.

use std::{collections::HashMap, path::Path};

use luarm_chain::Notary;
use luarm_schema::Batch;

use super::{ready::Ready, writer::Appender};
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

    /// Stores batches in one transaction, and tells what became of each. On an error nothing is stored.
    pub(crate) fn append_together(
        &mut self,
        batches: &[(&str, &Batch, &Ready)],
        notary: Option<&Notary>,
    ) -> Result<Vec<Result<Stored, StoreError>>, StoreError> {
        if batches.is_empty() {
            return Ok(Vec::new());
        }
        let known: Vec<_> = batches
            .iter()
            .map(|(id, batch, ready)| (*id, self.hosts.get(*id).copied(), *batch, *ready))
            .collect();
        let mut all = Vec::new();
        for ((id, ..), stored) in batches.iter().zip(self.appender.append_together(&known, notary)?) {
            all.push(stored.map(|(host, _, stored)| {
                self.hosts.entry((*id).to_owned()).or_insert(host);
                stored
            }));
        }
        Ok(all)
    }
}
