//! The three stores, and what may be done to them all alike.

use std::path::PathBuf;

use luarm_store::StoreUrl;
use luarm_testbed::{Mariadb, Postgres};
use tempfile::TempDir;

/// A directory for SQLite, and both servers.
pub(crate) struct Stores {
    directory: TempDir,
    pub(crate) mariadb: Mariadb,
    pub(crate) postgres: Postgres,
}

pub(crate) fn parsed(url: &str) -> StoreUrl {
    StoreUrl::parse(url).unwrap()
}

impl Stores {
    /// Starts the servers; `None` where one is not installed.
    pub(crate) fn start(test: &str) -> Option<Self> {
        let (mariadb, postgres) = std::thread::scope(|scope| {
            let mariadb = scope.spawn(|| Mariadb::start(test));
            (Postgres::start(test), mariadb.join().unwrap())
        })
        .swap()?;
        Some(Stores { directory: tempfile::tempdir().unwrap(), mariadb, postgres })
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.directory.path().join(format!("{name}.db"))
    }

    /// A new store of that name in each engine; SQLite is the yardstick.
    pub(crate) fn each(&self, name: &str) -> [(&'static str, StoreUrl); 3] {
        self.postgres.ask("postgres", &format!("CREATE DATABASE {name}"));
        [
            ("SQLite", parsed(&format!("sqlite:{}", self.file(name).display()))),
            ("MariaDB", parsed(&self.mariadb.url("root", name))),
            ("PostgreSQL", parsed(&self.postgres.url("luarm", name))),
        ]
    }
}

trait Swap {
    fn swap(self) -> Option<(Mariadb, Postgres)>;
}

impl Swap for (Option<Postgres>, Option<Mariadb>) {
    fn swap(self) -> Option<(Mariadb, Postgres)> {
        Some((self.1?, self.0?))
    }
}
