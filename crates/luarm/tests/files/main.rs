//! What is done with files, for real: each operation is compared with its row.

#![expect(clippy::unwrap_used, reason = "a step that fails fails the test")]

#[path = "../support/mod.rs"]
mod support;

mod accesses;
mod mounts;
mod operations;
mod paths;
mod quiet;
mod rings;
mod storm;

use std::path::{Path, PathBuf};

use support::{Launch, Recording, Row};

/// A recorder, and beside its data a directory to work in, as the kernel names it.
struct Scene {
    recording: Recording,
    work: PathBuf,
    _dir: tempfile::TempDir,
}

impl Scene {
    fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let work = dir.path().canonicalize().unwrap().join("work");
        std::fs::create_dir(&work).unwrap();
        let recording = Launch::on(&dir.path().join("data")).start();
        Self { recording, work, _dir: dir }
    }

    /// The rows of what was done in the directory and below, in order.
    fn rows(&self) -> Vec<Row> {
        self.below(&self.work)
    }

    /// Whether this kernel lets its own names be had, so that no words have to stand for them.
    fn has_kernels_names(&self) -> bool {
        let told = "select count(*) from coverageinfo where class = 'file' and reason like '%names are the kernel''s own%'";
        self.recording.count(told) > 0
    }

    fn below(&self, directory: &Path) -> Vec<Row> {
        self.recording.sync();
        self.recording.sql(&format!(
            "select * from fileinfo where location like '{}%' order by fileaccessid",
            directory.display()
        ))
    }
}

fn text<'a>(row: &'a Row, column: &str) -> &'a str {
    row[column].as_str().unwrap_or_else(|| panic!("{column} of {row:?}"))
}

fn number(row: &Row, column: &str) -> i64 {
    row[column].as_i64().unwrap_or_else(|| panic!("{column} of {row:?}"))
}

/// Operation and name of each row.
fn told(rows: &[Row]) -> Vec<(&str, &str)> {
    rows.iter().map(|row| (text(row, "operation"), text(row, "filename"))).collect()
}
