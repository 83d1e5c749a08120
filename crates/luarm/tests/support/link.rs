//! A server of its own for a test, and agents that have joined it.

use std::{
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Output, Stdio},
    sync::Arc,
};

use super::{Launch, Log, Recording, Row, complaint, luarm, number, program, sql_of};

/// A server's directory, store and address.
pub struct Site {
    directory: PathBuf,
    address: String,
    store: Option<String>,
}

/// A running server; killed when it goes out of scope.
pub struct Server {
    child: Child,
    log: Arc<Log>,
    /// Where it listens.
    pub address: String,
}

impl Site {
    /// A server's directory with an authority, and a port for it.
    pub fn new(directory: &Path) -> Self {
        // The port stays its own: nothing else listens between two starts but for a short while.
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let site = Self { directory: directory.to_owned(), address, store: None };
        let output = luarm(&["server", "init", "--data", site.data().to_str().unwrap()]);
        assert!(output.status.success(), "{}", complaint(&output));
        site
    }

    /// With another store than a file of its own.
    pub fn into_store(mut self, url: &str) -> Self {
        self.store = Some(url.to_owned());
        self
    }

    pub fn data(&self) -> PathBuf {
        self.directory.join("server")
    }

    /// The URL of the store.
    pub fn store(&self) -> String {
        let own = || format!("sqlite:{}", self.directory.join("store.db").display());
        self.store.clone().unwrap_or_else(own)
    }

    /// The URL of the server.
    pub fn url(&self) -> String {
        format!("https://{}", self.address)
    }

    /// Starts the server, and waits until it serves.
    pub fn serve(&self, arguments: &[&str]) -> Server {
        self.serve_at(&self.address, arguments)
    }

    /// Starts a server at another address.
    pub fn serve_at(&self, address: &str, arguments: &[&str]) -> Server {
        let mut command = Command::new(program());
        command.arg("server").arg("--data").arg(self.data()).args(["--store", &self.store()]);
        command.args(["--listen", address]).args(arguments).stdin(Stdio::null());
        let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
        let log = Log::of(&mut child);
        let line = log.wait_for("luarm: serving");
        let address = line.split_whitespace().nth(3).unwrap().to_owned();
        Server { child, log, address }
    }

    /// A token, as it is printed.
    pub fn token(&self, arguments: &[&str]) -> String {
        let data = self.data();
        let output = luarm(&[&["enroll", "token", "--data", data.to_str().unwrap()][..], arguments].concat());
        assert!(output.status.success(), "{}", complaint(&output));
        String::from_utf8(output.stdout).unwrap().trim_end().to_owned()
    }

    /// Has an agent's directory join under a name.
    pub fn join(&self, data: &Path, name: &str) {
        let output = self.try_join(data, name, &self.token(&[]));
        assert!(output.status.success(), "{}", complaint(&output));
    }

    /// Tries to join.
    pub fn try_join(&self, data: &Path, name: &str, token: &str) -> Output {
        let data = data.to_str().unwrap();
        luarm(&["enroll", "join", &self.url(), "--token", token, "--data", data, "--name", name])
    }

    /// Revokes a host.
    pub fn revoke(&self, host: &str) -> Output {
        luarm(&["enroll", "revoke", host, "--data", self.data().to_str().unwrap()])
    }

    /// The rows that a query of the store answers.
    pub fn sql(&self, query: &str) -> Vec<Row> {
        sql_of(&self.store(), query)
    }

    /// The single number that a query of the store answers.
    pub fn count(&self, query: &str) -> i64 {
        number(&self.sql(query))
    }

    /// An agent that has joined under a name, with its data beside the server's.
    pub fn agent(&self, name: &str, arguments: &[&str]) -> Recording {
        let data = self.directory.join(name);
        self.join(&data, name);
        Launch::agent(&data).with(arguments).start()
    }
}

impl Server {
    /// What it has said on standard error so far.
    pub fn said(&self) -> String {
        self.log.said()
    }

    /// Waits until a line of standard error contains `text`, and returns the line.
    pub fn wait_for(&self, text: &str) -> String {
        self.log.wait_for(text)
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Kills it as a crash would.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Asks it to stop, and waits for its end.
    pub fn stop(mut self) -> ExitStatus {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        self.child.wait().unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("the server said:\n{}", self.said());
        }
    }
}
