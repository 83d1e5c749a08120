//! How fast `luarm verify` is.

use std::{
    fs,
    path::PathBuf,
    process::{Command, Stdio},
    time::Instant,
};

use anyhow::{Context as _, ensure};
use luarm_chain::encode;
use luarm_schema::{TABLES, tables::BatchInfo};
use luarm_store::StoreUrl;
use rusqlite::Connection;
use rustix::{
    process::{Pid, WaitId, WaitIdOptions, waitid},
    thread::{CpuSet, sched_getaffinity, sched_setaffinity},
};
use tempfile::TempDir;

use crate::{
    Bench,
    cpu::CpuClock,
    recorded::Recorded,
    stores::{HOSTS, count_rows, notary, through_intake},
};

/// A history that a server stored.
pub(super) struct History {
    dir: TempDir,
    /// Rows that are verified.
    pub(super) rows: u64,
    pub(super) batches: u64,
    /// Of the file.
    pub(super) bytes: u64,
}

/// One run, in seconds.
pub(super) struct Verified {
    pub(super) taken: f64,
    pub(super) cpu: f64,
}

impl History {
    /// What all hosts recorded, in a store.
    pub(super) fn fill(bench: &Bench, recorded: &Recorded) -> anyhow::Result<Self> {
        let dir = bench.empty_dir()?;
        let mut history = History { dir, rows: 0, batches: recorded.batches() as u64 * HOSTS, bytes: 0 };
        through_intake(&StoreUrl::Sqlite(history.store()), recorded)?;
        for table in TABLES.iter().filter(|table| table.name != BatchInfo::TABLE.name) {
            history.rows += count_rows(&StoreUrl::Sqlite(history.store()), table)?;
        }
        fs::write(history.key(), encode(notary().public().as_slice()))?;
        history.bytes = fs::metadata(history.store())?.len();
        Ok(history)
    }

    fn store(&self) -> PathBuf {
        self.dir.path().join("luarm.db")
    }

    fn key(&self) -> PathBuf {
        self.dir.path().join("notary.pub")
    }

    /// Bytes of a batch's receipt, as SQLite stores them.
    pub(super) fn receipts(&self) -> anyhow::Result<f64> {
        let sql = "SELECT avg(length(receipt) + length(signer) + 8) FROM luarmproof";
        Ok(Connection::open(self.store())?.query_row(sql, [], |row| row.get(0))?)
    }

    /// Runs it on all processors, or on one.
    pub(super) fn verify(&self, bench: &Bench, on_one: bool) -> anyhow::Result<Verified> {
        // In memory, whatever came between.
        std::io::copy(&mut fs::File::open(self.store())?, &mut std::io::sink())?;
        let mut command = Command::new(&bench.luarm);
        command
            .args(["verify", "--format", "csv", "--store"])
            .arg(StoreUrl::Sqlite(self.store()).to_string());
        command.arg("--server-key").arg(self.key());
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let everywhere = sched_getaffinity(None).context("cannot learn the processors")?;
        if on_one {
            let mut one = CpuSet::new();
            one.set((0..CpuSet::MAX_CPU).find(|cpu| everywhere.is_set(*cpu)).unwrap_or_default());
            sched_setaffinity(None, &one).context("cannot keep to one processor")?;
        }
        let begun = Instant::now();
        let child = command.spawn();
        sched_setaffinity(None, &everywhere).context("cannot use all processors again")?;
        let child = child.with_context(|| format!("cannot start {}", bench.luarm.display()))?;
        // It has ended, and its clock is there until it is waited for. What it says fits into a pipe.
        let pid =
            i32::try_from(child.id()).ok().and_then(Pid::from_raw).context("a process has no number")?;
        waitid(WaitId::Pid(pid), WaitIdOptions::EXITED | WaitIdOptions::NOWAIT).context("cannot wait")?;
        let taken = begun.elapsed().as_secs_f64();
        let cpu = CpuClock::of(child.id())?.read()?.as_secs_f64();
        let output = child.wait_with_output()?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "luarm verify: {}", said.trim());
        let checked = format!("checked: {HOSTS} hosts, {} batches, {} rows\n", self.batches, self.rows);
        ensure!(said.contains(&checked), "luarm verify has not checked all: {}", said.trim());
        Ok(Verified { taken, cpu })
    }
}
