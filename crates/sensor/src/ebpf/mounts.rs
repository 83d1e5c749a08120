//! Kernel file systems that need not be mounted anywhere: opened as detached mounts, seen by this process alone (Linux 5.2).
#![expect(unsafe_code, reason = "perf_event_open has no safe wrapper")]

use std::{
    io::{self, Read},
    os::fd::{AsRawFd, FromRawFd, OwnedFd},
};

use libbpf_rs::libbpf_sys;
use rustix::{
    fs::{Access, AtFlags, Mode, OFlags, accessat, openat},
    mount::{FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsmount, fsopen},
};

fn detached(file_system: &str) -> io::Result<OwnedFd> {
    let context = fsopen(file_system, FsOpenFlags::FSOPEN_CLOEXEC)?;
    fsconfig_create(&context)?;
    Ok(fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty())?)
}

/// The root of the version 2 control group hierarchy.
pub(super) fn cgroup_root() -> io::Result<OwnedFd> {
    detached("cgroup2")
}

/// The tracepoints' file system.
pub(super) struct Tracepoints(OwnedFd);

impl Tracepoints {
    pub(super) fn open() -> io::Result<Self> {
        detached("tracefs").map(Tracepoints)
    }

    /// Opens the tracepoint of that group and name as a perf event, to which a program can be attached.
    pub(super) fn event(&self, name: &str) -> io::Result<OwnedFd> {
        let path = format!("events/{name}/id");
        let mut text = String::new();
        std::fs::File::from(openat(&self.0, path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?)
            .read_to_string(&mut text)?;
        let id: u64 = text
            .trim()
            .parse()
            .map_err(|_| io::Error::other(format!("tracepoint {name} has the id {text:?}")))?;
        open_event(id)
    }

    /// Whether the kernel has tracepoints, and not this one.
    pub(super) fn lacks(&self, name: &str) -> bool {
        let is_there = |path: &str| accessat(&self.0, path, Access::EXISTS, AtFlags::empty()).is_ok();
        is_there("events/syscalls") && !is_there(&format!("events/{name}"))
    }
}

/// `perf_event_open(2)` for a tracepoint. A program that is attached to the event runs on every processor and for every task, whatever the event's own
/// processor is.
fn open_event(id: u64) -> io::Result<OwnedFd> {
    let mut attributes = libbpf_sys::perf_event_attr {
        type_: libbpf_sys::PERF_TYPE_TRACEPOINT,
        size: size_of::<libbpf_sys::perf_event_attr>() as u32,
        config: id,
        ..Default::default()
    };
    let (any_task, first_processor, no_group) = (-1, 0, -1);
    let close_on_exec: libc::c_ulong = 8;
    // SAFETY: the kernel reads `size` bytes of the attributes, which live until the call returns.
    let fd = unsafe {
        libc::syscall(
            libc::SYS_perf_event_open,
            &raw mut attributes,
            any_task,
            first_processor,
            no_group,
            close_on_exec,
        )
    };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the call gave us a new descriptor that nobody else owns.
    let fd = unsafe { OwnedFd::from_raw_fd(fd as i32) };
    debug_assert!(fd.as_raw_fd() >= 0);
    Ok(fd)
}
