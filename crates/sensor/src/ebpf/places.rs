//! Places of which policy says something, looked up again now and then: the quiet ones, and those whose files are digested, for the kernel's table of
//! them by device and inode.

use std::{
    collections::{HashMap, hash_map::Entry},
    ffi::OsStr,
    fs,
    os::unix::ffi::OsStrExt,
    path::{Component, Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use libbpf_rs::{MapCore, MapFlags, MapHandle};
use rustix::fs::{AtFlags, CWD, StatxFlags, statx};
use zerocopy::IntoBytes;

use super::{EbpfError, quiet::Quiet, record};
use crate::digest::Mounts;

/// Entries of the kernel's table.
const LIMIT: usize = 8192;
/// The component of a path that stands for every directory there is.
const ANY: &str = "*";

/// The paths of places whose files are digested, by their numbers in the kernel's table.
#[derive(Clone, Default)]
pub(super) struct Names(Arc<Mutex<Known>>);

#[derive(Default)]
struct Known {
    paths: Vec<Vec<u8>>,
    numbers: HashMap<Vec<u8>, u32>,
}

impl Names {
    fn lock(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The path of the place of that number.
    pub(super) fn path(&self, number: u32) -> Option<Vec<u8>> {
        self.lock().paths.get(number as usize).cloned()
    }

    /// Whether a path is that of a place, or below one, by its letters.
    pub(super) fn cover(&self, path: &[u8]) -> bool {
        let known = self.lock();
        if known.paths.is_empty() {
            return false;
        }
        let ends = path.iter().enumerate().filter(|(at, byte)| **byte == b'/' && *at > 0).map(|(at, _)| at);
        ends.chain([1, path.len()]).any(|end| path.get(..end).is_some_and(|p| known.numbers.contains_key(p)))
    }

    /// The number of a place; a place that was once known keeps its own.
    fn number(&self, place: &Path) -> Option<u32> {
        let mut known = self.lock();
        let place = place.as_os_str().as_bytes();
        if let Some(number) = known.numbers.get(place) {
            return Some(*number);
        }
        let number = u32::try_from(known.paths.len()).ok().filter(|_| known.paths.len() < LIMIT)?;
        known.paths.push(place.to_vec());
        known.numbers.insert(place.to_vec(), number);
        Some(number)
    }
}

/// Keeps the kernel's table of places.
pub(super) struct Places {
    table: MapHandle,
    quiet: Quiet,
    digested: Vec<PathBuf>,
    names: Names,
    entries: HashMap<(u64, u32), u32>,
}

impl Places {
    /// Fills the table.
    pub(super) fn new(
        table: &libbpf_rs::Map<'_>,
        quiet: Quiet,
        digested: &[PathBuf],
    ) -> Result<Self, EbpfError> {
        let wrong =
            |e: libbpf_rs::Error| EbpfError::Refused(format!("cannot keep the table of places: {e:#}"));
        let table = MapHandle::try_from(table).map_err(wrong)?;
        let digested = digested.to_vec();
        let mut places = Self { table, quiet, digested, names: Names::default(), entries: HashMap::new() };
        places.refresh();
        Ok(places)
    }

    /// The paths of the places that are digested.
    pub(super) fn names(&self) -> Names {
        self.names.clone()
    }

    /// Of the quiet places and of the others those that are there, as they were given.
    pub(super) fn there(&self) -> [String; 2] {
        let mounts = Mounts::read();
        let is_there = |place: &&PathBuf| expand(place, &mounts).iter().any(|p| inode(p, &mounts).is_some());
        let there = self.digested.iter().filter(is_there);
        let digested: Vec<_> = there.map(|place| place.display().to_string()).collect();
        [self.quiet.there(), digested.join(" ")]
    }

    /// Looks up the places: some of them come, go and are replaced.
    pub(super) fn refresh(&mut self) {
        let mut entries: HashMap<(u64, u32), u32> = HashMap::new();
        let mounts = Mounts::read();
        self.quiet.refresh(&mounts);
        for place in self.digested.iter().flat_map(|place| expand(place, &mounts)) {
            let Some(key) = inode(&place, &mounts) else { continue };
            // Files are looked for without symbolic links.
            let place = fs::canonicalize(&place).unwrap_or(place);
            if let Entry::Vacant(entry) = entries.entry(key)
                && let Some(number) = self.names.number(&place)
            {
                entry.insert(number + 1);
            }
        }
        let bytes = |&(inode, dev): &(u64, u32)| record::Place { inode, dev, pad: 0 };
        for key in self.entries.keys().filter(|key| !entries.contains_key(key)) {
            // It may have gone by itself.
            let _ = self.table.delete(bytes(key).as_bytes());
        }
        for (key, said) in entries.iter().filter(|(key, said)| self.entries.get(key) != Some(said)) {
            if let Err(e) = self.table.update(bytes(key).as_bytes(), &said.to_ne_bytes(), MapFlags::ANY) {
                tracing::warn!("cannot tell the kernel of a place of files: {e:#}");
            }
        }
        self.entries = entries;
    }
}

fn inode(place: &Path, mounts: &Mounts) -> Option<(u64, u32)> {
    if mounts.is_remote(place) {
        return None;
    }
    let mask = StatxFlags::BASIC_STATS | StatxFlags::MNT_ID;
    let facts = statx(CWD, place, AtFlags::empty(), mask).ok()?;
    Some((facts.stx_ino, mounts.device_of(&facts)))
}

/// The paths that a place stands for.
fn expand(place: &Path, mounts: &Mounts) -> Vec<PathBuf> {
    let mut paths = vec![PathBuf::new()];
    for component in place.components() {
        if component != Component::Normal(OsStr::new(ANY)) {
            paths.iter_mut().for_each(|path| path.push(component));
            continue;
        }
        let below = |path: &PathBuf| if mounts.is_remote(path) { None } else { fs::read_dir(path).ok() };
        let entries = paths.iter().filter_map(below).flatten().filter_map(Result::ok);
        let directories = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
        let mut found: Vec<PathBuf> = directories.take(LIMIT).map(|entry| entry.path()).collect();
        found.sort();
        paths = found;
    }
    paths
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stands_for_every_directory() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["b/.ssh", "a/.ssh", "c"] {
            fs::create_dir_all(dir.path().join(name)).unwrap();
        }
        fs::write(dir.path().join("file"), "").unwrap();
        std::os::unix::fs::symlink("a", dir.path().join("link")).unwrap();
        let expand = |place: &Path| expand(place, &Mounts::read());
        let found = expand(&dir.path().join("*/.ssh"));
        assert_eq!(found, ["a/.ssh", "b/.ssh", "c/.ssh"].map(|name| dir.path().join(name)));
        assert_eq!(expand(Path::new("/no/*/where")), [] as [PathBuf; 0]);
        assert_eq!(expand(Path::new("/etc")), [Path::new("/etc")]);
    }

    #[test]
    fn a_place_keeps_its_number() {
        let names = Names::default();
        let number = |place: &str| names.number(Path::new(place));
        assert_eq!((number("/a"), number("/b"), number("/a")), (Some(0), Some(1), Some(0)));
        assert_eq!(names.path(1), Some(b"/b".to_vec()));
        assert_eq!(names.path(2), None);
    }

    #[test]
    fn a_place_covers_what_is_below_it() {
        let names = Names::default();
        assert!(!names.cover(b"/etc/x"));
        names.number(Path::new("/etc/cron.d"));
        names.number(Path::new("/srv/file"));
        for path in ["/etc/cron.d/x", "/etc/cron.d/a/b", "/etc/cron.d", "/srv/file"] {
            assert!(names.cover(path.as_bytes()), "{path}");
        }
        for path in ["/etc/cron.daily/x", "/etc", "/", "", "etc/cron.d/x", "/srv/file~"] {
            assert!(!names.cover(path.as_bytes()), "{path}");
        }
        names.number(Path::new("/"));
        assert!(names.cover(b"/anything"));
    }
}
