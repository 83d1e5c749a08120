//! Opening what was asked for and nothing else, and reading it at a bounded pace.
//!
//! A path is resolved as far as the kernel has it in memory, without symbolic links; what is there is looked at before it is opened. So no FIFO, no device and
//! no file system that somebody put there can hold up the thread, or be touched by it.

use std::{
    fs::File,
    io::{self, Read},
    os::{
        fd::{AsRawFd, OwnedFd},
        unix::ffi::OsStrExt,
    },
    path::Path,
    time::{Duration, Instant},
};

use rustix::{
    fs::{FileType, Mode, OFlags, ResolveFlags, Statx, fstat, open as open_at},
    io::Errno,
};
use sha2::{Digest, Sha256};

use super::{mounts, queue::Queue};
use crate::{
    lookup::{self, Lookups},
    observation::FileVersion,
};

/// Bytes that are read at once.
pub(super) const PIECE: usize = 256 << 10;
/// Bytes per second that are read in the long run,
const RATE: u64 = 64 << 20;
/// and at once after a time without work.
const BURST: u64 = 512 << 20;
/// How often a path is looked up that changes meanwhile.
const ATTEMPTS: usize = 3;

/// Why there is no digest. The worse, the greater.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Failure {
    /// It is not to be found, or another file has its name.
    Gone,
    /// It has other contents now.
    Changed,
    /// The recorder stops.
    Stopped,
    /// It is larger than policy allows.
    TooLarge,
    /// The kernel does not let it be read.
    Unreadable,
    /// Somebody else answers for it: a server or a process.
    Remote,
    /// It is a directory.
    Directory,
    /// It is something that has no contents of its own.
    Nothing,
}

impl Failure {
    /// As `lossinfo` says it.
    pub(super) fn cause(self) -> &'static str {
        match self {
            Self::Gone => "gone",
            Self::Changed => "changed",
            Self::Stopped => "stopped",
            Self::TooLarge => "too-large",
            Self::Unreadable => "unreadable",
            Self::Remote => "remote",
            Self::Directory => "directory",
            Self::Nothing => "no-file",
        }
    }
}

/// What is to be found.
#[derive(Clone, Copy)]
pub(super) struct Wanted {
    /// The device, by the kernel's own number.
    pub(super) dev: Option<u32>,
    pub(super) version: FileVersion,
    /// Nothing of it may have changed, not even its name.
    pub(super) exact: bool,
    /// Somebody has set its times since.
    pub(super) timed: bool,
    /// No more is known of it than its inode, or nothing at all (0).
    pub(super) unseen: bool,
}

impl Wanted {
    fn is(&self, found: FileVersion) -> bool {
        let FileVersion { inode, size, mtime, ctime } = self.version;
        if self.unseen {
            return inode == 0 || inode == found.inode;
        }
        inode == found.inode
            && size == found.size
            && (mtime == found.mtime || self.timed)
            && (ctime == found.ctime || !self.exact)
    }
}

/// A file that is the wanted one, and the device that it is on.
pub(super) struct Found(File, u32);

/// Opens the image that a process runs.
pub(super) fn open_image(lookups: &Lookups, pid: u32, wanted: &Wanted) -> Result<Found, Failure> {
    let wanted = *wanted;
    let path = format!("/proc/{pid}/exe");
    let found = lookups.ask(path.clone().as_bytes(), move || {
        let link = open_at(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty());
        let file = link.map_err(failure)?;
        let facts = lookup::facts(&file).map_err(failure)?;
        check(file, &facts, &wanted)
    });
    reopen(found.map_err(failure)??)
}

/// Opens the file at that path.
pub(super) fn open(lookups: &Lookups, path: &Path, wanted: &Wanted) -> Result<Found, Failure> {
    let resolve = ResolveFlags::NO_MAGICLINKS | ResolveFlags::NO_SYMLINKS;
    let look = |resolve| {
        let wanted = *wanted;
        let take = move |file, facts: &Statx| check(file, facts, &wanted);
        lookups.look(path.as_os_str().as_bytes(), OFlags::NOFOLLOW, resolve, take)
    };
    let mut found = Err(Errno::AGAIN);
    for _ in 0..ATTEMPTS {
        found = look(resolve | ResolveFlags::CACHED);
        if !matches!(found, Err(Errno::AGAIN)) {
            break;
        }
    }
    // The kernel would have to ask the file system: only that which had the file when it was closed.
    if matches!(found, Err(Errno::AGAIN)) && mounts::over(path).is_some_and(|dev| Some(dev) == wanted.dev) {
        found = look(resolve);
    }
    reopen(found.map_err(failure)??)
}

/// Gives what was opened to be looked at, and its device, if it is what is wanted. What is not is closed here, where that may take its time.
fn check(file: OwnedFd, facts: &Statx, wanted: &Wanted) -> Result<(OwnedFd, u32), Failure> {
    let named_only = wanted.unseen && wanted.version.inode == 0;
    if facts.stx_ino != wanted.version.inode && !named_only
        || wanted.dev.is_some_and(|dev| !mounts::is_on(facts, dev))
    {
        return Err(Failure::Gone);
    }
    let dev = match (FileType::from_raw_mode(facts.stx_mode.into()), wanted.unseen) {
        (FileType::RegularFile, false) => wanted.dev.unwrap_or_default(),
        (FileType::RegularFile, true) => mounts::local_device(facts).ok_or(Failure::Remote)?,
        (FileType::Directory, true) => return Err(Failure::Directory),
        (_, true) => return Err(Failure::Nothing),
        (_, false) => return Err(Failure::Gone),
    };
    Ok((file, dev))
}

/// Opens for reading what was opened to be looked at.
fn reopen((file, dev): (OwnedFd, u32)) -> Result<Found, Failure> {
    let way = format!("/proc/self/fd/{}", file.as_raw_fd());
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    // When it was read last is evidence, and no business of ours.
    let opened = match open_at(&way, flags | OFlags::NOATIME, Mode::empty()) {
        Err(Errno::PERM) => open_at(&way, flags, Mode::empty()),
        opened => opened,
    };
    opened.map(|fd| Found(File::from(fd), dev)).map_err(failure)
}

fn failure(errno: Errno) -> Failure {
    match errno {
        Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::AGAIN | Errno::XDEV | Errno::SRCH => {
            Failure::Gone
        }
        Errno::REMOTE | Errno::TIMEDOUT => Failure::Remote,
        _ => Failure::Unreadable,
    }
}

impl Found {
    /// The device that it is on, by the kernel's own number.
    pub(super) fn device(&self) -> u32 {
        self.1
    }

    /// Reads it, if it still is as it was, and gives what it was while it was read. `pace` is asked before each piece, and says whether there is time left.
    pub(super) fn digest(
        mut self,
        wanted: &Wanted,
        limit: u64,
        room: &mut [u8],
        mut pace: impl FnMut(usize) -> bool,
    ) -> Result<(FileVersion, [u8; 32]), Failure> {
        let before = self.version()?;
        if !wanted.is(before) {
            return Err(Failure::Changed);
        }
        if before.size > limit {
            return Err(Failure::TooLarge);
        }
        let mut sum = Sha256::new();
        let mut left = before.size;
        loop {
            if !pace(room.len().min(usize::try_from(left).unwrap_or(usize::MAX))) {
                return Err(Failure::Stopped);
            }
            match self.0.read(room) {
                Ok(0) => break,
                // It grows.
                Ok(n) if n as u64 > left => return Err(Failure::Changed),
                Ok(n) => {
                    sum.update(&room[..n]);
                    left -= n as u64;
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return Err(Failure::Unreadable),
            }
        }
        if left > 0 || self.version()? != before {
            return Err(Failure::Changed);
        }
        Ok((before, sum.finalize().into()))
    }

    fn version(&self) -> Result<FileVersion, Failure> {
        fstat(&self.0).map(|facts| FileVersion::of(&facts)).map_err(|_| Failure::Unreadable)
    }
}

/// Bytes that may be read now.
pub(super) struct Pace {
    bytes: u64,
    at: Instant,
}

impl Pace {
    pub(super) fn new() -> Self {
        Self { bytes: BURST, at: Instant::now() }
    }

    /// Takes as many bytes, and waits for them if need be; false when there is no time left.
    pub(super) fn take(&mut self, bytes: usize, queue: &Queue) -> bool {
        let bytes = bytes as u64;
        let passed = self.at.elapsed();
        let gained = u64::try_from(passed.as_micros()).unwrap_or(u64::MAX).saturating_mul(RATE) / 1_000_000;
        if gained > 0 {
            self.bytes = self.bytes.saturating_add(gained).min(BURST);
            self.at += passed;
        }
        let missing = bytes.saturating_sub(self.bytes);
        self.bytes = self.bytes.saturating_sub(bytes);
        queue.rest(Duration::from_micros(missing * 1_000_000 / RATE))
    }
}
