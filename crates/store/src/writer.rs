//! Appending batches, to whichever engine.

use std::fmt;

use luarm_chain::{Part, Receipt, Refusals};
use luarm_schema::{Batch, Resume, Row};

use crate::{StoreError, StoreUrl, mysql::Mysql, postgres::Postgres, remote::Appender, sqlite};

/// Which computer batches are of.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct HostIdentity {
    /// Its machine id.
    pub machine_id: String,
    /// The name that it was enrolled under: its identity, where there is one. Otherwise the machine id is.
    pub enrolled: Option<String>,
    /// Its own host name: what it is called in the store if it is not enrolled, as long as no other is called so.
    pub hostname: Option<String>,
}

impl HostIdentity {
    /// A computer that records itself.
    pub fn own(machine_id: &str, hostname: &str) -> Self {
        let (machine_id, hostname) = (machine_id.to_owned(), Some(hostname.to_owned()));
        HostIdentity { machine_id, enrolled: None, hostname }
    }

    /// A computer that delivers to a server under the name of its certificate.
    pub fn enrolled(machine_id: &str, name: &str) -> Self {
        let (machine_id, enrolled) = (machine_id.to_owned(), Some(name.to_owned()));
        HostIdentity { machine_id, enrolled, hostname: None }
    }
}

/// How much was stored.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Appended {
    /// Batches.
    pub batches: u64,
    /// New rows.
    pub rows: u64,
    /// Ends of rows of earlier batches.
    pub ends: u64,
    /// Ends whose row is not in the store, or has ended before.
    pub unmatched: u64,
}

impl Appended {
    pub(crate) fn add(&mut self, other: Appended) {
        self.batches += other.batches;
        self.rows += other.rows;
        self.ends += other.ends;
        self.unmatched += other.unmatched;
    }
}

/// A row, or the end of one, that the engine refused for what is in it: a key that is there already, a value that is too large. The rest of its batch is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refused {
    /// Its table.
    pub table: &'static str,
    /// Its key.
    pub key: i64,
    /// Whether it is the row or its end.
    pub part: Part,
}

/// What became of a batch that is stored.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Stored {
    /// Rows and ends that the engine refused.
    pub refused: Vec<Refused>,
    /// The public key (base64) of the host that signed it; `None` without a notary, and for a batch that was stored before.
    pub publickey: Option<String>,
    /// Whether it begins a new chain, though the batch before it named the key that was to sign.
    pub restarted: bool,
    /// What the notary signed, and what of the batch is not stored; `None` without a notary, and for a batch that was stored before.
    pub receipt: Option<(Receipt, Refusals)>,
}

/// What one transaction did.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    pub(crate) done: Appended,
    pub(crate) refused: Vec<Refused>,
    /// Ends of rows that were not there to be ended.
    pub(crate) unmatched: Vec<(&'static str, i64)>,
}

/// The one who appends the batches of one host. Several may serve one host, in several processes and on several machines: the ledger keeps each
/// batch from being stored twice.
///
/// It blocks, and must not be called from within an asynchronous task.
#[derive(Debug)]
pub struct Writer {
    engine: Engine,
    machine_id: String,
}

enum Engine {
    Sqlite(Box<sqlite::Writer>),
    Mysql(Box<Appender<Mysql>>),
    Postgres(Box<Appender<Postgres>>),
}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Engine::Sqlite(writer) => writer.fmt(f),
            Engine::Mysql(writer) => writer.fmt(f),
            Engine::Postgres(writer) => writer.fmt(f),
        }
    }
}

impl Writer {
    /// Opens the store for the host with that machine id; see [`Writer::open_for`].
    pub fn open(url: &StoreUrl, machine_id: &str) -> Result<(Self, Resume), StoreError> {
        let machine_id = machine_id.to_owned();
        Self::open_for(url, &HostIdentity { machine_id, enrolled: None, hostname: None })
    }

    /// Opens the store for a host, and makes it where there is none: a file for its owner only; on a server the tables, if the account may. Gives
    /// what the store remembers of the host.
    pub fn open_for(url: &StoreUrl, identity: &HostIdentity) -> Result<(Self, Resume), StoreError> {
        let (engine, resume) = match url {
            StoreUrl::Sqlite(path) => {
                let (writer, resume) = sqlite::Writer::open(path, &identity.machine_id)?;
                (Engine::Sqlite(Box::new(writer)), resume)
            }
            StoreUrl::Mysql(_) => {
                let mut writer = Appender::open(url, identity)?;
                let resume = writer.resume()?;
                (Engine::Mysql(Box::new(writer)), resume)
            }
            StoreUrl::Postgres(_) => {
                let mut writer = Appender::open(url, identity)?;
                let resume = writer.resume()?;
                (Engine::Postgres(Box::new(writer)), resume)
            }
        };
        Ok((Writer { engine, machine_id: identity.machine_id.clone() }, resume))
    }

    /// Opens the store for a host whose recorder is elsewhere, and remembers by itself.
    pub fn deliver_for(url: &StoreUrl, identity: &HostIdentity) -> Result<Self, StoreError> {
        let engine = match url {
            StoreUrl::Sqlite(_) => return Self::open_for(url, identity).map(|(writer, _)| writer),
            StoreUrl::Mysql(_) => Engine::Mysql(Box::new(Appender::open(url, identity)?)),
            StoreUrl::Postgres(_) => Engine::Postgres(Box::new(Appender::open(url, identity)?)),
        };
        Ok(Writer { engine, machine_id: identity.machine_id.clone() })
    }

    /// Stores a batch, wholly and durably, or on an error not at all. A batch that is stored already is stored no second time, and a number that
    /// leaves a gap is refused.
    ///
    /// After an error that [`StoreError::is_transient`] the same batch may be tried again with the same writer: also when the connection broke
    /// and nobody knows whether the batch is stored.
    ///
    /// Gives the rows that the engine refused for what is in them; there are none unless something is wrong with the one who made them.
    pub fn append(&mut self, batch: &Batch) -> Result<Vec<Refused>, StoreError> {
        checked(&self.machine_id, batch)?;
        match &mut self.engine {
            Engine::Sqlite(writer) => writer.append(batch),
            Engine::Mysql(writer) => writer.append(batch),
            Engine::Postgres(writer) => writer.append(batch),
        }
    }

    /// The last batch of this host that is stored, 0 for none.
    pub fn last_batch(&mut self) -> Result<i64, StoreError> {
        match &mut self.engine {
            Engine::Sqlite(writer) => writer.last_batch(),
            Engine::Mysql(writer) => writer.last_batch(),
            Engine::Postgres(writer) => writer.last_batch(),
        }
    }

    /// What this writer has stored since it was opened.
    pub fn appended(&self) -> Appended {
        match &self.engine {
            Engine::Sqlite(writer) => writer.appended(),
            Engine::Mysql(writer) => writer.appended(),
            Engine::Postgres(writer) => writer.appended(),
        }
    }

    /// Bytes that a file takes on disk; 0 for a server's database, which its [`Reader`](crate::Reader) knows.
    pub fn size(&self) -> u64 {
        match &self.engine {
            Engine::Sqlite(writer) => writer.size(),
            Engine::Mysql(_) | Engine::Postgres(_) => 0,
        }
    }
}

/// A batch closes with its own entry in the ledger, and says of no other computer that it is it.
pub(crate) fn checked(machine_id: &str, batch: &Batch) -> Result<(), StoreError> {
    match batch.rows.last() {
        Some(Row::BatchInfo(info)) if info.batchid == batch.id => {}
        _ => return Err(StoreError::Unsigned { id: batch.id }),
    }
    for row in &batch.rows {
        match row {
            Row::HostInfo(host) if host.machineid != machine_id => {
                return Err(StoreError::Impostor {
                    id: batch.id,
                    known: machine_id.to_owned(),
                    given: host.machineid.clone(),
                });
            }
            _ => {}
        }
    }
    Ok(())
}
