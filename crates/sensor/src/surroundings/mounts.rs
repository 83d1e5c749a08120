//! Mounts, by /proc/1/mountinfo: the mount namespace of the host.

use std::{
    collections::HashMap,
    fs::File,
    io::{self, Read},
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, epoll, poll},
    io::Errno,
};

use super::sysfs::Sysfs;
use crate::{capability::Duty, condition::Mount, lookup::Lookups};

/// A list that is longer is not read to its end; 50,000 mounts have about 10 MB.
const LIMIT: u64 = 64 << 20;

/// The list of mounts, and what tells that it changed.
pub(super) struct Mounts {
    root: PathBuf,
    file: &'static str,
    alarm: OwnedFd,
    // Registered with the alarm, and so to be held open.
    _watched: File,
    // Each open file tells of a change once; this one tells whether to look. None where a file never tells.
    asked: Option<File>,
    last: Vec<u8>,
    known: HashMap<u32, Mount>,
    lookups: Lookups,
}

/// How the mounts differ from those before.
#[derive(Default)]
pub(super) struct Difference {
    /// Mounts that are gone. One that was only mounted anew with other options is not.
    pub(super) gone: Vec<Mount>,
    /// Mounts that are new or have other values.
    pub(super) new: Vec<Mount>,
    /// The list is as it was.
    pub(super) none: bool,
    /// The list was longer than was read.
    pub(super) cut: bool,
}

impl Mounts {
    /// Begins to watch. Whose namespace that of pid 1 is not to look into, watches its own.
    pub(super) fn open(root: &Path) -> io::Result<Self> {
        let file = ["proc/1/mountinfo", "proc/self/mountinfo"]
            .into_iter()
            .find(|file| File::open(root.join(file)).is_ok_and(|mut f| f.read(&mut [0]).is_ok()))
            .ok_or(io::ErrorKind::NotFound)?;
        let watched = File::open(root.join(file))?;
        let alarm = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        // The list is always readable; a change is an exceptional condition (proc_pid_mounts(5)). A file of a made-up tree has none.
        let asked = match epoll::add(&alarm, &watched, epoll::EventData::new_u64(0), epoll::EventFlags::PRI) {
            Ok(()) => Some(File::open(root.join(file))?),
            Err(Errno::PERM) => None,
            Err(errno) => return Err(errno.into()),
        };
        Ok(Self {
            root: root.to_owned(),
            file,
            alarm,
            _watched: watched,
            asked,
            last: Vec::new(),
            known: HashMap::new(),
            lookups: Lookups::brief(Duty::Surroundings),
        })
    }

    /// The file that is read.
    pub(super) fn hook(&self) -> String {
        format!("/{}", self.file)
    }

    pub(super) fn descriptor(&self) -> BorrowedFd<'_> {
        self.alarm.as_fd()
    }

    /// Whether mounts changed since this was asked before; `None` where that is not to be known.
    pub(super) fn have_changed(&self) -> Option<bool> {
        let asked = self.asked.as_ref()?;
        Some(poll(&mut [PollFd::new(asked, PollFlags::PRI)], Some(&Timespec::default())) != Ok(0))
    }

    /// Reads the list, and finds what changed.
    pub(super) fn look(&mut self, sysfs: &Sysfs) -> Difference {
        let mut bytes = Vec::with_capacity(self.last.len());
        let read =
            File::open(self.root.join(self.file)).and_then(|file| file.take(LIMIT).read_to_end(&mut bytes));
        let mut difference = Difference::default();
        if read.is_err() || bytes == self.last {
            difference.none = true;
            return difference;
        }
        difference.cut = bytes.len() as u64 == LIMIT;
        let mut before = std::mem::take(&mut self.known);
        for line in bytes.split(|byte| *byte == b'\n') {
            let Some(mut mount) = parse(line) else { continue };
            match before.remove(&mount.id) {
                Some(known) if is_same(&known, &mount) => {
                    self.known.insert(mount.id, known);
                }
                known => {
                    // The number of a mount that is gone is soon given to another.
                    difference.gone.extend(known.filter(|known| !is_same(known, &remounted(&mount, known))));
                    self.locate(&mut mount, sysfs);
                    difference.new.push(mount.clone());
                    self.known.insert(mount.id, mount);
                }
            }
        }
        difference.gone.extend(before.into_values());
        difference.gone.sort_unstable_by_key(|mount| mount.id);
        self.last = bytes;
        difference
    }

    /// Finds the device below a mount.
    fn locate(&self, mount: &mut Mount, sysfs: &Sysfs) {
        // Of btrfs, for one, the number of the files is not that of a block device.
        let by_source = || {
            let node = std::path::absolute(std::ffi::OsStr::from_bytes(&mount.source)).ok()?;
            let node =
                self.root.join(node.strip_prefix("/dev").ok().map(|name| Path::new("dev").join(name))?);
            // Whoever mounts something of FUSE chooses its source: it may lead back there.
            let way = node.clone();
            let found = self.lookups.ask(node.as_os_str().as_bytes(), move || way.canonicalize().ok());
            let node = found.ok().flatten().unwrap_or(node);
            sysfs.block_by_name(node.file_name()?.as_bytes())
        };
        let Some(block) = sysfs.block_by_number(mount.device).or_else(by_source) else { return };
        mount.block_device = block.rsplit(|byte| *byte == b'/').next().map(<[u8]>::to_vec);
        mount.attached_to = Some(sysfs.attached_to(&block));
    }
}

/// Whether the list says the same of two mounts.
fn is_same(known: &Mount, listed: &Mount) -> bool {
    let Mount { id, point, root, filesystem, source, options, device, block_device: _, attached_to: _ } =
        listed;
    (known.id, known.device) == (*id, *device)
        && (&known.point, &known.root, &known.options) == (point, root, options)
        && (&known.filesystem, &known.source) == (filesystem, source)
}

/// A mount with the options that another has.
fn remounted(mount: &Mount, other: &Mount) -> Mount {
    Mount { options: other.options.clone(), ..mount.clone() }
}

/// Reads `36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw,errors=continue`.
pub(super) fn parse(line: &[u8]) -> Option<Mount> {
    let mut fields = line.split(|byte| *byte == b' ');
    let id = number(fields.next()?)?;
    let mut device = fields.nth(1)?.split(|byte| *byte == b':');
    let device = (number(device.next()?)?, number(device.next()?)?);
    let (root, point, mut options) =
        (unescape(fields.next()?), unescape(fields.next()?), fields.next()?.to_vec());
    fields.find(|field| *field == b"-")?;
    let (filesystem, source) = (unescape(fields.next()?), unescape(fields.next()?));
    if let Some(more) = fields.next() {
        options.push(b' ');
        options.extend_from_slice(more);
    }
    Some(Mount {
        id,
        point,
        root,
        filesystem,
        source,
        options,
        device,
        block_device: None,
        attached_to: None,
    })
}

fn number(field: &[u8]) -> Option<u32> {
    std::str::from_utf8(field).ok()?.parse().ok()
}

/// Blanks, tabs, newlines and backslashes stand as `\040` and so on.
fn unescape(field: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(field.len());
    let mut rest = field;
    while let [first, after @ ..] = rest {
        let octal =
            after.get(..3).filter(|_| *first == b'\\').and_then(|digits| std::str::from_utf8(digits).ok());
        match octal.and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(byte) => {
                out.push(byte);
                rest = after.get(3..).unwrap_or_default();
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
    use std::fs;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_line_is_a_mount() {
        let line = br"36 35 8:1 /sub /mnt/a\040stick\134 rw,noatime shared:1 master:2 - vfat /dev/sda1 rw,codepage=437";
        let mount = parse(line).unwrap();
        assert_eq!((mount.id, mount.device), (36, (8, 1)));
        assert_eq!(mount.point, b"/mnt/a stick\\");
        assert_eq!(
            (&mount.root[..], &mount.filesystem[..], &mount.source[..]),
            (&b"/sub"[..], &b"vfat"[..], &b"/dev/sda1"[..])
        );
        assert_eq!(mount.options, b"rw,noatime rw,codepage=437");
        for strange in
            ["", "36", "36 35 8:1 / /mnt rw", "x 35 8:1 / /mnt rw - a b c", "36 35 8 / /mnt rw - a b c"]
        {
            assert_eq!(parse(strange.as_bytes()), None, "{strange}");
        }
    }

    proptest! {
        #[test]
        fn any_line_is_read_without_harm(line in proptest::collection::vec(any::<u8>(), 0..200)) {
            parse(&line);
            prop_assert!(unescape(&line).len() <= line.len());
        }
    }

    #[test]
    fn what_changed_is_found() {
        let root = tempfile::tempdir().unwrap();
        let file = root.path().join("proc/1/mountinfo");
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        let (a, b) = ("1 0 8:1 / / rw - ext4 /dev/sda1 rw\n", "2 1 0:5 / /tmp rw - tmpfs tmpfs rw\n");
        fs::write(&file, [a, b].concat()).unwrap();
        let sysfs = Sysfs::new(root.path());
        let mut mounts = Mounts::open(root.path()).unwrap();
        let mut look = |text: &str| {
            fs::write(&file, text).unwrap();
            let Difference { gone, new, .. } = mounts.look(&sysfs);
            let ids = |mounts: Vec<Mount>| mounts.iter().map(|mount| mount.id).collect::<Vec<_>>();
            (ids(gone), ids(new))
        };
        assert_eq!(look(&[a, b].concat()), (vec![], vec![1, 2]));
        assert_eq!(look(&[a, b].concat()), (vec![], vec![]));
        assert_eq!(look(&[&a.replace("rw", "ro"), b].concat()), (vec![], vec![1]));
        assert_eq!(look(b), (vec![1], vec![]));
        assert_eq!(look(&b.replace("0:5 ", "0:6 ")), (vec![2], vec![2]));
        assert_eq!(look(""), (vec![2], vec![]));
    }
}
