//! A connection to MariaDB or MySQL.

use std::time::Duration;

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use luarm_schema::{
    Dialect, TableDef, Time,
    bulk::{LoadData, LoadDataInfile},
};
use mysql_async::{
    Column, Conn, Opts, OptsBuilder, Row, SslOpts, Value,
    consts::{ColumnFlags, ColumnType},
    prelude::Queryable,
};

use crate::{
    Cell, RowSink,
    error::Trouble,
    remote::{Address, CONNECTING, Class, Datum, Failure, Session, StreamError, Tls, is_loopback, tls},
};

use super::{failure::APART, nodes};

/// Bytes of a packet of a stream.
const CHUNK: usize = 256 << 10;

/// What the server calls the stream; no file has anything to do with it.
const STREAM: &str = "luarm";

/// The collation number of columns that are bytes.
const BINARY: u16 = 63;

/// A connection.
#[derive(Debug)]
pub(crate) struct Mysql {
    conn: Conn,
    opts: Opts,
    clustered: bool,
}

/// Which connection's statement to end, and how to reach its server.
#[derive(Clone)]
pub(crate) struct Kill {
    opts: Opts,
    id: u32,
}

/// `url` is the address's, of one server.
fn opts(address: &Address, url: &str) -> Result<OptsBuilder, Failure> {
    let opts = Opts::from_url(url).map_err(mysql_async::Error::from)?;
    let ssl = protection(&address.tls, opts.ip_or_hostname())?;
    if ssl.is_some() && opts.socket().is_some() {
        return Err(Failure::trouble(Trouble::Setting, "a Unix socket needs no TLS: leave out tls and ca"));
    }
    let keepalive = Duration::from_secs(30);
    let opts = OptsBuilder::from_opts(opts).ssl_opts(ssl).prefer_socket(false).tcp_keepalive(Some(keepalive));
    Ok(opts.stmt_cache_size(Some(64)))
}

fn protection(tls: &Tls, host: &str) -> Result<Option<SslOpts>, Failure> {
    if *tls == Tls::Off {
        return Ok(None);
    }
    // The client takes that of the process.
    tls::provider();
    // An address of version 6 stands in brackets.
    let name = host.trim_start_matches('[').trim_end_matches(']').to_owned();
    let ssl = SslOpts::default().with_danger_tls_hostname_override(Some(name));
    Ok(Some(match tls {
        Tls::Off | Tls::Verified { authorities: None } => ssl,
        Tls::Unverified => ssl.with_danger_accept_invalid_certs(true),
        Tls::Verified { authorities: Some(path) } => {
            let certificates = tls::authorities(path)?;
            let roots = certificates.into_iter().map(|c| c.to_vec().into()).collect();
            ssl.with_disable_built_in_roots(true).with_root_certs(roots)
        }
    }))
}

/// Does something at the first server of the URL that is there, and takes part in its cluster where it has one.
async fn first<T>(
    address: &Address,
    mut work: impl AsyncFnMut(OptsBuilder) -> Result<T, Failure>,
) -> Result<T, Failure> {
    let nodes = nodes::each(&address.url);
    let limit = address.timeout.map_or(CONNECTING, |timeout| timeout.min(CONNECTING));
    let share = limit / u32::try_from(nodes.len()).unwrap_or(u32::MAX);
    let (mut said, mut trouble) = (Vec::new(), Trouble::Lost);
    for (place, url) in &nodes {
        let failure = match tokio::time::timeout(share, work(opts(address, url)?)).await {
            Ok(Err(failure)) if failure.is(Trouble::Lost) => failure.detail,
            Ok(Err(failure)) if failure.is(Trouble::Untrusted) => {
                trouble = Trouble::Untrusted;
                failure.detail
            }
            Ok(other) => return other,
            Err(_) => format!("no connection within {} s", share.as_secs_f32()),
        };
        said.push(if nodes.len() == 1 { failure } else { format!("{place}: {failure}") });
    }
    Err(Failure::trouble(trouble, said.join("; ")))
}

impl Mysql {
    async fn connect_to(opts: Opts, writes: bool) -> Result<Self, Failure> {
        if opts.db_name().is_none_or(str::is_empty) {
            return Err(Failure::trouble(Trouble::Setting, "the URL names no database"));
        }
        let conn = Conn::new(opts.clone()).await?;
        let mut session = Mysql { conn, opts, clustered: false };
        // Blanks at the end count, `||` joins, instants are UTC, whatever the server's own defaults.
        let mode = if writes { "STRICT_ALL_TABLES" } else { "PIPES_AS_CONCAT" };
        session
            .run(&format!(
                "SET NAMES utf8mb4, sql_mode = '{mode}', time_zone = '+00:00', foreign_key_checks = 0, innodb_lock_wait_timeout = 20"
            ))
            .await?;
        if writes {
            session.run("SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED").await?;
        }
        session.join_cluster().await?;
        Ok(session)
    }

    /// In a Galera cluster each node is a little behind the others: what is read from this one is to hold what was committed at any of them before. Without
    /// it a batch that is stored would seem not to be, after another node has taken over.
    async fn join_cluster(&mut self) -> Result<(), Failure> {
        let on = self.conn.query_first("SHOW VARIABLES LIKE 'wsrep_on'").await?;
        if on.is_none_or(|(_, on): (String, String)| on != "ON") {
            return Ok(());
        }
        let said = "SHOW STATUS WHERE variable_name IN ('wsrep_ready', 'wsrep_cluster_status')";
        let said: Vec<(String, String)> = self.conn.query(said).await?;
        let is = |name: &str| said.iter().find(|(n, _)| n == name).map_or("unknown", |(_, is)| is.as_str());
        if is("wsrep_ready") != "ON" {
            let status = is("wsrep_cluster_status");
            let detail = format!("{APART} (wsrep_cluster_status is {status})");
            return Err(Failure::trouble(Trouble::Lost, detail));
        }
        self.clustered = true;
        self.run("SET SESSION wsrep_sync_wait = 1").await.map(drop)
    }

    async fn load_stream(&mut self, statement: &str, stream: Vec<u8>, rows: u64) -> Result<(), Failure> {
        let bytes = Bytes::from(stream);
        let chunks: Vec<_> = (0..bytes.len())
            .step_by(CHUNK)
            .map(|at| Ok(bytes.slice(at..bytes.len().min(at + CHUNK))))
            .collect();
        self.conn.set_infile_handler(async move { Ok(stream::iter(chunks).boxed()) });
        self.conn.query_drop(statement).await?;
        // With LOCAL the engine goes on where it would otherwise refuse.
        let (loaded, warnings) = (self.conn.affected_rows(), self.conn.get_warnings());
        if loaded == rows && warnings == 0 {
            return Ok(());
        }
        let said: Option<(String, u32, String)> = self.conn.query_first("SHOW WARNINGS LIMIT 1").await?;
        let said = said.map_or_else(|| format!("{loaded} of {rows} rows were loaded"), |(_, _, said)| said);
        Err(Failure::new(Class::Row, said))
    }
}

impl Session for Mysql {
    const DIALECT: Dialect = Dialect::Mysql;
    const TRANSACTIONAL_DDL: bool = false;
    type Encoding = LoadDataInfile;
    type Cancel = Kill;

    async fn connect(address: &Address, writes: bool) -> Result<Self, Failure> {
        first(address, async |opts| Self::connect_to(opts.into(), writes).await).await
    }

    fn is_exposed(url: &str) -> bool {
        nodes::each(url).iter().any(|(_, url)| {
            let opts = Opts::from_url(url);
            opts.is_ok_and(|opts| opts.socket().is_none() && !is_loopback(opts.ip_or_hostname()))
        })
    }

    async fn create_database(address: &Address) -> Result<(), Failure> {
        first(address, async |opts| {
            let name = Opts::from(opts.clone()).db_name().unwrap_or_default().to_owned();
            let mut conn = Conn::new(opts.db_name(None::<String>)).await?;
            conn.query_drop(format!(
                "CREATE DATABASE IF NOT EXISTS {} CHARACTER SET utf8mb4",
                Self::quoted(&name)
            ))
            .await?;
            Ok(conn.disconnect().await?)
        })
        .await
    }

    fn is_clustered(&self) -> bool {
        self.clustered
    }

    async fn run(&mut self, sql: &str) -> Result<u64, Failure> {
        self.conn.query_drop(sql).await?;
        Ok(self.conn.affected_rows())
    }

    async fn ask(&mut self, sql: &str, texts: &[&str]) -> Result<Vec<Vec<Datum>>, Failure> {
        let params: Vec<Value> = texts.iter().map(|text| Value::from(*text)).collect();
        let rows: Vec<Row> = self.conn.exec(sql, params).await?;
        rows.into_iter().map(|row| row.unwrap().into_iter().map(datum).collect()).collect()
    }

    async fn change(&mut self, sql: &str, texts: &[&str]) -> Result<u64, Failure> {
        let params: Vec<Value> = texts.iter().map(|text| Value::from(*text)).collect();
        self.conn.exec_drop(sql, params).await?;
        Ok(self.conn.affected_rows())
    }

    async fn put(&mut self, sql: &str, bytes: &[Option<&[u8]>]) -> Result<u64, Failure> {
        let params: Vec<Value> = bytes.iter().map(|bytes| Value::from(*bytes)).collect();
        self.conn.exec_drop(sql, params).await?;
        Ok(self.conn.affected_rows())
    }

    async fn load(&mut self, table: &'static TableDef, stream: Vec<u8>, rows: u64) -> Result<(), Failure> {
        self.load_stream(&LoadData::statement(table, STREAM), stream, rows).await
    }

    async fn end(
        &mut self,
        table: &'static TableDef,
        host: i64,
        batch: i64,
        stream: Vec<u8>,
        rows: u64,
    ) -> Result<u64, Failure> {
        let Some(create) = Self::DIALECT.create_ending(table) else {
            return Ok(0);
        };
        self.run(&create).await?;
        self.run(&format!("DELETE FROM {}", Self::DIALECT.ending_name(table))).await?;
        self.load_stream(&Self::DIALECT.load_ending(table, STREAM), stream, rows).await?;
        self.run(&Self::DIALECT.end_many(table, host, batch)).await
    }

    async fn stream(&mut self, sql: &str, sink: &mut dyn RowSink) -> Result<u64, StreamError> {
        self.run("START TRANSACTION READ ONLY").await?;
        // Prepared, because then it is one statement.
        let statement = self.conn.prep(sql).await.map_err(Failure::from)?;
        let mut count = 0;
        {
            let mut result = self.conn.exec_iter(&statement, ()).await.map_err(Failure::from)?;
            let columns = result.columns();
            let columns = columns.as_deref().unwrap_or_default();
            if !columns.is_empty() {
                let names: Vec<String> = columns.iter().map(|c| c.name_str().into_owned()).collect();
                sink.columns(&names).map_err(StreamError::Output)?;
            }
            let kinds: Vec<Kind> = columns.iter().map(Kind::of).collect();
            let mut texts: Vec<String> = vec![String::new(); kinds.len()];
            while let Some(row) = result.next().await.map_err(Failure::from)? {
                let values = row.unwrap();
                for ((value, kind), text) in values.iter().zip(&kinds).zip(&mut texts) {
                    kind.write(value, text);
                }
                let cells =
                    values.iter().zip(&kinds).zip(&texts).map(|((value, kind), text)| kind.cell(value, text));
                sink.row(&cells.collect::<Vec<_>>()).map_err(StreamError::Output)?;
                count += 1;
            }
        }
        self.conn.close(statement).await.map_err(Failure::from)?;
        self.run("ROLLBACK").await?;
        Ok(count)
    }

    async fn look_at(&mut self, _: &str, place: Option<&str>) -> Result<(), Failure> {
        let own = self.opts.db_name().unwrap_or_default();
        self.run(&format!("USE {}", Self::quoted(place.unwrap_or(own)))).await.map(drop)
    }

    async fn close(self) {
        // Who does not say goodbye is named in the server's log.
        let _ = self.conn.disconnect().await;
    }

    fn cancel(&self) -> Kill {
        Kill { opts: self.opts.clone(), id: self.conn.id() }
    }

    async fn cancel_by(kill: Kill) -> Result<(), Failure> {
        let mut conn = Conn::new(kill.opts).await?;
        conn.query_drop(format!("KILL QUERY {}", kill.id)).await?;
        Ok(conn.disconnect().await?)
    }
}

fn datum(value: Value) -> Result<Datum, Failure> {
    Ok(match value {
        Value::NULL => Datum::Null,
        Value::Int(n) => Datum::Int(n),
        Value::UInt(n) => Datum::Int(i64::try_from(n).unwrap_or(i64::MAX)),
        Value::Float(x) => Datum::Real(x.into()),
        Value::Double(x) => Datum::Real(x),
        Value::Date(..) => {
            let text = instant(&value, 6);
            // MariaDB has instants that are none, as the day 0.
            Time::parse(&text).map_or(Datum::Text(text), Datum::Time)
        }
        Value::Time(..) => Datum::Text(value.as_sql(true)),
        Value::Bytes(bytes) => Datum::Text(String::from_utf8_lossy(&bytes).into_owned()),
    })
}

/// How the values of a column are shown.
enum Kind {
    /// As they come.
    Plain,
    /// A decimal number, which comes as text.
    Decimal,
    /// Bytes.
    Binary,
    /// A date without time.
    Date,
    /// An instant with so many digits below the second.
    Instant(usize),
}

impl Kind {
    fn of(column: &Column) -> Self {
        use ColumnType::{
            MYSQL_TYPE_DATE, MYSQL_TYPE_DATETIME, MYSQL_TYPE_DECIMAL, MYSQL_TYPE_NEWDECIMAL,
            MYSQL_TYPE_TIMESTAMP,
        };
        match column.column_type() {
            MYSQL_TYPE_DECIMAL | MYSQL_TYPE_NEWDECIMAL => Kind::Decimal,
            MYSQL_TYPE_DATE => Kind::Date,
            MYSQL_TYPE_DATETIME | MYSQL_TYPE_TIMESTAMP => {
                Kind::Instant(usize::from(column.decimals()).min(6))
            }
            _ if column.character_set() == BINARY && column.flags().contains(ColumnFlags::BINARY_FLAG) => {
                Kind::Binary
            }
            _ => Kind::Plain,
        }
    }

    /// Writes what has to be put in words.
    fn write(&self, value: &Value, text: &mut String) {
        text.clear();
        match (self, value) {
            (Kind::Date, Value::Date(y, m, d, ..)) => *text = format!("{y:04}-{m:02}-{d:02}"),
            (Kind::Instant(digits), Value::Date(..)) => *text = instant(value, *digits),
            (_, Value::Date(..)) => *text = instant(value, 6),
            (_, Value::Time(..)) => *text = value.as_sql(true).trim_matches('\'').to_owned(),
            (_, Value::UInt(n)) if i64::try_from(*n).is_err() => *text = n.to_string(),
            _ => {}
        }
    }

    fn cell<'a>(&self, value: &'a Value, text: &'a str) -> Cell<'a> {
        match (self, value) {
            (_, Value::NULL) => Cell::Null,
            (_, Value::Int(n)) => Cell::Integer(*n),
            (_, Value::UInt(n)) => i64::try_from(*n).map_or(Cell::Text(text), Cell::Integer),
            (_, Value::Float(x)) => Cell::Real((*x).into()),
            (_, Value::Double(x)) => Cell::Real(*x),
            (_, Value::Date(..) | Value::Time(..)) => Cell::Text(text),
            (Kind::Decimal, Value::Bytes(bytes)) => {
                crate::query::decimal(str::from_utf8(bytes).unwrap_or_default())
            }
            (Kind::Binary, Value::Bytes(bytes)) => Cell::Blob(bytes),
            (_, Value::Bytes(bytes)) => str::from_utf8(bytes).map_or(Cell::Blob(bytes), Cell::Text),
        }
    }
}

fn instant(value: &Value, digits: usize) -> String {
    let Value::Date(y, mo, d, h, mi, s, us) = value else {
        return String::new();
    };
    let mut text = format!("{y:04}-{mo:02}-{d:02} {h:02}:{mi:02}:{s:02}.{us:06}");
    text.truncate(if digits == 0 { 19 } else { 20 + digits });
    text
}
