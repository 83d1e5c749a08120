//! A private MariaDB, spoken to through its stock client.

use std::{
    fs,
    path::PathBuf,
    process::{Command, Output},
};

use luarm_schema::{Dialect, TableDef, bulk::LoadData};
use rustix::process::Signal;
use tempfile::TempDir;

use crate::{
    Engine,
    rows::Rows,
    server::{self, Server},
};

pub(crate) struct Mariadb {
    _server: Server,
    client: PathBuf,
    // Last: removed when the server is gone.
    directory: TempDir,
}

impl Mariadb {
    pub(crate) fn start(test: &str) -> Option<Self> {
        let places = [PathBuf::from("/usr/sbin")];
        let found = ["mariadbd", "mariadb-install-db", "mariadb"].map(|p| server::find(p, &places));
        let [Some(daemon), Some(install), Some(client)] = found else {
            server::skip(test, "MariaDB is not installed");
            return None;
        };
        let directory = server::directory();
        let data = format!("--datadir={}", directory.path().join("data").display());
        let socket = format!("--socket={}", directory.path().join("socket").display());
        let installed = server::as_nobody(install, directory.path())
            .args(["--no-defaults", &data, "--skip-test-db", "--skip-name-resolve"])
            .arg("--auth-root-authentication-method=normal")
            .status()
            .unwrap();
        let log = || fs::read_to_string(directory.path().join("log")).unwrap();
        assert!(installed.success(), "{}", log());
        let mut command = server::as_nobody(daemon, directory.path());
        command.args(["--no-defaults", &data, &socket, "--skip-networking", "--local-infile=1"]);
        command.args(["--skip-grant-tables", "--innodb-flush-log-at-trx-commit=0"]);
        // What another locale or version would do: neither may matter.
        command.args(["--character-set-server=latin1", "--innodb-buffer-pool-size=64M"]);
        let answers =
            || client_of(&client, &directory).args(["-e", "SELECT 1"]).output().unwrap().status.success();
        let server = Server::start(command, directory.path(), Signal::KILL, answers);
        let engine = Mariadb { _server: server, client, directory };
        let create =
            client_of(&engine.client, &engine.directory).args(["-e", "CREATE DATABASE luarm"]).output();
        server::printed(&create.unwrap(), "CREATE DATABASE");
        Some(engine)
    }

    fn run(&self, sql: &str) -> Output {
        let mut command = client_of(&self.client, &self.directory);
        // The client's own character set must not matter to the stream; answers are in UTF-8.
        command.args(["--local-infile=1", "--default-character-set=utf8mb4", "--max-allowed-packet=64M"]);
        command.args(["--batch", "--raw", "--skip-column-names", "luarm"]);
        server::run(&mut command, sql.as_bytes())
    }
}

fn client_of(client: &PathBuf, directory: &TempDir) -> Command {
    let mut command = Command::new(client);
    command.args(["--no-defaults", "--user=root", "--socket"]).arg(directory.path().join("socket"));
    command
}

impl Engine for Mariadb {
    fn dialect(&self) -> Dialect {
        Dialect::Mysql
    }

    fn ask(&self, sql: &str) -> Vec<String> {
        server::printed(&self.run(sql), sql).lines().map(str::to_owned).collect()
    }

    fn explain(&self) -> &'static str {
        "EXPLAIN "
    }

    fn load(&self, table: &'static TableDef, rows: &Rows) {
        let mut stream = LoadData::new(table);
        let mut file = Vec::new();
        rows.put(&mut stream, |stream| {
            stream.end_row().unwrap();
            // Divided anywhere.
            file.extend_from_slice(stream.bytes());
            stream.clear();
        });
        file.extend(stream.finish());
        let path = self.directory.path().join("stream'quoted");
        fs::write(&path, file).unwrap();
        let statement = LoadData::statement(table, path.to_str().unwrap());
        for mode in ["", "STRICT_ALL_TABLES,NO_BACKSLASH_ESCAPES,ANSI"] {
            let answer = self.ask(&format!(
                "SET sql_mode = '{mode}'; DELETE FROM {}; {statement}; SELECT ROW_COUNT(), @@warning_count; SHOW WARNINGS",
                table.name
            ));
            assert_eq!(answer, [format!("{}\t0", rows.len())], "{}", table.name);
        }
    }

    fn indexes(&self, table: &TableDef) -> Vec<String> {
        self.ask(&format!(
            "SELECT group_concat(column_name ORDER BY seq_in_index) FROM information_schema.statistics \
             WHERE table_schema = 'luarm' AND table_name = '{}' GROUP BY index_name",
            table.name
        ))
    }
}
