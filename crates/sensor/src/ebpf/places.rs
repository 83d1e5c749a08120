//! Places of which policy says something, looked up again now and then: the quiet ones, and those whose files are digested, for the kernel's table of
//! them by device and inode.

use std::{
    collections::{BTreeMap, HashMap, hash_map::Entry},
    ffi::{OsStr, OsString},
    fs,
    os::{
        fd::OwnedFd,
        unix::ffi::{OsStrExt, OsStringExt},
    },
    path::{Component, Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use libbpf_rs::{MapCore, MapFlags, MapHandle};
use rustix::{
    fs::{OFlags, ResolveFlags, Statx},
    io::Errno,
};
use zerocopy::IntoBytes;

use super::{EbpfError, quiet::Quiet, record};
use crate::{
    capability::Duty,
    digest::Mounts,
    lookup::{Lookups, path_of},
};

/// Entries of the kernel's table.
const LIMIT: usize = 8192;
/// A file system has so long to say what is at a path.
const PATIENCE: Duration = Duration::from_secs(1);
/// The component of a path that stands for every directory there is.
const ANY: &str = "*";

/// Inode and device of a place, and its path.
type Found = ((u64, u32), PathBuf);

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
    /// For each place of the policy what its paths led to.
    found: Vec<BTreeMap<PathBuf, Found>>,
    entries: HashMap<(u64, u32), u32>,
    lookups: Lookups,
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
        let lookups = Lookups::new(Duty::Watching, PATIENCE, Duration::ZERO);
        let mut places = Self {
            table,
            quiet,
            digested,
            names: Names::default(),
            found: Vec::new(),
            entries: HashMap::new(),
            lookups,
        };
        places.refresh();
        Ok(places)
    }

    /// The paths of the places that are digested.
    pub(super) fn names(&self) -> Names {
        self.names.clone()
    }

    /// Of the quiet places and of the others those that are there, as they were given.
    pub(super) fn there(&self) -> [String; 2] {
        let there = self.digested.iter().zip(&self.found).filter(|(_, found)| !found.is_empty());
        let digested: Vec<_> = there.map(|(place, _)| place.display().to_string()).collect();
        [self.quiet.there(), digested.join(" ")]
    }

    /// Looks up the places: some of them come, go and are replaced.
    pub(super) fn refresh(&mut self) {
        let mounts = Arc::new(Mounts::read());
        self.quiet.refresh(&self.lookups);
        self.found.resize(self.digested.len(), BTreeMap::new());
        for (place, found) in self.digested.iter().zip(&mut self.found) {
            // Who does not answer has not changed anything.
            let Ok(paths) = expand(place, &mounts, &self.lookups) else { continue };
            let mut before = std::mem::take(found);
            for path in paths {
                let there = match find(&path, &mounts, &self.lookups) {
                    Err(Errno::TIMEDOUT) => before.remove(&path),
                    there => there.ok(),
                };
                found.extend(there.map(|there| (path, there)));
            }
        }
        let mut entries: HashMap<(u64, u32), u32> = HashMap::new();
        for (key, place) in self.found.iter().flat_map(BTreeMap::values) {
            if let Entry::Vacant(entry) = entries.entry(*key)
                && let Some(number) = self.names.number(place)
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

/// Device and inode of a place, and the path at which files are looked for: without symbolic links.
fn find(place: &Path, mounts: &Arc<Mounts>, lookups: &Lookups) -> Result<Found, Errno> {
    let mounts = Arc::clone(mounts);
    let take = move |file: OwnedFd, facts: &Statx| {
        if mounts.has_remote(facts) {
            return None;
        }
        let path = path_of(&file).filter(|path| path.starts_with(b"/"))?;
        Some(((facts.stx_ino, mounts.device_of(facts)), PathBuf::from(OsString::from_vec(path))))
    };
    let found = lookups.look(place.as_os_str().as_bytes(), OFlags::empty(), ResolveFlags::empty(), take);
    found?.ok_or(Errno::REMOTE)
}

/// The paths that a place stands for.
fn expand(place: &Path, mounts: &Mounts, lookups: &Lookups) -> Result<Vec<PathBuf>, Errno> {
    let mut paths = vec![PathBuf::new()];
    for component in place.components() {
        if component != Component::Normal(OsStr::new(ANY)) {
            paths.iter_mut().for_each(|path| path.push(component));
            continue;
        }
        let mut found = Vec::new();
        for path in paths.into_iter().filter(|path| !mounts.is_remote(path)) {
            let left = LIMIT.saturating_sub(found.len());
            let name = path.as_os_str().as_bytes().to_vec();
            found.append(&mut lookups.ask(&name, move || directories(&path, left))?);
        }
        found.sort();
        paths = found;
    }
    Ok(paths)
}

/// The directories in a directory, up to so many.
fn directories(path: &Path, limit: usize) -> Vec<PathBuf> {
    let entries = fs::read_dir(path).into_iter().flatten().filter_map(Result::ok);
    let directories = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    directories.take(limit).map(|entry| entry.path()).collect()
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
        let lookups = Lookups::new(Duty::Watching, Duration::from_secs(600), Duration::ZERO);
        let expand = |place: &Path| expand(place, &Mounts::read(), &lookups).unwrap();
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
