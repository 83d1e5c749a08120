//! Private servers: own data directory, one Unix socket, no network, gone with the test.

use std::{
    ffi::OsStr,
    fs::{self, File},
    io::Write as _,
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
pub(crate) fn skip(test: &str, why: &str) {
    println!("SKIPPED: {test}: {why}");
    assert!(std::env::var_os("CI").is_none_or(|v| v != "true"), "{test}: {why}");
}

/// The program in PATH or in one of the directories.
pub(crate) fn find(program: &str, directories: &[PathBuf]) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(directories.iter().cloned())
        .map(|directory| directory.join(program))
        .find(|program| program.is_file())
}

/// A directory with a short name (a socket's path has at most 107 bytes) that the server may write to.
pub(crate) fn directory() -> TempDir {
    let directory = tempfile::Builder::new().prefix("luarm-").tempdir_in("/tmp").unwrap();
    if geteuid().is_root() {
        std::os::unix::fs::chown(directory.path(), Some(NOBODY), Some(NOBODY)).unwrap();
    }
    directory
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

/// A running server.
pub(crate) struct Server {
    child: Child,
    stop: Signal,
    log: PathBuf,
}

impl Server {
    /// Starts it and waits until it answers; `stop` is the signal that ends it at once.
    pub(crate) fn start(
        mut command: Command,
        directory: &Path,
        stop: Signal,
        answers: impl Fn() -> bool,
    ) -> Self {
        let log = directory.join("log");
        let mut server = Server { child: command.spawn().unwrap(), stop, log };
        while !answers() {
            if let Some(status) = server.child.try_wait().unwrap() {
                panic!("the server has ended: {status}\n{}", fs::read_to_string(&server.log).unwrap());
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        server
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = kill_process(Pid::from_child(&self.child), self.stop);
        let _ = self.child.wait();
        if std::thread::panicking() {
            let log = fs::read_to_string(&self.log).unwrap_or_default();
            let lines: Vec<&str> = log.lines().collect();
            eprintln!("the server said last:\n{}", lines[lines.len().saturating_sub(10)..].join("\n"));
        }
    }
}

/// Runs a client with that input.
pub(crate) fn run(command: &mut Command, input: &[u8]) -> Output {
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
pub(crate) fn printed(output: &Output, of: &str) -> String {
    let complaints = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && complaints.is_empty(), "{of:.2000}\n{complaints}");
    String::from_utf8(output.stdout.clone()).unwrap()
}
