//! Appending batches of many hosts to a server's database, and knowing who may deliver.

use std::{collections::HashMap, time::Duration};

use luarm_schema::{Batch, Row};

use super::{
    Class, Connection, Datum, Failure, Keeping, Session, appender, places,
    registry::{self, Known},
    resume,
};
use crate::{
    HostIdentity, Refused, StoreError, StoreUrl,
    error::Trouble,
    registry::{Parameter, RegistrySql},
};

/// How long one question may take.
const LIMIT: Duration = Duration::from_secs(60);

/// The one who appends the batches of many hosts.
pub(crate) struct Deliveries<S: Session> {
    connection: Connection<S>,
    /// By machine id.
    hosts: HashMap<String, Known>,
}

impl<S: Session> Deliveries<S> {
    pub(crate) fn open(url: &StoreUrl) -> Result<Self, StoreError> {
        Ok(Deliveries { connection: Connection::open(url, Keeping::Appending)?, hosts: HashMap::new() })
    }

    /// See [`crate::Ledger::last_batch`].
    pub(crate) fn last_batch(&mut self, machine_id: &str) -> Result<i64, StoreError> {
        let asked = async |session: &mut S| match registry::of_machine(session, machine_id).await? {
            Some(known) => resume::last_batch(session, known.host).await,
            None => Ok(0),
        };
        self.connection.with(Some(LIMIT), asked).map_err(|f| f.of("read", &self.connection.url))
    }

    /// See [`crate::Ledger::append`].
    pub(crate) fn append(&mut self, machine_id: &str, batch: &Batch) -> Result<Vec<Refused>, StoreError> {
        let host = match self.hosts.get(machine_id) {
            Some(known) => known.host,
            None => self.meet(machine_id, batch)?,
        };
        appender::store(&mut self.connection, host, batch).map(|(_, refused)| refused)
    }

    pub(crate) fn hosts(&self) -> usize {
        self.hosts.len()
    }

    /// Finds the host, or gives it a number and its name: the one that it was enrolled under, else the one that it gives itself.
    fn meet(&mut self, machine_id: &str, batch: &Batch) -> Result<i64, StoreError> {
        let own = batch.rows.iter().find_map(|row| match row {
            Row::HostInfo(host) => Some(host.hostname.clone()),
            _ => None,
        });
        let met = async |session: &mut S| {
            let enrolled =
                session.ask("SELECT name FROM luarm_host WHERE machineid = ?", &[machine_id]).await?;
            let enrolled = enrolled.first().and_then(|row| row.first()).and_then(Datum::text);
            let hostname = enrolled.map(str::to_owned).or(own);
            let identity = HostIdentity { machine_id: machine_id.to_owned(), enrolled: None, hostname };
            let mut known = match registry::find_or_make(session, &identity).await? {
                registry::Found::Host(known) => known,
                registry::Found::Other(known) => {
                    let detail = format!(
                        "the machine id {machine_id:?} is the name of another host, {:?}",
                        known.machine_id
                    );
                    return Err(Failure::trouble(Trouble::Other, detail));
                }
            };
            if !known.placed {
                places::try_make(session, &mut known).await?;
            }
            Ok(known)
        };
        let known = self
            .connection
            .with(Some(LIMIT), met)
            .map_err(|f| f.of("find the host in", &self.connection.url))?;
        let host = known.host;
        self.hosts.insert(machine_id.to_owned(), known);
        Ok(host)
    }
}

/// The registry of who may deliver, in a server's database.
pub(crate) struct RemoteRegistry<S: Session>(Connection<S>);

impl<S: Session> RemoteRegistry<S> {
    pub(crate) fn open(url: &StoreUrl) -> Result<Self, StoreError> {
        Connection::open(url, Keeping::Appending).map(RemoteRegistry)
    }

    /// Does it once more when the connection broke: none of the registry's statements does harm when it is repeated.
    fn with<T>(&mut self, work: impl AsyncFn(&mut S) -> Result<T, Failure>) -> Result<T, StoreError> {
        let connection = &mut self.0;
        let mut result = connection.with(Some(LIMIT), async |session: &mut S| work(session).await);
        if result.as_ref().is_err_and(|f| f.is(Trouble::Lost) || f.is(Trouble::Contended)) {
            result = connection.with(Some(LIMIT), async |session: &mut S| work(session).await);
        }
        result.map_err(|f| f.of("change the registry in", &connection.url))
    }
}

/// The statement with its numbers written into it, and its texts.
fn written<'a>(sql: &str, parameters: &[Parameter<'a>]) -> (String, Vec<&'a str>) {
    let mut parts = sql.split('?');
    let mut out = parts.next().unwrap_or_default().to_owned();
    let mut texts = Vec::new();
    for (part, parameter) in parts.zip(parameters) {
        match parameter {
            Parameter::Null => out.push_str("NULL"),
            Parameter::Int(n) => out.push_str(&n.to_string()),
            Parameter::Text(text) => {
                out.push('?');
                texts.push(*text);
            }
        }
        out.push_str(part);
    }
    (out, texts)
}

impl<S: Session + Send> RegistrySql for RemoteRegistry<S> {
    fn change(&mut self, sql: &str, parameters: &[Parameter<'_>]) -> Result<u64, StoreError> {
        let (sql, texts) = written(sql, parameters);
        self.with(async |session: &mut S| session.change(&sql, &texts).await)
    }

    fn insert(
        &mut self,
        table: &str,
        columns: &str,
        parameters: &[Parameter<'_>],
    ) -> Result<bool, StoreError> {
        let marks = vec!["?"; parameters.len()].join(", ");
        let (sql, texts) = written(&format!("INSERT INTO {table} ({columns}) VALUES ({marks})"), parameters);
        self.with(async |session: &mut S| match session.change(&sql, &texts).await {
            Ok(_) => Ok(true),
            Err(failure) if failure.class == Class::Doubled => Ok(false),
            Err(failure) => Err(failure),
        })
    }

    fn ask(
        &mut self,
        sql: &str,
        parameters: &[Parameter<'_>],
    ) -> Result<Vec<Vec<Option<String>>>, StoreError> {
        let (sql, texts) = written(sql, parameters);
        let rows = self.with(async |session: &mut S| session.ask(&sql, &texts).await)?;
        let text = |datum: Datum| match datum {
            Datum::Int(n) => Some(n.to_string()),
            Datum::Text(text) => Some(text),
            Datum::Null | Datum::Real(_) | Datum::Time(_) => None,
        };
        Ok(rows.into_iter().map(|row| row.into_iter().map(text).collect()).collect())
    }
}
