//! Directories in which files are replaced: tools write a new file beside the old one and rename it, so a watch on the file itself would lose it.

use std::{
    mem::MaybeUninit,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::PathBuf,
};

use rustix::{
    fs::inotify::{CreateFlags, ReadFlags, Reader, WatchFlags, add_watch, init},
    io::Errno,
};

/// Directories whose files are watched by inotify(7).
pub(super) struct Directories {
    inotify: Result<OwnedFd, Errno>,
    paths: Vec<PathBuf>,
    watches: Vec<Result<i32, Errno>>,
    flags: WatchFlags,
}

/// What happened in one of them.
pub(super) enum Happening<'a> {
    /// Something happened to the file of that name in the directory at that place of the list.
    File(usize, &'a [u8]),
    /// The kernel had more to tell than it kept, or a directory is another one now: everything is to be read again.
    Anything,
}

impl Directories {
    /// Watches them for `flags`; one that does not exist is watched once it does, see [`Self::retry`].
    pub(super) fn watch(paths: Vec<PathBuf>, flags: WatchFlags) -> Self {
        let inotify = init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK);
        let watches = paths.iter().map(|_| Err(Errno::NOENT)).collect();
        let mut directories = Self { inotify, paths, watches, flags };
        directories.retry();
        directories
    }

    /// Watches those that could not be watched before; says whether there was one.
    pub(super) fn retry(&mut self) -> bool {
        let Ok(inotify) = &self.inotify else { return false };
        let mut found = false;
        for (path, watch) in self.paths.iter().zip(&mut self.watches) {
            if watch.is_err() {
                *watch = add_watch(inotify, path.as_path(), self.flags | WatchFlags::ONLYDIR);
                found |= watch.is_ok();
            }
        }
        found
    }

    /// Why the directory at that place is not watched.
    pub(super) fn error(&self, place: usize) -> Option<Errno> {
        match (&self.inotify, self.watches.get(place)) {
            (Err(e), _) | (_, Some(Err(e))) => Some(*e),
            _ => None,
        }
    }

    pub(super) fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        self.inotify.as_ref().ok().map(AsFd::as_fd)
    }

    /// Gives what happened since it was asked last.
    pub(super) fn happenings(&mut self, mut take: impl FnMut(Happening<'_>)) {
        let Ok(inotify) = &self.inotify else { return };
        let mut buffer = [MaybeUninit::uninit(); 16 << 10];
        let mut reader = Reader::new(inotify, &mut buffer);
        let mut gone = false;
        while let Ok(event) = reader.next() {
            if event.events().intersects(ReadFlags::IGNORED | ReadFlags::UNMOUNT) {
                if let Some(watch) = self.watches.iter_mut().find(|watch| **watch == Ok(event.wd())) {
                    *watch = Err(Errno::NOENT);
                }
                gone = true;
            }
            if event.events().contains(ReadFlags::QUEUE_OVERFLOW) {
                take(Happening::Anything);
            }
            let place = self.watches.iter().position(|watch| *watch == Ok(event.wd()));
            if let (Some(place), Some(name)) = (place, event.file_name()) {
                take(Happening::File(place, name.to_bytes()));
            }
        }
        if gone {
            self.retry();
            take(Happening::Anything);
        }
    }
}
