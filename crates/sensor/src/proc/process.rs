//! The files of one process.

use std::os::fd::OwnedFd;

use rustix::fs::{AtFlags, Mode, OFlags, Stat as FileStat, major, minor, openat, statat};

use super::{
    Io, Stat, Status,
    reader::{bracketed, contents, link, namespaces, numbers},
    status,
};
use crate::observation::{Arguments, FileVersion, ImageFile, Namespaces};

/// How many bytes of arguments are read.
pub const ARGUMENTS_LIMIT: usize = 256 << 10;

const DELETED: &[u8] = b" (deleted)";

/// A process, as long as it lives: once it has ended, everything is `None`, even if another one has its pid.
#[derive(Debug)]
pub struct Process {
    pid: u32,
    dir: OwnedFd,
}

impl Process {
    pub(super) fn new(pid: u32, dir: OwnedFd) -> Self {
        Self { pid, dir }
    }

    /// Its pid.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Its state.
    pub fn stat(&self) -> Option<Stat> {
        Stat::parse(&self.read("stat")?)
    }

    /// Its ids and peak memory.
    pub fn status(&self) -> Option<Status> {
        Status::parse(&self.read("status")?)
    }

    /// What it read and wrote.
    pub fn io(&self) -> Option<Io> {
        Io::parse(&self.read("io")?)
    }

    /// Login user id.
    pub fn auid(&self) -> Option<u32> {
        status::login(&self.read("loginuid")?)
    }

    /// Login session id of kernel audit.
    pub fn login_session(&self) -> Option<u32> {
        status::login(&self.read("sessionid")?)
    }

    /// Path in the version 2 control group hierarchy; `None` for its root.
    pub fn cgroup(&self) -> Option<Vec<u8>> {
        status::cgroup(&self.read("cgroup")?)
    }

    /// Its namespaces; zeros where they are not for us to read.
    pub fn namespaces(&self) -> Namespaces {
        namespaces(&self.dir, "ns")
    }

    /// Its network namespace alone.
    pub fn network_namespace(&self) -> Option<u32> {
        bracketed(&link(&self.dir, "ns/net")?)
    }

    /// Opens its network namespace.
    pub fn open_network_namespace(&self) -> Option<OwnedFd> {
        openat(&self.dir, "ns/net", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).ok()
    }

    /// Working directory.
    pub fn cwd(&self) -> Option<Vec<u8>> {
        link(&self.dir, "cwd")
    }

    /// Its arguments as they lie in memory now; `None` when it is gone. What is longer than [`ARGUMENTS_LIMIT`] is cut, and `length` then is
    /// that of all, where we may know it.
    pub fn arguments(&self) -> Option<Arguments> {
        let mut bytes = contents(&self.dir, "cmdline", ARGUMENTS_LIMIT + 1)?;
        if bytes.len() <= ARGUMENTS_LIMIT {
            let length = bytes.len() as u64;
            return Some(Arguments { bytes, length });
        }
        bytes.truncate(ARGUMENTS_LIMIT);
        let length = self.stat().map_or(0, |stat| stat.arguments).max(ARGUMENTS_LIMIT as u64 + 1);
        Some(Arguments { bytes, length })
    }

    /// Path and identity of its image file; `None` for a kernel thread, and where that is not for us to read.
    pub fn image(&self) -> Option<(Vec<u8>, ImageFile)> {
        let mut path = link(&self.dir, "exe")?;
        let file = statat(&self.dir, "exe", AtFlags::empty()).ok()?;
        let deleted = path.ends_with(DELETED) && !self.has_name(&path, &file);
        if deleted {
            path.truncate(path.len() - DELETED.len());
        }
        let image = ImageFile {
            dev: major(file.st_dev) << 20 | minor(file.st_dev),
            inode: file.st_ino,
            owner: file.st_uid,
            // The upper half has no bits that mean anything.
            mode: (file.st_mode & 0xffff) as u16,
            deleted,
            memfd: deleted && path.starts_with(b"/memfd:"),
            version: FileVersion::of(&file),
            digest: false,
        };
        Some((path, image))
    }

    /// The sockets that it holds; none where its descriptors are not for us to read.
    pub fn sockets(&self) -> Vec<u32> {
        let mut descriptors = Vec::new();
        if numbers(&self.dir, "fd", &mut descriptors).is_err() {
            return Vec::new();
        }
        let socket = |descriptor: &u32| {
            let target = link(&self.dir, &format!("fd/{descriptor}"))?;
            bracketed(target.strip_prefix(b"socket:")?)
        };
        descriptors.iter().filter_map(socket).collect()
    }

    /// The file really is called so, in the eyes of the process: anyone can give a file a name that ends in " (deleted)".
    fn has_name(&self, path: &[u8], file: &FileStat) -> bool {
        let named = [b"root".as_slice(), path].concat();
        file.st_nlink > 0
            && statat(&self.dir, named.as_slice(), AtFlags::SYMLINK_NOFOLLOW)
                .is_ok_and(|named| (named.st_dev, named.st_ino) == (file.st_dev, file.st_ino))
    }

    fn read(&self, name: &str) -> Option<Vec<u8>> {
        contents(&self.dir, name, usize::MAX)
    }
}
