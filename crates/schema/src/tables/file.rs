//! Files.

use std::sync::Arc;

use crate::{Time, Word};

table! {
    /// File operations and open-file intervals. Declared, not recorded yet: `coverageinfo` says so.
    fileinfo: FileInfo, FileInfoEnd, key fileaccessid;
    begin {
        /// Number of the access, ordered by time.
        fileaccessid: i64,
        /// The image that did it.
        psentity: i64,
        /// What was done.
        operation: Word,
        /// Name of the file.
        filename: String,
        /// Directory of the file.
        location: String,
        /// Effective user.
        username: Arc<str>,
        /// Task name.
        application: String,
        /// File descriptor.
        fd: Option<i32>,
        /// Process id.
        pid: u32,
        /// Size in bytes.
        size: Option<u64>,
        /// 0 or the kernel's error number.
        result: i32,
        /// When it was opened or done.
        created: Time,
    }
    end {
        /// When it was closed.
        destroyed: Time,
    }
    derived {}
    index { (filename) (psentity) }
}
