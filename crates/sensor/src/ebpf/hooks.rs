//! Which program watches which class of events, and how each is attached.

use super::names::RUNG;

/// How a program gets to its hook.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Attach {
    /// A tracepoint with type information: the kernel finds it by name.
    Trace,
    /// A tracepoint with type information, by the names that it has had, the newest first. A kernel that was built without the feature has it not.
    Traced(&'static [&'static str], &'static str),
    /// At the entry of system calls of these names ([`super::syscalls`]), whatever program makes them.
    Entry(&'static [&'static str]),
    /// At their exit.
    Exit(&'static [&'static str]),
    /// At the exit of a call that does nothing in a kernel which was built without the feature, and need not be watched there.
    Feature(&'static str, &'static str),
    /// At no hook: other programs go on to it, by its place in the table `nexts`.
    Next(u32),
    /// The tracepoint of that group and name, which such a kernel does not have.
    Event(&'static str, &'static str),
    /// The root of the control group hierarchy.
    Cgroup,
    /// The entry of a function of the kernel, where the kernel lets programs stand there ([`super::names`]).
    Function,
    /// Run once, through a file of its own.
    Iterator,
    /// Run by the sensor itself.
    Run,
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

const fn entry(program: &'static str, calls: &'static [&'static str]) -> Hook {
    Hook { program, attach: Attach::Entry(calls) }
}

const fn exit(program: &'static str, calls: &'static [&'static str]) -> Hook {
    Hook { program, attach: Attach::Exit(calls) }
}

const fn next(program: &'static str, place: u32) -> Hook {
    Hook { program, attach: Attach::Next(place) }
}

const fn feature(program: &'static str, call: &'static str, feature: &'static str) -> Hook {
    Hook { program, attach: Attach::Feature(call, feature) }
}

const fn traced(program: &'static str, names: &'static [&'static str], feature: &'static str) -> Hook {
    Hook { program, attach: Attach::Traced(names, feature) }
}

const RINGS: &str = "io_uring";
const MODULES: &str = "loadable modules";
const KEXEC: &str = "kexec";

const fn cgroup(program: &'static str) -> Hook {
    Hook { program, attach: Attach::Cgroup }
}

/// A program that every system call passes, and that finds the hooks' programs by the call's number.
#[derive(Debug)]
pub(super) struct Dispatcher {
    pub(super) program: &'static str,
    /// Whether it stands at the entry of calls, or at their exit.
    entry: bool,
}

/// Both.
pub(super) const DISPATCHERS: &[Dispatcher] = &[
    Dispatcher { program: "on_sys_enter", entry: true },
    Dispatcher { program: "on_sys_exit", entry: false },
];

impl Dispatcher {
    /// Whether hooks of this kind are found by it.
    pub(super) fn serves(&self, hook: Attach) -> bool {
        match hook {
            Attach::Entry(_) => self.entry,
            Attach::Exit(_) | Attach::Feature(..) => !self.entry,
            _ => false,
        }
    }
}

/// The class without which there is no recording by eBPF.
pub(super) const ESSENTIAL: &str = "process";

/// The class of files, whose policy is part of its limits.
pub(super) const FILES: &str = "file";

/// The class of what is done with files through io_uring.
pub(super) const RING_CLASS: &str = "io-uring";

/// Every class, in the order in which it is reported.
pub(super) const CLASSES: &[Class] = &[
    Class { name: ESSENTIAL, hooks: &[trace("on_fork"), trace("on_exec"), trace("on_exit")], limits: None },
    Class {
        name: "exec-denied",
        hooks: &[
            exit("on_execve_exit", &["execve"]),
            exit("on_execveat_exit", &["execveat"]),
            next("next_exec_refused", 3),
        ],
        limits: Some("ENOENT by policy"),
    },
    Class {
        name: "rename",
        hooks: &[trace("on_rename")],
        limits: Some("names of threads by policy: the process's name is its leading thread's"),
    },
    Class {
        name: "credentials",
        hooks: &[
            exit("on_setuid", &["setuid", "setuid32"]),
            exit("on_setgid", &["setgid", "setgid32"]),
            exit("on_setreuid", &["setreuid", "setreuid32"]),
            exit("on_setregid", &["setregid", "setregid32"]),
            exit("on_setresuid", &["setresuid", "setresuid32"]),
            exit("on_setresgid", &["setresgid", "setresgid32"]),
            exit("on_setfsuid", &["setfsuid", "setfsuid32"]),
            exit("on_setfsgid", &["setfsgid", "setfsgid32"]),
            exit("on_capset", &["capset"]),
            exit("on_setgroups", &["setgroups", "setgroups32"]),
        ],
        limits: Some(
            "bounding and ambient capabilities are not seen; capabilities that only one thread has changed are taken \
             for the process's",
        ),
    },
    Class {
        name: "kernel-code",
        hooks: &[
            Hook { program: "on_module_load", attach: Attach::Event("module/module_load", MODULES) },
            feature("on_init_module", "init_module", MODULES),
            feature("on_finit_module", "finit_module", MODULES),
            feature("on_delete_module", "delete_module", MODULES),
            feature("on_kexec_load", "kexec_load", KEXEC),
            feature("on_kexec_file_load", "kexec_file_load", KEXEC),
        ],
        limits: None,
    },
    Class {
        name: "bpf",
        hooks: &[exit("on_bpf", &["bpf"])],
        limits: Some(
            "programs that the verifier rejects, and those attached through perf_event_open, a socket or netlink, are not seen \
             there",
        ),
    },
    Class {
        name: "ptrace",
        hooks: &[
            exit("on_ptrace", &["ptrace"]),
            exit("on_process_vm_readv", &["process_vm_readv"]),
            exit("on_process_vm_writev", &["process_vm_writev"]),
            exit("on_pidfd_getfd", &["pidfd_getfd"]),
        ],
        limits: Some(
            "by policy, what an image repeats on the same target (pokes, registers, process_vm_readv and _writev) is told once, and \
             requests of ptrace that only read or steer are not",
        ),
    },
    Class {
        name: "namespaces",
        hooks: &[
            trace("on_new_spaces"),
            exit("on_setns", &["setns"]),
            exit("on_unshare", &["unshare"]),
            exit("on_clone", &["clone"]),
            exit("on_clone3", &["clone3"]),
        ],
        limits: None,
    },
    Class {
        name: "signals",
        hooks: &[
            trace("on_signal"),
            exit("on_kill", &["kill"]),
            exit("on_tkill", &["tkill", "rt_sigqueueinfo"]),
            exit("on_tgkill", &["tgkill", "rt_tgsigqueueinfo"]),
            exit("on_pidfd_send_signal", &["pidfd_send_signal"]),
        ],
        limits: Some(
            "signals between processes of one user, but for those to the recorder, and signal 0, by policy",
        ),
    },
    Class { name: "tcp", hooks: &[trace("on_state")], limits: None },
    Class {
        name: "tcp-denied",
        hooks: &[exit("on_connect", &["connect"]), exit("on_socketcall", &["socketcall"])],
        limits: None,
    },
    Class {
        name: "tcp-accept",
        hooks: &[exit("on_accept", &["accept", "accept4"]), exit("on_socketcall", &["socketcall"])],
        limits: Some(
            "accepted through io_uring by a request for many connections, or without a descriptor: told of at its end, as the \
             listener's",
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
            Hook { program: "be_quiet", attach: Attach::Run },
            next("next_name", 0),
            next("next_file", 1),
            next("next_opened", 2),
            exit("on_open", &["open"]),
            exit("on_creat", &["creat"]),
            exit("on_openat", &["openat"]),
            exit("on_openat2", &["openat2"]),
            exit("on_open_by_handle", &["open_by_handle_at"]),
            entry("on_close", &["close"]),
            entry("on_close_range", &["close_range"]),
            entry("on_dup", &["dup2", "dup3"]),
            exit("on_fcntl", &["fcntl", "fcntl64"]),
            exit("on_mmap", &["mmap", "mmap2"]),
            exit("on_old_mmap", &["old_mmap"]),
            trace("on_exit_files"),
            exit("on_file_unlink", &["unlink"]),
            exit("on_file_unlinkat", &["unlinkat"]),
            exit("on_file_rmdir", &["rmdir"]),
            exit("on_file_mkdir", &["mkdir"]),
            exit("on_file_mkdirat", &["mkdirat"]),
            exit("on_file_mknod", &["mknod"]),
            exit("on_file_mknodat", &["mknodat"]),
            exit("on_file_rename", &["rename"]),
            exit("on_file_renameat2", &["renameat", "renameat2"]),
            exit("on_file_link", &["link"]),
            exit("on_file_linkat", &["linkat"]),
            exit("on_file_symlink", &["symlink"]),
            exit("on_file_symlinkat", &["symlinkat"]),
            exit("on_file_chmod", &["chmod"]),
            exit("on_file_fchmodat", &["fchmodat", "fchmodat2"]),
            exit("on_file_fchmod", &["fchmod"]),
            exit("on_file_chown", &["chown", "lchown", "chown32", "lchown32"]),
            exit("on_file_fchownat", &["fchownat"]),
            exit("on_file_fchown", &["fchown", "fchown32"]),
            exit("on_file_setxattr", &["setxattr", "lsetxattr", "removexattr", "lremovexattr"]),
            exit("on_file_setxattrat", &["setxattrat", "removexattrat"]),
            exit("on_file_fsetxattr", &["fsetxattr", "fremovexattr"]),
            exit("on_file_truncate", &["truncate", "truncate64"]),
            exit("on_file_ftruncate", &["ftruncate", "ftruncate64"]),
            exit("on_file_utimensat", &["utimensat", "futimesat", "utimensat_time64"]),
            exit("on_file_utimes", &["utimes", "utime"]),
            exit("on_file_mount", &["mount"]),
            exit("on_file_move_mount", &["move_mount"]),
            exit("on_file_umount", &["umount", "umount2"]),
        ],
        limits: Some(
            "files and block devices; what goes through io_uring is the class io-uring; \
             in /proc, /sys and the like only what is written, and another process's memory, environment and descriptors",
        ),
    },
    Class {
        name: RING_CLASS,
        hooks: &[
            exit("on_io_uring_setup", &["io_uring_setup"]),
            traced("on_request", &["io_uring_submit_req", "io_uring_submit_sqe"], RINGS),
            traced("on_answer", &["io_uring_complete"], RINGS),
            traced("on_overflow", &["io_uring_cqe_overflow"], RINGS),
        ],
        limits: Some(
            "what a request does that asked for no completion is told without its result; a file opened for the ring alone, without a \
             descriptor, is told by its name, and not when it is closed",
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

/// Every program of every class, those of better rungs last.
pub(super) fn all() -> impl Iterator<Item = &'static Hook> {
    CLASSES.iter().flat_map(|c| c.hooks).chain(RUNG.iter().map(|n| &n.hook))
}

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
        let dispatchers = DISPATCHERS.iter().map(|d| d.program);
        let listed: BTreeSet<String> =
            all().map(|h| h.program).chain(dispatchers).map(str::to_owned).collect();
        assert_eq!(compiled, listed);
    }

    #[cfg(target_arch = "x86_64")]
    #[test]
    fn every_call_has_a_number_and_one_program_at_each_end() {
        let mut seen = BTreeSet::new();
        for hook in all() {
            let (entry, calls) = match &hook.attach {
                Attach::Entry(calls) => (true, *calls),
                Attach::Exit(calls) => (false, *calls),
                Attach::Feature(call, _) => (false, std::slice::from_ref(call)),
                _ => continue,
            };
            for call in calls {
                assert!(super::super::syscalls::named(call).is_some(), "{call}");
                // One program may belong to two classes.
                assert!(seen.insert((entry, *call)) || hook.program == "on_socketcall", "{call}");
            }
        }
    }
}
