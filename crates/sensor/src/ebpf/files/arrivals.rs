//! Files that get into a place whose files are digested without a close there: moved or linked in from elsewhere, or made without a name (`O_TMPFILE`) and
//! given one.

use std::{collections::HashMap, rc::Rc};

use rustix::fs::{FileType, OFlags, ResolveFlags};

use super::super::places::Names;
use crate::{
    digest::{Arrival, Content, Digests},
    lookup::Lookups,
    observation::{AccessId, FileAccess, FileOperation},
};

/// Names that are remembered; at more, all before are forgotten.
const REMEMBERED: usize = 1024;

/// Which file it is: what the kernel said, or else what has the name.
#[derive(Clone, Copy)]
struct Facts {
    /// 0 where the kernel did not say it: to those who ask, some file systems tell another.
    dev: u32,
    inode: u64,
    kind: FileType,
}

/// Asks for the digests of what comes, and remembers what was linked: a file that is closed after it got its first name has none in the eyes of the kernel.
pub(super) struct Arrivals {
    /// The host's own mount namespace.
    mntns: u32,
    /// By inode.
    names: HashMap<u64, Vec<u8>>,
    lookups: Rc<Lookups>,
}

impl Arrivals {
    /// `mntns` is the host's own mount namespace.
    pub(super) fn new(mntns: u32, lookups: Rc<Lookups>) -> Self {
        Self { mntns, names: HashMap::new(), lookups }
    }

    /// The name by which a file with that inode came. It may be another's by now.
    pub(super) fn name_of(&self, inode: u64) -> Option<&[u8]> {
        self.names.get(&inode).map(Vec::as_slice)
    }

    /// A rename or a link succeeded. If it brought a file into a place, its digest is asked for, and the access gets an id by which that will be told.
    pub(super) fn told(&mut self, access: &mut FileAccess, digests: &mut Digests, places: &Names) {
        let Some(target) = &access.target else { return };
        let is_link = access.operation == FileOperation::Link;
        let own = access.mntns == self.mntns;
        let (came, left) = (places.cover(&target.path), places.cover(&access.path.path));
        let (name, facts) = if came && (!left || is_link && is_nameless(access)) {
            let told = access.file.map(|file| {
                let kind = FileType::from_raw_mode(file.mode.into());
                Facts { dev: file.dev, inode: file.inode, kind }
            });
            (target.path.clone(), told.or_else(|| if own { self.look(&target.path) } else { None }))
        } else if left && !came && !is_link && own {
            // Where it was, there may be what it was exchanged for.
            let Some(other) = self.look(&access.path.path) else { return };
            (access.path.path.clone(), Some(other))
        } else {
            return;
        };
        match facts.map(|facts| facts.kind) {
            Some(FileType::RegularFile) => {}
            // What is in it has no digest.
            Some(FileType::Directory) => return digests.miss("file-digest", "directory"),
            // It is gone, or was never here; then nothing tells whether the name is the same file's.
            None if own => {}
            _ => return,
        }
        let (dev, inode) = facts.map_or((0, 0), |facts| (facts.dev, facts.inode));
        if is_link && inode != 0 {
            if self.names.len() >= REMEMBERED {
                self.names.clear();
            }
            self.names.insert(inode, name.clone());
            digests.linked(inode, &name);
        }
        let arrival = if own { Arrival::Here } else { Arrival::Elsewhere };
        let id = AccessId { image: access.actor.image, dev, inode, access: 0, which: 0, at: access.at };
        if digests.content(access.actor.euid, Content::arrived(id, name, arrival)) {
            access.id = Some(id);
        } else {
            digests.miss("file-digest", "queue-full");
        }
    }

    /// What has that name, as far as the kernel has it in memory: nothing must make the sensor wait.
    fn look(&self, path: &[u8]) -> Option<Facts> {
        let resolve = ResolveFlags::CACHED | ResolveFlags::NO_MAGICLINKS;
        let found = self.lookups.look(path, OFlags::NOFOLLOW, resolve, |_, facts| *facts).ok()?;
        Some(Facts { dev: 0, inode: found.stx_ino, kind: FileType::from_raw_mode(found.stx_mode.into()) })
    }
}

/// Whether a file had no name when it got one, as far as is known: the kernel calls it by a number sign and its inode then.
fn is_nameless(access: &FileAccess) -> bool {
    access.file.map_or_else(
        || {
            let name = access.path.path.rsplit(|b| *b == b'/').next().unwrap_or_default();
            matches!(name, [b'#', number @ ..] if !number.is_empty() && number.iter().all(u8::is_ascii_digit))
        },
        |file| file.deleted,
    )
}
