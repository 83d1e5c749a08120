//! Appending batches of many hosts to a server's database.

use std::{collections::HashMap, time::Duration};

use luarm_chain::{Notary, is_server};
use luarm_schema::Batch;

use super::{Connection, Keeping, Session, appender, places, registry, resume};
use crate::{HostIdentity, StoreError, StoreUrl, Stored, error::Trouble};

/// How long one question may take.
const LIMIT: Duration = Duration::from_secs(60);

/// Hosts whose numbers are remembered.
const REMEMBERED: usize = 10_000;

/// The one who appends the batches of many hosts.
pub(crate) struct Deliveries<S: Session> {
    connection: Connection<S>,
    /// Numbers of the hosts.
    hosts: HashMap<HostIdentity, i64>,
}

impl<S: Session> Deliveries<S> {
    pub(crate) fn open(url: &StoreUrl) -> Result<Self, StoreError> {
        Ok(Deliveries { connection: Connection::open(url, Keeping::Appending)?, hosts: HashMap::new() })
    }

    /// See [`crate::Ledger::last_batch`].
    pub(crate) fn last_batch(&mut self, identity: &HostIdentity) -> Result<i64, StoreError> {
        let host = self.number(identity)?;
        let asked = async |session: &mut S| resume::last_batch(session, host).await;
        self.connection.with(Some(LIMIT), asked).map_err(|f| f.of("read", &self.connection.url))
    }

    /// See [`crate::Ledger::find`].
    pub(crate) fn find(&mut self, identity: &HostIdentity) -> Result<Option<i64>, StoreError> {
        let machine_id = identity.machine_id.as_str();
        let found = async |session: &mut S| registry::of_machine(session, machine_id).await;
        let found = self.connection.with(Some(LIMIT), found);
        Ok(found.map_err(|f| f.of("find the host in", &self.connection.url))?.map(|known| known.host))
    }

    /// See [`crate::Ledger::enter`].
    pub(crate) fn enter(&mut self, identity: &HostIdentity) -> Result<i64, StoreError> {
        self.number(identity)
    }

    /// See [`crate::Ledger::tip`].
    pub(crate) fn tip(&mut self, host: i64) -> Result<(i64, Option<String>), StoreError> {
        let last = async |session: &mut S| resume::last(session, host).await;
        self.connection.with(Some(LIMIT), last).map_err(|f| f.of("read", &self.connection.url))
    }

    /// See [`crate::Ledger::append`].
    pub(crate) fn append(
        &mut self,
        identity: &HostIdentity,
        batch: &Batch,
        notary: Option<&Notary>,
    ) -> Result<Stored, StoreError> {
        let host = self.number(identity)?;
        let of = (host, identity.machine_id.as_str());
        appender::store(&mut self.connection, of, batch, notary).map(|(_, stored)| stored)
    }

    /// The host's number; it gets one, and its views, if it has none.
    fn number(&mut self, identity: &HostIdentity) -> Result<i64, StoreError> {
        if let Some(host) = self.hosts.get(identity) {
            return Ok(*host);
        }
        let url = self.connection.url.clone();
        let mut tries = 0;
        let found = loop {
            tries += 1;
            let found = async |session: &mut S| registry::find_or_make(session, identity).await;
            match self.connection.with(Some(LIMIT), found) {
                Ok(found) => break found,
                // Once: the server may have been restarted, or another one of its cluster has taken over.
                Err(failure) if tries == 1 && failure.is(Trouble::Lost) => {}
                Err(failure) => return Err(failure.of("find the host in", &url)),
            }
        };
        let mut known = found.host(&url, identity)?;
        // A server is no place to look at: what it was asked stands among the rows of all.
        if !known.placed && !is_server(&known.machine_id) {
            let placed = async |session: &mut S| places::try_make(session, &mut known).await;
            self.connection.with(Some(LIMIT), placed).map_err(|f| f.of("make the host's views in", &url))?;
        }
        if self.hosts.len() >= REMEMBERED {
            self.hosts.clear();
        }
        self.hosts.insert(identity.clone(), known.host);
        Ok(known.host)
    }
}
