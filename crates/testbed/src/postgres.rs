//! A private PostgreSQL.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use rustix::process::{Signal, kill_process};
use tempfile::TempDir;

use crate::server::{self, Server};

/// A PostgreSQL of the test's own, with the superuser `luarm`, without password.
#[derive(Debug)]
pub struct Postgres {
    server: Server,
    daemon: PathBuf,
    client: PathBuf,
    port: u16,
    // Last: removed when the server is gone.
    directory: TempDir,
}

impl Postgres {
    /// Starts one; `None` where PostgreSQL is not installed, which is said (and fails under CI).
    pub fn start(test: &str) -> Option<Self> {
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
        assert!(installed.success(), "{}", fs::read_to_string(directory.path().join("log")).unwrap());
        let server = Server::new(directory.path());
        let mut postgres = Postgres { server, daemon, client, port: server::free_port(), directory };
        postgres.run(&[]);
        Some(postgres)
    }

    /// Starts the stopped server again over its data, with further settings (`name=value`).
    pub fn run(&mut self, settings: &[&str]) {
        let mut command = server::as_nobody(&self.daemon, self.directory.path());
        command.args(["-D", "data", "-c", "listen_addresses=127.0.0.1", "-k"]);
        command.arg(self.directory.path());
        command.args(["-p", &self.port.to_string()]);
        // A process that is killed loses nothing that the kernel has; only machines that lose power need more.
        command.args(["-c", "fsync=off"]);
        // What another locale would do: it must not matter.
        command.args(["-c", "timezone=America/New_York", "-c", "datestyle=SQL, DMY"]);
        for setting in settings {
            command.args(["-c", setting]);
        }
        let mut asking = self.client("postgres");
        asking.args(["-c", "SELECT 1"]);
        self.server.start(command, asking);
    }

    /// Ends the server without a checkpoint, as a crash does: its processes end at once (SIGQUIT reaches all of them; SIGKILL would leave the
    /// children of the first process for a while).
    pub fn kill(&mut self) {
        self.server.end(Signal::QUIT);
    }

    /// Ends the server in order.
    pub fn stop(&mut self) {
        self.server.end(Signal::INT);
    }

    /// Stops all processes of the server where they are, until [`Postgres::resume`].
    pub fn suspend(&self) {
        self.tell_all(Signal::STOP);
    }

    /// Lets a suspended server go on.
    pub fn resume(&self) {
        self.tell_all(Signal::CONT);
    }

    fn tell_all(&self, signal: Signal) {
        // The first process first: from then on no other is started.
        for pid in self.server.family() {
            let _ = kill_process(pid, signal);
        }
    }

    /// Whether it runs; a server that lost its disk may have ended by itself.
    pub fn is_running(&mut self) -> bool {
        self.server.is_running()
    }

    /// The directory of the Unix socket.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// The port, also of the socket.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The URL of a database for an account (`USER` or `USER:PASSWORD`).
    pub fn url(&self, account: &str, database: &str) -> String {
        let directory = self.directory.path().display().to_string().replace('/', "%2F");
        format!("postgres://{account}@{directory}:{}/{database}", self.port)
    }

    /// The stock client as the superuser.
    pub fn client(&self, database: &str) -> Command {
        let mut command = Command::new(&self.client);
        command.args(["--no-psqlrc", "--username=luarm", "--host"]).arg(self.directory.path());
        command.arg(format!("--port={}", self.port)).arg(format!("--dbname={database}"));
        command.env("PGCLIENTENCODING", "UTF8").env("PGOPTIONS", "-c client_min_messages=error");
        command
    }

    /// The answer to statements: a row a line, values separated by tabs. Panics if the client complains.
    pub fn ask(&self, database: &str, sql: &str) -> String {
        let mut client = self.client(database);
        client.args(["--tuples-only", "--no-align", "--quiet", "--field-separator=\t"]);
        client.args(["--pset=null=NULL", "--set=ON_ERROR_STOP=1"]);
        server::printed(&server::run_with(&mut client, sql.as_bytes()), sql)
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        // Who is stopped does not end.
        self.resume();
        self.server.end(Signal::QUIT);
        self.server.last_words();
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
