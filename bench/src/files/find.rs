//! A walk over a file system that looks at every file and opens none.

use std::{
    io::Read,
    path::PathBuf,
    process::{Command, Stdio},
    time::Instant,
};

use anyhow::{Context as _, ensure};

use super::{Done, Workload, need};
use crate::{Bench, report::Bound, watcher::Contender};

pub(super) struct Find {
    from: PathBuf,
}

impl Find {
    pub(super) fn new(from: &str) -> anyhow::Result<Self> {
        need("find")?;
        let from = PathBuf::from(from).canonicalize().with_context(|| format!("cannot find {from}"))?;
        Ok(Find { from })
    }
}

impl Workload for Find {
    fn unit(&self) -> &'static str {
        "entry"
    }

    fn describe(&self) -> String {
        format!(
            "`find {} -xdev -printf '%s\\n'`: stat of everything there, once it is in memory.",
            self.from.display()
        )
    }

    fn bound(&self) -> Option<(Contender, Bound)> {
        None
    }

    fn run(&self, _: &Bench) -> anyhow::Result<Done> {
        let begun = Instant::now();
        let mut child = Command::new("find")
            .arg(&self.from)
            .args(["-xdev", "-printf", "%s\\n"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .context("cannot start find")?;
        let (mut entries, mut chunk) = (0, vec![0; 1 << 16]);
        let mut out = child.stdout.take().context("find has no output")?;
        loop {
            match out.read(&mut chunk)? {
                0 => break,
                n => entries += chunk[..n].iter().filter(|byte| **byte == b'\n').count() as u64,
            }
        }
        let status = child.wait()?;
        let taken = begun.elapsed();
        // 1: something went away while it looked.
        ensure!(matches!(status.code(), Some(0 | 1)) && entries > 0, "find: {status}");
        Ok(Done { operations: entries, taken, traces: (0, 0) })
    }
}
