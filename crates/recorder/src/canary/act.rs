//! What a canary does, by name, and the row that each act leaves.

use luarm_schema::{
    Row,
    tables::{FileInfo, NetInfo, PrivInfo, PsInfo},
};

/// Something that a canary does.
#[derive(Debug)]
pub struct Act {
    /// Its name: mostly the system call's.
    pub name: &'static str,
    /// The class of events that tells of it.
    pub class: &'static str,
    /// Whether a sensor that only samples the class comes to see it, if the canary waits until it has looked.
    pub lasting: bool,
    trace: Trace,
}

/// The row that an act leaves, among those of the canary.
#[derive(Debug, Clone, Copy)]
enum Trace {
    /// The image that the recorder had run.
    Image,
    /// A copy of it.
    Copy,
    /// The end of the image.
    Exit,
    /// An execution of that name that was refused.
    Refused(&'static str),
    /// Another task name.
    Rename,
    /// An act of privilege, with that detail where there are several of its kind.
    Privilege { operation: &'static str, detail: Option<&'static str> },
    /// An endpoint: transport and direction, and perhaps 4 or 6.
    Endpoint(&'static str, &'static str, i32),
    /// One that was closed.
    Closed(&'static str, &'static str),
    /// An endpoint that belongs to the copy.
    CopysEndpoint(&'static str, &'static str, i32),
    /// A name that stands for an address.
    Name,
    /// What was done with a file of that name.
    File(&'static [&'static str], &'static str),
    /// A request of a ring about a file of that name.
    Request(&'static str),
    /// The same, and what came of it.
    Answer(&'static str),
    /// An access to it, and how it ended.
    FileEnd(&'static str, &'static str),
}

/// Which image of a canary a row belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Whose {
    /// The process's that the recorder started.
    Own,
    /// That of a copy of it.
    Copys,
}

const fn act(class: &'static str, name: &'static str, trace: Trace) -> Act {
    Act { name, class, lasting: false, trace }
}

const fn lasting(class: &'static str, name: &'static str, trace: Trace) -> Act {
    Act { name, class, lasting: true, trace }
}

const fn privilege(class: &'static str, name: &'static str) -> Act {
    act(class, name, Trace::Privilege { operation: name, detail: None })
}

const fn detailed(
    class: &'static str,
    name: &'static str,
    operation: &'static str,
    detail: &'static str,
) -> Act {
    act(class, name, Trace::Privilege { operation, detail: Some(detail) })
}

const fn file(name: &'static str, operation: &'static [&'static str], file: &'static str) -> Act {
    act("file", name, Trace::File(operation, file))
}

const OPENED: &[&str] = &["open", "create"];

/// Everything that a canary knows how to do. Which of it a round does, and in which order, is the canary's own affair.
pub const ACTS: &[Act] = &[
    lasting("process", "exec", Trace::Image),
    act("process", "fork", Trace::Copy),
    lasting("process", "exit", Trace::Exit),
    act("exec-denied", "execve", Trace::Refused("./canary")),
    act("exec-denied", "execveat", Trace::Refused("././canary")),
    act("rename", "prctl", Trace::Rename),
    privilege("credentials", "setfsuid"),
    privilege("credentials", "setfsgid"),
    privilege("credentials", "setgroups"),
    privilege("credentials", "setresgid"),
    privilege("credentials", "setresuid"),
    privilege("credentials", "setuid"),
    privilege("credentials", "setgid"),
    privilege("credentials", "setreuid"),
    privilege("credentials", "setregid"),
    privilege("credentials", "capset"),
    privilege("kernel-code", "delete_module"),
    privilege("kernel-code", "init_module"),
    privilege("kernel-code", "finit_module"),
    privilege("kernel-code", "kexec_load"),
    privilege("kernel-code", "kexec_file_load"),
    act("bpf", "bpf", Trace::Privilege { operation: "bpf-load", detail: None }),
    privilege("ptrace", "ptrace"),
    privilege("ptrace", "process_vm_readv"),
    privilege("ptrace", "process_vm_writev"),
    privilege("ptrace", "pidfd_getfd"),
    privilege("namespaces", "unshare"),
    privilege("namespaces", "setns"),
    detailed("namespaces", "clone", "clone", "uts"),
    detailed("namespaces", "clone3", "clone", "ipc"),
    detailed("namespaces", "clone of a user namespace", "clone", "user "),
    detailed("signals", "signal", "signal", "SIGWINCH"),
    detailed("signals", "kill", "signal", "SIGURG"),
    detailed("signals", "tkill", "signal", "SIGSTKFLT"),
    detailed("signals", "tgkill", "signal", "SIGCHLD"),
    detailed("signals", "pidfd_send_signal", "signal", "SIGIO"),
    lasting("tcp", "connect", Trace::Endpoint("tcp", "out", 4)),
    act("tcp", "close of a connection", Trace::Closed("tcp", "out")),
    act("tcp-accept", "accept", Trace::CopysEndpoint("tcp", "in", 4)),
    act("tcp-denied", "connect in vain", Trace::Endpoint("tcp", "out", 0)),
    lasting("udp", "send", Trace::Endpoint("udp", "out", 4)),
    act("udp", "receive", Trace::Endpoint("udp", "in", 4)),
    act("udp", "bind", Trace::Endpoint("udp", "listen", 4)),
    act("udp", "close", Trace::Closed("udp", "out")),
    act("udp", "bind by IPv6", Trace::Endpoint("udp", "listen", 6)),
    act("udp", "sendto of a copy", Trace::CopysEndpoint("udp", "out", 4)),
    act("udp", "sendto of a copy by IPv6", Trace::CopysEndpoint("udp", "out", 6)),
    act("names", "question", Trace::Name),
    file("openat", OPENED, "canary"),
    act("file", "close of a file", Trace::FileEnd("canary", "close")),
    file("renameat2", &["rename"], "canary"),
    file("unlinkat", &["unlink"], "canary.renamed"),
    file("open", OPENED, "canary.open"),
    file("creat", OPENED, "canary.creat"),
    file("openat2", OPENED, "canary.openat2"),
    act("file", "dup2", Trace::FileEnd("canary.open", "close")),
    act("file", "close_range", Trace::FileEnd("canary.creat", "close")),
    act("file", "exit with a file", Trace::FileEnd("canary.openat2", "exit")),
    file("mmap", &["exec-map"], "canary.openat2"),
    file("mkdir", &["mkdir"], "canary.mkdir"),
    file("mkdirat", &["mkdir"], "canary.mkdirat"),
    file("rmdir", &["rmdir"], "canary.mkdir"),
    file("mknod", &["mknod"], "canary.mknod"),
    file("mknodat", &["mknod"], "canary.mknodat"),
    file("unlink", &["unlink"], "canary.mknod"),
    file("symlink", &["symlink"], "canary.symlink"),
    file("symlinkat", &["symlink"], "canary.symlinkat"),
    file("link", &["link"], "canary.open"),
    file("linkat", &["link"], "canary.creat"),
    file("rename", &["rename"], "canary.link"),
    file("chmod", &["chmod"], "canary.open"),
    file("fchmodat", &["chmod"], "canary.creat"),
    file("fchmod", &["chmod"], "canary.openat2"),
    file("chown", &["chown"], "canary.open"),
    file("fchownat", &["chown"], "canary.creat"),
    file("fchown", &["chown"], "canary.openat2"),
    file("truncate", &["truncate"], "canary.open"),
    file("ftruncate", &["truncate"], "canary.openat2"),
    file("utimes", &["utimes"], "canary.open"),
    file("utimensat", &["utimes"], "canary.creat"),
    file("setxattr", &["xattr"], "canary.open"),
    file("fsetxattr", &["xattr"], "canary.openat2"),
    file("mount", &["mount"], "canary.mkdirat"),
    file("umount", &["umount"], "canary.mkdirat"),
    privilege("io-uring", "io_uring_setup"),
    act("io-uring", "request of a ring", Trace::Request("canary.ring")),
    act("io-uring", "answer of a ring", Trace::Answer("canary.ring")),
];

impl Act {
    /// Whether a row of the canary is the one that this act leaves; for an end, whether it has it already.
    pub(super) fn left(&self, row: &Row, whose: Whose) -> bool {
        let own = whose == Whose::Own;
        match (self.trace, row) {
            (Trace::Image, Row::PsInfo(row)) => own && row.origin != "fork" && row.origin != "found",
            (Trace::Copy, Row::PsInfo(row)) => !own && row.origin == "fork",
            (Trace::Refused(command), Row::ExecInfo(row)) => row.command == command,
            (Trace::Rename, Row::RenameInfo(_)) => own,
            (Trace::Privilege { operation, detail }, Row::PrivInfo(row)) => {
                own && is_act(row, operation, detail)
            }
            (Trace::Endpoint(transport, direction, version), Row::NetInfo(row)) => {
                own && is_endpoint(row, transport, direction) && is_of(row, version)
            }
            (Trace::CopysEndpoint(transport, direction, version), Row::NetInfo(row)) => {
                !own && is_endpoint(row, transport, direction) && is_of(row, version)
            }
            (Trace::Name, Row::NameInfo(row)) => row.origin == "dns",
            (Trace::File(operations, name), Row::FileInfo(row)) => {
                row.via.is_none() && row.filename == name && operations.contains(&&*row.operation)
            }
            (Trace::Request(name), Row::FileInfo(row)) => row.via.is_some() && row.filename == name,
            (Trace::Answer(name), Row::FileInfo(row)) => {
                row.via.is_some() && row.filename == name && row.result.is_some()
            }
            _ => false,
        }
    }

    /// Whether the act is the end of that row, whenever it comes.
    pub(super) fn ends(&self, row: &Row, whose: Whose) -> bool {
        let own = whose == Whose::Own;
        match (self.trace, row) {
            (Trace::Exit, Row::PsInfo(_)) => own,
            (Trace::Closed(transport, direction), Row::NetInfo(row)) => {
                own && is_endpoint(row, transport, direction) && is_of(row, 4)
            }
            (Trace::FileEnd(name, _), Row::FileInfo(row)) => own && is_access(row, name),
            _ => false,
        }
    }

    /// Whether an end of such a row is as it has to be: by those words of its column `ended`.
    pub(super) fn is_end(&self, ended: &str) -> bool {
        match self.trace {
            Trace::Exit => ended == "exit" || ended == "unseen",
            Trace::Closed(..) => ended == "close",
            Trace::FileEnd(_, wanted) => ended == wanted,
            _ => false,
        }
    }
}

fn is_act(row: &PrivInfo, operation: &str, detail: Option<&str>) -> bool {
    row.operation == operation
        && detail.is_none_or(|detail| row.detail.as_deref().is_some_and(|told| told.starts_with(detail)))
}

fn is_endpoint(row: &NetInfo, transport: &str, direction: &str) -> bool {
    row.transport == transport && row.direction == direction
}

/// 4 and 6 are versions of IP, to or from an address that is this host's own; 0 stands for an address that is nobody's.
fn is_of(row: &NetInfo, version: i32) -> bool {
    let nobodys = row.destip == NOBODYS;
    if version == 0 { nobodys } else { !nobodys && row.ipversion == version }
}

/// To where no connection can be made: it has no segment sent.
pub const NOBODYS: &str = "255.255.255.255";

fn is_access(row: &FileInfo, name: &str) -> bool {
    row.filename == name && row.via.is_none() && OPENED.contains(&&*row.operation)
}

/// Whether an image is one that the recorder, whose own image is `recorder`, had run.
pub(super) fn is_childs(row: &PsInfo, recorder: i64) -> bool {
    row.ppsentity == Some(recorder)
}
