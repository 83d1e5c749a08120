//! Answering queries from a server's database.

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use luarm_chain::is_server;
use luarm_schema::{Dialect, TABLES};
use tokio::runtime::Builder;

use super::{
    Class, Connection, Failure, Keeping, Session, StreamError, TOO_LONG,
    guard::{self, Found, Syntax},
    noting, places,
    registry::{self, Known},
};
use crate::{Host, Note, NoteEnd, QueryError, RowSink, StoreError, StoreUrl, error::Trouble};

/// How long a question of luarm's own may take.
const LIMIT: Duration = Duration::from_secs(60);

/// Rows of a table up to which they are counted, not estimated.
const COUNTED: i64 = 100_000;

/// The one who asks a server's database.
#[derive(Debug)]
pub(crate) struct Asker<S: Session> {
    connection: Connection<S>,
    /// Where the tables of the chosen host are.
    place: Option<String>,
    /// Whether the present session looks there.
    settled: bool,
    /// The one host that the account may see.
    own: Option<Host>,
    cancel: Cancel<S>,
}

/// Ends the running query of an [`Asker`].
pub(crate) struct Cancel<S: Session>(Arc<Mutex<Running<S>>>);

struct Running<S: Session> {
    /// What is there to end while a query runs.
    cancel: Option<S::Cancel>,
    /// Whether somebody wanted it ended.
    wanted: bool,
}

impl<S: Session> Clone for Cancel<S> {
    fn clone(&self) -> Self {
        Cancel(Arc::clone(&self.0))
    }
}

impl<S: Session> Cancel<S> {
    /// Ends the query that runs now, if one does. The lock keeps the query from making room for the next one meanwhile.
    pub(crate) fn cancel(&self) {
        let mut running = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(cancel) = running.cancel.clone() else {
            return;
        };
        running.wanted = true;
        let runtime = Builder::new_current_thread().enable_all().build();
        let ended = runtime.map_err(|e| Failure::trouble(Trouble::Other, e)).and_then(|runtime| {
            let cancelled = async { tokio::time::timeout(LIMIT, S::cancel_by(cancel)).await };
            runtime.block_on(cancelled).unwrap_or(Ok(()))
        });
        if let Err(failure) = ended {
            tracing::warn!("cannot interrupt the query: {}", failure.detail);
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Running<S>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<S: Session> fmt::Debug for Cancel<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Cancel")
    }
}

impl<S: Session> Asker<S> {
    pub(crate) fn open(url: &StoreUrl) -> Result<Self, StoreError> {
        let connection = Connection::open(url, Keeping::Reading)?;
        let cancel = Cancel(Arc::new(Mutex::new(Running { cancel: None, wanted: false })));
        Ok(Asker { connection, place: None, settled: false, own: None, cancel })
    }

    /// Opens the views of one host, by an account that may see nothing else: the engine, and no text of a query, keeps it to them.
    pub(crate) fn open_host(url: &StoreUrl) -> Result<Self, StoreError> {
        let mut connection = Connection::<S>::open(url, Keeping::OneHost)?;
        let found = async |session: &mut S| one_host(session, url.secret()).await;
        let found = connection.with(Some(LIMIT), found).map_err(|f| f.of("find the one host in", url))?;
        let cancel = Cancel(Arc::new(Mutex::new(Running { cancel: None, wanted: false })));
        let (place, own) = found;
        Ok(Asker { connection, place: Some(place), settled: false, own: Some(own), cancel })
    }

    /// Asks one statement; see [`crate::Reader::query`].
    pub(crate) fn query(&mut self, sql: &str, sink: &mut dyn RowSink) -> Result<u64, QueryError> {
        let syntax = match S::DIALECT {
            Dialect::Mysql => Syntax::Mysql,
            _ => Syntax::Postgres,
        };
        if guard::check(sql, syntax)? == Found::Nothing {
            return Ok(0);
        }
        self.settle()?;
        *self.cancel.lock() = Running { cancel: self.connection.cancel(), wanted: false };
        let asked = async |session: &mut S| session.stream(sql, sink).await;
        let result = self.connection.with(None, asked);
        let wanted = {
            let mut running = self.cancel.lock();
            running.cancel = None;
            running.wanted
        };
        if wanted {
            // An interrupt that came too late for its query is not to end the next one.
            self.settled = false;
            let _ = self.connection.with(Some(LIMIT), async |session: &mut S| session.run("ROLLBACK").await);
        }
        if self.connection.cancel().is_none() {
            self.settled = false;
        }
        result.map_err(|error| match error {
            StreamError::Output(error) => QueryError::Output(error),
            StreamError::Failed(failure) => self.query_error(failure),
        })
    }

    pub(crate) fn interrupt(&self) -> Cancel<S> {
        self.cancel.clone()
    }

    fn known(&mut self) -> Result<Vec<Known>, QueryError> {
        let mut known = self.own(async |session: &mut S| registry::all(session).await)?;
        known.retain(|known| !is_server(&known.machine_id));
        Ok(known)
    }

    /// The audited computers in the store, in the order of their numbers.
    pub(crate) fn hosts(&mut self) -> Result<Vec<Host>, QueryError> {
        if let Some(own) = &self.own {
            return Ok(vec![own.clone()]);
        }
        let known = self.known()?.into_iter();
        Ok(known.map(|k| Host { number: k.host, name: k.name, machine_id: k.machine_id }).collect())
    }

    /// How many rows each table has; an estimate of the engine's where there are many.
    pub(crate) fn row_counts(&mut self) -> Result<Vec<(&'static str, i64)>, QueryError> {
        if self.own.is_some() {
            self.settle()?;
            let counted = async |session: &mut S| {
                let mut counts = Vec::with_capacity(TABLES.len());
                for table in TABLES {
                    let rows = session.ask(&format!("SELECT count(*) FROM {}", table.name), &[]).await?;
                    counts.push((table.name, number(&rows)));
                }
                Ok::<_, Failure>(counts)
            };
            let counted = self.connection.with(Some(LIMIT), counted);
            return counted.map_err(|failure| self.query_error(failure));
        }
        self.own(async |session: &mut S| {
            let mut counts = Vec::with_capacity(TABLES.len());
            for table in TABLES {
                let stored = S::DIALECT.stored_name(table);
                let estimate = match S::DIALECT {
                    Dialect::Mysql => "SELECT CAST(table_rows AS SIGNED) FROM information_schema.tables \
                                       WHERE table_schema = database() AND table_name = ?",
                    _ => "SELECT CAST(greatest(sum(c.reltuples), 0) AS bigint) FROM pg_catalog.pg_partition_tree(to_regclass('luarm.' || ?)) p \
                          JOIN pg_catalog.pg_class c ON c.oid = p.relid WHERE p.isleaf",
                };
                let mut count = number(&session.ask(estimate, &[&stored]).await?);
                if count < COUNTED {
                    count = number(&session.ask(&format!("SELECT count(*) FROM {}", table.name), &[]).await?);
                }
                counts.push((table.name, count));
            }
            Ok(counts)
        })
    }

    /// Writes down a question of this account's own; see [`crate::Source::note`].
    pub(crate) fn note(&mut self, note: &Note<'_>) -> Result<i64, QueryError> {
        self.own(async |session: &mut S| noting::begin(session, note).await)
    }

    /// Writes down how it ended.
    pub(crate) fn noted(
        &mut self,
        number: i64,
        host: Option<&str>,
        end: &NoteEnd<'_>,
    ) -> Result<(), QueryError> {
        self.own(async |session: &mut S| noting::end(session, number, host, end).await)
    }

    /// From now on the tables hold only what this host recorded; named by its name or machine id.
    pub(crate) fn use_host(&mut self, name: &str) -> Result<Host, QueryError> {
        if let Some(own) = &self.own {
            if own.name == name || own.machine_id == name {
                return Ok(own.clone());
            }
            let known = format!("{:?} ({})", own.name, own.machine_id);
            return Err(QueryError::NoHost { name: name.to_owned(), known });
        }
        let known = self.known()?;
        let mut named = known.iter().filter(|h| h.name == name || h.machine_id == name);
        let (Some(host), None) = (named.next(), named.next()) else {
            let known: Vec<String> =
                known.iter().map(|h| format!("{:?} ({})", h.name, h.machine_id)).collect();
            let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
            return Err(QueryError::NoHost { name: name.to_owned(), known });
        };
        let Some(place) = host.place.as_ref().filter(|_| host.placed) else {
            return Err(QueryError::NoPlace { name: host.name.clone() });
        };
        self.place = Some(format!("{place}{}", places::ALL));
        self.settled = false;
        self.settle()?;
        Ok(Host { number: host.host, name: host.name.clone(), machine_id: host.machine_id.clone() })
    }

    /// From now on the tables hold what all hosts recorded.
    pub(crate) fn use_all(&mut self) -> Result<(), QueryError> {
        if self.own.is_some() {
            return Ok(());
        }
        self.place = None;
        self.settled = false;
        self.settle()
    }

    /// Bytes that the store takes on disk, as the engine tells; 0 where it does not.
    pub(crate) fn size(&mut self) -> u64 {
        if self.own.is_some() {
            return 0;
        }
        let sql = match S::DIALECT {
            Dialect::Mysql => {
                "SELECT CAST(sum(data_length + index_length) AS SIGNED) FROM information_schema.tables \
                               WHERE table_schema = database()"
            }
            _ => {
                "SELECT CAST(sum(pg_total_relation_size(c.oid)) AS bigint) FROM pg_catalog.pg_class c \
                  JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = 'luarm' AND c.relkind = 'r'"
            }
        };
        let rows = self.own(async |session: &mut S| session.ask(sql, &[]).await).unwrap_or_default();
        let bytes = rows.first().and_then(|row| row.first()).and_then(super::Datum::int).unwrap_or(0);
        bytes.try_into().unwrap_or(0)
    }

    /// Looks at the tables of the chosen host. A session that was opened anew looks at all.
    fn settle(&mut self) -> Result<(), QueryError> {
        if self.settled && self.connection.cancel().is_some() {
            return Ok(());
        }
        let place = self.place.clone();
        let text = self.connection.url.clone();
        let look = async |session: &mut S| session.look_at(text.secret(), place.as_deref()).await;
        self.connection.with(Some(LIMIT), look).map_err(|failure| self.query_error(failure))?;
        self.settled = true;
        Ok(())
    }

    /// Asks a question of luarm's own, about all hosts.
    fn own<T>(&mut self, work: impl AsyncFnOnce(&mut S) -> Result<T, Failure>) -> Result<T, QueryError> {
        let text = self.connection.url.clone();
        self.settled = false;
        let asked = async |session: &mut S| {
            session.look_at(text.secret(), None).await?;
            work(session).await
        };
        self.connection.with(Some(LIMIT), asked).map_err(|failure| self.query_error(failure))
    }

    fn query_error(&self, failure: Failure) -> QueryError {
        match failure.class {
            Class::Interrupted => QueryError::Interrupted,
            Class::Trouble(Trouble::Lost) if failure.detail == TOO_LONG => QueryError::Limit(failure.detail),
            Class::Trouble(Trouble::ReadOnly | Trouble::Forbidden) => QueryError::Refused(failure.detail),
            Class::Trouble(Trouble::Missing) | Class::Row | Class::Doubled | Class::Exists | Class::Other => {
                QueryError::Statement(failure.detail)
            }
            Class::Trouble(_) => QueryError::Store(failure.of("ask", &self.connection.url)),
        }
    }
}

/// The number in an answer of one value.
fn number(rows: &[Vec<super::Datum>]) -> i64 {
    rows.first().and_then(|row| row.first()).and_then(super::Datum::int).unwrap_or(0)
}

/// The one place with all tables that this account may see, and whose it is.
async fn one_host<S: Session>(session: &mut S, url: &str) -> Result<(String, Host), Failure> {
    let sql = match S::DIALECT {
        Dialect::Mysql => "SELECT schema_name FROM information_schema.schemata",
        _ => "SELECT nspname::text FROM pg_catalog.pg_namespace WHERE has_schema_privilege(oid, 'USAGE')",
    };
    let seen = session.ask(sql, &[]).await?;
    let seen: Vec<&str> = seen.iter().filter_map(|row| row.first()?.text()).collect();
    let mut places = seen.iter().filter(|name| name.ends_with(places::ALL));
    let first = places.next().filter(|_| places.next().is_none());
    let stranger = |place: &str, name: &str| match S::DIALECT {
        Dialect::Mysql => {
            name != place && name != "information_schema" && Some(name) != place.strip_suffix(places::ALL)
        }
        _ => name == "luarm",
    };
    let Some(place) = first.filter(|place| !seen.iter().any(|name| stranger(place, name))) else {
        let detail =
            "the account may see something else than one host: `luarm server grant` makes one for a host";
        return Err(Failure::trouble(Trouble::Setting, detail));
    };
    session.look_at(url, Some(place)).await?;
    let sql = "SELECT host, hostname, machineid FROM hostinfo ORDER BY batch DESC, bootentity DESC LIMIT 1";
    let rows = session.ask(sql, &[]).await?;
    let host = rows.first().and_then(|row| match row.as_slice() {
        [number, name, machine_id] => Some(Host {
            number: number.int()?,
            name: name.text()?.to_owned(),
            machine_id: machine_id.text()?.to_owned(),
        }),
        _ => None,
    });
    let host =
        host.ok_or_else(|| Failure::trouble(Trouble::Missing, "the host has delivered nothing yet"))?;
    Ok(((*place).to_owned(), host))
}
