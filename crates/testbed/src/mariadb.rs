//! A private MariaDB.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use rustix::process::Signal;
use tempfile::TempDir;

use crate::server::{self, Server};

/// A MariaDB of the test's own, with the account `root`, without password.
#[derive(Debug)]
pub struct Mariadb {
    server: Server,
    daemon: PathBuf,
    client: PathBuf,
    port: u16,
    // Last: removed when the server is gone.
    directory: TempDir,
}

impl Mariadb {
    /// Starts one; `None` where MariaDB is not installed, which is said (and fails under CI).
    pub fn start(test: &str) -> Option<Self> {
        let places = [PathBuf::from("/usr/sbin")];
        let found = ["mariadbd", "mariadb-install-db", "mariadb"].map(|p| server::find(p, &places));
        let [Some(daemon), Some(install), Some(client)] = found else {
            server::skip(test, "MariaDB is not installed");
            return None;
        };
        let directory = server::directory();
        let data = format!("--datadir={}", directory.path().join("data").display());
        let installed = server::as_nobody(install, directory.path())
            .args(["--no-defaults", &data, "--skip-test-db", "--skip-name-resolve"])
            .args(["--auth-root-authentication-method=normal", "--innodb-log-file-size=16M"])
            .status()
            .unwrap();
        assert!(installed.success(), "{}", fs::read_to_string(directory.path().join("log")).unwrap());
        let server = Server::new(directory.path());
        let mut mariadb = Mariadb { server, daemon, client, port: server::free_port(), directory };
        mariadb.run(&[]);
        Some(mariadb)
    }

    /// Starts the stopped server again over its data, with further options.
    pub fn run(&mut self, options: &[&str]) {
        let path = self.directory.path();
        let mut command = server::as_nobody(&self.daemon, path);
        command.args(["--no-defaults", "--skip-name-resolve", "--bind-address=127.0.0.1"]);
        command.arg(format!("--datadir={}", path.join("data").display()));
        command.arg(format!("--socket={}", self.socket().display()));
        command.arg(format!("--port={}", self.port));
        command.args(["--innodb-buffer-pool-size=128M", "--innodb-log-file-size=16M"]);
        // A process that is killed loses nothing that the kernel has; only machines that lose power need more.
        command.arg("--debug-no-sync");
        // What another locale would do: it must not matter.
        command.args(["--character-set-server=latin1", "--default-time-zone=+05:30"]);
        command.args(options);
        let mut asking = self.client();
        asking.args(["-e", "SELECT 1"]);
        self.server.start(command, asking);
    }

    /// Ends the server as `kill -9` does.
    pub fn kill(&mut self) {
        self.server.end(Signal::KILL);
    }

    /// Ends the server in order.
    pub fn stop(&mut self) {
        self.server.end(Signal::TERM);
    }

    /// Stops the server where it is, until [`Mariadb::resume`].
    pub fn suspend(&self) {
        self.server.signal(Signal::STOP);
    }

    /// Lets a suspended server go on.
    pub fn resume(&self) {
        self.server.signal(Signal::CONT);
    }

    /// Whether it runs; a server that lost its disk may have ended by itself.
    pub fn is_running(&mut self) -> bool {
        self.server.is_running()
    }

    /// The Unix socket.
    pub fn socket(&self) -> PathBuf {
        self.directory.path().join("socket")
    }

    /// The port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Its directory, with `data` in it.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// The URL of a database for an account (`USER` or `USER:PASSWORD`).
    pub fn url(&self, account: &str, database: &str) -> String {
        format!("mysql://{account}@localhost/{database}?socket={}", self.socket().display())
    }

    /// The stock client as root.
    pub fn client(&self) -> Command {
        let mut command = Command::new(&self.client);
        command.args(["--no-defaults", "--user=root", "--default-character-set=utf8mb4"]);
        command.arg(format!("--socket={}", self.socket().display()));
        command
    }

    /// The answer to statements: a row a line, values separated by tabs. Panics if the client complains.
    pub fn ask(&self, sql: &str) -> String {
        let mut client = self.client();
        client.args(["--batch", "--raw", "--skip-column-names"]);
        server::printed(&server::run_with(&mut client, sql.as_bytes()), sql)
    }
}

impl Drop for Mariadb {
    fn drop(&mut self) {
        self.server.end(Signal::KILL);
        self.server.last_words();
    }
}
