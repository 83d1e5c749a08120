//! A source tree of many small files, unpacked from an archive and deleted.

use std::{fs, path::PathBuf, process::Command, time::Instant};

use anyhow::Context as _;
use tempfile::TempDir;

use super::{Done, Evidence, Workload, dice::Dice, done, need, quoted};
use crate::{Bench, report::Bound, watcher::Contender};

/// How deep directories lie at most.
const DEPTH: usize = 8;
/// Files for each directory.
const PER_DIRECTORY: u64 = 20;

pub(super) struct Tree {
    dir: TempDir,
    files: u64,
    directories: u64,
    bytes: u64,
}

impl Tree {
    /// Makes the tree and packs it.
    pub(super) fn new(bench: &Bench, files: u64) -> anyhow::Result<Self> {
        need("tar")?;
        let dir = bench.workplace()?;
        let mut tree = Tree { dir, files, directories: files.div_ceil(PER_DIRECTORY), bytes: 0 };
        tree.grow().context("cannot make the tree")?;
        let home = tree.dir.path();
        done(Command::new("tar").arg("-cf").arg(tree.archive()).arg("-C").arg(home).arg("tree"))?;
        fs::remove_dir_all(home.join("tree")).context("cannot delete the tree")?;
        fs::create_dir(tree.out())?;
        Ok(tree)
    }

    fn archive(&self) -> PathBuf {
        self.dir.path().join("tree.tar")
    }

    fn out(&self) -> PathBuf {
        self.dir.path().join("out")
    }

    fn grow(&mut self) -> std::io::Result<()> {
        let mut dice = Dice::new(20_000);
        let mut directories = vec![(self.dir.path().join("tree"), 0)];
        fs::create_dir(&directories[0].0)?;
        while (directories.len() as u64) < self.directories {
            let (parent, depth) = &directories[dice.roll(directories.len() as u64) as usize];
            if *depth < DEPTH {
                let (path, depth) = (parent.join(format!("part{}", directories.len())), depth + 1);
                fs::create_dir(&path)?;
                directories.push((path, depth));
            }
        }
        for n in 0..self.files {
            // As in sources: most are small, some are not.
            let most = 1 << (8 + dice.roll(8));
            let text = format!("/* {n} */\n").repeat(1 + dice.roll(most) as usize / 12);
            let (path, _) = &directories[dice.roll(directories.len() as u64) as usize];
            fs::write(path.join(format!("source{n}.c")), &text)?;
            self.bytes += text.len() as u64;
        }
        Ok(())
    }
}

impl Workload for Tree {
    fn unit(&self) -> &'static str {
        "file"
    }

    fn describe(&self) -> String {
        format!(
            "`tar -xf` of an archive of {} files ({} kB on average) in {} nested directories, then `rm -rf` of the tree.",
            self.files,
            self.bytes / self.files.max(1) / 1000,
            self.directories
        )
    }

    fn bound(&self) -> Option<(Contender, Bound)> {
        Some((Contender::Nothing, Bound::AtMost(1.05)))
    }

    fn run(&self, _: &Bench) -> anyhow::Result<Done> {
        let begun = Instant::now();
        done(Command::new("tar").arg("-xf").arg(self.archive()).arg("-C").arg(self.out()))?;
        done(Command::new("rm").arg("-rf").arg(self.out().join("tree")))?;
        let traces = 2 * (self.files + self.directories);
        Ok(Done { operations: self.files, taken: begun.elapsed(), traces: (traces, traces) })
    }

    fn evidence(&self) -> Option<Evidence> {
        let query = format!(
            "SELECT count(*) FROM fileinfo WHERE operation IN ('create', 'mkdir', 'unlink', 'rmdir') AND result = 0 AND location LIKE '{}%'",
            quoted(&self.out())
        );
        Some(Evidence { query, what: "files and directories that were made and removed" })
    }
}
