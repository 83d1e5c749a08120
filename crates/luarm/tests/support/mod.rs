//! What the tests of the program share: a recorder on a directory of its own, and answers as rows.

#![allow(dead_code, unreachable_pub, reason = "each test file is a crate of its own and uses its own part")]

pub mod guest;
pub mod hosts;
pub mod http;
pub mod link;
pub mod private;
pub mod programs;
pub mod sleeper;

use std::{
    io::{BufRead, BufReader},
    os::unix::{fs::chown, process::CommandExt},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Output, Stdio},
    sync::{Arc, Condvar, Mutex, PoisonError},
    time::{Duration, Instant},
};

use serde_json::{Map, Value};

/// The user and group `nobody`.
pub const NOBODY: u32 = 65534;
/// Long enough for a loaded machine; no test's verdict depends on it.
const PATIENCE: Duration = Duration::from_secs(90);

/// One row of an answer, by column.
pub type Row = Map<String, Value>;

/// Says that a test did not run, and why. Under CI=true that is a failure: what CI can provide must be there.
pub fn skip(reason: &str) {
    assert!(std::env::var("CI").as_deref() != Ok("true"), "SKIPPED under CI: {reason}");
    eprintln!("SKIPPED: {reason}");
}

/// Whether this test runs as root.
pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// The sensors that can be started here, by their names on the command line.
pub fn sensors() -> Vec<&'static str> {
    if is_root() {
        return vec!["poll", "ebpf"];
    }
    skip("needs root, for the eBPF sensor");
    vec!["poll"]
}

/// Whether the eBPF sensor can run here: as root, on a kernel that takes it. Says so where not.
pub fn has_ebpf() -> bool {
    if !is_root() {
        skip("needs root");
        return false;
    }
    if let Err(e) = luarm_sensor::ebpf::doctor() {
        skip(&format!("no eBPF here: {e}"));
        return false;
    }
    true
}

/// The program under test.
pub fn program() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_luarm"))
}

/// Puts a copy of the program where another user can reach it.
pub fn copy_program(to: &Path) {
    // By another process: a test that starts a program meanwhile would otherwise hold the copy open for writing, and it could not be run.
    assert!(Command::new("cp").arg(program()).arg(to).status().unwrap().success());
}

/// A run of `luarm` to its end.
pub fn luarm(arguments: &[&str]) -> Output {
    Command::new(program()).args(arguments).stdin(Stdio::null()).output().unwrap()
}

/// Standard error of a run, as text.
pub fn complaint(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// How to start a recorder.
pub struct Launch {
    data: PathBuf,
    arguments: Vec<String>,
    prefix: Vec<String>,
    user: Option<u32>,
    verb: &'static str,
}

impl Launch {
    /// A recorder with its data in `data`.
    pub fn on(data: &Path) -> Self {
        Self { data: data.to_owned(), arguments: Vec::new(), prefix: Vec::new(), user: None, verb: "run" }
    }

    /// An agent with its data in `data`, where it has joined a server.
    pub fn agent(data: &Path) -> Self {
        Self { verb: "agent", ..Self::on(data) }
    }

    /// With more arguments.
    pub fn with(mut self, arguments: &[&str]) -> Self {
        self.arguments.extend(arguments.iter().map(ToString::to_string));
        self
    }

    /// Under a command that replaces itself by the program, such as `nsenter --mount=… --`. What asks the recorder runs under it too.
    pub fn under(mut self, prefix: &[&str]) -> Self {
        self.prefix = prefix.iter().map(ToString::to_string).collect();
        self
    }

    /// As another user, who gets the data directory and a copy of the program that he can reach.
    pub fn by_user(mut self, user: u32) -> Self {
        self.user = Some(user);
        self
    }

    fn command(&self) -> Command {
        let mut binary = program().to_owned();
        if let Some(user) = self.user {
            binary = self.data.join("luarm");
            if !binary.exists() {
                copy_program(&binary);
                chown(&self.data, Some(user), Some(user)).unwrap();
            }
        }
        let mut command = match self.prefix.split_first() {
            Some((first, rest)) => {
                let mut command = Command::new(first);
                command.args(rest).arg(&binary);
                command
            }
            None => Command::new(&binary),
        };
        if let Some(user) = self.user {
            command.uid(user).gid(user);
        }
        command.current_dir("/").stdin(Stdio::null());
        command
    }

    /// Runs a command of the program on the data directory, as the user and under the prefix of this launch.
    pub fn ask(&self, command: &str, arguments: &[&str]) -> Output {
        self.command().arg(command).arg("--data").arg(&self.data).args(arguments).output().unwrap()
    }

    /// Starts it and waits until it records.
    pub fn start(self) -> Recording {
        let recording = self.spawn();
        recording.wait_for("luarm: recording");
        recording
    }

    /// Starts it and does not wait.
    pub fn spawn(self) -> Recording {
        let mut command = self.command();
        command.arg(self.verb).arg("--data").arg(&self.data).args(&self.arguments);
        // Rows of its canaries would be among those that tests count.
        if !self.arguments.iter().any(|argument| argument == "--canary") {
            command.args(["--canary", "off"]);
        }
        let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
        let log = Log::of(&mut child);
        Recording { launch: self, child, log }
    }
}

/// Standard error of a recorder as it comes.
#[derive(Default)]
struct Log {
    /// The lines, and whether they are all.
    lines: Mutex<(Vec<String>, bool)>,
    grown: Condvar,
}

impl Log {
    /// What a process writes on standard error from now on.
    fn of(child: &mut Child) -> Arc<Self> {
        let log = Arc::new(Self::default());
        let stderr = BufReader::new(child.stderr.take().unwrap());
        let writer = Arc::clone(&log);
        std::thread::spawn(move || {
            for line in stderr.lines().map_while(Result::ok) {
                writer.append(Some(line));
            }
            writer.append(None);
        });
        log
    }

    /// What was written so far.
    fn said(&self) -> String {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner).0.join("\n")
    }

    /// Waits until a line contains `text`, and returns the line.
    fn wait_for(&self, text: &str) -> String {
        let deadline = Instant::now() + PATIENCE;
        let mut lines = self.lines.lock().unwrap();
        loop {
            if let Some(line) = lines.0.iter().find(|line| line.contains(text)) {
                return line.clone();
            }
            let left = deadline.saturating_duration_since(Instant::now());
            assert!(!lines.1 && !left.is_zero(), "no line with {text:?} in: {}", lines.0.join("\n"));
            lines = self.grown.wait_timeout(lines, left).unwrap().0;
        }
    }

    fn append(&self, line: Option<String>) {
        let mut lines = self.lines.lock().unwrap();
        match line {
            Some(line) => lines.0.push(line),
            None => lines.1 = true,
        }
        self.grown.notify_all();
    }
}

/// A running recorder; killed when it goes out of scope.
pub struct Recording {
    launch: Launch,
    child: Child,
    log: Arc<Log>,
}

impl Recording {
    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Its data directory.
    pub fn data(&self) -> &Path {
        &self.launch.data
    }

    /// What it has said on standard error so far.
    pub fn said(&self) -> String {
        self.log.said()
    }

    /// Starts another recorder in the same way, after this one has ended.
    pub fn again(mut self) -> Self {
        self.wait();
        let Launch { data, arguments, prefix, user, verb } = &self.launch;
        let (arguments, prefix) = (arguments.clone(), prefix.clone());
        Launch { data: data.clone(), arguments, prefix, user: *user, verb }.start()
    }

    /// Waits until a line of standard error contains `text`, and returns the line.
    pub fn wait_for(&self, text: &str) -> String {
        self.log.wait_for(text)
    }

    /// Runs a command of the program on this recorder's data directory, as the recorder's user.
    pub fn ask(&self, command: &str, arguments: &[&str]) -> Output {
        self.launch.ask(command, arguments)
    }

    /// Waits until everything that happened before now can be queried.
    pub fn sync(&self) {
        let output = self.ask("sync", &["--timeout", "60"]);
        assert!(output.status.success(), "{}\nrecorder: {}", complaint(&output), self.said());
    }

    /// The rows that a query answers.
    pub fn sql(&self, query: &str) -> Vec<Row> {
        rows(&self.ask("sql", &["--format", "jsonl", "-e", query]))
    }

    /// The single number that a query answers.
    pub fn count(&self, query: &str) -> i64 {
        number(&self.sql(query))
    }

    /// Waits until a figure of `luarm status` about the recorder, or about its server, is as wanted.
    pub fn wait_until(&self, item: &str, wanted: impl Fn(i64) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        let about = |row: &Row| row["about"] == "recorder" || row["about"] == "server";
        loop {
            let status = rows(&self.ask("status", &["--format", "jsonl"]));
            let row = status.iter().find(|row| about(row) && row["item"] == item);
            let value = row.and_then(|row| row["value"].as_i64());
            if value.is_some_and(&wanted) {
                return;
            }
            assert!(Instant::now() < deadline, "{item} is {value:?}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// A figure of `luarm status` about the recorder, or about its server.
    pub fn figure(&self, item: &str) -> i64 {
        let status = rows(&self.ask("status", &["--format", "jsonl"]));
        let row = status.iter().find(|row| row["item"] == item);
        row.and_then(|row| row["value"].as_i64()).unwrap()
    }

    /// Waits, without asking the recorder for anything, until a query counts a row.
    pub fn wait_for_row(&self, query: &str) {
        let deadline = Instant::now() + PATIENCE;
        while self.count(query) == 0 {
            assert!(Instant::now() < deadline, "no row: {query}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Sends a signal.
    pub fn signal(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_raw(i32::try_from(self.pid()).unwrap()).unwrap();
        rustix::process::kill_process(pid, signal).unwrap();
    }

    /// Asks it to stop, and waits for its end.
    pub fn stop(mut self) -> ExitStatus {
        self.signal(rustix::process::Signal::TERM);
        self.wait()
    }

    /// Kills it as a crash would.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Waits for its end.
    pub fn wait(&mut self) -> ExitStatus {
        self.child.wait().unwrap()
    }
}

impl Drop for Recording {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("the recorder said:\n{}", self.said());
        }
    }
}

/// The rows of a store.
pub fn sql_of(store: &str, query: &str) -> Vec<Row> {
    rows(&luarm(&["sql", "--store", store, "--format", "jsonl", "-e", query]))
}

/// The rows of a data directory, whether a recorder runs on it or not.
pub fn sql(data: &Path, query: &str) -> Vec<Row> {
    rows(&luarm(&["sql", "--data", data.to_str().unwrap(), "--format", "jsonl", "-e", query]))
}

/// The single number that a query of a data directory answers.
pub fn count(data: &Path, query: &str) -> i64 {
    number(&sql(data, query))
}

fn rows(output: &Output) -> Vec<Row> {
    assert!(output.status.success(), "{}", complaint(output));
    let text = std::str::from_utf8(&output.stdout).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn number(rows: &[Row]) -> i64 {
    assert_eq!((rows.len(), rows.first().map_or(0, Map::len)), (1, 1), "not one number: {rows:?}");
    rows[0].values().next().unwrap().as_i64().unwrap()
}
