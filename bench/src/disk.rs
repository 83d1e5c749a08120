//! A disk for the workloads whose speed does not change meanwhile: ext4 in memory, so that only what is compared makes a difference.

use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context as _, bail};
use rustix::mount::{UnmountFlags, unmount};
use tempfile::{NamedTempFile, TempDir};

/// Bytes of the file system; memory is taken only for what is written.
const SIZE: u64 = 3 << 30;
/// A file system in memory that every Linux has.
const MEMORY: &str = "/dev/shm";

/// Where workloads keep their files.
pub(crate) struct Disk {
    at: PathBuf,
    in_memory: Option<NamedTempFile>,
}

impl Disk {
    /// Makes the file system, mounted in `parent`; where that is not possible (who is not root), a plain directory there, which the report says.
    pub(crate) fn make(parent: &TempDir) -> anyhow::Result<Self> {
        let at = parent.path().join("disk");
        std::fs::create_dir(&at).context("cannot make a directory")?;
        match in_memory(&at) {
            Ok(file) => Ok(Disk { at, in_memory: Some(file) }),
            Err(error) => {
                eprintln!("bench: workloads use the disk as it is: {error:#}");
                Ok(Disk { at, in_memory: None })
            }
        }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.at
    }

    /// What the workloads' files are on.
    pub(crate) fn describe(&self) -> &'static str {
        match self.in_memory {
            Some(_) => "ext4 on a loop device in memory",
            None => "the same file system as the data",
        }
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        if self.in_memory.is_some()
            && let Err(error) = unmount(&self.at, UnmountFlags::DETACH)
        {
            eprintln!("bench: cannot unmount {}: {error}", self.at.display());
        }
    }
}

fn in_memory(at: &Path) -> anyhow::Result<NamedTempFile> {
    let file = NamedTempFile::with_prefix_in("luarm-bench-", MEMORY).context("no memory for files")?;
    file.as_file().set_len(SIZE)?;
    said(Command::new("mkfs.ext4").args(["-q", "-F"]).arg(file.path()))?;
    said(Command::new("mount").args(["-o", "loop,noatime"]).arg(file.path()).arg(at))?;
    Ok(file)
}

fn said(command: &mut Command) -> anyhow::Result<()> {
    let output =
        command.stdin(Stdio::null()).output().with_context(|| format!("cannot start {command:?}"))?;
    if !output.status.success() {
        bail!("{command:?}: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(())
}
