//! What a mail server does with its files.

use std::{fs, path::PathBuf, time::Instant};

use anyhow::{Context as _, bail};
use tempfile::TempDir;

use super::{Done, Evidence, Workload, numbers, quoted};
use crate::{Bench, report::Bound, watcher::Contender};

const SEED: &str = "5000";

pub(super) struct Mail {
    dir: TempDir,
    mails: u64,
}

impl Mail {
    pub(super) fn new(bench: &Bench, mails: u64) -> anyhow::Result<Self> {
        Ok(Mail { dir: bench.workplace()?, mails })
    }

    fn spool(&self) -> PathBuf {
        self.dir.path().join("spool")
    }
}

impl Workload for Mail {
    fn unit(&self) -> &'static str {
        "operation"
    }

    fn describe(&self) -> String {
        format!(
            "As postmark: makes {} files of 0.5 to 10 kB in 50 directories; then {} times reads a file or appends to it, and makes another one or deletes \
             one; deletes what is left. One process.",
            self.mails,
            4 * self.mails
        )
    }

    fn bound(&self) -> Option<(Contender, Bound)> {
        Some((Contender::Nothing, Bound::AtMost(1.1)))
    }

    fn prepare(&self) -> anyhow::Result<()> {
        if self.spool().exists() {
            fs::remove_dir_all(self.spool())?;
        }
        fs::create_dir(self.spool()).context("cannot make the spool directory")
    }

    fn run(&self, bench: &Bench) -> anyhow::Result<Done> {
        let begun = Instant::now();
        let said = bench
            .programs
            .run("mailbox", &[self.spool().as_os_str(), self.mails.to_string().as_ref(), SEED.as_ref()])?;
        let taken = begun.elapsed();
        let [made, read, appended, deleted] = numbers::<u64>(&said, "mailbox")?[..] else {
            bail!("mailbox says {said:?}");
        };
        let traces = made + deleted;
        Ok(Done { operations: made + read + appended + deleted, taken, traces: (traces, traces) })
    }

    fn evidence(&self) -> Option<Evidence> {
        let query = format!(
            "SELECT count(*) FROM fileinfo WHERE operation IN ('create', 'unlink') AND result = 0 AND location LIKE '{}%'",
            quoted(&self.spool())
        );
        Some(Evidence { query, what: "files that were made and deleted" })
    }
}
