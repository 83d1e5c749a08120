//! What is done with files.

use super::{Actor, BootNs, FileVersion, ImageId};

/// Names an access to a file for as long as it lasts: which image, which file, how.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct AccessId {
    /// Who.
    pub image: ImageId,
    /// Device of the file, major * 2^20 + minor.
    pub dev: u32,
    /// Its inode.
    pub inode: u64,
    /// How, in the kernel programs' own bits.
    pub access: u32,
    /// Which of the files that had this number one after the other, and by which name.
    pub which: u32,
    /// When it began: the same image may have the same file again later.
    pub at: BootNs,
}

/// What was done with a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "they are named after the system calls that do them")]
pub enum FileOperation {
    Open,
    /// Opened, and made by that.
    Create,
    /// Opened, and emptied by that; or by truncate(2).
    Truncate,
    /// Mapped into memory to be executed.
    Map,
    Unlink,
    Rmdir,
    Rename,
    Mkdir,
    Mknod,
    Symlink,
    Link,
    Chmod,
    Chown,
    Xattr,
    Utimes,
    Mount,
    Umount,
}

/// How a path came to be known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PathOrigin {
    /// It is the kernel's own.
    Kernel,
    /// The process's words, resolved against the directory that the kernel had; directories within them were looked up right after.
    Resolved,
    /// The process's words, resolved against the directory that the kernel had, by their letters alone.
    Named,
}

/// A path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FilePath {
    /// From the root of the process's mount namespace.
    pub path: Vec<u8>,
    /// As the process sees it, where its root is another.
    pub seen: Option<Vec<u8>>,
    /// How it is known.
    pub origin: PathOrigin,
}

/// A file, as the kernel has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileFacts {
    /// Device, major * 2^20 + minor.
    pub dev: u32,
    /// Inode.
    pub inode: u64,
    /// Type and permissions.
    pub mode: u16,
    /// Owner.
    pub owner: u32,
    /// Bytes.
    pub size: u64,
    /// It has no name any more.
    pub deleted: bool,
}

/// Something that was done with a file: at one instant, or from then on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileAccess {
    /// When.
    pub at: BootNs,
    /// Names it, if it lasts; of a rename or link, if a [`ContentDigest`] of what got a name by it will come, or word that there is none.
    pub id: Option<AccessId>,
    /// Who.
    pub actor: Actor,
    /// What.
    pub operation: FileOperation,
    /// To be read.
    pub reads: bool,
    /// To be written.
    pub writes: bool,
    /// Which file.
    pub path: FilePath,
    /// The other path, of a rename, link or mount.
    pub target: Option<FilePath>,
    /// The text of a symbolic link, the name of an attribute, the source of a mount.
    pub text: Option<Vec<u8>>,
    /// The file, where the kernel had it at hand.
    pub file: Option<FileFacts>,
    /// The descriptor.
    pub fd: Option<u32>,
    /// The permissions that chmod, mkdir or mknod asked for.
    pub permissions: Option<u16>,
    /// The owner and the group that chown asked for; `None` for one that stays.
    pub owners: Option<(Option<u32>, Option<u32>)>,
    /// 0, or the error number of the refusal; `None` for a request to io_uring of which nothing was heard any more.
    pub result: Option<i32>,
    /// It was asked for through io_uring.
    pub ring: bool,
    /// Mount namespace, 0 where unknown.
    pub mntns: u32,
}

/// What an access ended by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EndedBy {
    /// The file was closed.
    Close,
    /// Its process ended.
    Exit,
    /// The process runs another image now, and the file was to be closed then.
    Exec,
    /// Nobody saw it; it was over at the latest when it was told.
    Unseen,
}

/// How an access ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AccessEnd {
    /// By what.
    pub by: EndedBy,
    /// How often it was opened, folded into this one access.
    pub opens: u32,
    /// What the last close found; `None` where it was not seen.
    pub closed: Option<Closed>,
    /// The contents that it left there, if a [`ContentDigest`] of them came before or will come.
    pub content: Option<FileVersion>,
}

/// What a close finds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Closed {
    /// Size in bytes.
    pub size: u64,
    /// The file's own position: how far it was read or written, unless by pread, pwrite or a mapping.
    pub position: u64,
    /// Its contents changed meanwhile.
    pub modified: bool,
}

/// The digest of what an access left in a file, or that there is none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContentDigest {
    /// When it was read.
    pub at: BootNs,
    /// The access.
    pub id: AccessId,
    /// Which contents, as of the close; of a rename or link [`FileVersion::unseen`].
    pub content: FileVersion,
    /// What was found; `None` if it could not be read as it was, which a loss tells of.
    pub found: Option<FoundContent>,
}

/// Contents that were read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundContent {
    /// Where the file was then, in luarm's mount namespace.
    pub path: Vec<u8>,
    /// Device of the file, major * 2^20 + minor.
    pub dev: u32,
    /// The file as it was then. If anything but the contents changed since the close (name, owner, permissions…), its times are others.
    pub version: FileVersion,
    /// SHA-256.
    pub sha256: [u8; 32],
}
