//! The directory itself.

use std::{
    ffi::CString,
    mem::MaybeUninit,
    os::fd::{AsFd, OwnedFd},
    path::Path,
    sync::Arc,
};

use rustix::{
    buffer::spare_capacity,
    fs::{CWD, Mode, OFlags, RawDir, openat, readlinkat},
    io::{Errno, read, retry_on_intr},
};

use super::{Process, Stat};
use crate::{capability::Duty, lookup::Lookups, observation::Namespaces};

const CHUNK: usize = 4096;

/// A /proc directory.
#[derive(Debug)]
pub struct Reader {
    proc: OwnedFd,
    lookups: Arc<Lookups>,
}

impl Reader {
    /// Opens the `proc` below `root`.
    pub fn open(root: &Path) -> Result<Self, Errno> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let proc = openat(CWD, root.join("proc"), flags, Mode::empty())?;
        Ok(Self { proc, lookups: Arc::new(Lookups::brief(Duty::Polling)) })
    }

    /// Every process that is there, in no particular order.
    pub fn pids(&self) -> Result<Vec<u32>, Errno> {
        let mut pids = Vec::new();
        numbers(&self.proc, ".", &mut pids)?;
        Ok(pids)
    }

    /// A process, held so that what is read through it never belongs to another one that got its pid.
    pub fn process(&self, pid: u32) -> Option<Process> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let dir = openat(&self.proc, pid.to_string(), flags, Mode::empty()).ok()?;
        Some(Process::new(pid, dir, Arc::clone(&self.lookups)))
    }

    /// The state of a process, at the price of one read.
    pub fn stat(&self, pid: u32) -> Option<Stat> {
        Stat::parse(&contents(&self.proc, &format!("{pid}/stat"), usize::MAX)?)
    }

    /// The namespaces of this process itself.
    pub fn own_namespaces(&self) -> Namespaces {
        namespaces(&self.proc, "self/ns")
    }
}

/// Adds the names in a directory that are numbers.
pub(super) fn numbers(dir: impl AsFd, path: &str, found: &mut Vec<u32>) -> Result<(), Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let opened = openat(dir, path, flags, Mode::empty())?;
    let mut buffer = [MaybeUninit::uninit(); 4 * CHUNK];
    let mut entries = RawDir::new(opened, &mut buffer);
    while let Some(entry) = entries.next() {
        found.extend(entry?.file_name().to_str().ok().and_then(|name| name.parse::<u32>().ok()));
    }
    Ok(())
}

/// The first `limit` bytes of a file.
pub(super) fn contents(dir: impl AsFd, path: &str, limit: usize) -> Option<Vec<u8>> {
    let file = openat(dir, path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).ok()?;
    let mut bytes = Vec::with_capacity(CHUNK);
    while bytes.len() < limit {
        if bytes.spare_capacity_mut().is_empty() {
            bytes.reserve(bytes.len());
        }
        // Spelt out rather than by std::fs::File, which asks for the size and the position before it reads: /proc knows neither.
        if retry_on_intr(|| read(&file, spare_capacity(&mut bytes))).ok()? == 0 {
            break;
        }
    }
    bytes.truncate(limit);
    Some(bytes)
}

/// Where a link points.
pub(super) fn link(dir: impl AsFd, path: &str) -> Option<Vec<u8>> {
    readlinkat(dir, path, Vec::new()).ok().map(CString::into_bytes)
}

/// The namespaces that the links in a directory name; zeros where they are not for us to read.
pub(super) fn namespaces(dir: impl AsFd, path: &str) -> Namespaces {
    let number = |name| {
        let target = link(&dir, &format!("{path}/{name}"));
        target.and_then(|target| bracketed(&target)).unwrap_or(0)
    };
    Namespaces {
        mnt: number("mnt"),
        net: number("net"),
        pid: number("pid"),
        user: number("user"),
        uts: number("uts"),
        ipc: number("ipc"),
        cgroup: number("cgroup"),
    }
}

/// The number in `net:[4026531840]` or `socket:[12345]`.
pub(super) fn bracketed(target: &[u8]) -> Option<u32> {
    let open = target.iter().position(|byte| *byte == b'[')?;
    let number = target[open + 1..].strip_suffix(b"]")?;
    std::str::from_utf8(number).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_stand_between_the_brackets() {
        assert_eq!(bracketed(b"net:[4026531840]"), Some(4_026_531_840));
        for strange in
            [&b""[..], b"[", b"net:[", b"net:[]", b"net:[-1]", b"net:[99999999999]", b"/dev/null", b"]["]
        {
            assert_eq!(bracketed(strange), None, "{strange:?}");
        }
    }

    #[test]
    fn this_process_is_among_the_pids() {
        let reader = Reader::open(Path::new("/")).unwrap();
        let own = std::process::id();
        assert!(reader.pids().unwrap().contains(&own));
        assert_eq!(reader.stat(own).unwrap().pid, own);
        assert_ne!(reader.own_namespaces().net, 0);
    }

    #[test]
    fn a_file_longer_than_the_buffer_is_read_whole_and_up_to_the_limit() {
        let root = tempfile::tempdir().unwrap();
        std::fs::write(root.path().join("long"), vec![b'x'; 3 * CHUNK + 1]).unwrap();
        let dir = std::fs::File::open(root.path()).unwrap();
        assert_eq!(contents(&dir, "long", usize::MAX).unwrap().len(), 3 * CHUNK + 1);
        assert_eq!(contents(&dir, "long", 10).unwrap().len(), 10);
        assert_eq!(contents(&dir, "missing", 10), None);
    }
}
