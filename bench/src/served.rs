//! A server of luarm as a process of its own, with default settings.

use std::{
    fs,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::mpsc::{self, RecvTimeoutError},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail, ensure};
use luarm_store::StoreUrl;
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::{Bench, cpu::CpuClock};

/// Long enough for whatever it has to do before it serves.
const PATIENCE: Duration = Duration::from_secs(120);

/// The server, or an agent; killed when it goes out of scope.
pub(crate) struct Process {
    child: Child,
    /// Its CPU time.
    pub clock: CpuClock,
    /// What it said last when it began: `luarm: serving …` or `luarm: recording …`.
    pub first: String,
}

/// A server, with its directory.
pub(crate) struct Served {
    luarm: PathBuf,
    /// Its process.
    pub process: Process,
    /// Where it listens.
    pub url: String,
    dir: TempDir,
}

impl Process {
    fn start(mut command: Command, line: &str) -> anyhow::Result<Self> {
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().context("cannot start luarm")?;
        let lines = child.stderr.take();
        let clock = CpuClock::of(child.id())?;
        let mut process = Process { child, clock, first: String::new() };
        let (said, heard) = mpsc::channel();
        thread::spawn(move || {
            for line in lines.into_iter().flat_map(|l| BufReader::new(l).lines()).map_while(Result::ok) {
                // Nobody listens once it has begun.
                let _ = said.send(line);
            }
        });
        let mut before = Vec::new();
        loop {
            match heard.recv_timeout(PATIENCE) {
                Ok(said) if said.starts_with(line) => {
                    process.first = said;
                    return Ok(process);
                }
                Ok(line) => before.push(line),
                Err(RecvTimeoutError::Timeout) => bail!("luarm does not begin"),
                Err(RecvTimeoutError::Disconnected) => bail!("luarm has ended: {}", before.join("; ")),
            }
        }
    }

    /// Its process id.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Asks it to stop, and waits for its end.
    pub(crate) fn stop(mut self) -> anyhow::Result<()> {
        if let Some(pid) = i32::try_from(self.pid()).ok().and_then(Pid::from_raw) {
            kill_process(pid, Signal::TERM).context("cannot stop luarm")?;
        }
        let patience = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait()? {
                ensure!(status.success(), "luarm ended with {status}");
                return Ok(());
            }
            ensure!(Instant::now() < patience, "luarm does not end");
            thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Process {
    fn end(&mut self) {
        // It has ended already, if something went wrong.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.end();
    }
}

/// What is left of a server when only its agent runs.
pub(crate) struct Alone(Served);

impl Alone {
    /// Rows that the agent on that directory has put into its spool since it started.
    pub(crate) fn rows(&self, data: &Path) -> anyhow::Result<u64> {
        let status = finished(self.0.command(&["status", "--format", "csv"], data))?;
        let rows = status.lines().find_map(|line| line.split_once("recorder,rows,")?.1.parse().ok());
        rows.with_context(|| format!("luarm status does not tell the rows: {status}"))
    }
}

impl Served {
    /// Starts a server into that store.
    pub(crate) fn start(bench: &Bench, store: &StoreUrl) -> anyhow::Result<Self> {
        let dir = bench.empty_dir()?;
        let config = dir.path().join("defaults.toml");
        fs::write(&config, "").context("cannot write an empty configuration")?;
        let luarm = bench.luarm.clone();
        let command = |words: &[&str]| {
            let mut command = Command::new(&luarm);
            command.arg("--config").arg(&config).args(words).arg("--data").arg(dir.path());
            command
        };
        finished(command(&["server", "init"]))?;
        let mut serving = command(&["server"]);
        serving.args(["--listen", "127.0.0.1:0", "--store", &store.to_string()]);
        let process =
            Process::start(serving, "luarm: serving").with_context(|| format!("server into {store}"))?;
        let address = process.first.split_whitespace().nth(3).context("it says no address")?;
        let url = format!("https://{address}");
        Ok(Served { luarm, process, url, dir })
    }

    /// The directory with its authority.
    pub(crate) fn data(&self) -> &Path {
        self.dir.path()
    }

    /// Has an agent join, and starts it.
    pub(crate) fn agent(&self, data: &Path) -> anyhow::Result<Process> {
        self.join(data)?;
        self.start_agent(data)
    }

    /// Has an agent join, and ends the server before it starts: what the agent records stays in its spool.
    pub(crate) fn agent_alone(mut self, data: &Path) -> anyhow::Result<(Alone, Process)> {
        self.join(data)?;
        self.process.end();
        let agent = self.start_agent(data)?;
        Ok((Alone(self), agent))
    }

    fn command(&self, words: &[&str], data: &Path) -> Command {
        let mut command = Command::new(&self.luarm);
        command.arg("--config").arg(self.dir.path().join("defaults.toml"));
        command.args(words).arg("--data").arg(data);
        command
    }

    fn join(&self, data: &Path) -> anyhow::Result<()> {
        let token = finished(self.command(&["enroll", "token"], self.data()))?;
        finished(self.command(&["enroll", "join", &self.url, "--token", token.trim()], data)).map(drop)
    }

    fn start_agent(&self, data: &Path) -> anyhow::Result<Process> {
        Process::start(self.command(&["agent", "--sensor", "ebpf"], data), "luarm: recording")
    }

    /// Waits until everything that happened before now on the agent's host is stored.
    pub(crate) fn sync(&self, data: &Path) -> anyhow::Result<()> {
        let mut command = Command::new(&self.luarm);
        command.args(["sync", "--timeout", "120", "--data"]).arg(data);
        finished(command).map(drop)
    }
}

fn finished(mut command: Command) -> anyhow::Result<String> {
    let output = command.output().context("cannot start luarm")?;
    ensure!(output.status.success(), "luarm: {}", String::from_utf8_lossy(&output.stderr).trim());
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
