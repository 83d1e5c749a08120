//! Files: each way to open, name, change and close them.

use std::{
    ffi::CStr,
    io,
    os::fd::{AsFd, AsRawFd, FromRawFd, IntoRawFd, OwnedFd},
};

use rustix::fs::{
    AtFlags, CWD, Dev, FileType, Mode, OFlags, RenameFlags, ResolveFlags, Timespec, Timestamps, XattrFlags,
};

use super::{Group, Stage, address, call};

const OWN: Mode = Mode::RUSR.union(Mode::WUSR);
const NEW: OFlags = OFlags::RDWR.union(OFlags::CREATE).union(OFlags::CLOEXEC);
const NOW: Timestamps = Timestamps {
    last_access: Timespec { tv_sec: 0, tv_nsec: rustix::fs::UTIME_NOW },
    last_modification: Timespec { tv_sec: 0, tv_nsec: rustix::fs::UTIME_NOW },
};

/// What an earlier canary may have left, that was killed.
const NAMES: [&CStr; 13] = [
    c"canary",
    c"canary.renamed",
    c"canary.open",
    c"canary.creat",
    c"canary.openat2",
    c"canary.mknod",
    c"canary.mknodat",
    c"canary.symlink",
    c"canary.symlinkat",
    c"canary.link",
    c"canary.linkat",
    c"canary.moved",
    c"canary.ring",
];
const DIRECTORIES: [&CStr; 2] = [c"canary.mkdir", c"canary.mkdirat"];

/// Everything that is done with files in the working directory. Nothing of it stays.
pub(super) fn act(stage: &mut Stage) {
    clean();
    let opened = rustix::fs::openat(CWD, c"canary", NEW, OWN).map_err(io::Error::from);
    let Some(file) = stage.done("openat", opened) else { return };
    // A full disk is no reason not to be told of.
    let _ = rustix::io::write(&file, b"tweet\n");
    drop(file);
    stage.did("close of a file");
    deny(stage);
    let renamed = rustix::fs::renameat_with(CWD, c"canary", CWD, c"canary.renamed", RenameFlags::NOREPLACE);
    stage.done("renameat2", renamed.map_err(io::Error::from));
    let unlinked = rustix::fs::unlinkat(CWD, c"canary.renamed", AtFlags::empty());
    stage.done("unlinkat", unlinked.map_err(io::Error::from));
    if [Group::Opening, Group::Naming, Group::Attributes].into_iter().any(|group| stage.does(group)) {
        if let Err(error) = others(stage) {
            stage.not("openat2", &error.to_string());
        }
        clean();
    }
}

/// An execution of the file, which is none.
fn deny(stage: &mut Stage) {
    let none = [0usize];
    let arguments = [address(c"canary"), 0];
    let (list, none) = (arguments.as_ptr() as usize, none.as_ptr() as usize);
    // SAFETY: a path, and two lists that end with NULL.
    let result = unsafe { call(libc::SYS_execve, &[address(c"./canary"), list, none]) };
    stage.refused("execve", result);
    if stage.does(Group::Opening) {
        let from = libc::AT_FDCWD as isize as usize;
        // SAFETY: as above.
        let result = unsafe { call(libc::SYS_execveat, &[from, address(c"././canary"), list, none, 0]) };
        stage.refused("execveat", result);
    }
}

/// Three files: by open, creat and openat2, where the architecture has these.
fn others(stage: &mut Stage) -> io::Result<()> {
    let [open, creat] = older()?;
    let last = rustix::fs::openat2(CWD, c"canary.openat2", NEW, OWN, ResolveFlags::NO_SYMLINKS)?;
    let opening = stage.does(Group::Opening);
    if opening {
        stage.did("openat2");
        if cfg!(target_arch = "x86_64") {
            stage.did("open");
            stage.did("creat");
        }
        let access = (libc::PROT_READ | libc::PROT_EXEC) as usize;
        let private = libc::MAP_PRIVATE as usize;
        // SAFETY: a new mapping, which nobody looks at.
        let mapped =
            unsafe { call(libc::SYS_mmap, &[0, 4096, access, private, last.as_raw_fd() as usize, 0]) };
        stage.done("mmap", mapped);
    }
    if stage.does(Group::Attributes) {
        attributes(stage, last.as_fd());
    }
    if stage.does(Group::Naming) {
        naming(stage);
    }
    if opening {
        let (open, creat) = (open.into_raw_fd(), creat.into_raw_fd() as usize);
        let (last, flags) = (last.into_raw_fd() as usize, libc::O_CLOEXEC as usize);
        // SAFETY: descriptors that were this function's own; the last stays open until the process exits.
        let (replaced, closed) = unsafe {
            (
                call(libc::SYS_dup3, &[last, open as usize, flags]),
                call(libc::SYS_close_range, &[creat, creat, 0]),
            )
        };
        stage.done("dup2", replaced);
        stage.done("close_range", closed);
        stage.did("exit with a file");
    }
    Ok(())
}

/// By the older calls where there are any, else by openat.
fn older() -> io::Result<[OwnedFd; 2]> {
    #[cfg(target_arch = "x86_64")]
    {
        let (flags, mode) = (NEW.bits() as usize, OWN.bits() as usize);
        // SAFETY: paths, flags and modes; new descriptors.
        unsafe {
            let open = call(libc::SYS_open, &[address(c"canary.open"), flags, mode])?;
            let open = OwnedFd::from_raw_fd(open as i32);
            let creat = call(libc::SYS_creat, &[address(c"canary.creat"), mode])?;
            Ok([open, OwnedFd::from_raw_fd(creat as i32)])
        }
    }
    #[cfg(not(target_arch = "x86_64"))]
    Ok([rustix::fs::open(c"canary.open", NEW, OWN)?, rustix::fs::open(c"canary.creat", NEW, OWN)?])
}

/// Permissions, owner, size, times and attributes.
fn attributes(stage: &mut Stage, last: impl AsFd) {
    let same = usize::MAX >> 32;
    #[cfg(target_arch = "x86_64")]
    {
        let open = address(c"canary.open");
        let times = [0i64; 4];
        // SAFETY: paths and numbers, and two instants.
        unsafe {
            stage.done("chmod", call(libc::SYS_chmod, &[open, OWN.bits() as usize]));
            stage.done("chown", call(libc::SYS_chown, &[open, same, same]));
            stage.done("utimes", call(libc::SYS_utimes, &[open, times.as_ptr() as usize]));
        }
    }
    let io = io::Error::from;
    let last = last.as_fd();
    stage.done("fchmodat", rustix::fs::chmodat(CWD, c"canary.creat", OWN, AtFlags::empty()).map_err(io));
    stage.done("fchmod", rustix::fs::fchmod(last, OWN).map_err(io));
    stage.done(
        "fchownat",
        rustix::fs::chownat(CWD, c"canary.creat", None, None, AtFlags::empty()).map_err(io),
    );
    stage.done("fchown", rustix::fs::fchown(last, None, None).map_err(io));
    // SAFETY: a path and a number.
    stage.done("truncate", unsafe { call(libc::SYS_truncate, &[address(c"canary.open"), 1]) });
    stage.done("ftruncate", rustix::fs::ftruncate(last, 1).map_err(io));
    stage.done("utimensat", rustix::fs::utimensat(CWD, c"canary.creat", &NOW, AtFlags::empty()).map_err(io));
    let set = XattrFlags::empty();
    stage.done("setxattr", rustix::fs::setxattr(c"canary.open", c"user.luarm", b"1", set).map_err(io));
    stage.done("fsetxattr", rustix::fs::fsetxattr(last, c"user.luarm", b"1", set).map_err(io));
}

/// Directories, links and names.
fn naming(stage: &mut Stage) {
    let io = io::Error::from;
    let (all, none) = (Mode::RWXU, Dev::default());
    #[cfg(target_arch = "x86_64")]
    // SAFETY: paths and numbers.
    unsafe {
        let pipe = (libc::S_IFIFO | libc::S_IRUSR) as usize;
        stage.done("mkdir", call(libc::SYS_mkdir, &[address(c"canary.mkdir"), all.bits() as usize]));
        stage.done("rmdir", call(libc::SYS_rmdir, &[address(c"canary.mkdir")]));
        stage.done("mknod", call(libc::SYS_mknod, &[address(c"canary.mknod"), pipe, 0]));
        stage.done("unlink", call(libc::SYS_unlink, &[address(c"canary.mknod")]));
        stage.done("symlink", call(libc::SYS_symlink, &[address(c"nowhere"), address(c"canary.symlink")]));
        stage.done("link", call(libc::SYS_link, &[address(c"canary.open"), address(c"canary.link")]));
        stage.done("rename", call(libc::SYS_rename, &[address(c"canary.link"), address(c"canary.moved")]));
    }
    stage.done("mkdirat", rustix::fs::mkdirat(CWD, c"canary.mkdirat", all).map_err(io));
    let target = address(c"canary.mkdirat");
    // SAFETY: paths, which are not mounted on: that takes a privilege.
    unsafe {
        let name = address(c"tmpfs");
        stage.refused("mount", call(libc::SYS_mount, &[name, target, name, 0, 0]));
        stage.refused("umount", call(libc::SYS_umount2, &[target, 0]));
    }
    let made = rustix::fs::mknodat(CWD, c"canary.mknodat", FileType::Fifo, Mode::RUSR, none);
    stage.done("mknodat", made.map_err(io));
    stage.done("symlinkat", rustix::fs::symlinkat(c"nowhere", CWD, c"canary.symlinkat").map_err(io));
    let linked = rustix::fs::linkat(CWD, c"canary.creat", CWD, c"canary.linkat", AtFlags::empty());
    stage.done("linkat", linked.map_err(io));
}

/// Removes what is there; what is not leaves no trace.
fn clean() {
    for name in NAMES {
        let _ = rustix::fs::unlinkat(CWD, name, AtFlags::empty());
    }
    for name in DIRECTORIES {
        let _ = rustix::fs::unlinkat(CWD, name, AtFlags::REMOVEDIR);
    }
}
