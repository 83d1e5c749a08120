//! What the owner of a store does: retention, and in a server's database accounts and views.

use std::{
    fmt,
    sync::{Arc, atomic::AtomicBool},
    time::Duration,
};

use luarm_chain::SigningKey;
use luarm_schema::Time;

use crate::{
    StoreError, StoreUrl,
    mysql::Mysql,
    postgres::Postgres,
    remote::{self, Connection, Failure, Keeping, Session, grants, make_routine, places_of_all},
    retention::Days,
    sqlite::Retainer,
};

/// How long one of the owner's statements may take.
const LIMIT: Duration = Duration::from_secs(600);

/// An account that the owner makes.
#[derive(Clone, PartialEq, Eq)]
pub enum Account {
    /// Of `luarm server`: adds rows and ends them.
    Server {
        /// Its name.
        name: String,
        /// Its password, which it gets; `None` for an account that is there already, and keeps its own.
        password: Option<String>,
    },
    /// Of somebody who asks: selects.
    Analyst {
        /// Its name.
        name: String,
        /// Its password, which it gets; `None` for an account that is there already, and keeps its own.
        password: Option<String>,
        /// The one host whose rows it may see; `None` for all hosts.
        host: Option<String>,
    },
}

impl Account {
    pub(crate) fn credentials(&self) -> (&str, Option<&str>) {
        match self {
            Account::Server { name, password } | Account::Analyst { name, password, .. } => {
                (name, password.as_deref())
            }
        }
    }
}

/// Without the password.
impl fmt::Debug for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self {
            Account::Server { .. } => "Server",
            Account::Analyst { .. } => "Analyst",
        };
        f.debug_struct(kind).field("name", &self.credentials().0).finish_non_exhaustive()
    }
}

/// What retention took from a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Dropped {
    /// The host's number.
    pub host: i64,
    /// The table.
    pub table: &'static str,
    /// Rows whose number is of an instant before this midnight, UTC, were dropped.
    pub before: Time,
    /// How many.
    pub rows: i64,
    /// How many stay, because they have not ended; in a file also those that ended later than that midnight.
    pub kept: i64,
}

/// The owner's access to a store. The account of the URL of a server's database may make databases (or schemas), tables and accounts.
pub struct Owner {
    engine: Engine,
    url: StoreUrl,
    key: Option<SigningKey>,
}

enum Engine {
    Sqlite(Box<Retainer>),
    Mysql(Connection<Mysql>),
    Postgres(Connection<Postgres>),
}

impl fmt::Debug for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Owner")
    }
}

impl Owner {
    /// Opens the store; in a server's database, makes its tables where there are none.
    pub fn open(url: &StoreUrl) -> Result<Self, StoreError> {
        let mut owner = Self::connect(url, Keeping::Appending)?;
        match &mut owner.engine {
            Engine::Sqlite(_) => Ok(()),
            Engine::Mysql(connection) => completed(connection),
            Engine::Postgres(connection) => completed(connection),
        }?;
        Ok(owner)
    }

    /// Opens the store to see what would have to be done, and makes nothing.
    pub fn look(url: &StoreUrl) -> Result<Self, StoreError> {
        Self::connect(url, Keeping::Reading)
    }

    fn connect(url: &StoreUrl, keeping: Keeping) -> Result<Self, StoreError> {
        let engine = match url {
            StoreUrl::Sqlite(path) => Engine::Sqlite(Box::new(match keeping {
                Keeping::Reading | Keeping::OneHost => Retainer::look(path)?,
                Keeping::Appending => Retainer::open(path)?,
            })),
            StoreUrl::Mysql(_) => Engine::Mysql(Connection::open(url, keeping)?.patient()),
            StoreUrl::Postgres(_) => Engine::Postgres(Connection::open(url, keeping)?.patient()),
        };
        Ok(Owner { engine, url: url.clone(), key: None })
    }

    /// Accounts and views are a server's.
    fn only_servers(&self) -> StoreError {
        StoreError::OnlyServers { url: self.url.clone(), what: "an account" }
    }

    /// From now on what retention records is signed with this key.
    pub fn sign_with(&mut self, key: SigningKey) {
        self.key = Some(key);
    }

    /// Once that is true, retention in a file ends after the step at hand; the next act goes on from there.
    pub fn stop_by(&mut self, stop: Arc<AtomicBool>) {
        if let Engine::Sqlite(retainer) = &mut self.engine {
            retainer.stop_by(stop);
        }
    }

    /// Whether the server has an account of that name.
    pub fn is_account(&mut self, name: &str) -> Result<bool, StoreError> {
        match &mut self.engine {
            Engine::Sqlite(_) => Err(self.only_servers()),
            Engine::Mysql(connection) => known(connection, name),
            Engine::Postgres(connection) => known(connection, name),
        }
    }

    /// The statements that make an account and give it what it needs. They hold its password, or what it is checked by.
    pub fn grants(&mut self, account: &Account) -> Result<Vec<String>, StoreError> {
        match &mut self.engine {
            Engine::Sqlite(_) => Err(self.only_servers()),
            Engine::Mysql(connection) => granted(connection, account),
            Engine::Postgres(connection) => granted(connection, account),
        }
    }

    /// Makes the views of hosts that have none, and runs what [`Owner::grants`] gives. May be repeated.
    pub fn grant(&mut self, account: &Account) -> Result<(), StoreError> {
        self.make_views()?;
        let statements = self.grants(account)?;
        match &mut self.engine {
            Engine::Sqlite(_) => Err(self.only_servers()),
            Engine::Mysql(connection) => run(connection, &statements),
            Engine::Postgres(connection) => run(connection, &statements),
        }
    }

    /// Makes the views of each host that has none yet. Gives the names of the databases or schemas of all hosts.
    pub fn make_views(&mut self) -> Result<Vec<String>, StoreError> {
        match &mut self.engine {
            Engine::Sqlite(_) => Err(self.only_servers()),
            Engine::Mysql(connection) => viewed(connection),
            Engine::Postgres(connection) => viewed(connection),
        }
    }

    /// Drops what is older than `keep` (whole days, at least one) from the tables of activities, day by day, but for rows that have not ended, and
    /// records it in `retentioninfo`. Of the batches of which nothing is left the manifests go too. In a server's database days to come are made on the way, so it is best done
    /// once a day. In a file rows that ended later stay as well, small steps leave the file to others in between, and what is dropped makes room for what comes.
    pub fn retain(&mut self, keep: Duration) -> Result<Vec<Dropped>, StoreError> {
        self.retain_at(Time::now(), keep)
    }

    /// What [`Owner::retain`] would drop now.
    pub fn would_retain(&mut self, keep: Duration) -> Result<Vec<Dropped>, StoreError> {
        self.would_retain_at(Time::now(), keep)
    }

    /// The same, as if it were `now`.
    pub fn would_retain_at(&mut self, now: Time, keep: Duration) -> Result<Vec<Dropped>, StoreError> {
        let days = Days::new(now, keep);
        match &mut self.engine {
            Engine::Sqlite(retainer) => retainer.foresee(days),
            Engine::Mysql(connection) => remote::retention::foresee(connection, days),
            Engine::Postgres(connection) => remote::retention::foresee(connection, days),
        }
    }

    /// The same as [`Owner::retain`], as if it were `now`.
    pub fn retain_at(&mut self, now: Time, keep: Duration) -> Result<Vec<Dropped>, StoreError> {
        let days = Days::new(now, keep);
        let key = self.key.as_ref();
        match &mut self.engine {
            Engine::Sqlite(retainer) => retainer.retain(days, key),
            Engine::Mysql(connection) => remote::retention::retain(connection, days, key),
            Engine::Postgres(connection) => remote::retention::retain(connection, days, key),
        }
    }
}

fn completed<S: Session>(connection: &mut Connection<S>) -> Result<(), StoreError> {
    let work = async |session: &mut S| make_routine(session).await;
    connection.with(Some(LIMIT), work).map_err(|f| f.of("make the routines of", &connection.url))
}

fn known<S: Session>(connection: &mut Connection<S>, name: &str) -> Result<bool, StoreError> {
    let work = async |session: &mut S| grants::is_account(session, name).await;
    connection.with(Some(LIMIT), work).map_err(|f| f.of("look for an account of", &connection.url))
}

fn granted<S: Session>(connection: &mut Connection<S>, account: &Account) -> Result<Vec<String>, StoreError> {
    let work = async |session: &mut S| grants::statements(session, account).await;
    connection.with(Some(LIMIT), work).map_err(|f| f.of("grant on", &connection.url))
}

fn run<S: Session>(connection: &mut Connection<S>, statements: &[String]) -> Result<(), StoreError> {
    let work = async |session: &mut S| {
        for statement in statements {
            session.run(statement).await?;
        }
        Ok::<_, Failure>(())
    };
    connection.with(Some(LIMIT), work).map_err(|f| f.of("grant on", &connection.url))
}

fn viewed<S: Session>(connection: &mut Connection<S>) -> Result<Vec<String>, StoreError> {
    let work = async |session: &mut S| places_of_all(session).await;
    connection.with(Some(LIMIT), work).map_err(|f| f.of("make views in", &connection.url))
}
