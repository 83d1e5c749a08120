//! The records that the kernel programs give: the same layout as `bpf/records.h`, field by field.
//!
//! A test compares every size and offset with the type information in the compiled object.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Declares a record, and lists its layout for the test.
macro_rules! records {
    ($($(#[doc = $doc:literal])+ $Name:ident = $c_name:literal { $($field:ident: $ty:ty,)+ })+) => {
        $($(#[doc = $doc])+
        #[derive(Debug, Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable)]
        #[repr(C)]
        pub(super) struct $Name { $(pub(super) $field: $ty,)+ })+

        #[cfg(test)]
        pub(super) const LAYOUT: &[(&str, usize, &[(&str, usize)])] = &[
            $(($c_name, size_of::<$Name>(), &[$((stringify!($field), std::mem::offset_of!($Name, $field)),)+]),)+
        ];
    };
}

/// The kinds of record, as in `enum kind`.
pub(super) mod kind {
    pub(in super::super) const FORK: u32 = 1;
    pub(in super::super) const EXEC: u32 = 2;
    pub(in super::super) const TASK: u32 = 3;
    pub(in super::super) const EXIT: u32 = 4;
    pub(in super::super) const RENAME: u32 = 5;
    pub(in super::super) const CREDENTIALS: u32 = 6;
    pub(in super::super) const EXEC_DENIED: u32 = 7;
    pub(in super::super) const ENDPOINT: u32 = 8;
    pub(in super::super) const ENDPOINT_END: u32 = 9;
    pub(in super::super) const CONNECT_FAILED: u32 = 10;
    pub(in super::super) const UDP_RELEASE: u32 = 11;
    pub(in super::super) const ARGUMENTS: u32 = 12;
    pub(in super::super) const DNS: u32 = 13;
    pub(in super::super) const FILE: u32 = 14;
    pub(in super::super) const FILE_END: u32 = 15;
    pub(in super::super) const FILE_CLOEXEC: u32 = 16;
    pub(in super::super) const FILE_AGAIN: u32 = 17;
    pub(in super::super) const PRIVILEGE: u32 = 18;
    pub(in super::super) const FILE_ANSWER: u32 = 19;
    pub(in super::super) const FILE_CONTENT: u32 = 20;
}

/// What the counters of lost events stand for, as in `enum class`: class and cause.
pub(super) const LOST: [(&str, &str); 17] = [
    ("process", "ring-full"),
    ("arguments", "ring-full"),
    ("rename", "ring-full"),
    ("credentials", "ring-full"),
    ("exec-denied", "ring-full"),
    ("tcp", "ring-full"),
    ("tcp-accept", "ring-full"),
    ("udp", "ring-full"),
    ("udp", "table-full"),
    ("names", "ring-full"),
    ("file", "ring-full"),
    ("kernel-code", "ring-full"),
    ("bpf", "ring-full"),
    ("ptrace", "ring-full"),
    ("namespaces", "ring-full"),
    ("signals", "ring-full"),
    ("file-digest", "ring-full"),
];

/// The names of `enum operation`: system calls, where it is not one of several that do the same.
pub(super) const OPERATIONS: [&str; 27] = [
    "setuid",
    "setgid",
    "setreuid",
    "setregid",
    "setresuid",
    "setresgid",
    "setfsuid",
    "setfsgid",
    "capset",
    "init_module",
    "finit_module",
    "delete_module",
    "kexec_load",
    "kexec_file_load",
    "bpf-load",
    "bpf-attach",
    "ptrace",
    "process_vm_readv",
    "process_vm_writev",
    "pidfd_getfd",
    "setns",
    "unshare",
    "clone",
    "signal",
    "setgroups",
    "io_uring_setup",
    "bpf-open",
];

/// `FILE.operation`.
pub(super) mod operation {
    use crate::observation::FileOperation;

    pub(in super::super) const OPEN: u32 = 0;

    /// In the order of `enum file_operation`.
    pub(in super::super) const ALL: [FileOperation; 16] = [
        FileOperation::Open,
        FileOperation::Map,
        FileOperation::Unlink,
        FileOperation::Rmdir,
        FileOperation::Rename,
        FileOperation::Mkdir,
        FileOperation::Mknod,
        FileOperation::Symlink,
        FileOperation::Link,
        FileOperation::Chmod,
        FileOperation::Chown,
        FileOperation::Xattr,
        FileOperation::Truncate,
        FileOperation::Utimes,
        FileOperation::Mount,
        FileOperation::Umount,
    ];
}

pub(super) const ACCESS_READ: u32 = 1;
pub(super) const ACCESS_WRITE: u32 = 2;
pub(super) const FILE_CREATED: u32 = 1;
pub(super) const FILE_TRUNCATED: u32 = 2;
pub(super) const FILE_CLOEXEC: u32 = 4;
pub(super) const FILE_DELETED: u32 = 8;
pub(super) const FILE_UNREAD: u32 = 16;
pub(super) const FILE_ASKED: u32 = 32;
pub(super) const FILE_SILENT: u32 = 64;

/// How an access ended otherwise than by a close that was seen.
pub(super) const END_EXIT: u32 = 1;
pub(super) const END_UNSEEN: u32 = 2;

/// `TASK.flags` of a kernel thread.
pub(super) const PF_KTHREAD: u32 = 0x0020_0000;

pub(super) const TCP: u8 = 6;
pub(super) const DIRECTION_OUT: u8 = 1;
pub(super) const DIRECTION_IN: u8 = 2;

records! {
    /// Begins every record.
    Header = "header" { kind: u32, pad: u32, at: u64, }
    /// Identity of a process image.
    Image = "image" { pid: u32, execs: u32, start: u64, }
    /// Who did it.
    Actor = "actor" { image: Image, euid: u32, auid: u32, session: u32, tid: u32, comm: [u8; 16], }
    /// User and group ids.
    Ids = "ids" { uid: u32, euid: u32, suid: u32, fsuid: u32, gid: u32, egid: u32, sgid: u32, fsgid: u32,
        inheritable: u64, permitted: u64, effective: u64,
    }
    /// A process.
    Task = "task" {
        image: Image, creator: Image, ids: Ids, ppid: u32, auid: u32, session: u32, sid: u32,
        mntns: u32, netns: u32, pidns: u32, userns: u32, utsns: u32, ipcns: u32, cgroupns: u32,
        flags: u32, comm: [u8; 16], tty: [u8; 24],
    }
    /// A process was forked.
    Fork = "fork_record" { h: Header, task: Task, cgroup_len: u32, pad: u32, }
    /// A process runs another image, or was found.
    Exec = "exec_record" {
        h: Header, task: Task, inode: u64, size: u64, mtime: u64, ctime: u64, dev: u32, owner: u32, mode: u32, links: u32, unhashed: u32,
        path_len: u32, cwd_len: u32, cgroup_len: u32, filename_len: u32, script: u32,
        args_total: u64, args_len: u32, args_bulk: u32, remote: u32, pad: u32,
    }
    /// A process ended.
    Exit = "exit_record" {
        h: Header, image: Image, status: u32, pad: u32, utime: u64, stime: u64, runtime: u64, maxrss: u64,
        rchar: u64, wchar: u64, read_bytes: u64, write_bytes: u64,
    }
    /// A process changed its name.
    Rename = "rename_record" { h: Header, actor: Actor, old: [u8; 16], }
    /// A process changed its ids.
    Credentials = "credentials_record" { h: Header, actor: Actor, ids: Ids, operation: u32, pad: u32, }
    /// An act of privilege.
    Privilege = "privilege_record" {
        h: Header, actor: Actor, target: Actor, ids: Ids, operation: u32, error: i32, arguments: [u64; 3], spaces: [u32; 8], text: [u8; 64],
    }
    /// An exec was refused.
    Denied = "denied_record" { h: Header, actor: Actor, error: i32, path_len: u32, args_len: u32, more: u32, }
    /// An endpoint began or ended.
    Endpoint = "endpoint_record" {
        h: Header, actor: Actor, socket: u64, since: u64, local: [u8; 16], remote: [u8; 16], local_port: u16, remote_port: u16,
        family: u8, transport: u8, direction: u8, found: u8, netns: u32, result: i32,
        bytes_sent: u64, bytes_received: u64, packets_sent: u64, packets_received: u64,
    }
    /// A UDP socket was closed.
    Release = "release_record" { h: Header, socket: u64, }
    /// A piece of an exec's arguments.
    Arguments = "arguments_record" { h: Header, image: Image, offset: u32, len: u32, }
    /// A DNS message or a piece of one.
    Dns = "dns_record" {
        h: Header, actor: Actor, socket: u64, server: [u8; 16], port: u16, family: u8, transport: u8, netns: u32,
        sequence: u32, length: u32, sent: u32, len: u32,
    }
    /// Key of the table of accesses.
    AccessKey = "access_key" { image: Image, inode: u64, dev: u32, access: u32, which: u32, pad: u32, }
    /// Value of the table of accesses.
    Access = "access" {
        last: u64, told: u64, size: u64, position: u64, opens: u32, open: u32, modified: u32, again: u32,
        mtime: u64, ctime: u64, content: u64,
    }
    /// Asks that reads below a file are not told, or are told again.
    Silence = "silence" { fd: u32, told: u32, }
    /// A directory whose files are digested.
    Place = "place" { inode: u64, dev: u32, pad: u32, }
    /// A file was closed with new contents, where files are digested.
    Content = "content_record" {
        h: Header, key: AccessKey, size: u64, mtime: u64, ctime: u64, euid: u32, place: u32, mntns: u32, remote: u32, below: u32, path_len: u32,
    }
    /// A file was opened, or something was done to it.
    File = "file_record" {
        h: Header, actor: Actor, inode: u64, size: u64, dev: u32, owner: u32, mode: u32, operation: u32, access: u32,
        flags: u32, result: i32, fd: i32, argument: u32, argument2: u32, mntns: u32, rooted: u32, name_len: u32,
        path_len: u32, name2_len: u32, path2_len: u32, which: u32, pad: u32,
        request: u64,
    }
    /// What became of a request.
    Answer = "answer_record" { h: Header, request: u64, result: i32, untold: u32, inode: u64, dev: u32, pad: u32, }
    /// An access ended, or goes on.
    FileEnd = "file_end_record" { h: Header, key: AccessKey, access: Access, }
    /// Key of the UDP table.
    PeerKey = "peer_key" { socket: u64, addr: [u8; 16], port: u16, family: u16, pad: u32, }
    /// Value of the UDP table.
    Peer = "peer" { last: u64, bytes_sent: u64, bytes_received: u64, packets_sent: u64, packets_received: u64, }
}

/// Splits a record's fixed part from its strings; `None` when it is shorter than it says, which the kernel's programs never make it.
pub(super) fn split<T: FromBytes + KnownLayout + Immutable>(bytes: &[u8]) -> Option<(T, &[u8])> {
    T::read_from_prefix(bytes).ok()
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;

    use libbpf_rs::btf::{Btf, HasSize, types::Struct};

    use super::*;

    #[test]
    fn both_sides_have_the_same_layout() {
        let btf = Btf::from_raw("luarm", super::super::OBJECT).unwrap().unwrap();
        for (name, size, fields) in LAYOUT {
            let c: Struct<'_> =
                btf.type_by_name(name).unwrap_or_else(|| panic!("no struct {name} in the object"));
            let mut members: Vec<(String, usize)> = Vec::new();
            for member in c.iter() {
                let member_name = member.name.and_then(OsStr::to_str).unwrap_or("").to_owned();
                if member_name != "data" {
                    let bits = match member.attr {
                        libbpf_rs::btf::types::MemberAttr::Normal { offset } => offset,
                        libbpf_rs::btf::types::MemberAttr::BitField { offset, .. } => offset,
                    };
                    members.push((member_name, bits as usize / 8));
                }
            }
            let ours: Vec<(String, usize)> = fields.iter().map(|(f, at)| ((*f).to_owned(), *at)).collect();
            assert_eq!(members, ours, "{name}");
            assert_eq!(c.size(), *size, "{name}");
        }
    }
}
