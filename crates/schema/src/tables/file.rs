//! Files.

use std::sync::Arc;

use crate::{Time, Word};

table! {
    /// What was done with files: accesses, from open to close, and operations on names and attributes, which take an instant. Refusals (EACCES, EPERM, EROFS,
    /// ETXTBSY) are rows too, with their `result`. What the policy leaves out stands in `coverageinfo.reason` of the class `file`. The same image opening the
    /// same file in the same way again within a second is the same row; `opens` counts.
    fileinfo: FileInfo, FileInfoEnd, key fileaccessid;
    begin {
        /// Number of the row, ordered by time.
        fileaccessid: i64,
        /// The image that did it.
        psentity: i64,
        /// `open`; `create`, the open made it; `truncate`, the open emptied it, or truncate(2) changed its size; `exec-map`, mapped to be executed; `unlink`,
        /// `rmdir`, `rename`, `mkdir`, `mknod`, `symlink`, `link`, `chmod`, `chown`, `xattr`, `utimes`, `mount`, `umount`.
        operation: Word,
        /// To be read, written or both: `r`, `w`, `rw`; NULL where the operation is no access.
        access: Option<Word>,
        /// Name of the file, without its directory.
        filename: String,
        /// Directory of the file, from the root of the process's mount namespace.
        location: String,
        /// How `filename`, `location` and `target` are known: `kernel`, they are the kernel's own, of the file that it opened or that it found for the operation;
        /// `resolved`, the process's words from a directory that the kernel knew, further directories within them looked up within a second; `named`, by the letters
        /// of those words. The reason of the class `file` in `coverageinfo` says for which operations the kernel's own could be had.
        pathorigin: Word,
        /// The whole path as the process saw it, where its root directory is another; else NULL.
        seenpath: Option<String>,
        /// The other whole path: the new name of a rename or link, the source of a move_mount.
        target: Option<String>,
        /// What else the operation named: the text of a symbolic link, the name of the attribute, the source of a mount.
        detail: Option<String>,
        /// Effective user.
        username: Arc<str>,
        /// User who logged in.
        loginname: Option<Arc<str>>,
        /// Task name.
        application: String,
        /// File descriptor.
        fd: Option<u32>,
        /// Process id.
        pid: u32,
        /// Size in bytes, when it began.
        size: Option<u64>,
        /// 0 or the kernel's error number; NULL for a request to io_uring of which nothing was heard any more: it asked that its success be kept from everybody,
        /// or its process ended first.
        result: Option<i32>,
        /// `io_uring` where it was asked for through a ring; NULL for a system call.
        via: Option<Word>,
        /// Effective user id.
        uid: u32,
        /// Login user id.
        auid: Option<u32>,
        /// Login session id.
        session: Option<u32>,
        /// Device of the file, as major * 2^20 + minor; NULL where only names are known.
        device: Option<u32>,
        /// Inode of the file.
        inode: Option<u64>,
        /// Type and permissions of the file, as in `st_mode`, before the operation.
        filemode: Option<u16>,
        /// Owner of the file, before the operation.
        fileowner: Option<u32>,
        /// `deleted` where the file had no name any more.
        filestate: Option<Word>,
        /// The permissions that were asked for (chmod, mkdir, mknod).
        newmode: Option<u16>,
        /// The owner that was asked for (chown); NULL where it stays.
        newowner: Option<u32>,
        /// The group that was asked for (chown); NULL where it stays.
        newgroup: Option<u32>,
        /// Mount namespace (inode number); NULL where it is the host's own.
        mntns: Option<u32>,
        /// When it was opened or done.
        created: Time,
    }
    end {
        /// When it was closed; for an operation the same as `created`.
        destroyed: Time,
        /// How it ended: `done`, it took an instant; `close`; `exit`, its process ended; `exec`, the process went on with another image and the file was to be closed then;
        /// `unseen`, while nothing watched or in a way that nobody sees, at the latest at `destroyed`; `boot`.
        ended: Word,
        /// How often it was opened.
        opens: i64,
        /// Size in bytes at the last close; NULL where that was not seen.
        sizeafter: Option<u64>,
        /// 1 if the contents changed between open and close, else 0 (size or time of modification, whoever changed them).
        modified: Option<i32>,
        /// The file's own position at the last close: how far it was read or written, unless by pread, pwrite or a mapping.
        position: Option<u64>,
        /// SHA-256 of the contents that it left in the file, hexadecimal; where the policy has them digested (see the class `file-digest` in `coverageinfo`), and the
        /// digest was known within a second of the end. NULL where it was not: `contentinfo` may have it, `lossinfo` tells of those that there are none of.
        sha256: Option<Arc<str>>,
    }
    derived {}
    index { (filename) (inode) (psentity) }
}

table! {
    /// Contents that an access left in a file, where the policy has files digested: read right after the close, and only if the file still was the one that was closed;
    /// and those of a file that a rename or a link brought there, as they were then.
    contentinfo: ContentInfo, ContentInfoEnd, key contentid;
    begin {
        /// Number of the row, ordered by time.
        contentid: i64,
        /// The access that left them, in `fileinfo`.
        fileaccessid: i64,
        /// Name under which it was read: another one than in `fileinfo` if it was renamed since.
        filename: String,
        /// Directory where it was read.
        location: String,
        /// Device of the file, as major * 2^20 + minor.
        device: u32,
        /// Inode of the file.
        inode: u64,
        /// Size in bytes.
        size: u64,
        /// When its contents changed last.
        mtime: Time,
        /// When anything of it changed last: its contents, its name, its owner, its permissions.
        ctime: Time,
        /// 1 if nothing of it changed between the close and the reading; 0 if its name or an attribute did, so that by size and time of modification alone the
        /// contents are those of the close (or by size alone, if somebody set that time), or if there was no close, but a rename or a link: then they are what was found right after it.
        asclosed: i32,
        /// SHA-256 of its contents, hexadecimal.
        sha256: Arc<str>,
        /// When it was read.
        created: Time,
    }
    end {}
    derived {}
    index { (sha256) (fileaccessid) (inode) }
}
