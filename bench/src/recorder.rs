//! A luarm that records, on a directory of its own.

use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::mpsc::{self, RecvTimeoutError},
    thread,
    time::Duration,
};

use anyhow::{Context as _, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::{Bench, cpu::CpuClock, watcher::Stored};

/// Long enough for a recorder that has a storm behind it.
const PATIENCE: Duration = Duration::from_secs(120);

/// The socket for monitoring, in its directory.
const METRICS: &str = "metrics.sock";

/// A running recorder with default settings; killed when it goes out of scope.
pub(crate) struct Recorder {
    luarm: PathBuf,
    child: Child,
    dir: TempDir,
    /// Its CPU time.
    pub clock: CpuClock,
}

impl Recorder {
    /// Starts it with that sensor, and waits until it records.
    pub(crate) fn start(bench: &Bench, sensor: &str) -> anyhow::Result<Self> {
        Self::launch(bench, sensor, false)
    }

    /// The same with [`figures`](Self::figures).
    pub(crate) fn monitored(bench: &Bench, sensor: &str) -> anyhow::Result<Self> {
        Self::launch(bench, sensor, true)
    }

    fn launch(bench: &Bench, sensor: &str, monitored: bool) -> anyhow::Result<Self> {
        let dir = bench.empty_dir()?;
        let config = dir.path().join("defaults.toml");
        fs::write(&config, "").context("cannot write an empty configuration")?;
        let mut command = Command::new(&bench.luarm);
        command.arg("--config").arg(&config).args(["run", "--sensor", sensor, "--data"]).arg(dir.path());
        if monitored {
            command.args(["--metrics", &format!("unix:{}", dir.path().join(METRICS).display())]);
        }
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot start {}", bench.luarm.display()))?;
        let lines = child.stderr.take();
        let clock = CpuClock::of(child.id())?;
        let recorder = Recorder { luarm: bench.luarm.clone(), child, dir, clock };
        let (said, heard) = mpsc::channel();
        thread::spawn(move || {
            for line in lines.into_iter().flat_map(|l| BufReader::new(l).lines()).map_while(Result::ok) {
                // Nobody listens once it records.
                let _ = said.send(line);
            }
        });
        let mut before = Vec::new();
        loop {
            match heard.recv_timeout(PATIENCE) {
                Ok(line) if line.starts_with("luarm: recording") => return Ok(recorder),
                Ok(line) => before.push(line),
                Err(RecvTimeoutError::Timeout) => bail!("luarm does not begin to record"),
                Err(RecvTimeoutError::Disconnected) => bail!("luarm does not record: {}", before.join("; ")),
            }
        }
    }

    /// Its process id.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it tells of itself to monitoring, in Prometheus' text format.
    pub(crate) fn figures(&self) -> anyhow::Result<String> {
        let mut socket = UnixStream::connect(self.dir.path().join(METRICS))
            .context("cannot connect to luarm's socket for monitoring")?;
        socket.set_read_timeout(Some(PATIENCE))?;
        socket.write_all(b"GET /metrics HTTP/1.1\r\nHost: luarm\r\nConnection: close\r\n\r\n")?;
        let mut answer = String::new();
        socket.read_to_string(&mut answer)?;
        ensure!(answer.starts_with("HTTP/1.1 200 "), "luarm tells no figures: {answer}");
        Ok(answer)
    }

    /// Waits until everything that happened before now is stored.
    pub(crate) fn sync(&self) -> anyhow::Result<()> {
        let output = Command::new(&self.luarm)
            .args(["sync", "--timeout", &PATIENCE.as_secs().to_string(), "--data"])
            .arg(self.dir.path())
            .output()
            .context("cannot start luarm sync")?;
        ensure!(output.status.success(), "luarm sync: {}", String::from_utf8_lossy(&output.stderr).trim());
        Ok(())
    }

    /// The numbers in the one row that a query answers.
    pub(crate) fn ask(&self, query: &str) -> anyhow::Result<Vec<u64>> {
        ask(&self.luarm, self.dir.path(), query)
    }

    /// What it has stored since it began: rows of all tables, and the database with what is on its way into it.
    pub(crate) fn stored(&self) -> anyhow::Result<Stored> {
        let row = self.ask(
            "SELECT (SELECT coalesce(sum(rowcount), 0) + count(*) FROM batchinfo),
            (SELECT page_count * page_size FROM pragma_page_count, pragma_page_size),
            (SELECT coalesce(sum(count), 0) FROM lossinfo)",
        )?;
        let [rows, bytes, lost] = row[..] else { bail!("a query answers {} numbers", row.len()) };
        Ok(Stored { rows, bytes, lost })
    }

    /// Asks it to stop, and waits for its end.
    pub(crate) fn stop(mut self) -> anyhow::Result<()> {
        if let Some(pid) = i32::try_from(self.pid()).ok().and_then(Pid::from_raw) {
            kill_process(pid, Signal::TERM).context("cannot stop luarm")?;
        }
        let status = self.child.wait()?;
        ensure!(status.success(), "luarm ended with {status}");
        Ok(())
    }
}

fn ask(luarm: &Path, data: &Path, query: &str) -> anyhow::Result<Vec<u64>> {
    let output = Command::new(luarm)
        .args(["sql", "--format", "csv", "-e", query, "--data"])
        .arg(data)
        .output()
        .context("cannot start luarm sql")?;
    ensure!(output.status.success(), "luarm sql: {}", String::from_utf8_lossy(&output.stderr).trim());
    let text = String::from_utf8_lossy(&output.stdout);
    let row = text.lines().last().context("luarm sql answers nothing")?;
    row.split(',').map(|n| n.parse().with_context(|| format!("not numbers: {row}"))).collect()
}

impl Drop for Recorder {
    fn drop(&mut self) {
        // It has ended already, unless something went wrong.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
