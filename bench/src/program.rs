//! The programs that give the contenders something to do: small C, compiled when it is needed.

use std::{
    ffi::OsStr,
    io::{BufRead, BufReader, Write},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail, ensure};

use crate::machine::processors;

/// Without a C library: a few kilobytes, and nothing that happens before its first line.
const BARE: &[&str] =
    &["-nostdlib", "-ffreestanding", "-fno-stack-protector", "-fno-asynchronous-unwind-tables"];

/// The compiled programs.
pub(crate) struct Programs(PathBuf);

impl Programs {
    /// Compiles the sources of a directory into another one.
    pub(crate) fn compile(sources: &Path, into: &Path) -> anyhow::Result<Self> {
        let programs: [(&str, &[&str]); 6] = [
            ("tiny", BARE),
            ("dial", BARE),
            ("spawner", &[]),
            ("acceptor", &[]),
            ("mailbox", &[]),
            ("bytes", &[]),
        ];
        for (name, flags) in programs {
            let output = Command::new("cc")
                .args(["-O2", "-static"])
                .args(flags)
                .arg("-o")
                .arg(into.join(name))
                .arg(sources.join(name).with_extension("c"))
                .output()
                .context("cannot start the C compiler cc")?;
            ensure!(
                output.status.success(),
                "cannot compile {name}.c: {}",
                String::from_utf8_lossy(&output.stderr)
            );
        }
        Ok(Programs(into.to_owned()))
    }

    fn path(&self, name: &str) -> String {
        self.0.join(name).to_string_lossy().into_owned()
    }

    /// Runs one of them to its end, and returns what it printed.
    pub(crate) fn run(&self, name: &str, arguments: &[&OsStr]) -> anyhow::Result<String> {
        let output = Command::new(self.path(name))
            .args(arguments)
            .stdin(Stdio::null())
            .output()
            .with_context(|| format!("cannot start {name}"))?;
        let complaint = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "{name}: {}: {}", output.status, complaint.trim());
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Starts `tiny` so many times, from one driver for each processor. Returns how long they took.
    pub(crate) fn exec(&self, times: u64, tag: &str) -> anyhow::Result<Duration> {
        self.drive(times, tag, &[self.path("tiny")])
    }

    /// Starts `dial` so many times, each of which connects `per` times to `to`. Returns how long they took.
    pub(crate) fn connect(&self, times: u64, per: u64, tag: &str, to: &Acceptor) -> anyhow::Result<Duration> {
        self.drive(times, tag, &[self.path("dial"), to.port.to_string(), per.to_string()])
    }

    fn drive(&self, times: u64, tag: &str, command: &[String]) -> anyhow::Result<Duration> {
        let drivers = processors() as u64;
        let mut children = Vec::new();
        for n in 0..drivers {
            let share = times / drivers + u64::from(n < times % drivers);
            let child = Command::new(self.path("spawner"))
                .args([share.to_string(), format!("{tag}{n}")])
                .args(command)
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .spawn()
                .context("cannot start a driver")?;
            children.push(child);
        }
        // Time for the drivers to come to where they wait for the signal.
        thread::sleep(Duration::from_millis(50));
        let begun = Instant::now();
        for child in &mut children {
            child.stdin.take().context("a driver has no input")?.write_all(b"!")?;
        }
        let mut failed = 0;
        let outputs: Vec<_> = children.into_iter().map(Child::wait_with_output).collect();
        let taken = begun.elapsed();
        for output in outputs {
            let output = output?;
            ensure!(output.status.success(), "a driver failed: {}", output.status);
            failed += String::from_utf8_lossy(&output.stdout)
                .trim()
                .parse::<u64>()
                .context("a driver is confused")?;
        }
        if failed > 0 {
            bail!("{failed} of the programs or connections of a storm failed");
        }
        Ok(taken)
    }

    /// Starts the other side of the connections.
    pub(crate) fn accept(&self) -> anyhow::Result<Acceptor> {
        let mut child = Command::new(self.path("acceptor"))
            .arg(processors().to_string())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot start the acceptor")?;
        let mut line = String::new();
        let read = child.stdout.take().map(|out| BufReader::new(out).read_line(&mut line));
        let mut acceptor = Acceptor { child, port: 0 };
        ensure!(matches!(read, Some(Ok(_))), "the acceptor says nothing");
        acceptor.port = line.trim().parse().context("the acceptor has no port")?;
        Ok(acceptor)
    }
}

/// What accepts the connections of a storm, until it goes out of scope.
pub(crate) struct Acceptor {
    child: Child,
    /// Where.
    pub port: u16,
}

impl Drop for Acceptor {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
