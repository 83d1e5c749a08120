//! What the owner of a server's database does: accounts, views, retention.

use std::{fmt, time::Duration};

use luarm_chain::SigningKey;
use luarm_schema::Time;

use crate::{
    StoreError, StoreUrl,
    mysql::Mysql,
    postgres::Postgres,
    remote::{Connection, Failure, Keeping, Session, grants, make_routine, places_of_all, retention},
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
    /// How many stay, because they have not ended.
    pub kept: i64,
}

/// The owner's access to a server's database. The URL's account may make databases (or schemas), tables and accounts.
pub struct Owner {
    engine: Engine,
    key: Option<SigningKey>,
}

enum Engine {
    Mysql(Connection<Mysql>),
    Postgres(Connection<Postgres>),
}

impl fmt::Debug for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Owner")
    }
}

impl Owner {
    /// Opens the store; makes its tables where there are none.
    pub fn open(url: &StoreUrl) -> Result<Self, StoreError> {
        let mut owner = Self::connect(url, Keeping::Appending)?;
        match &mut owner.engine {
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
            StoreUrl::Sqlite(_) => {
                let what = "an account or retention";
                return Err(StoreError::OnlyServers { url: url.clone(), what });
            }
            StoreUrl::Mysql(_) => Engine::Mysql(Connection::open(url, keeping)?.patient()),
            StoreUrl::Postgres(_) => Engine::Postgres(Connection::open(url, keeping)?.patient()),
        };
        Ok(Owner { engine, key: None })
    }

    /// From now on what retention records is signed with this key.
    pub fn sign_with(&mut self, key: SigningKey) {
        self.key = Some(key);
    }

    /// Whether the server has an account of that name.
    pub fn is_account(&mut self, name: &str) -> Result<bool, StoreError> {
        match &mut self.engine {
            Engine::Mysql(connection) => known(connection, name),
            Engine::Postgres(connection) => known(connection, name),
        }
    }

    /// The statements that make an account and give it what it needs. They hold its password, or what it is checked by.
    pub fn grants(&mut self, account: &Account) -> Result<Vec<String>, StoreError> {
        match &mut self.engine {
            Engine::Mysql(connection) => granted(connection, account),
            Engine::Postgres(connection) => granted(connection, account),
        }
    }

    /// Makes the views of hosts that have none, and runs what [`Owner::grants`] gives. May be repeated.
    pub fn grant(&mut self, account: &Account) -> Result<(), StoreError> {
        self.make_views()?;
        let statements = self.grants(account)?;
        match &mut self.engine {
            Engine::Mysql(connection) => run(connection, &statements),
            Engine::Postgres(connection) => run(connection, &statements),
        }
    }

    /// Makes the views of each host that has none yet. Gives the names of the databases or schemas of all hosts.
    pub fn make_views(&mut self) -> Result<Vec<String>, StoreError> {
        match &mut self.engine {
            Engine::Mysql(connection) => viewed(connection),
            Engine::Postgres(connection) => viewed(connection),
        }
    }

    /// Drops what is older than `keep` (whole days, at least one) from the tables of activities, day by day, but for rows that have not ended, and
    /// records it in `retentioninfo`. Of the batches of which nothing is left the manifests go too. Days to come are made on the way, so it is best done once a day.
    pub fn retain(&mut self, keep: Duration) -> Result<Vec<Dropped>, StoreError> {
        self.retain_at(Time::now(), keep)
    }

    /// What [`Owner::retain`] would drop now.
    pub fn would_retain(&mut self, keep: Duration) -> Result<Vec<Dropped>, StoreError> {
        self.would_retain_at(Time::now(), keep)
    }

    /// The same, as if it were `now`.
    pub fn would_retain_at(&mut self, now: Time, keep: Duration) -> Result<Vec<Dropped>, StoreError> {
        let days = retention::Days::new(now, keep);
        match &mut self.engine {
            Engine::Mysql(connection) => retention::foresee(connection, days),
            Engine::Postgres(connection) => retention::foresee(connection, days),
        }
    }

    /// The same as [`Owner::retain`], as if it were `now`.
    pub fn retain_at(&mut self, now: Time, keep: Duration) -> Result<Vec<Dropped>, StoreError> {
        let days = retention::Days::new(now, keep);
        let key = self.key.as_ref();
        match &mut self.engine {
            Engine::Mysql(connection) => retention::retain(connection, days, key),
            Engine::Postgres(connection) => retention::retain(connection, days, key),
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
