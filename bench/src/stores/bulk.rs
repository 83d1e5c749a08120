//! Each engine's own fastest way to take rows that are ready: what the store is held against.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, anyhow, ensure};
use luarm_schema::{
    Dialect, TABLES, TableDef,
    bulk::{Bulk, Copy, CopyBinary, Encoding, LoadData, LoadDataInfile},
    canonical::Canonical,
};
use luarm_store::StoreUrl;
use rusqlite::types;

use super::{
    HOSTS,
    engine::{Engine, Server, Stores},
};
use crate::{
    load::{self, Values},
    recorded::{Recorded, Settled},
};

/// Loads what all hosts recorded into the latest store of that engine, which is empty: each row once, as it is in the end. `dir` is for streams. Gives how long it took, without
/// making values and streams.
pub(super) fn load(
    stores: &Stores,
    url: &StoreUrl,
    dir: &Path,
    recorded: &Recorded,
) -> anyhow::Result<Duration> {
    match (&stores.engine, url) {
        (Engine::Server(server), StoreUrl::Mysql(_) | StoreUrl::Postgres(_)) => {
            through_clients(server, &stores.latest(), dir, recorded)
        }
        (_, StoreUrl::Sqlite(path)) => through_inserts(path, recorded),
        _ => Err(anyhow!("{url} is no store of {}", stores.name)),
    }
}

/// One connection, one transaction, prepared statements; host by host and table by table, so that the primary keys come in order.
fn through_inserts(path: &Path, recorded: &Recorded) -> anyhow::Result<Duration> {
    let mut taken = Duration::ZERO;
    let begun = Instant::now();
    let conn = load::open(path)?;
    conn.execute_batch("BEGIN IMMEDIATE")?;
    taken += begun.elapsed();
    for host in 0..HOSTS {
        let ready: Vec<(usize, Vec<types::Value>)> = recorded
            .settled(host)
            .iter()
            .map(|row| (row.row.position(), values(row, number(host))))
            .collect();
        let begun = Instant::now();
        for rows in ready.chunk_by(|one, other| one.0 == other.0) {
            let Some((table, _)) = rows.first() else { continue };
            let mut insert = conn.prepare(&Dialect::Sqlite.insert(TABLES[*table]))?;
            for (_, values) in rows {
                for (n, value) in values.iter().enumerate() {
                    insert.raw_bind_parameter(n + 1, value)?;
                }
                insert.raw_execute()?;
            }
        }
        taken += begun.elapsed();
    }
    let begun = Instant::now();
    conn.execute_batch("COMMIT")?;
    conn.close().map_err(|(_, error)| error)?;
    Ok(taken + begun.elapsed())
}

fn values(row: &Settled, host: i64) -> Vec<types::Value> {
    let mut values = Values::default();
    row.stored(host, &mut values, &mut Canonical::default());
    values.0
}

/// The number that a host gets. They are known when streams are made, and no store's registry is asked.
fn number(host: u64) -> i64 {
    host.cast_signed() + 1
}

/// The engine's own client for each host, with one stream for each table.
fn through_clients(
    server: &Server,
    database: &str,
    dir: &Path,
    recorded: &Recorded,
) -> anyhow::Result<Duration> {
    let mut streams: Vec<Vec<(&'static TableDef, PathBuf)>> = Vec::new();
    for host in 0..HOSTS {
        let rows = recorded.settled(host);
        let mut files = Vec::new();
        for rows in rows.chunk_by(|one, other| one.row.position() == other.row.position()) {
            let Some(table) = rows.first().map(|row| row.row.table()) else { continue };
            let bytes = match server {
                Server::Mariadb(_) => stream::<LoadDataInfile>(table, number(host), rows)?,
                Server::Postgres(_) => stream::<Copy>(table, number(host), rows)?,
            };
            let file = dir.join(format!("{}-{host}", table.name));
            fs::write(&file, bytes)?;
            files.push((table, file));
        }
        streams.push(files);
    }
    let begun = Instant::now();
    thread::scope(|scope| {
        let clients: Vec<_> = streams
            .iter()
            .map(|streams| {
                scope.spawn(move || {
                    streams.iter().try_for_each(|(table, file)| server.load(database, table, file))
                })
            })
            .collect();
        clients.into_iter().try_for_each(|c| c.join().map_err(|_| anyhow!("a client panicked"))?)
    })?;
    Ok(begun.elapsed())
}

fn stream<E: Encoding>(table: &'static TableDef, host: i64, rows: &[Settled]) -> anyhow::Result<Vec<u8>> {
    let (mut stream, mut digested) = (Bulk::<E>::new(table), Canonical::default());
    for row in rows {
        row.stored(host, &mut stream, &mut digested);
        stream.end_row()?;
    }
    Ok(stream.finish())
}

impl Server {
    fn load(&self, database: &str, table: &'static TableDef, file: &Path) -> anyhow::Result<()> {
        let mut command: Command;
        match self {
            Server::Mariadb(server) => {
                let path = file.to_str().context("the path is no text")?;
                command = server.client();
                command.args(["--local-infile=1", database, "-e", &LoadData::statement(table, path)]);
            }
            Server::Postgres(server) => {
                command = server.client(database);
                let statement = format!("SET search_path = luarm; {}", CopyBinary::statement(table));
                command.args(["--quiet", "--command", &statement]).stdin(File::open(file)?);
            }
        }
        let status = command.stdout(Stdio::null()).status().context("cannot run the engine's client")?;
        ensure!(status.success(), "the engine's client failed: {status}");
        Ok(())
    }
}
