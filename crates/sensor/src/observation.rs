//! What a sensor tells the recorder: facts about this host, raw and complete, without tables and without interpretation.
//!
//! Every fact that someone did carries its [`Actor`], read by the kernel at the moment of the event; nothing here is to be looked up later by
//! pid. Strings are bytes as the kernel had them. Instants are nanoseconds of CLOCK_BOOTTIME.

use std::net::SocketAddr;

use crate::condition::{Condition, ConditionKind};

mod file;

pub use file::*;

/// Nanoseconds since the kernel started, time asleep included (CLOCK_BOOTTIME).
pub type BootNs = u64;

/// Which process image: three numbers that the kernel keeps for as long as the process lives, so that any restart of luarm finds the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct ImageId {
    /// Process id (tgid) in the host's own pid namespace.
    pub pid: u32,
    /// When the process was forked. The polling sensor knows it to 10 ms only.
    pub start: BootNs,
    /// How many execs it has done since (`self_exec_id` less `parent_exec_id`). The polling sensor counts the execs that it notices.
    pub execs: u32,
}

/// Who did it, as of the moment of the event.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Actor {
    /// The process image.
    pub image: ImageId,
    /// Task name of the thread, without the terminating NUL.
    pub comm: Vec<u8>,
    /// Effective user id.
    pub euid: u32,
    /// Login user id, where a login stands behind it.
    pub auid: Option<u32>,
    /// Login session id of kernel audit, where a login stands behind it.
    pub session: Option<u32>,
}

/// The ids that decide what a task may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[expect(missing_docs, reason = "the kernel's names, see credentials(7)")]
pub struct Credentials {
    pub uid: u32,
    pub euid: u32,
    pub suid: u32,
    pub fsuid: u32,
    pub gid: u32,
    pub egid: u32,
    pub sgid: u32,
    pub fsgid: u32,
    /// `None` where they are not known.
    pub capabilities: Option<Capabilities>,
}

/// Sets of capabilities, one bit each, in the order of capabilities(7). They count in the task's own user namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Capabilities {
    /// What it may keep through an exec of a file that grants it.
    pub inheritable: u64,
    /// What it may make effective.
    pub permitted: u64,
    /// What the kernel asks for.
    pub effective: u64,
}

/// Inode numbers of the namespaces of a task; 0 where unknown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[expect(missing_docs, reason = "the kernel's names, see namespaces(7)")]
pub struct Namespaces {
    pub mnt: u32,
    pub net: u32,
    pub pid: u32,
    pub user: u32,
    pub uts: u32,
    pub ipc: u32,
    pub cgroup: u32,
}

/// A process and what it is allowed and bound to.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Task {
    /// Identity.
    pub image: ImageId,
    /// Process id of its parent (`real_parent`).
    pub ppid: u32,
    /// The image that created the process. Fork: the caller of fork. Exec and found: the parent as it is now, or `None`.
    pub creator: Option<ImageId>,
    /// Task name of the leading thread.
    pub comm: Vec<u8>,
    /// User and group ids.
    pub credentials: Credentials,
    /// Login user id.
    pub auid: Option<u32>,
    /// Login session id of kernel audit.
    pub session: Option<u32>,
    /// Process session id.
    pub sid: Option<u32>,
    /// Controlling terminal.
    pub tty: Option<Vec<u8>>,
    /// Namespaces.
    pub namespaces: Namespaces,
    /// Path in the version 2 control group hierarchy; `None` for its root and where unknown.
    pub cgroup: Option<Vec<u8>>,
}

/// What a process runs.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Program {
    /// Full path of the image file, empty for a kernel thread.
    pub path: Vec<u8>,
    /// The script as named to exec, where the image is its interpreter.
    pub script: Option<Vec<u8>>,
    /// Identity of the image file.
    pub file: Option<ImageFile>,
    /// The arguments.
    pub arguments: Arguments,
    /// Working directory.
    pub cwd: Option<Vec<u8>>,
}

/// Identity of an image file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ImageFile {
    /// Device, major * 2^20 + minor (the kernel's own `dev_t`).
    pub dev: u32,
    /// Inode.
    pub inode: u64,
    /// Owner.
    pub owner: u32,
    /// Type and permissions.
    pub mode: u16,
    /// It has no name any more.
    pub deleted: bool,
    /// It never had a name.
    pub memfd: bool,
    /// Which content it had.
    pub version: FileVersion,
    /// An [`Observation::ImageDigest`] of that content came before, or will come.
    pub digest: bool,
}

/// Tells one content of files from another, as well as the kernel can.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct FileVersion {
    /// Inode.
    pub inode: u64,
    /// Bytes.
    pub size: u64,
    /// When its contents changed last, ns since 1970.
    pub mtime: i64,
    /// When anything of it changed last, ns since 1970.
    pub ctime: i64,
}

impl FileVersion {
    /// That of a file of which nothing is known but its inode, or not even that (0): what it contains is known when it is read.
    pub const fn unseen(inode: u64) -> Self {
        Self { inode, size: 0, mtime: 0, ctime: 0 }
    }

    /// That of a file that was looked at.
    pub(crate) fn found(facts: &rustix::fs::Statx) -> Self {
        let instant = |at: rustix::fs::StatxTimestamp| {
            at.tv_sec.saturating_mul(1_000_000_000).saturating_add(at.tv_nsec.into())
        };
        Self {
            inode: facts.stx_ino,
            size: facts.stx_size,
            mtime: instant(facts.stx_mtime),
            ctime: instant(facts.stx_ctime),
        }
    }

    /// That of a file that is open.
    pub(crate) fn of(stat: &rustix::fs::Stat) -> Self {
        let instant = |seconds: i64, ns: u64| {
            seconds.saturating_mul(1_000_000_000).saturating_add(i64::try_from(ns).unwrap_or(0))
        };
        Self {
            inode: stat.st_ino,
            size: u64::try_from(stat.st_size).unwrap_or(0),
            mtime: instant(stat.st_mtime, stat.st_mtime_nsec),
            ctime: instant(stat.st_ctime, stat.st_ctime_nsec),
        }
    }
}

/// The digest of an image, or that there is none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageDigest {
    /// When it was read.
    pub at: BootNs,
    /// Where it was, when it ran.
    pub path: Vec<u8>,
    /// Which file.
    pub file: ImageFile,
    /// SHA-256 of its contents; `None` if it could not be read as it was, which a [`Loss`] tells of.
    pub sha256: Option<[u8; 32]>,
}

/// Arguments as they lie in memory.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Arguments {
    /// The strings, each ended by NUL, except for a last one that was cut or whose end the process overwrote.
    pub bytes: Vec<u8>,
    /// How long they were altogether; greater than `bytes.len()` when they were cut.
    pub length: u64,
}

/// What a process used in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Usage {
    /// CPU time in user mode, ns.
    pub user: u64,
    /// CPU time in kernel mode, ns.
    pub system: u64,
    /// Peak resident memory, bytes.
    pub maxrss: u64,
    /// Bytes that system calls read.
    pub rchar: u64,
    /// Bytes that system calls wrote.
    pub wchar: u64,
    /// Bytes fetched from storage.
    pub read_bytes: u64,
    /// Bytes sent to storage.
    pub write_bytes: u64,
}

/// An act of privilege upon the kernel or upon another process, or a change of credentials that was refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Privilege {
    /// When it was over.
    pub at: BootNs,
    /// Who.
    pub actor: Actor,
    /// The actor's credentials, as of after it.
    pub credentials: Credentials,
    /// The act: mostly the system call's name.
    pub operation: &'static str,
    /// The error number; 0 where it was done.
    pub result: i32,
    /// The process that it was done to.
    pub target: Option<Actor>,
    /// What it was about, in the kernel's words; empty where there is no more to say.
    pub detail: Vec<u8>,
}

/// How a fact came to be known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// The event itself was seen.
    Event,
    /// It was there when the sensor started.
    Found,
    /// The polling sensor met it, some time after it began.
    Poll,
}

/// The protocol of an endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "they say it all")]
pub enum Transport {
    Tcp,
    Udp,
}

/// Who began an exchange.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// This host.
    Out,
    /// The peer.
    In,
    /// Nobody yet: it waits for peers.
    Listen,
}

/// Names an endpoint for as long as it lasts: the socket and, where it has one, the peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct EndpointId {
    /// Its protocol.
    pub transport: Transport,
    /// The kernel's socket cookie.
    pub socket: u64,
    /// For UDP the peer, since a socket has many; `None` for TCP and for listeners.
    pub peer: Option<SocketAddr>,
}

/// An endpoint that began, or was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// Its name.
    pub id: EndpointId,
    /// Who began it.
    pub direction: Direction,
    /// The address on this host. IPv4-mapped addresses are given as IPv4.
    pub local: SocketAddr,
    /// The address of the peer; `None` for a listener.
    pub remote: Option<SocketAddr>,
    /// Who owns it.
    pub actor: Option<Actor>,
    /// Network namespace, 0 where unknown.
    pub netns: u32,
    /// How it came to be known.
    pub origin: Origin,
    /// When it began, as far as is known.
    pub at: BootNs,
}

/// How an endpoint ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct EndpointEnd {
    /// Error number of a connection that was never established; 0 for one that was; `None` where unknown or not a connection.
    pub result: Option<i32>,
    /// It was given up because it was silent, not because it was closed.
    pub idle: bool,
    /// Traffic, where known.
    pub traffic: Option<Traffic>,
}

/// What went over an endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Traffic {
    /// Bytes of payload sent by this host, retransmissions not counted again.
    pub bytes_sent: u64,
    /// Bytes of payload received in order.
    pub bytes_received: u64,
    /// Segments or datagrams sent.
    pub packets_sent: u64,
    /// Segments or datagrams received.
    pub packets_received: u64,
}

/// A DNS message, or a piece of one, as it passed a socket of this host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dns {
    /// When.
    pub at: BootNs,
    /// UDP: `payload` is a whole message. TCP: it is a piece of the stream, each message of which has its length before it.
    pub transport: Transport,
    /// Position in the TCP stream (the sequence number of the first byte); 0 for UDP.
    pub sequence: u32,
    /// The socket's cookie.
    pub socket: u64,
    /// It left this host (a question), rather than arrived (an answer).
    pub sent: bool,
    /// The other end: the name server.
    pub server: SocketAddr,
    /// Who owns the socket.
    pub actor: Option<Actor>,
    /// Network namespace.
    pub netns: u32,
    /// Bytes of the message that were captured.
    pub payload: Vec<u8>,
    /// How many there were.
    pub length: u32,
}

/// How a class of events is watched.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Watch {
    /// Every event.
    Watched,
    /// What is there whenever the sensor looks.
    Sampled,
    /// Not at all.
    Unwatched,
}

/// What a sensor sees of one class of events, and by what means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Coverage {
    /// The class: `process`, `exec-denied`, `rename`, `credentials`, `tcp`, `tcp-accept`, `udp`, `names`, `hardware`, `mounts`…
    pub class: &'static str,
    /// How.
    pub watch: Watch,
    /// `ebpf`, `poll`, `netlink`, `proc`, `files` (they tell of what changes in them) or `none`.
    pub sensor: &'static str,
    /// The kernel's name for the hook.
    pub hook: String,
    /// Why it is so, where it is not plain: the error of a program that the kernel refused, the limit of a hook.
    pub reason: Option<String>,
}

/// Events that were lost between two instants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loss {
    /// The class.
    pub class: &'static str,
    /// Why.
    pub cause: &'static str,
    /// How many.
    pub count: u64,
    /// After this instant.
    pub from: BootNs,
    /// Before this one.
    pub until: BootNs,
}

/// A set of things of which a sensor has reported every member that exists.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "they say it all")]
pub enum Inventory {
    Processes,
    Sockets,
    Conditions(ConditionKind),
}

/// One fact.
#[derive(Debug, Clone, PartialEq)]
pub enum Observation {
    /// A process was forked.
    Fork {
        /// When: the child's start.
        at: BootNs,
        /// The child.
        task: Box<Task>,
    },
    /// A process runs another image.
    Exec {
        /// When.
        at: BootNs,
        /// The process, as the new image finds it; `image.execs` is the new image's.
        task: Box<Task>,
        /// What it runs.
        program: Box<Program>,
    },
    /// A process exists, and its beginning was not seen.
    Found {
        /// When it was met.
        at: BootNs,
        /// The process.
        task: Box<Task>,
        /// What it runs.
        program: Box<Program>,
        /// `Found` or `Poll`.
        origin: Origin,
    },
    /// The kernel refused an exec.
    ExecDenied {
        /// When.
        at: BootNs,
        /// Who tried.
        actor: Actor,
        /// What, as it was named.
        path: Vec<u8>,
        /// With which arguments.
        arguments: Arguments,
        /// The error number.
        errno: i32,
    },
    /// A process ended.
    Exit {
        /// When.
        at: BootNs,
        /// Its last image.
        image: ImageId,
        /// The status as wait(2) gives it; `None` where not known.
        status: Option<i32>,
        /// What it used, where known.
        usage: Option<Usage>,
    },
    /// The leading thread of a process changed its name other than by exec.
    Rename {
        /// When.
        at: BootNs,
        /// Who, with the new name.
        actor: Actor,
        /// The name before.
        old: Vec<u8>,
    },
    /// The credentials of a process changed other than by exec.
    Credentials {
        /// When.
        at: BootNs,
        /// Who, as of after the change.
        actor: Actor,
        /// The system call.
        operation: &'static str,
        /// The ids after the change.
        credentials: Credentials,
    },
    /// An act of privilege.
    Privilege(Box<Privilege>),
    /// An endpoint began or was found.
    Endpoint(Box<Endpoint>),
    /// An endpoint ended. Whatever is needed to tell of it is here, in case its beginning was lost.
    EndpointEnd {
        /// When it ended.
        at: BootNs,
        /// The endpoint, as when it began.
        endpoint: Box<Endpoint>,
        /// How it ended.
        end: EndpointEnd,
    },
    /// A DNS message.
    Dns(Box<Dns>),
    /// An image was digested, or is not going to be.
    ImageDigest(Box<ImageDigest>),
    /// What an access left in a file was digested, or is not going to be.
    ContentDigest(Box<ContentDigest>),
    /// Something was done with a file. If it has a name, `FileLasts` or `FileEnd` follows, within a second or two.
    File(Box<FileAccess>),
    /// An access to a file goes on for now.
    FileLasts(AccessId),
    /// An access to a file ended.
    FileEnd {
        /// When.
        at: BootNs,
        /// Which.
        id: AccessId,
        /// How.
        end: AccessEnd,
    },
    /// A condition began, or has other values from now on.
    Condition {
        /// When.
        at: BootNs,
        /// The condition.
        condition: Box<Condition>,
        /// How it came to be known.
        origin: Origin,
    },
    /// A condition ended.
    ConditionEnd {
        /// When.
        at: BootNs,
        /// The condition, with its last values as far as they are known; what names it is.
        condition: Box<Condition>,
    },
    /// A condition was found to hold no more; its end was not seen.
    ConditionGone {
        /// When it was found: it ended before.
        at: BootNs,
        /// The condition, as for `ConditionEnd`.
        condition: Box<Condition>,
    },
    /// Something was lost.
    Loss(Loss),
    /// From now on a class is watched in this way (a second report of a class replaces the first).
    Coverage(Coverage),
    /// Every member of this set that exists has been reported: what the store remembers beyond them is gone.
    Complete(Inventory),
    /// Everything that the sensor saw before this instant has been given.
    Reached(BootNs),
}
