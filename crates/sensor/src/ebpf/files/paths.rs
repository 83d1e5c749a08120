//! Paths as the recorder tells them, from the words that a process used and the directory that the kernel knew.

use std::{collections::HashMap, rc::Rc};

use rustix::fs::{OFlags, ResolveFlags};

use super::super::decode::path;
use crate::{
    capability::Duty,
    lookup::{Lookups, path_of},
    observation::{FileAccess, FilePath, PathOrigin},
};

/// Directories that are remembered until the next turn.
const REMEMBERED: usize = 4096;

/// Where words start from.
pub(super) struct Base<'a> {
    /// The kernel's path, components, the last first.
    pub(super) components: &'a [u8],
    /// How much of it lies below the root of the process; more than it is long: that root is elsewhere.
    pub(super) rooted: u32,
    /// The mount namespace.
    pub(super) mntns: u32,
}

/// Resolves words.
pub(super) struct Paths {
    /// The host's own mount namespace: directories of no other can be looked up.
    mntns: u32,
    looked_up: HashMap<Vec<u8>, Option<Vec<u8>>>,
    lookups: Rc<Lookups>,
}

impl Paths {
    pub(super) fn new(mntns: u32) -> Self {
        Self { mntns, looked_up: HashMap::new(), lookups: Rc::new(Lookups::brief(Duty::Watching)) }
    }

    /// By which what a path leads to is found out here.
    pub(super) fn lookups(&self) -> Rc<Lookups> {
        Rc::clone(&self.lookups)
    }

    /// Directories may be others from now on.
    pub(super) fn forget(&mut self) {
        self.looked_up.clear();
    }

    /// The path that the words stand for. Without words it is the base itself.
    pub(super) fn resolve(&mut self, base: &Base<'_>, words: &[u8]) -> FilePath {
        let from = path(base.components);
        let below =
            base.components.get(..base.rooted as usize).filter(|below| below.len() < base.components.len());
        let seen_from = below.map(path);
        if words.is_empty() {
            return FilePath { path: from, seen: seen_from, origin: PathOrigin::Kernel };
        }
        let seen = seen_from.map(|seen| normalized(&seen, words));
        let words = &words[..words.iter().rposition(|b| *b != b'/').map_or(0, |last| last + 1)];
        if words.is_empty() {
            return FilePath { path: from, seen, origin: PathOrigin::Kernel };
        }
        let (directory, last) = match words.iter().rposition(|b| *b == b'/') {
            Some(slash) => (&words[..slash], &words[slash + 1..]),
            None => (&words[..0], words),
        };
        if directory.is_empty() && last != b"." && last != b".." {
            return FilePath { path: joined(&from, last), seen, origin: PathOrigin::Resolved };
        }
        let own = base.mntns == self.mntns && base.rooted as usize == base.components.len();
        let named = joined(&from, directory);
        if own
            && !last.is_empty()
            && last != b"."
            && last != b".."
            && let Some(found) = self.look_up(named)
        {
            return FilePath { path: joined(&found, last), seen, origin: PathOrigin::Resolved };
        }
        FilePath { path: normalized(&from, words), seen, origin: PathOrigin::Named }
    }

    /// Whether the path of what was asked for leads to that file, as far as can be seen from here: in another mount namespace it is believed.
    pub(super) fn lead_to(&self, asked: &FileAccess, dev: u32, inode: u64) -> bool {
        if asked.mntns != self.mntns || asked.path.seen.as_ref().is_some_and(|seen| *seen != asked.path.path)
        {
            return true;
        }
        self.lookups
            .look(&asked.path.path, OFlags::empty(), ResolveFlags::CACHED, |_, facts| *facts)
            .is_ok_and(|facts| {
                facts.stx_ino == inode && facts.stx_dev_major << 20 | facts.stx_dev_minor == dev
            })
    }

    /// The directory, symbolic links followed; only as far as the kernel has it in memory, because nothing must make the sensor wait.
    fn look_up(&mut self, directory: Vec<u8>) -> Option<Vec<u8>> {
        if let Some(known) = self.looked_up.get(&directory) {
            return known.clone();
        }
        let found = self
            .lookups
            .look(&directory, OFlags::DIRECTORY, ResolveFlags::CACHED, |file, _| path_of(&file))
            .ok()
            .flatten()
            .filter(|path| path.starts_with(b"/") && !path.ends_with(b" (deleted)"));
        if self.looked_up.len() < REMEMBERED {
            self.looked_up.insert(directory, found.clone());
        }
        found
    }
}

fn joined(directory: &[u8], words: &[u8]) -> Vec<u8> {
    let mut out = directory.to_vec();
    if out.last() != Some(&b'/') && words.first() != Some(&b'/') {
        out.push(b'/');
    }
    if out.last() == Some(&b'/') && words.first() == Some(&b'/') {
        out.pop();
    }
    out.extend_from_slice(words);
    out
}

/// The path without `.`, `..` and empty components. What is missing of a directory (`/.../`) stays missing, however far the words go up.
fn normalized(directory: &[u8], words: &[u8]) -> Vec<u8> {
    let floor = usize::from(directory.starts_with(b"/.../") || directory == b"/...");
    let mut components: Vec<&[u8]> = Vec::new();
    for component in directory.split(|b| *b == b'/').chain(words.split(|b| *b == b'/')) {
        match component {
            b"" | b"." => {}
            b".." => components.truncate(components.len().saturating_sub(1).max(floor)),
            other => components.push(other),
        }
    }
    let mut out = Vec::with_capacity(directory.len() + words.len());
    for component in components {
        out.push(b'/');
        out.extend_from_slice(component);
    }
    if out.is_empty() {
        out.push(b'/');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn base(components: &[u8]) -> Base<'_> {
        Base { components, rooted: components.len() as u32, mntns: 7 }
    }

    #[test]
    fn words_start_from_the_directory_that_the_kernel_knew() {
        let mut paths = Paths::new(1);
        let mut resolve = |components: &[u8], words: &[u8]| {
            let found = paths.resolve(&base(components), words);
            (String::from_utf8(found.path).unwrap(), found.origin)
        };
        assert_eq!(resolve(b"x\0tmp\0", b""), ("/tmp/x".to_owned(), PathOrigin::Kernel));
        assert_eq!(resolve(b"tmp\0", b"x"), ("/tmp/x".to_owned(), PathOrigin::Resolved));
        assert_eq!(resolve(b"tmp\0", b"x///"), ("/tmp/x".to_owned(), PathOrigin::Resolved));
        assert_eq!(resolve(b"", b"/a//b/./../c"), ("/a/c".to_owned(), PathOrigin::Named));
        assert_eq!(resolve(b"tmp\0", b"../../.."), ("/".to_owned(), PathOrigin::Named));
        assert_eq!(resolve(b"", b"/"), ("/".to_owned(), PathOrigin::Kernel));
        assert_eq!(resolve(b"b\0a\0...\0", b"../../../x"), ("/.../x".to_owned(), PathOrigin::Named));
        assert_eq!(resolve(b"...\0", b"./../x"), ("/.../x".to_owned(), PathOrigin::Named));
    }

    #[test]
    fn a_directory_of_this_namespace_is_looked_up() {
        let dir = tempfile::tempdir().unwrap();
        let real = dir.path().canonicalize().unwrap();
        std::fs::create_dir(real.join("real")).unwrap();
        std::os::unix::fs::symlink("real", real.join("link")).unwrap();
        let words = real.join("link/file");
        let base = Base { components: b"", rooted: 0, mntns: 1 };
        let found = Paths::new(1).resolve(&base, words.as_os_str().as_encoded_bytes());
        assert_eq!(found.path, real.join("real/file").as_os_str().as_encoded_bytes());
        assert_eq!(found.origin, PathOrigin::Resolved);
    }

    #[test]
    fn behind_another_root_both_views_are_told() {
        let base = Base { components: b"etc\0jail\0srv\0", rooted: 4, mntns: 1 };
        let found = Paths::new(1).resolve(&base, b"passwd");
        assert_eq!(found.path, b"/srv/jail/etc/passwd");
        assert_eq!(found.seen.as_deref(), Some(&b"/etc/passwd"[..]));
    }
}
