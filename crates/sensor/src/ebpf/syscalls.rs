//! System calls by their names: the numbers by which the kernel's dispatch finds a program for each (`bpf/syscalls.h`).

/// A system call. Names are the kernel's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Call {
    pub(super) name: &'static str,
    /// Its number on this architecture, if it has one.
    pub(super) native: Option<u32>,
    /// Its number for 32-bit programs of x86 (the kernel's arch/x86/entry/syscalls/syscall_32.tbl), where these run.
    pub(super) compat: Option<u32>,
}

/// A call of every architecture, and its number for 32-bit programs.
const fn call(name: &'static str, native: libc::c_long, compat: u32) -> Call {
    Call { name, native: Some(native as u32), compat: Some(compat) }
}

/// A call that 32-bit programs alone have.
const fn compat(name: &'static str, number: u32) -> Call {
    Call { name, native: None, compat: Some(number) }
}

/// The call of that name; none on an architecture that has not got it.
pub(super) fn named(name: &str) -> Option<Call> {
    CALLS.iter().chain(OLD).chain(COMPAT).find(|c| c.name == name).copied()
}

/// Calls of every architecture.
const CALLS: &[Call] = &[
    call("accept", libc::SYS_accept, 0).native_only(),
    call("accept4", libc::SYS_accept4, 364),
    call("bpf", libc::SYS_bpf, 357),
    call("capset", libc::SYS_capset, 185),
    call("clone", libc::SYS_clone, 120),
    call("clone3", libc::SYS_clone3, 435),
    call("close", libc::SYS_close, 6),
    call("close_range", libc::SYS_close_range, 436),
    call("connect", libc::SYS_connect, 362),
    call("delete_module", libc::SYS_delete_module, 129),
    call("dup3", libc::SYS_dup3, 330),
    call("execve", libc::SYS_execve, 11),
    call("execveat", libc::SYS_execveat, 358),
    call("fchmod", libc::SYS_fchmod, 94),
    call("fchmodat", libc::SYS_fchmodat, 306),
    call("fchmodat2", libc::SYS_fchmodat2, 452),
    call("fchown", libc::SYS_fchown, 95),
    call("fchownat", libc::SYS_fchownat, 298),
    call("fcntl", libc::SYS_fcntl, 55),
    call("finit_module", libc::SYS_finit_module, 350),
    call("fremovexattr", libc::SYS_fremovexattr, 237),
    call("fsetxattr", libc::SYS_fsetxattr, 228),
    call("ftruncate", libc::SYS_ftruncate, 93),
    call("init_module", libc::SYS_init_module, 128),
    call("io_uring_setup", libc::SYS_io_uring_setup, 425),
    call("kexec_file_load", libc::SYS_kexec_file_load, 0).native_only(),
    call("kexec_load", libc::SYS_kexec_load, 283),
    call("kill", libc::SYS_kill, 37),
    call("linkat", libc::SYS_linkat, 303),
    call("lremovexattr", libc::SYS_lremovexattr, 236),
    call("lsetxattr", libc::SYS_lsetxattr, 227),
    call("mkdirat", libc::SYS_mkdirat, 296),
    call("mknodat", libc::SYS_mknodat, 297),
    call("mmap", libc::SYS_mmap, 0).native_only(),
    call("mount", libc::SYS_mount, 21),
    call("move_mount", libc::SYS_move_mount, 429),
    call("open_by_handle_at", libc::SYS_open_by_handle_at, 342),
    call("openat", libc::SYS_openat, 295),
    call("openat2", libc::SYS_openat2, 437),
    call("pidfd_getfd", libc::SYS_pidfd_getfd, 438),
    call("pidfd_send_signal", libc::SYS_pidfd_send_signal, 424),
    call("process_vm_readv", libc::SYS_process_vm_readv, 347),
    call("process_vm_writev", libc::SYS_process_vm_writev, 348),
    call("ptrace", libc::SYS_ptrace, 26),
    call("removexattr", libc::SYS_removexattr, 235),
    call("removexattrat", 466, 466),
    call("renameat2", libc::SYS_renameat2, 353),
    call("rt_sigqueueinfo", libc::SYS_rt_sigqueueinfo, 178),
    call("rt_tgsigqueueinfo", libc::SYS_rt_tgsigqueueinfo, 335),
    call("setfsgid", libc::SYS_setfsgid, 139),
    call("setfsuid", libc::SYS_setfsuid, 138),
    call("setgid", libc::SYS_setgid, 46),
    call("setgroups", libc::SYS_setgroups, 81),
    call("setns", libc::SYS_setns, 346),
    call("setregid", libc::SYS_setregid, 71),
    call("setresgid", libc::SYS_setresgid, 170),
    call("setresuid", libc::SYS_setresuid, 164),
    call("setreuid", libc::SYS_setreuid, 70),
    call("setuid", libc::SYS_setuid, 23),
    call("setxattr", libc::SYS_setxattr, 226),
    call("setxattrat", 463, 463),
    call("symlinkat", libc::SYS_symlinkat, 304),
    call("tgkill", libc::SYS_tgkill, 270),
    call("tkill", libc::SYS_tkill, 238),
    call("truncate", libc::SYS_truncate, 92),
    call("umount2", libc::SYS_umount2, 52),
    call("unlinkat", libc::SYS_unlinkat, 301),
    call("unshare", libc::SYS_unshare, 310),
    call("utimensat", libc::SYS_utimensat, 320),
];

/// Calls that younger architectures do without.
#[cfg(target_arch = "x86_64")]
const OLD: &[Call] = &[
    call("chmod", libc::SYS_chmod, 15),
    call("chown", libc::SYS_chown, 182),
    call("creat", libc::SYS_creat, 8),
    call("dup2", libc::SYS_dup2, 63),
    call("futimesat", libc::SYS_futimesat, 299),
    call("lchown", libc::SYS_lchown, 16),
    call("link", libc::SYS_link, 9),
    call("mkdir", libc::SYS_mkdir, 39),
    call("mknod", libc::SYS_mknod, 14),
    call("open", libc::SYS_open, 5),
    call("rename", libc::SYS_rename, 38),
    call("renameat", libc::SYS_renameat, 302),
    call("rmdir", libc::SYS_rmdir, 40),
    call("symlink", libc::SYS_symlink, 83),
    call("unlink", libc::SYS_unlink, 10),
    call("utime", libc::SYS_utime, 30),
    call("utimes", libc::SYS_utimes, 271),
];
#[cfg(not(target_arch = "x86_64"))]
const OLD: &[Call] = &[];

/// Calls of 32-bit programs that native ones make by another name.
const COMPAT: &[Call] = &[
    compat("chown32", 212),
    compat("fchown32", 207),
    compat("fcntl64", 221),
    compat("ftruncate64", 194),
    compat("lchown32", 198),
    compat("mmap2", 192),
    compat("old_mmap", 90),
    compat("setfsgid32", 216),
    compat("setfsuid32", 215),
    compat("setgid32", 214),
    compat("setgroups32", 206),
    compat("setregid32", 204),
    compat("setresgid32", 210),
    compat("setresuid32", 208),
    compat("setreuid32", 203),
    compat("setuid32", 213),
    compat("socketcall", 102),
    compat("truncate64", 193),
    compat("umount", 22),
    compat("utimensat_time64", 412),
];

impl Call {
    /// The same without a number for 32-bit programs, whose call of that name is another one or missing.
    const fn native_only(self) -> Call {
        Call { compat: None, ..self }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn no_number_stands_twice() {
        let all = || CALLS.iter().chain(OLD).chain(COMPAT);
        let mut seen = (HashSet::new(), HashSet::new(), HashSet::new());
        for call in all() {
            assert!(seen.0.insert(call.name), "{}", call.name);
            assert!(call.native.is_none_or(|n| seen.1.insert(n)), "{}", call.name);
            assert!(call.compat.is_none_or(|n| seen.2.insert(n)), "{}", call.name);
        }
    }
}
