//! The directory itself: opening, reading, following its links.

use std::{io::Read, os::fd::OwnedFd, path::Path};

use rustix::{
    fs::{CWD, Mode, OFlags, openat, readlinkat},
    io::Errno,
};

use crate::observation::Namespaces;

/// A /proc directory.
#[derive(Debug)]
pub struct Reader {
    proc: OwnedFd,
}

impl Reader {
    /// Opens the `proc` below `root`.
    pub fn open(root: &Path) -> Result<Self, Errno> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(Self { proc: openat(CWD, root.join("proc"), flags, Mode::empty())? })
    }

    /// The whole of a file; `None` when it is gone or not for us to read.
    pub fn read(&self, path: &str) -> Option<Vec<u8>> {
        let file = openat(&self.proc, path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).ok()?;
        let mut bytes = Vec::new();
        std::fs::File::from(file).read_to_end(&mut bytes).ok()?;
        Some(bytes)
    }

    /// Where a link points; `None` when it is gone or not for us to read.
    pub fn link(&self, path: &str) -> Option<Vec<u8>> {
        readlinkat(&self.proc, path, Vec::new()).ok().map(std::ffi::CString::into_bytes)
    }

    /// The namespaces of a process (`who`: its pid or `self`); zeros where they are not for us to read.
    pub fn namespaces(&self, who: &str) -> Namespaces {
        let inode = |name: &str| {
            self.link(&format!("{who}/ns/{name}")).and_then(|target| namespace_inode(&target)).unwrap_or(0)
        };
        Namespaces {
            mnt: inode("mnt"),
            net: inode("net"),
            pid: inode("pid"),
            user: inode("user"),
            uts: inode("uts"),
            ipc: inode("ipc"),
            cgroup: inode("cgroup"),
        }
    }
}

/// The number in `net:[4026531840]`.
fn namespace_inode(target: &[u8]) -> Option<u32> {
    let open = target.iter().position(|byte| *byte == b'[')?;
    let number = target[open + 1..].strip_suffix(b"]")?;
    std::str::from_utf8(number).ok()?.parse().ok()
}
