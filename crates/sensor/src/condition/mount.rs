//! Mounts.

/// A mounted file system, as /proc/pid/mountinfo tells of it (proc_pid_mountinfo(5)).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Mount {
    /// The kernel's number of the mount, unique while it lasts.
    pub id: u32,
    /// Where it is mounted.
    pub point: Vec<u8>,
    /// The directory of the file system that is mounted there, `/` for the whole.
    pub root: Vec<u8>,
    /// Type of the file system.
    pub filesystem: Vec<u8>,
    /// What was mounted: a device, a server's export, or any word.
    pub source: Vec<u8>,
    /// Options of the mount, then those of the file system.
    pub options: Vec<u8>,
    /// Device number of its files, major and minor.
    pub device: (u32, u32),
    /// Name of the block device that it lies on.
    pub block_device: Option<Vec<u8>>,
    /// [`Device::path`](super::Device::path) of what provides that: the USB device where there is one, else the disk.
    pub attached_to: Option<Vec<u8>>,
}
