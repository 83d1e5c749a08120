//! Children that do one thing after another, as they are told to.

use std::{
    io::{BufRead, BufReader, ErrorKind, Write},
    process::{Child, ChildStdout, Command, Stdio},
};

pub(crate) const NOBODY: u32 = 65534;

/// A child that is gone at the end of the test.
pub(crate) struct Puppet {
    pub(crate) child: Child,
    said: BufReader<ChildStdout>,
}

impl Puppet {
    pub(crate) fn start(command: &mut Command) -> Self {
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = loop {
            match command.spawn() {
                // A child of another test, on its way to its own exec, still holds the image that this one wrote.
                Err(error) if error.kind() == ErrorKind::ExecutableFileBusy => {}
                spawned => break spawned.unwrap(),
            }
        };
        let said = BufReader::new(child.stdout.take().unwrap());
        Self { child, said }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Gives it the line that it waits for.
    pub(crate) fn go_on(&mut self) {
        self.child.stdin.as_mut().unwrap().write_all(b"\n").unwrap();
    }

    /// The next line that it says.
    pub(crate) fn says(&mut self) -> String {
        let mut line = String::new();
        self.said.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }

    pub(crate) fn end(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Puppet {
    fn drop(&mut self) {
        self.end();
    }
}

pub(crate) fn sh(script: &str) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", script]);
    command
}

pub(crate) fn perl(script: &str) -> Command {
    let mut command = Command::new("perl");
    command.args(["-MSocket", "-e", &format!("$| = 1; {script}")]);
    command
}

pub(crate) fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// A test that takes root says so, and CI must give it.
pub(crate) fn skipped_without_root() -> bool {
    if !is_root() {
        assert!(std::env::var_os("CI").is_none_or(|ci| ci != "true"), "CI must run this as root");
        eprintln!("skipped: takes root");
    }
    !is_root()
}
