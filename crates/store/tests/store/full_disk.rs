//! A disk without space: a clear error, nothing of the batch, and the same writer goes on when space returns.

use std::{ffi::CStr, fs, io::Write, path::Path};

use luarm_store::StoreError;
use rustix::{
    io::Errno,
    mount::{MountFlags, MountPropagationFlags, mount, mount_change},
    thread::{UnshareFlags, unshare_unsafe},
};

use crate::fixture::*;

/// Runs in a thread with mounts of its own, where `dir` is a file system of that size (`size=4m`).
pub(crate) fn on_small_disk(dir: &Path, size: &CStr, run: impl FnOnce() + Send) {
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            private_mounts().unwrap();
            mount("luarm-test", dir, "tmpfs", MountFlags::empty(), size).unwrap();
            run();
        });
        thread.join().unwrap();
    });
}

#[expect(
    unsafe_code,
    reason = "rustix marks unshare as unsafe, because it can take the files of other threads away"
)]
fn private_mounts() -> Result<(), Errno> {
    // SAFETY: file system and mount namespace are split from the other threads; open files stay shared.
    unsafe { unshare_unsafe(UnshareFlags::FS | UnshareFlags::NEWNS) }?;
    mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)
}

/// Takes all space that is left.
pub(crate) fn fill(path: &Path) {
    let mut ballast = fs::File::create(path).unwrap();
    for size in [1 << 16, 1 << 12, 1] {
        while ballast.write_all(&vec![0; size]).is_ok() {}
    }
}

#[test]
fn a_full_disk_loses_nothing_that_was_acknowledged() {
    if !is_root("a_full_disk_loses_nothing_that_was_acknowledged") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    on_small_disk(dir.path(), c"size=4m", || {
        let path = dir.path().join("luarm.db");
        let ballast = dir.path().join("ballast");
        let mut writer = store_with(&path, Vec::new());
        let mut id = 1;
        for round in 0..3 {
            fill(&ballast);
            // What the log has room for already may still fit.
            let (refused, error) = loop {
                let next = endpoints(id + 1, (id + 1) * 100..(id + 2) * 100);
                match writer.append(&next) {
                    Ok(_) => id += 1,
                    Err(error) => break (next, error),
                }
            };
            assert!(matches!(error, StoreError::Full { .. }), "round {round}: {error}");
            assert!(error.is_transient());
            assert!(error.to_string().contains("no space"), "{error}");
            assert!(writer.append(&refused).is_err(), "space came from nowhere");
            assert_eq!(
                ask_file(&path, "SELECT max(batchid), count(*) FROM batchinfo"),
                [format!("{id}|{id}")]
            );

            fs::remove_file(&ballast).unwrap();
            writer.append(&refused).unwrap();
            id += 1;
            let rows = (id - 1) * 100;
            assert_eq!(
                ask_file(&path, "SELECT count(*), count(DISTINCT endpointinfo) FROM netinfo"),
                [format!("{rows}|{rows}")]
            );
        }
        drop(writer);
        assert_eq!(ask_file(&path, "PRAGMA integrity_check"), ["ok"]);
    });
}

#[test]
fn a_store_cannot_be_made_on_a_full_disk_and_says_so() {
    if !is_root("a_store_cannot_be_made_on_a_full_disk_and_says_so") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    on_small_disk(dir.path(), c"size=4m", || {
        let path = dir.path().join("luarm.db");
        let ballast = dir.path().join("ballast");
        fill(&ballast);
        let error = luarm_store::Writer::open(&url(&path), MACHINE).unwrap_err();
        assert!(matches!(error, StoreError::Full { .. }), "{error}");
        fs::remove_file(&ballast).unwrap();
        drop(store_with(&path, Vec::new()));
        assert_eq!(ask_file(&path, "SELECT count(*) FROM hostinfo"), ["1"]);
    });
}
