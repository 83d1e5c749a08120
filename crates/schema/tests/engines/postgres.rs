//! A private PostgreSQL, spoken to through its stock client.

use std::{
    fs,
    path::PathBuf,
    process::{Command, Output},
};

use luarm_schema::{Dialect, TableDef, bulk::CopyBinary};
use rustix::process::Signal;
use tempfile::TempDir;

use crate::{
    Engine,
    rows::Rows,
    server::{self, Server},
};

pub(crate) struct Postgres {
    _server: Server,
    client: PathBuf,
    // Last: removed when the server is gone.
    directory: TempDir,
}

impl Postgres {
    pub(crate) fn start(test: &str) -> Option<Self> {
        let found = ["initdb", "postgres", "psql"].map(|p| server::find(p, &versions()));
        let [Some(initdb), Some(daemon), Some(client)] = found else {
            server::skip(test, "PostgreSQL is not installed");
            return None;
        };
        let directory = server::directory();
        let installed = server::as_nobody(initdb, directory.path())
            .args(["--pgdata=data", "--username=luarm", "--auth=trust", "--encoding=UTF8", "--no-sync"])
            // A locale that does not order by bytes, which must not matter.
            .args(["--locale=C", "--locale-provider=icu", "--icu-locale=en"])
            .status()
            .unwrap();
        let log = || fs::read_to_string(directory.path().join("log")).unwrap();
        assert!(installed.success(), "{}", log());
        let mut command = server::as_nobody(daemon, directory.path());
        command
            .args(["-D", "data", "-c", "listen_addresses=", "-c", "fsync=off", "-k"])
            .arg(directory.path());
        command.args(["-c", "timezone=America/New_York", "-c", "datestyle=SQL, DMY"]);
        let answers =
            || client_of(&client, &directory).args(["-c", "SELECT 1"]).output().unwrap().status.success();
        let server = Server::start(command, directory.path(), Signal::QUIT, answers);
        Some(Postgres { _server: server, client, directory })
    }

    fn run(&self, sql: &str, input: &[u8]) -> Output {
        let mut command = client_of(&self.client, &self.directory);
        command.args([
            "--tuples-only",
            "--no-align",
            "--quiet",
            "--field-separator=\t",
            "--pset=null=NULL",
            "--set=ON_ERROR_STOP=1",
        ]);
        server::run(command.args(["--command", sql]), input)
    }
}

/// Where Debian keeps the programs of the server, the newest first.
fn versions() -> Vec<PathBuf> {
    let mut versions: Vec<PathBuf> = fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .map(|v| v.unwrap().path().join("bin"))
        .collect();
    versions.sort();
    versions.reverse();
    versions
}

fn client_of(client: &PathBuf, directory: &TempDir) -> Command {
    let mut command = Command::new(client);
    command.args(["--no-psqlrc", "--username=luarm", "--dbname=postgres", "--host"]).arg(directory.path());
    command.env("PGCLIENTENCODING", "UTF8");
    command
}

impl Engine for Postgres {
    fn dialect(&self) -> Dialect {
        Dialect::Postgres
    }

    fn ask(&self, sql: &str) -> Vec<String> {
        server::printed(&self.run(sql, b""), sql).lines().map(str::to_owned).collect()
    }

    fn explain(&self) -> &'static str {
        "SET enable_seqscan = off; EXPLAIN "
    }

    fn load(&self, table: &'static TableDef, rows: &Rows) {
        let mut stream = CopyBinary::new(table);
        rows.put(&mut stream, |stream| stream.end_row().unwrap());
        let statement = CopyBinary::statement(table);
        server::printed(&self.run(&statement, &stream.finish()), &statement);
    }

    fn indexes(&self, table: &TableDef) -> Vec<String> {
        self.ask(&format!(
            "SELECT string_agg(a.attname, ',' ORDER BY a.attnum) FROM pg_index i JOIN pg_attribute a ON a.attrelid = i.indexrelid \
             WHERE i.indrelid = '{}'::regclass GROUP BY i.indexrelid",
            self.dialect().stored_name(table)
        ))
    }
}
