//! Which program watches which class of events, and how each is attached.

/// How a program gets to its hook.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Attach {
    /// A tracepoint with type information: the kernel finds it by name.
    Trace,
    /// Entry or exit of a system call: a tracepoint of that name in the group `syscalls`.
    Syscall(&'static str),
    /// The same of a system call that not every architecture and kernel has.
    Perhaps(&'static str),
    /// The tracepoint of that group and name, which a kernel that was built without the feature does not have: it need not be watched there.
    Feature(&'static str, &'static str),
    /// The root of the control group hierarchy.
    Cgroup,
    /// Run once, through a file of its own.
    Iterator,
}

/// A program of the object.
#[derive(Debug)]
pub(super) struct Hook {
    pub(super) program: &'static str,
    pub(super) attach: Attach,
}

/// A class of events: without any one of its programs it is not watched.
#[derive(Debug)]
pub(super) struct Class {
    pub(super) name: &'static str,
    pub(super) hooks: &'static [Hook],
    /// What the hooks do not see.
    pub(super) limits: Option<&'static str>,
}

const fn trace(program: &'static str) -> Hook {
    Hook { program, attach: Attach::Trace }
}

const fn syscall(program: &'static str, name: &'static str) -> Hook {
    Hook { program, attach: Attach::Syscall(name) }
}

const fn perhaps(program: &'static str, name: &'static str) -> Hook {
    Hook { program, attach: Attach::Perhaps(name) }
}

const fn feature(program: &'static str, tracepoint: &'static str, feature: &'static str) -> Hook {
    Hook { program, attach: Attach::Feature(tracepoint, feature) }
}

const MODULES: &str = "loadable modules";
const KEXEC: &str = "kexec";

const fn cgroup(program: &'static str) -> Hook {
    Hook { program, attach: Attach::Cgroup }
}

/// The class without which there is no recording by eBPF.
pub(super) const ESSENTIAL: &str = "process";

/// The class of files, whose policy is part of its limits.
pub(super) const FILES: &str = "file";

const COMPAT: Option<&str> = Some("system calls of 32-bit programs are not seen");

/// Every class, in the order in which it is reported.
pub(super) const CLASSES: &[Class] = &[
    Class { name: ESSENTIAL, hooks: &[trace("on_fork"), trace("on_exec"), trace("on_exit")], limits: None },
    Class {
        name: "exec-denied",
        hooks: &[
            syscall("on_execve_exit", "sys_exit_execve"),
            syscall("on_execveat_exit", "sys_exit_execveat"),
        ],
        limits: Some("ENOENT by policy; system calls of 32-bit programs are not seen"),
    },
    Class {
        name: "rename",
        hooks: &[trace("on_rename")],
        limits: Some("names of threads by policy: the process's name is its leading thread's"),
    },
    Class {
        name: "credentials",
        hooks: &[
            syscall("on_setuid", "sys_exit_setuid"),
            syscall("on_setgid", "sys_exit_setgid"),
            syscall("on_setreuid", "sys_exit_setreuid"),
            syscall("on_setregid", "sys_exit_setregid"),
            syscall("on_setresuid", "sys_exit_setresuid"),
            syscall("on_setresgid", "sys_exit_setresgid"),
            syscall("on_setfsuid", "sys_exit_setfsuid"),
            syscall("on_setfsgid", "sys_exit_setfsgid"),
            syscall("on_capset", "sys_exit_capset"),
            syscall("on_setgroups", "sys_exit_setgroups"),
        ],
        limits: Some(
            "system calls of 32-bit programs, bounding and ambient capabilities are not seen; capabilities \
             that only one thread has changed are taken for the process's",
        ),
    },
    Class {
        name: "kernel-code",
        hooks: &[
            feature("on_module_load", "module/module_load", MODULES),
            feature("on_init_module", "syscalls/sys_exit_init_module", MODULES),
            feature("on_finit_module", "syscalls/sys_exit_finit_module", MODULES),
            feature("on_delete_module", "syscalls/sys_exit_delete_module", MODULES),
            feature("on_kexec_load", "syscalls/sys_exit_kexec_load", KEXEC),
            feature("on_kexec_file_load", "syscalls/sys_exit_kexec_file_load", KEXEC),
        ],
        limits: COMPAT,
    },
    Class {
        name: "bpf",
        hooks: &[syscall("on_bpf", "sys_exit_bpf")],
        limits: Some(
            "programs that the verifier rejects, and those attached through perf_event_open, a socket or netlink, are not seen \
             there; system calls of 32-bit programs are not seen",
        ),
    },
    Class {
        name: "ptrace",
        hooks: &[
            syscall("on_ptrace", "sys_exit_ptrace"),
            syscall("on_process_vm_readv", "sys_exit_process_vm_readv"),
            syscall("on_process_vm_writev", "sys_exit_process_vm_writev"),
            syscall("on_pidfd_getfd", "sys_exit_pidfd_getfd"),
        ],
        limits: Some(
            "by policy, what an image repeats on the same target (pokes, registers, process_vm_readv and _writev) is told once, and \
             requests of ptrace that only read or steer are not; system calls of 32-bit programs are not seen",
        ),
    },
    Class {
        name: "namespaces",
        hooks: &[
            trace("on_new_spaces"),
            syscall("on_setns", "sys_exit_setns"),
            syscall("on_unshare", "sys_exit_unshare"),
            syscall("on_clone", "sys_exit_clone"),
            syscall("on_clone3", "sys_exit_clone3"),
        ],
        limits: COMPAT,
    },
    Class {
        name: "signals",
        hooks: &[
            trace("on_signal"),
            syscall("on_kill", "sys_exit_kill"),
            syscall("on_tkill", "sys_exit_tkill"),
            syscall("on_tgkill", "sys_exit_tgkill"),
            syscall("on_rt_sigqueueinfo", "sys_exit_rt_sigqueueinfo"),
            syscall("on_rt_tgsigqueueinfo", "sys_exit_rt_tgsigqueueinfo"),
            syscall("on_pidfd_send_signal", "sys_exit_pidfd_send_signal"),
        ],
        limits: Some(
            "signals between processes of one user, and signal 0, by policy; refusals to 32-bit programs are not seen",
        ),
    },
    Class { name: "tcp", hooks: &[trace("on_state")], limits: None },
    Class { name: "tcp-denied", hooks: &[syscall("on_connect", "sys_exit_connect")], limits: COMPAT },
    Class {
        name: "tcp-accept",
        hooks: &[syscall("on_accept", "sys_exit_accept"), syscall("on_accept4", "sys_exit_accept4")],
        limits: Some(
            "accepted through io_uring or by a 32-bit program: told of at its end, as the listener's",
        ),
    },
    Class {
        name: "udp",
        hooks: &[
            cgroup("on_egress"),
            cgroup("on_ingress"),
            cgroup("on_socket"),
            cgroup("on_send4"),
            cgroup("on_send6"),
            cgroup("on_bind4"),
            cgroup("on_bind6"),
            cgroup("on_release"),
        ],
        limits: Some("raw and packet sockets are not seen"),
    },
    Class {
        name: "names",
        hooks: &[cgroup("on_egress"), cgroup("on_ingress")],
        limits: Some("port 53 in the clear; DNS over TLS or HTTPS is not readable"),
    },
    Class {
        name: FILES,
        hooks: &[
            perhaps("on_open", "sys_exit_open"),
            perhaps("on_creat", "sys_exit_creat"),
            syscall("on_openat", "sys_exit_openat"),
            syscall("on_openat2", "sys_exit_openat2"),
            syscall("on_open_by_handle", "sys_exit_open_by_handle_at"),
            syscall("on_close", "sys_enter_close"),
            perhaps("on_close_range", "sys_enter_close_range"),
            perhaps("on_dup2", "sys_enter_dup2"),
            syscall("on_dup3", "sys_enter_dup3"),
            syscall("on_fcntl", "sys_exit_fcntl"),
            syscall("on_mmap", "sys_exit_mmap"),
            trace("on_exit_files"),
            perhaps("on_file_unlink", "sys_exit_unlink"),
            syscall("on_file_unlinkat", "sys_exit_unlinkat"),
            perhaps("on_file_rmdir", "sys_exit_rmdir"),
            perhaps("on_file_mkdir", "sys_exit_mkdir"),
            syscall("on_file_mkdirat", "sys_exit_mkdirat"),
            perhaps("on_file_mknod", "sys_exit_mknod"),
            syscall("on_file_mknodat", "sys_exit_mknodat"),
            perhaps("on_file_rename", "sys_exit_rename"),
            perhaps("on_file_renameat", "sys_exit_renameat"),
            syscall("on_file_renameat2", "sys_exit_renameat2"),
            perhaps("on_file_link", "sys_exit_link"),
            syscall("on_file_linkat", "sys_exit_linkat"),
            perhaps("on_file_symlink", "sys_exit_symlink"),
            syscall("on_file_symlinkat", "sys_exit_symlinkat"),
            perhaps("on_file_chmod", "sys_exit_chmod"),
            syscall("on_file_fchmodat", "sys_exit_fchmodat"),
            perhaps("on_file_fchmodat2", "sys_exit_fchmodat2"),
            syscall("on_file_fchmod", "sys_exit_fchmod"),
            perhaps("on_file_chown", "sys_exit_chown"),
            perhaps("on_file_lchown", "sys_exit_lchown"),
            syscall("on_file_fchownat", "sys_exit_fchownat"),
            syscall("on_file_fchown", "sys_exit_fchown"),
            syscall("on_file_setxattr", "sys_exit_setxattr"),
            syscall("on_file_lsetxattr", "sys_exit_lsetxattr"),
            syscall("on_file_fsetxattr", "sys_exit_fsetxattr"),
            syscall("on_file_removexattr", "sys_exit_removexattr"),
            syscall("on_file_lremovexattr", "sys_exit_lremovexattr"),
            syscall("on_file_fremovexattr", "sys_exit_fremovexattr"),
            syscall("on_file_truncate", "sys_exit_truncate"),
            syscall("on_file_ftruncate", "sys_exit_ftruncate"),
            syscall("on_file_utimensat", "sys_exit_utimensat"),
            perhaps("on_file_utimes", "sys_exit_utimes"),
            perhaps("on_file_utime", "sys_exit_utime"),
            perhaps("on_file_futimesat", "sys_exit_futimesat"),
            syscall("on_file_mount", "sys_exit_mount"),
            syscall("on_file_move_mount", "sys_exit_move_mount"),
            syscall("on_file_umount", "sys_exit_umount"),
        ],
        limits: Some(
            "files and block devices; calls of 32-bit programs and through io_uring are not seen; names are the process's words; \
             in /proc, /sys and the like only what is written, and another process's memory, environment and descriptors",
        ),
    },
    Class {
        name: "io-uring",
        hooks: &[perhaps("on_io_uring_setup", "sys_exit_io_uring_setup")],
        limits: Some(
            "that a ring is made is told, not what goes through it: connections are seen, operations on files are not",
        ),
    },
    Class {
        name: "inventory",
        hooks: &[
            Hook { program: "on_task", attach: Attach::Iterator },
            Hook { program: "on_file", attach: Attach::Iterator },
        ],
        limits: Some("once, at the start"),
    },
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use libbpf_rs::ObjectBuilder;

    use super::*;

    #[test]
    fn every_program_of_the_object_belongs_to_a_class() {
        let object = ObjectBuilder::default().open_memory(super::super::OBJECT).unwrap();
        let compiled: BTreeSet<String> =
            object.progs().map(|p| p.name().to_string_lossy().into_owned()).collect();
        let listed: BTreeSet<String> =
            CLASSES.iter().flat_map(|c| c.hooks).map(|h| h.program.to_owned()).collect();
        assert_eq!(compiled, listed);
    }
}
