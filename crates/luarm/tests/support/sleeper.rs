//! Processes that live until the test ends them.

use std::{
    io::Read,
    process::{Child, Command, Stdio},
};

use rustix::process::{Pid, WaitId, WaitIdOptions, waitid};

/// A shell that waits; what it is told apart by stands among its arguments.
pub struct Sleeper(pub Child);

impl Sleeper {
    /// Returns once it runs: the kernel lets go of the parent before it tells of the exec.
    pub fn start(marker: &str) -> Self {
        Self::start_by(&[], marker)
    }

    /// The same, by a command that runs what comes after its own words.
    pub fn start_by(by: &[&str], marker: &str) -> Self {
        let words = [by, &["sh", "-c", "echo; read line", marker]].concat();
        let mut child = Command::new(words[0])
            .args(&words[1..])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdout.take().unwrap().read_exact(&mut [0]).unwrap();
        Self(child)
    }

    /// Ends the process, and leaves it a zombie.
    pub fn leave(mut self) -> Self {
        drop(self.0.stdin.take());
        let pid = Pid::from_child(&self.0);
        waitid(WaitId::Pid(pid), WaitIdOptions::EXITED | WaitIdOptions::NOWAIT).unwrap();
        self
    }
}

impl Drop for Sleeper {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        let _ = self.0.wait();
    }
}
