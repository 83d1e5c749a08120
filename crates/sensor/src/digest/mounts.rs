//! The kernel's own numbers of file systems. To those who ask, some file systems (btrfs) give others.

use std::{
    ffi::OsStr,
    fs,
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
};

use rustix::fs::Statx;

pub(crate) const MOUNTS: &str = "/proc/self/mountinfo";
/// Beside those of FUSE and NFS.
const REMOTE: &[&[u8]] = &[
    b"9p",
    b"afs",
    b"autofs",
    b"ceph",
    b"cifs",
    b"coda",
    b"gfs2",
    b"lustre",
    b"ocfs2",
    b"orangefs",
    b"smb3",
    b"virtiofs",
];

/// The mounts of luarm's own mount namespace, as of one moment.
#[derive(Debug)]
pub(crate) struct Mounts(Vec<Mount>);

impl Mounts {
    pub(crate) fn read() -> Self {
        let list = fs::read(MOUNTS).unwrap_or_default();
        Self(list.split(|b| *b == b'\n').filter_map(line).collect())
    }

    /// What is mounted over a path, by its letters.
    fn over(&self, path: &Path) -> Option<&Mount> {
        // Of two over the same directory, the later one counts.
        let over = self.0.iter().filter(|mount| path.starts_with(&mount.point));
        over.max_by_key(|mount| mount.point.as_os_str().len())
    }

    /// Whether somebody else answers for what is at a path, by its letters: a server or a process. Whoever asks there may wait for ever.
    pub(crate) fn is_remote(&self, path: &Path) -> bool {
        self.over(path).is_some_and(Mount::is_remote)
    }

    /// Whether the kernel itself answers for what is on the mount of the root.
    pub(crate) fn has_local_root(&self) -> bool {
        self.over(Path::new("/")).is_some_and(|root| !root.is_remote())
    }

    /// Whether somebody else answers for a file that was found; also where its mount is not known any more.
    pub(crate) fn has_remote(&self, facts: &Statx) -> bool {
        self.0.iter().find(|mount| mount.id == facts.stx_mnt_id).is_none_or(Mount::is_remote)
    }

    /// The device that a file is on, as the kernel's programs see it: major * 2^20 + minor.
    pub(crate) fn device_of(&self, facts: &Statx) -> u32 {
        let mounted = || self.0.iter().find(|mount| mount.id == facts.stx_mnt_id).map(|mount| mount.dev);
        if facts.stx_dev_major == 0 { mounted() } else { None }.unwrap_or_else(|| number(facts))
    }
}

/// The device of a file that was found; `None` where somebody else answers for it.
pub(super) fn local_device(facts: &Statx) -> Option<u32> {
    let mounts = Mounts::read();
    (!mounts.has_remote(facts)).then(|| mounts.device_of(facts))
}

/// Whether a file is on the device of that number.
pub(super) fn is_on(facts: &Statx, dev: u32) -> bool {
    number(facts) == dev || facts.stx_dev_major == 0 && Mounts::read().device_of(facts) == dev
}

/// The device that is mounted over a path, by its letters.
pub(super) fn over(path: &Path) -> Option<u32> {
    Mounts::read().over(path).map(|mount| mount.dev)
}

fn number(facts: &Statx) -> u32 {
    facts.stx_dev_major << 20 | facts.stx_dev_minor
}

#[derive(Debug)]
struct Mount {
    id: u64,
    dev: u32,
    point: PathBuf,
    /// The type of the file system.
    kind: Vec<u8>,
}

impl Mount {
    fn is_remote(&self) -> bool {
        let kind = self.kind.as_slice();
        REMOTE.contains(&kind) || kind.starts_with(b"fuse") || kind.starts_with(b"nfs")
    }
}

/// `36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 …`: id, parent, device, root, mount point, options, tags, type.
fn line(line: &[u8]) -> Option<Mount> {
    let mut fields = line.split(|b| *b == b' ');
    let id = std::str::from_utf8(fields.next()?).ok()?.parse().ok()?;
    let (major, minor) = std::str::from_utf8(fields.nth(1)?).ok()?.split_once(':')?;
    let dev = major.parse::<u32>().ok()? << 20 | minor.parse::<u32>().ok()?;
    let point = unescaped(fields.nth(1)?);
    let kind = fields.skip_while(|field| *field != b"-").nth(1).unwrap_or_default().to_vec();
    Some(Mount { id, dev, point: OsStr::from_bytes(&point).into(), kind })
}

/// The kernel writes blanks, tabs, line feeds and backslashes as octal numbers.
fn unescaped(field: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((first, after)) = rest.split_first() {
        let number = after.get(..3).and_then(|digits| std::str::from_utf8(digits).ok());
        match number.and_then(|digits| u8::from_str_radix(digits, 8).ok()).filter(|_| *first == b'\\') {
            Some(byte) => {
                out.push(byte);
                rest = &after[3..];
            }
            None => {
                out.push(*first);
                rest = after;
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use rustix::fs::{AtFlags, CWD, StatxFlags, statx};

    use super::*;

    #[test]
    fn a_line_of_the_kernels_list_is_read() {
        let mount =
            line(b"36 35 98:5 /mnt1 /a\\040b/c\\134d rw,noatime master:1 - ext3 /dev/root rw").unwrap();
        assert_eq!((mount.id, mount.dev), (36, 98 << 20 | 5));
        assert_eq!((mount.point.as_path(), &*mount.kind), (Path::new("/a b/c\\d"), &b"ext3"[..]));
        assert!(line(b"").is_none() && line(b"36 35 98 / /").is_none());
    }

    #[test]
    fn both_ways_to_ask_agree_where_a_file_system_tells_its_own_number() {
        let facts = statx(CWD, "/proc/self", AtFlags::empty(), StatxFlags::BASIC_STATS | StatxFlags::MNT_ID);
        let facts = facts.unwrap();
        let dev = Mounts::read().device_of(&facts);
        assert_eq!(over(Path::new("/proc/self")), Some(dev));
        assert!(is_on(&facts, dev) && !is_on(&facts, u32::MAX));
        assert!(!Mounts::read().is_remote(Path::new("/proc/self")));
    }

    proptest::proptest! {
        #[test]
        fn any_line_is_read_or_refused(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..200)) {
            line(&bytes);
        }
    }
}
