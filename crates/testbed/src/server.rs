//! A server process, its directory and its clients.

use std::{
    ffi::OsStr,
    fs::{self, File},
    io::Write as _,
    net::TcpListener,
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    time::Duration,
};

use rustix::process::{Pid, Signal, geteuid, kill_process};
use tempfile::TempDir;

/// Database servers refuse to run as root.
const NOBODY: u32 = 65534;

/// Says that the test is skipped, and fails under CI, where the servers are provided.
pub fn skip(test: &str, why: &str) {
    println!("SKIPPED: {test}: {why}");
    assert!(std::env::var_os("CI").is_none_or(|v| v != "true"), "{test}: {why}");
}

/// The program in PATH or in one of the directories.
pub(crate) fn find(program: &str, directories: &[PathBuf]) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    directories
        .iter()
        .cloned()
        .chain(std::env::split_paths(&path))
        .map(|directory| directory.join(program))
        .find(|program| program.is_file())
}

/// A directory with a short name (a socket's path has at most 107 bytes) that the server may write to.
pub(crate) fn directory() -> TempDir {
    let directory = tempfile::Builder::new().prefix("luarm-").tempdir_in("/tmp").unwrap();
    give(directory.path());
    directory
}

/// A directory within another that the server may write to.
pub(crate) fn directory_in(directory: &Path, name: &str) -> PathBuf {
    let within = directory.join(name);
    fs::create_dir(&within).unwrap();
    give(&within);
    within
}

fn give(directory: &Path) {
    if geteuid().is_root() {
        std::os::unix::fs::chown(directory, Some(NOBODY), Some(NOBODY)).unwrap();
    }
}

/// A port of the loopback that nobody listens on now.
pub(crate) fn free_port() -> u16 {
    TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port()
}

/// The program as an ordinary user, in the directory, with its output in `log`.
pub(crate) fn as_nobody(program: impl AsRef<OsStr>, directory: &Path) -> Command {
    let log = File::options().create(true).append(true).open(directory.join("log")).unwrap();
    let mut command = Command::new(program);
    command.current_dir(directory).env("HOME", directory).env("TMPDIR", directory);
    command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
    if geteuid().is_root() {
        command.uid(NOBODY).gid(NOBODY);
    }
    command
}

/// A server that runs or does not.
#[derive(Debug)]
pub(crate) struct Server {
    child: Option<Child>,
    log: PathBuf,
}

impl Server {
    pub(crate) fn new(directory: &Path) -> Self {
        Server { child: None, log: directory.join("log") }
    }

    /// Starts it and waits until the client gets an answer.
    pub(crate) fn start(&mut self, mut command: Command, mut asking: Command) {
        assert!(self.child.is_none(), "it runs");
        let mut child = command.spawn().unwrap();
        while !asking.output().unwrap().status.success() {
            if let Some(status) = child.try_wait().unwrap() {
                panic!("the server has ended: {status}\n{}", fs::read_to_string(&self.log).unwrap());
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        self.child = Some(child);
    }

    /// Whether it was started and not ended by us.
    pub(crate) fn runs(&self) -> bool {
        self.child.is_some()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        if let Some(child) = &self.child {
            let _ = kill_process(Pid::from_child(child), signal);
        }
    }

    /// Sends the signal, and returns once the process is gone.
    pub(crate) fn end(&mut self, signal: Signal) {
        self.signal(signal);
        if let Some(mut child) = self.child.take() {
            let _ = child.wait();
        }
    }

    /// What it said last, for a test that failed.
    pub(crate) fn last_words(&self) {
        if std::thread::panicking() {
            let log = fs::read_to_string(&self.log).unwrap_or_default();
            let lines: Vec<&str> = log.lines().collect();
            eprintln!("the server said last:\n{}", lines[lines.len().saturating_sub(10)..].join("\n"));
        }
    }
}

/// Runs a client with that input.
pub fn run_with(command: &mut Command, input: &[u8]) -> Output {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_vec();
    let writer = std::thread::spawn(move || stdin.write_all(&input));
    let output = child.wait_with_output().unwrap();
    let written = writer.join().unwrap();
    assert!(!output.status.success() || written.is_ok(), "the client did not read its input");
    output
}

/// What the client printed; it must not have complained.
pub fn printed(output: &Output, of: &str) -> String {
    let complaints = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && complaints.is_empty(), "{of:.2000}\n{complaints}");
    String::from_utf8(output.stdout.clone()).unwrap()
}
