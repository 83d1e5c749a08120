//! The kernel's own numbers of file systems. To those who ask, some file systems (btrfs) give others.

use std::{
    ffi::OsStr,
    fs,
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
};

use rustix::fs::Statx;

const MOUNTS: &str = "/proc/self/mountinfo";
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

/// Whether a file is on the device of that number, major * 2^20 + minor.
pub(crate) fn device(facts: &Statx, wanted: u32) -> bool {
    number(facts) == wanted || facts.stx_dev_major == 0 && mounted(facts) == Some(wanted)
}

/// The device that a file is on, as the kernel's programs see it.
pub(crate) fn device_of(facts: &Statx) -> u32 {
    if facts.stx_dev_major == 0 { mounted(facts) } else { None }.unwrap_or_else(|| number(facts))
}

/// The device that is mounted over a path, by its letters.
pub(super) fn over(path: &Path) -> Option<u32> {
    let mounts = fs::read(MOUNTS).ok()?;
    let lines = mounts.split(|b| *b == b'\n').filter_map(line);
    // Of two over the same directory, the later one counts.
    lines
        .filter(|mount| path.starts_with(&mount.point))
        .max_by_key(|mount| mount.point.as_os_str().len())
        .map(|m| m.dev)
}

/// Whether somebody else answers for what is at a path, by its letters: a server or a process. Whoever asks there may wait for ever.
pub(crate) fn is_remote(path: &Path) -> bool {
    let Ok(mounts) = fs::read(MOUNTS) else { return false };
    let lines = mounts.split(|b| *b == b'\n').filter_map(line);
    let over = lines
        .filter(|mount| path.starts_with(&mount.point))
        .max_by_key(|mount| mount.point.as_os_str().len());
    over.is_some_and(|mount| {
        REMOTE.contains(&mount.kind.as_slice())
            || mount.kind.starts_with(b"fuse")
            || mount.kind.starts_with(b"nfs")
    })
}

fn number(facts: &Statx) -> u32 {
    facts.stx_dev_major << 20 | facts.stx_dev_minor
}

fn mounted(facts: &Statx) -> Option<u32> {
    let mounts = fs::read(MOUNTS).ok()?;
    mounts.split(|b| *b == b'\n').filter_map(line).find(|mount| mount.id == facts.stx_mnt_id).map(|m| m.dev)
}

struct Mount {
    id: u64,
    dev: u32,
    point: PathBuf,
    /// The type of the file system.
    kind: Vec<u8>,
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
        assert_eq!(over(Path::new("/proc/self")), Some(device_of(&facts)));
        assert!(device(&facts, device_of(&facts)) && !device(&facts, u32::MAX));
    }

    proptest::proptest! {
        #[test]
        fn any_line_is_read_or_refused(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..200)) {
            line(&bytes);
        }
    }
}
