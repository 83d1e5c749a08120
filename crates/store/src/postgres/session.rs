//! A connection to PostgreSQL.

use std::{fmt, time::Duration};

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt, pin_mut};
use luarm_schema::{
    Dialect, TableDef,
    bulk::{Copy, CopyBinary},
};
use tokio::task::JoinHandle;
use tokio_postgres::{
    CancelToken, Client, Config, NoTls, SimpleQueryMessage,
    config::{Host, SslMode},
    types::ToSql,
};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::value::Kind;
use crate::{
    RowSink,
    error::Trouble,
    remote::{Address, Class, Datum, Failure, Session, StreamError, is_loopback, tls},
};

/// Bytes of a message of a stream.
const CHUNK: usize = 256 << 10;

/// A connection. Its other half runs as a task on the runtime that the session is used on.
pub(crate) struct Postgres {
    client: Client,
    tls: Option<MakeRustlsConnect>,
    other: JoinHandle<()>,
}

/// Which connection's statement to end, and how to reach its server.
#[derive(Clone)]
pub(crate) struct Cancelling {
    token: CancelToken,
    tls: Option<MakeRustlsConnect>,
}

/// Carries a connection on until it ends.
async fn ended(connection: impl Future<Output = Result<(), tokio_postgres::Error>>) {
    // Whoever waits for an answer is told the same.
    if let Err(error) = connection.await {
        tracing::debug!("the connection ended: {error}");
    }
}

impl fmt::Debug for Postgres {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Postgres")
    }
}

impl Postgres {
    async fn copy(&mut self, statement: &str, stream: Vec<u8>, rows: u64) -> Result<(), Failure> {
        let sink = self.client.copy_in::<_, Bytes>(statement).await?;
        pin_mut!(sink);
        let bytes = Bytes::from(stream);
        for at in (0..bytes.len()).step_by(CHUNK) {
            let chunk = bytes.slice(at..bytes.len().min(at + CHUNK));
            if let Err(error) = sink.send(chunk).await {
                // What the server has against the stream it says at its end.
                return Err(sink.finish().await.err().unwrap_or(error).into());
            }
        }
        match sink.finish().await? {
            loaded if loaded == rows => Ok(()),
            loaded => Err(Failure::new(Class::Row, format!("{loaded} of {rows} rows were loaded"))),
        }
    }
}

/// `$1`, `$2`… for each `?`.
fn numbered(sql: &str) -> String {
    let mut parts = sql.split('?');
    let mut out = parts.next().unwrap_or_default().to_owned();
    for (n, part) in parts.enumerate() {
        out.push_str(&format!("${}{part}", n + 1));
    }
    out
}

impl Session for Postgres {
    const DIALECT: Dialect = Dialect::Postgres;
    const TRANSACTIONAL_DDL: bool = true;
    type Encoding = Copy;
    type Cancel = Cancelling;

    async fn connect(address: &Address, writes: bool) -> Result<Self, Failure> {
        let mut config: Config = address.url.parse()?;
        if config.get_dbname().is_none_or(str::is_empty) {
            return Err(Failure::trouble(Trouble::Setting, "the URL names no database"));
        }
        config.application_name("luarm").connect_timeout(Duration::from_secs(8));
        config.keepalives_idle(Duration::from_secs(30));
        let tls = tls::config(&address.tls)?.map(MakeRustlsConnect::new);
        if tls.is_some() && config.get_hosts().iter().any(|host| matches!(host, Host::Unix(_))) {
            return Err(Failure::trouble(
                Trouble::Setting,
                "a Unix socket needs no TLS: leave out tls and ca",
            ));
        }
        let (client, other) = match &tls {
            None => {
                let (client, connection) = config.ssl_mode(SslMode::Disable).connect(NoTls).await?;
                (client, tokio::spawn(ended(connection)))
            }
            Some(tls) => {
                let (client, connection) = config.ssl_mode(SslMode::Require).connect(tls.clone()).await?;
                (client, tokio::spawn(ended(connection)))
            }
        };
        let mut session = Postgres { client, tls, other };
        // What the server's or the account's own settings might be.
        session
            .run(
                "SET search_path = luarm; SET datestyle = ISO; SET timezone = 'UTC'; SET bytea_output = hex; \
                 SET standard_conforming_strings = on; SET client_encoding = 'UTF8'; SET extra_float_digits = 1; \
                 SET statement_timeout = 0; SET client_min_messages = warning",
            )
            .await?;
        if writes {
            // Ends are few and their rows many: a plan that reads a whole table is never the right one.
            session
                .run(
                    "SET lock_timeout = '20s'; SET enable_hashjoin = off; SET enable_mergejoin = off; SET enable_seqscan = off; \
                     SET synchronous_commit = on; SET idle_in_transaction_session_timeout = '300s'",
                )
                .await?;
        }
        Ok(session)
    }

    fn is_exposed(url: &str) -> bool {
        let config: Result<Config, _> = url.parse();
        config.is_ok_and(|config| {
            let named = config.get_hosts().iter().any(|host| match host {
                Host::Tcp(name) => !is_loopback(name),
                Host::Unix(_) => false,
            });
            named || config.get_hostaddrs().iter().any(|address| !address.is_loopback())
        })
    }

    async fn create_database(_: &Address) -> Result<(), Failure> {
        Err(Failure::trouble(Trouble::Missing, "there is no such database: `createdb` makes it"))
    }

    async fn run(&mut self, sql: &str) -> Result<u64, Failure> {
        let messages = self.client.simple_query(sql).await?;
        let changed = messages.iter().rev().find_map(|message| match message {
            SimpleQueryMessage::CommandComplete(rows) => Some(*rows),
            _ => None,
        });
        Ok(changed.unwrap_or(0))
    }

    async fn ask(&mut self, sql: &str, texts: &[&str]) -> Result<Vec<Vec<Datum>>, Failure> {
        let params: Vec<&(dyn ToSql + Sync)> = texts.iter().map(|text| text as &(dyn ToSql + Sync)).collect();
        let rows = self.client.query(&numbered(sql), &params).await?;
        let mut all = Vec::with_capacity(rows.len());
        for row in rows {
            let values: Result<Vec<Datum>, _> = (0..row.len()).map(|n| row.try_get(n)).collect();
            all.push(values?);
        }
        Ok(all)
    }

    async fn change(&mut self, sql: &str, texts: &[&str]) -> Result<u64, Failure> {
        let params: Vec<&(dyn ToSql + Sync)> = texts.iter().map(|text| text as &(dyn ToSql + Sync)).collect();
        Ok(self.client.execute(&numbered(sql), &params).await?)
    }

    async fn put(&mut self, sql: &str, bytes: &[Option<&[u8]>]) -> Result<u64, Failure> {
        let params: Vec<&(dyn ToSql + Sync)> =
            bytes.iter().map(|bytes| bytes as &(dyn ToSql + Sync)).collect();
        Ok(self.client.execute(&numbered(sql), &params).await?)
    }

    async fn load(&mut self, table: &'static TableDef, stream: Vec<u8>, rows: u64) -> Result<(), Failure> {
        self.copy(&CopyBinary::statement(table), stream, rows).await
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
        self.copy(&Self::DIALECT.load_ending(table, ""), stream, rows).await?;
        self.run(&Self::DIALECT.end_many(table, host, batch)).await
    }

    async fn stream(&mut self, sql: &str, sink: &mut dyn RowSink) -> Result<u64, StreamError> {
        // The snapshot is taken here, so that the transaction cannot be made one that writes.
        self.run("BEGIN READ ONLY; SELECT 1").await?;
        // Prepared, because then it is one statement; asked for as text, because that has a form for every type.
        let statement = self.client.prepare(sql).await.map_err(Failure::from)?;
        if !statement.params().is_empty() {
            return Err(Failure::new(Class::Other, "the statement has parameters").into());
        }
        let names: Vec<String> = statement.columns().iter().map(|c| c.name().to_owned()).collect();
        let kinds: Vec<Kind> = statement.columns().iter().map(|c| Kind::of(c.type_())).collect();
        let mut count = 0;
        if !names.is_empty() {
            sink.columns(&names).map_err(StreamError::Output)?;
        }
        let answer = self.client.simple_query_raw(sql).await.map_err(Failure::from)?;
        pin_mut!(answer);
        let mut owns: Vec<Vec<u8>> = vec![Vec::new(); kinds.len()];
        while let Some(message) = answer.next().await {
            let SimpleQueryMessage::Row(row) = message.map_err(Failure::from)? else {
                continue;
            };
            for (n, (kind, own)) in kinds.iter().zip(&mut owns).enumerate() {
                kind.write(row.try_get(n).map_err(Failure::from)?, own);
            }
            let mut cells = Vec::with_capacity(kinds.len());
            for (n, (kind, own)) in kinds.iter().zip(&owns).enumerate() {
                cells.push(kind.cell(row.try_get(n).map_err(Failure::from)?, own));
            }
            sink.row(&cells).map_err(StreamError::Output)?;
            count += 1;
        }
        self.run("ROLLBACK").await?;
        Ok(count)
    }

    async fn look_at(&mut self, _: &str, place: Option<&str>) -> Result<(), Failure> {
        self.run(&format!("SET search_path = {}", Self::quoted(place.unwrap_or("luarm")))).await.map(drop)
    }

    async fn close(self) {
        // The other half says goodbye once it sees that this one is gone.
        drop(self.client);
        let _ = self.other.await;
    }

    fn cancel(&self) -> Cancelling {
        Cancelling { token: self.client.cancel_token(), tls: self.tls.clone() }
    }

    async fn cancel_by(cancel: Cancelling) -> Result<(), Failure> {
        match cancel.tls {
            None => cancel.token.cancel_query(NoTls).await?,
            Some(tls) => cancel.token.cancel_query(tls).await?,
        }
        Ok(())
    }
}
