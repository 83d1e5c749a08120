//! /proc/PID/status, io, cgroup, loginuid and sessionid.

use crate::observation::{Capabilities, Credentials};

const UNSET: u32 = u32::MAX;

/// What /proc/PID/status says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Status {
    /// User and group ids.
    pub credentials: Credentials,
    /// Peak resident memory, bytes; 0 for a kernel thread.
    pub peak_resident: u64,
    /// Effective capabilities, one bit each.
    pub effective: u64,
}

impl Status {
    /// Parses the file. The ids must be there.
    pub fn parse(status: &[u8]) -> Option<Self> {
        // Only the name is the process's to choose, and the kernel escapes newlines in it.
        let [uid, euid, suid, fsuid] = ids(value(status, b"Uid:")?)?;
        let [gid, egid, sgid, fsgid] = ids(value(status, b"Gid:")?)?;
        let kibibytes =
            value(status, b"VmHWM:").and_then(|text| text.strip_suffix(" kB")?.trim().parse::<u64>().ok());
        let set = |key| u64::from_str_radix(value(status, key)?, 16).ok();
        let effective = set(b"CapEff:");
        let capabilities = set(b"CapInh:")
            .zip(set(b"CapPrm:"))
            .zip(effective)
            .map(|((inheritable, permitted), effective)| Capabilities { inheritable, permitted, effective });
        Some(Self {
            credentials: Credentials { uid, euid, suid, fsuid, gid, egid, sgid, fsgid, capabilities },
            peak_resident: kibibytes.unwrap_or(0).saturating_mul(1024),
            effective: effective.unwrap_or(0),
        })
    }
}

/// What /proc/PID/io says, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[expect(missing_docs, reason = "the kernel's names, see proc_pid_io(5)")]
pub struct Io {
    pub rchar: u64,
    pub wchar: u64,
    pub read_bytes: u64,
    pub write_bytes: u64,
}

impl Io {
    /// Parses the file.
    pub fn parse(io: &[u8]) -> Option<Self> {
        let number = |key: &[u8]| value(io, key)?.parse().ok();
        Some(Self {
            rchar: number(b"rchar:")?,
            wchar: number(b"wchar:")?,
            read_bytes: number(b"read_bytes:")?,
            write_bytes: number(b"write_bytes:")?,
        })
    }
}

/// The path in the version 2 hierarchy; `None` for its root.
pub(super) fn cgroup(file: &[u8]) -> Option<Vec<u8>> {
    let path = file.split(|byte| *byte == b'\n').find_map(|line| line.strip_prefix(b"0::"))?;
    (path != b"/" && !path.is_empty()).then(|| path.to_vec())
}

/// An id that may be unset, as in loginuid and sessionid.
pub(super) fn login(file: &[u8]) -> Option<u32> {
    std::str::from_utf8(file).ok()?.trim().parse().ok().filter(|id| *id != UNSET)
}

fn value<'a>(file: &'a [u8], key: &[u8]) -> Option<&'a str> {
    let value = file.split(|byte| *byte == b'\n').find_map(|line| line.strip_prefix(key))?;
    std::str::from_utf8(value).ok().map(str::trim)
}

fn ids(text: &str) -> Option<[u32; 4]> {
    let ids: Vec<u32> = text.split_ascii_whitespace().map(str::parse).collect::<Result<_, _>>().ok()?;
    ids.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_gives_ids_and_peak() {
        let status = b"Name:\ta\\nUid:\t9\t9\t9\t9\nUid:\t1\t2\t3\t4\nGid:\t5\t6\t7\t8\nVmHWM:\t    1736 kB\nCapInh:\t0000000000000400\nCapPrm:\t000001ffffffffff\nCapEff:\t000001fffeffffff\n";
        let capabilities =
            Some(Capabilities { inheritable: 0x400, permitted: 0x1ff_ffff_ffff, effective: 0x1ff_feff_ffff });
        let credentials = Credentials {
            uid: 1,
            euid: 2,
            suid: 3,
            fsuid: 4,
            gid: 5,
            egid: 6,
            sgid: 7,
            fsgid: 8,
            capabilities,
        };
        let expected = Status { credentials, peak_resident: 1736 * 1024, effective: 0x1ff_feff_ffff };
        assert_eq!(Status::parse(status), Some(expected));
        assert_eq!(Status::parse(b"Name:\tx\nUid:\t1\t2\t3\nGid:\t1\t1\t1\t1\n"), None);
        assert_eq!(Status::parse(b"\xff\xfe"), None);
    }

    #[test]
    fn the_other_files_are_read() {
        let io = b"rchar: 1\nwchar: 2\nsyscr: 3\nsyscw: 4\nread_bytes: 5\nwrite_bytes: 6\ncancelled_write_bytes: 7\n";
        assert_eq!(Io::parse(io), Some(Io { rchar: 1, wchar: 2, read_bytes: 5, write_bytes: 6 }));
        assert_eq!(Io::parse(b""), None);
        assert_eq!(cgroup(b"1:cpu:/x\n0::/system.slice/a:b\n"), Some(b"/system.slice/a:b".to_vec()));
        assert_eq!(cgroup(b"0::/\n"), None);
        assert_eq!(cgroup(b"1:cpu:/\n"), None);
        assert_eq!((login(b"4294967295"), login(b"1000"), login(b"")), (None, Some(1000), None));
    }
}
