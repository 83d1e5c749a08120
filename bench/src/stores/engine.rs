//! The engines that are installed, and empty stores of each.

use std::{fs, path::Path};

use anyhow::Context as _;
use luarm_store::{Ledger, Owner, StoreUrl};
use luarm_testbed::{Mariadb, Postgres};
use tempfile::TempDir;

use crate::Bench;

/// A server of an engine, of this measurement's own.
pub(super) enum Server {
    Mariadb(Box<Mariadb>),
    Postgres(Box<Postgres>),
}

/// Where stores are.
pub(super) enum Engine {
    Sqlite(TempDir),
    Server(Server),
}

/// Where empty stores of one engine come from.
pub(crate) struct Stores {
    /// The engine.
    pub name: &'static str,
    pub(super) engine: Engine,
    made: u32,
}

impl Stores {
    /// SQLite, and what servers are installed, each so that a commit is on disk.
    pub(crate) fn all(bench: &Bench) -> anyhow::Result<Vec<Self>> {
        Ok(Self::installed(bench.empty_dir()?, "bench"))
    }

    /// The same with SQLite in that directory; the servers' are named after `of`.
    pub(super) fn installed(dir: TempDir, of: &str) -> Vec<Self> {
        let mariadb = Mariadb::start(of).map(|server| ("MariaDB", Server::Mariadb(Box::new(server))));
        let postgres = Postgres::start(of).map(|server| ("PostgreSQL", Server::Postgres(Box::new(server))));
        let servers = [mariadb, postgres].into_iter().flatten().map(|(name, mut server)| {
            server.durable();
            (name, Engine::Server(server))
        });
        let all = [("SQLite", Engine::Sqlite(dir))].into_iter().chain(servers);
        all.map(|(name, engine)| Stores { name, engine, made: 0 }).collect()
    }

    /// The name of the latest store.
    pub(super) fn latest(&self) -> String {
        format!("fresh{}", self.made)
    }

    /// A store with all its tables and nothing in them.
    pub(crate) fn fresh(&mut self) -> anyhow::Result<StoreUrl> {
        self.made += 1;
        let name = self.latest();
        let url = match &self.engine {
            Engine::Sqlite(dir) => {
                let url = StoreUrl::Sqlite(dir.path().join(name));
                drop(Ledger::open(&url)?);
                return Ok(url);
            }
            Engine::Server(server) => server.database(&name),
        };
        Owner::open(&url)?;
        Ok(url)
    }

    /// What the latest store takes on disk, beside the logs of a server; SQLite's must be closed.
    pub(super) fn bytes(&self) -> anyhow::Result<u64> {
        let name = self.latest();
        match &self.engine {
            Engine::Sqlite(dir) => file_size(&dir.path().join(name)),
            Engine::Server(server) => server.bytes(&name),
        }
    }

    /// Makes room: the latest store is gone then.
    pub(super) fn discard(&self) -> anyhow::Result<()> {
        let name = self.latest();
        match &self.engine {
            Engine::Sqlite(dir) => fs::remove_file(dir.path().join(name)).context("cannot remove a store")?,
            Engine::Server(Server::Mariadb(server)) => _ = server.ask(&format!("DROP DATABASE {name}")),
            Engine::Server(Server::Postgres(server)) => {
                server.ask("postgres", &format!("DROP DATABASE {name} WITH (FORCE)"));
            }
        }
        Ok(())
    }
}

fn file_size(path: &Path) -> anyhow::Result<u64> {
    Ok(fs::metadata(path).with_context(|| format!("cannot find {}", path.display()))?.len())
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
}
