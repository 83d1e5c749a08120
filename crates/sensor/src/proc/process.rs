//! The files of one process.

use std::{os::fd::OwnedFd, sync::Arc};

use rustix::{
    fs::{Mode, OFlags, Statx, openat},
    io::Errno,
};

use super::{
    Io, Stat, Status,
    reader::{bracketed, contents, link, namespaces, numbers},
    status,
};
use crate::{
    lookup::{Lookups, facts},
    observation::{Arguments, FileVersion, ImageFile, Namespaces},
};

/// How many bytes of arguments are read.
pub const ARGUMENTS_LIMIT: usize = 256 << 10;

const DELETED: &[u8] = b" (deleted)";

/// A process, as long as it lives: once it has ended, everything is `None`, even if another one has its pid.
#[derive(Debug)]
pub struct Process {
    pid: u32,
    dir: Arc<OwnedFd>,
    lookups: Arc<Lookups>,
}

impl Process {
    pub(super) fn new(pid: u32, dir: OwnedFd, lookups: Arc<Lookups>) -> Self {
        Self { pid, dir: Arc::new(dir), lookups }
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

    /// Path and identity of its image file; `None` for a kernel thread, and where that is not for us to read. The path alone where a file system does not
    /// answer in time.
    pub fn image(&self) -> Option<(Vec<u8>, Option<ImageFile>)> {
        let path = link(&self.dir, "exe")?;
        let (dir, name) = (Arc::clone(&self.dir), path.clone());
        match self.lookups.ask(format!("{}/exe", self.pid).as_bytes(), move || image_file(&dir, name)) {
            Ok(image) => image.map(|(path, file)| (path, Some(file))),
            Err(_) => Some((path, None)),
        }
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

    fn read(&self, name: &str) -> Option<Vec<u8>> {
        contents(&self.dir, name, usize::MAX)
    }
}

/// The file that a process runs, of the directory of that process in /proc and with what the link there says.
fn image_file(dir: &OwnedFd, mut path: Vec<u8>) -> Option<(Vec<u8>, ImageFile)> {
    let file = looked_at(dir, b"exe", OFlags::empty()).ok()?;
    let deleted = path.ends_with(DELETED) && !has_name(dir, &path, &file);
    if deleted {
        path.truncate(path.len() - DELETED.len());
    }
    let image = ImageFile {
        dev: file.stx_dev_major << 20 | file.stx_dev_minor,
        inode: file.stx_ino,
        owner: file.stx_uid,
        mode: file.stx_mode,
        deleted,
        memfd: deleted && path.starts_with(b"/memfd:"),
        version: FileVersion::found(&file),
        digest: false,
    };
    Some((path, image))
}

/// The file really is called so, in the eyes of the process: anyone can give a file a name that ends in " (deleted)".
fn has_name(dir: &OwnedFd, path: &[u8], file: &Statx) -> bool {
    let place = |file: &Statx| (file.stx_dev_major, file.stx_dev_minor, file.stx_ino);
    let named = [b"root".as_slice(), path].concat();
    file.stx_nlink > 0
        && looked_at(dir, &named, OFlags::NOFOLLOW).is_ok_and(|named| place(&named) == place(file))
}

fn looked_at(dir: &OwnedFd, path: &[u8], flags: OFlags) -> Result<Statx, Errno> {
    facts(&openat(dir, path, flags | OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?)
}
