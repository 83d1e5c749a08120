//! Rows of several hosts at once into a server's database, next to the engine's own bulk load of the same rows into the same tables.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{Arc, Barrier},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, anyhow, ensure};
use luarm_link::packed;
use luarm_schema::{
    Batch, TABLES, TableDef,
    bulk::{Bulk, Copy, CopyBinary, LoadData, LoadDataInfile},
};
use luarm_store::{Cell, HostIdentity, Ledger, Owner, Parcel, Reader, RowSink, StoreUrl};
use luarm_testbed::{Mariadb, Postgres};
use tempfile::TempDir;

use crate::{
    Bench,
    report::{Bound, Report},
    rows::{BATCH, Mix, Rows, of_host},
    spread::Spread,
};

/// Hosts that deliver at the same time.
const HOSTS: u64 = 8;

/// A server, and how its own client loads.
enum Server {
    Mariadb(Box<Mariadb>),
    Postgres(Box<Postgres>),
}

/// Where empty stores of one engine come from.
pub(crate) struct Stores {
    /// The engine.
    pub name: &'static str,
    engine: Engine,
    made: u32,
}

enum Engine {
    Sqlite(TempDir),
    Server(Server),
}

impl Stores {
    /// SQLite, and what servers are installed, each so that a commit is on disk.
    pub(crate) fn all(bench: &Bench) -> anyhow::Result<Vec<Self>> {
        let mut all = vec![Stores { name: "SQLite", engine: Engine::Sqlite(bench.empty_dir()?), made: 0 }];
        for (name, mut server) in servers() {
            server.durable();
            all.push(Stores { name, engine: Engine::Server(server), made: 0 });
        }
        Ok(all)
    }

    /// A store with nothing in it.
    pub(crate) fn fresh(&mut self) -> anyhow::Result<StoreUrl> {
        self.made += 1;
        let name = format!("fresh{}", self.made);
        let url = match &self.engine {
            Engine::Sqlite(dir) => return Ok(StoreUrl::Sqlite(dir.path().join(name))),
            Engine::Server(server) => server.database(&name),
        };
        Owner::open(&url)?;
        Ok(url)
    }
}

fn servers() -> impl Iterator<Item = (&'static str, Server)> {
    let mariadb = Mariadb::start("bench").map(|server| ("MariaDB", Server::Mariadb(Box::new(server))));
    let postgres = Postgres::start("bench").map(|server| ("PostgreSQL", Server::Postgres(Box::new(server))));
    [mariadb, postgres].into_iter().flatten()
}

struct Loaded {
    rate: f64,
    bytes: f64,
}

/// Measures both engines, and reports.
pub(crate) fn run(bench: &Bench, rows: u64, report: &mut Report) -> anyhow::Result<()> {
    let each = rows.div_ceil(HOSTS);
    report.heading("Stores on a server");
    report.say(&format!(
        "{} rows, processes and endpoints 1:1, of {HOSTS} hosts at once, with all their indexes, every commit on disk. The store: for each host \
         what the server does with a spool that is delivered, unpacked and appended, {BATCH} rows in a transaction, streams and digests made on the way. The engine: its own client with one stream for each host and table, \
         made before. A server that runs beside it takes part of the same machine in both.",
        each * HOSTS
    ));
    let wire = |each: u64, rows: u64| -> anyhow::Result<f64> {
        let mut source = Rows::new(Mix::Both);
        let mut bytes = 0;
        for _ in 0..rows / each {
            bytes += packed::pack(&source.batch(each))?.bytes.len();
        }
        Ok(bytes as f64 / rows as f64)
    };
    let head =
        ["engine", "its bulk load, rows/s", "store, rows/s", "store over bulk load", "bytes per row on disk"];
    let mut table = vec![head.map(str::to_owned).to_vec()];
    for (name, mut server) in servers() {
        server.durable();
        let (mut own, mut bulk) = (Vec::new(), Vec::new());
        for round in 1..=bench.rounds {
            bench.go_on()?;
            eprintln!("bench: {} rows into {name}, round {round}", each * HOSTS);
            own.push(through_ledgers(&server, &format!("own{round}"), each)?);
            bulk.push(server.through_client(&format!("bulk{round}"), bench.empty_dir()?.path(), each)?);
        }
        let rate = |loads: &[Loaded]| Spread::of(loads.iter().map(|l| l.rate));
        let ratio = Spread::of(own.iter().zip(&bulk).map(|(own, bulk)| own.rate / bulk.rate));
        let bytes = Spread::of(own.iter().map(|l| l.bytes));
        table.push(vec![
            name.to_owned(),
            format!("{:.0}", rate(&bulk)),
            format!("{:.0}", rate(&own)),
            format!("{ratio:.2}"),
            format!("{:.0}", bytes.median),
        ]);
        report.goal(format!("load into {name}: store over bulk load"), Bound::AtLeast(0.7), ratio.median, "");
    }
    report.table(&table);
    report.say(&format!(
        "Bytes per row on the wire, TLS not included: {:.0} in batches of {BATCH} rows, {:.0} in batches of 25. Rows that are made up are more alike than those \
         of a host, and take less.",
        wire(BATCH, 10 * BATCH)?,
        wire(25, 10_000)?
    ));
    Ok(())
}

/// The batches of one host.
fn batches(host: u64, rows: u64) -> Vec<Batch> {
    let mut source = Rows::new(Mix::Both);
    let sizes = (0..rows.div_ceil(BATCH)).map(|n| BATCH.min(rows - n * BATCH));
    sizes.map(|size| source.batch_of(host, size)).collect()
}

fn through_ledgers(server: &Server, name: &str, rows: u64) -> anyhow::Result<Loaded> {
    let url = server.database(name);
    Owner::open(&url)?;
    let empty = server.bytes(name)?;
    let barrier = Arc::new(Barrier::new(HOSTS as usize + 1));
    let hosts: Vec<_> = (0..HOSTS)
        .map(|host| {
            let (url, barrier) = (url.clone(), Arc::clone(&barrier));
            thread::spawn(move || {
                let ready = spooled(&url, host, rows);
                barrier.wait();
                let (mut ledger, identity, parcels) = ready?;
                for parcel in &parcels {
                    let batch = packed::unpack(parcel)?;
                    ensure!(ledger.append(&identity, &batch)?.refused.is_empty(), "rows were refused");
                }
                anyhow::Ok(())
            })
        })
        .collect();
    barrier.wait();
    let begun = Instant::now();
    for host in hosts {
        host.join().map_err(|_| anyhow!("a host panicked"))??;
    }
    loaded(server, name, &url, (begun.elapsed(), empty, rows))
}

/// What a server has of a host that has joined: a place in the store; and what the host's spool has.
fn spooled(url: &StoreUrl, host: u64, rows: u64) -> anyhow::Result<(Ledger, HostIdentity, Vec<Parcel>)> {
    let parcels: Result<_, _> = batches(host, rows).iter().map(packed::pack).collect();
    let (machine, name) = of_host(host);
    let identity = HostIdentity::enrolled(&machine, &name);
    let mut ledger = Ledger::open(url)?;
    ensure!(ledger.last_batch(&identity)? == 0, "{name} is known already");
    Ok((ledger, identity, parcels?))
}

/// What there is afterwards, which must be everything.
fn loaded(
    server: &Server,
    name: &str,
    url: &StoreUrl,
    (taken, empty, rows): (Duration, u64, u64),
) -> anyhow::Result<Loaded> {
    let (there, all) = (count(url)?, rows * HOSTS);
    ensure!(there == all, "{there} of {all} rows are there");
    let bytes = server.bytes(name)?.saturating_sub(empty) as f64 / all as f64;
    Ok(Loaded { rate: all as f64 / taken.as_secs_f64(), bytes })
}

/// Processes and endpoints in a store.
pub(crate) fn count(url: &StoreUrl) -> anyhow::Result<u64> {
    let mut reader = Reader::open(url)?;
    let mut count = Count(0);
    for table in ["psinfo", "netinfo"] {
        reader.query(&format!("SELECT count(*) FROM {table}"), &mut count)?;
    }
    Ok(u64::try_from(count.0)?)
}

struct Count(i64);

impl RowSink for Count {
    fn columns(&mut self, _: &[String]) -> std::io::Result<()> {
        Ok(())
    }

    fn row(&mut self, cells: &[Cell<'_>]) -> std::io::Result<()> {
        if let [Cell::Integer(n)] = cells {
            self.0 += n;
        }
        Ok(())
    }
}

impl Server {
    /// Starts it again so that a commit is on disk, and with some memory.
    fn durable(&mut self) {
        match self {
            Server::Mariadb(server) => {
                server.stop();
                server.run(&[
                    "--skip-debug-no-sync",
                    "--innodb-buffer-pool-size=1G",
                    "--innodb-log-file-size=512M",
                ]);
            }
            Server::Postgres(server) => {
                server.stop();
                server.run(&["fsync=on", "shared_buffers=1GB", "max_wal_size=4GB"]);
            }
        }
    }

    fn database(&self, name: &str) -> StoreUrl {
        match self {
            Server::Mariadb(server) => StoreUrl::Mysql(server.url("root", name)),
            Server::Postgres(server) => {
                server.ask("postgres", &format!("CREATE DATABASE {name}"));
                StoreUrl::Postgres(server.url("luarm", name))
            }
        }
    }

    /// What a database takes on disk, beside the logs of the engine.
    fn bytes(&self, name: &str) -> anyhow::Result<u64> {
        match self {
            Server::Mariadb(server) => {
                let mut bytes = 0;
                for file in fs::read_dir(server.directory().join("data").join(name))? {
                    bytes += file?.metadata()?.len();
                }
                Ok(bytes)
            }
            Server::Postgres(server) => {
                Ok(server.ask("postgres", &format!("SELECT pg_database_size('{name}')")).trim().parse()?)
            }
        }
    }

    fn through_client(&self, name: &str, dir: &Path, rows: u64) -> anyhow::Result<Loaded> {
        let url = self.database(name);
        Owner::open(&url)?;
        let mut streams: Vec<Vec<(&'static TableDef, PathBuf)>> = Vec::new();
        for host in 0..HOSTS {
            streams.push(self.streams(dir, host, rows)?);
        }
        let (empty, begun) = (self.bytes(name)?, Instant::now());
        thread::scope(|scope| {
            let clients: Vec<_> = streams
                .iter()
                .map(|streams| {
                    scope.spawn(move || {
                        streams.iter().try_for_each(|(table, file)| self.load(name, table, file))
                    })
                })
                .collect();
            clients.into_iter().try_for_each(|c| c.join().map_err(|_| anyhow!("a client panicked"))?)
        })?;
        loaded(self, name, &url, (begun.elapsed(), empty, rows))
    }

    /// Writes a file for each table of a host.
    fn streams(&self, dir: &Path, host: u64, rows: u64) -> anyhow::Result<Vec<(&'static TableDef, PathBuf)>> {
        let batches = batches(host, rows);
        let number = i64::try_from(host)? + 1;
        let mut files = Vec::new();
        for table in TABLES {
            let own = batches.iter().flat_map(|b| b.rows.iter().map(move |row| (b.id, row)));
            let mut own = own.filter(|(_, row)| row.table().name == table.name);
            let bytes = match self {
                Server::Mariadb(_) => {
                    let mut stream = Bulk::<LoadDataInfile>::new(table);
                    own.try_for_each(|(batch, row)| stream.push(number, batch, row))?;
                    stream.finish()
                }
                Server::Postgres(_) => {
                    let mut stream = Bulk::<Copy>::new(table);
                    own.try_for_each(|(batch, row)| stream.push(number, batch, row))?;
                    stream.finish()
                }
            };
            // An empty stream of PostgreSQL is 21 bytes.
            if bytes.len() > 21 {
                let file = dir.join(format!("{}-{host}", table.name));
                fs::write(&file, bytes)?;
                files.push((*table, file));
            }
        }
        Ok(files)
    }

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn store_and_client_load_the_same() {
        if let Some(server) = Mariadb::start("store_and_client_load_the_same") {
            both(&Server::Mariadb(Box::new(server)));
        }
        if let Some(server) = Postgres::start("store_and_client_load_the_same") {
            both(&Server::Postgres(Box::new(server)));
        }
    }

    fn both(server: &Server) {
        let dir = tempfile::tempdir().unwrap();
        through_ledgers(server, "own", 600).unwrap();
        server.through_client("bulk", dir.path(), 600).unwrap();
    }
}
