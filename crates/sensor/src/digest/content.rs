//! Contents of files, and where to find them: a file that was just written is renamed at once by most programs that care for it.

use crate::observation::{AccessId, FileVersion};

/// Names that are followed for one file.
const NAMES: usize = 4;
/// How often a file is looked for. The news of a rename may be on its way.
const TRIES: u8 = 3;

/// What an access left in a file, or is in one that got a name.
pub(crate) struct Content {
    /// The access.
    pub(crate) id: AccessId,
    /// Size and times at the close.
    pub(crate) version: FileVersion,
    /// There was no close: it got a name, and its contents are what is found there.
    pub(super) arrival: Option<Arrival>,
    /// By which paths its process may know it.
    paths: Vec<Vec<u8>>,
    /// How much of them is the place's own path to the process, and what its path is to luarm.
    place: Option<(Vec<u8>, Vec<u8>)>,
    /// Somebody set its times after the close.
    pub(super) timed: bool,
    /// The trail is followed up to here.
    pub(super) followed: u64,
    tries: u8,
}

impl Content {
    /// `path` is the process's own; `place` is a directory above it (or the file), as that process names it and as luarm does.
    pub(crate) fn new(
        id: AccessId,
        version: FileVersion,
        path: Vec<u8>,
        place: Option<(Vec<u8>, Vec<u8>)>,
    ) -> Self {
        Self { id, version, arrival: None, paths: vec![path], place, timed: false, followed: 0, tries: 0 }
    }

    /// What got the name `path` by the rename or link `id`: that very file, if its device and inode are known, else whichever is there.
    pub(crate) fn arrived(id: AccessId, path: Vec<u8>, arrival: Arrival) -> Self {
        Self { arrival: Some(arrival), ..Self::new(id, FileVersion::unseen(id.inode), path, None) }
    }

    /// It may have that name as well.
    pub(crate) fn known_as(&mut self, path: Vec<u8>) {
        if self.paths.len() < NAMES && !self.paths.contains(&path) {
            self.paths.push(path);
        }
    }

    /// The same file, with later contents.
    pub(crate) fn later(&self, version: FileVersion) -> Self {
        Self {
            version,
            arrival: self.arrival,
            paths: self.paths.clone(),
            place: self.place.clone(),
            timed: false,
            followed: 0,
            tries: 0,
            ..*self
        }
    }

    /// Where luarm may find it.
    pub(super) fn ways(&self) -> Vec<Vec<u8>> {
        let translated = |path: &Vec<u8>| match &self.place {
            Some((seen, place)) if within(path, seen) => [place, &path[seen.len()..]].concat(),
            _ => path.clone(),
        };
        self.paths.iter().map(translated).collect()
    }

    pub(super) fn may_try_again(&mut self) -> bool {
        self.tries += 1;
        self.tries < TRIES
    }

    /// Goes one step along the trail.
    pub(super) fn follow(&mut self, step: &Trail) {
        match step {
            Trail::Timed(path) => self.timed |= self.paths.contains(path),
            Trail::Linked { inode, to } if *inode == self.id.inode => self.known_as(to.clone()),
            Trail::Linked { .. } => {}
            Trail::Named { from, to, moved } => {
                let mut others = Vec::new();
                for path in &mut self.paths {
                    if within(path, from) {
                        let there = [to, &path[from.len()..]].concat();
                        if *moved {
                            *path = there;
                        } else {
                            others.push(there);
                        }
                    } else if path == to {
                        // Another has its name now; it may have that one's.
                        others.push(from.clone());
                    }
                }
                self.paths.extend(others);
                self.paths.truncate(NAMES);
            }
        }
    }
}

/// How a name of a file that got one is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Arrival {
    /// As luarm sees it.
    Here,
    /// As another mount namespace sees it: here it may be another file's, or nobody's.
    Elsewhere,
}

/// Whether a path is the other one, or below it.
fn within(path: &[u8], other: &[u8]) -> bool {
    path.strip_prefix(other).is_some_and(|rest| rest.is_empty() || rest.starts_with(b"/"))
}

/// What happened to names and times of files.
pub(super) enum Trail {
    /// A file or directory has another name, or one more.
    Named { from: Vec<u8>, to: Vec<u8>, moved: bool },
    /// Somebody set the times of a file.
    Timed(Vec<u8>),
    /// The file with that inode, or one of another file system, has one more name.
    Linked { inode: u64, to: Vec<u8> },
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observation::ImageId;

    fn content(path: &str, place: Option<(&str, &str)>) -> Content {
        let image = ImageId::default();
        let id = AccessId { image, dev: 1, inode: 2, access: 2, which: 0, at: 0 };
        let place = place.map(|(seen, own)| (seen.into(), own.into()));
        Content::new(id, FileVersion::default(), path.into(), place)
    }

    fn named(from: &str, to: &str, moved: bool) -> Trail {
        Trail::Named { from: from.into(), to: to.into(), moved }
    }

    fn ways(content: &Content) -> Vec<String> {
        content.ways().into_iter().map(|way| String::from_utf8(way).unwrap()).collect()
    }

    #[test]
    fn a_file_is_followed_to_its_new_names() {
        let mut file = content("/etc/passwd+", None);
        file.follow(&named("/etc/pass", "/etc/fail", true));
        assert_eq!(ways(&file), ["/etc/passwd+"]);
        file.follow(&named("/etc/passwd", "/etc/passwd-", false));
        file.follow(&named("/etc/passwd+", "/etc/passwd", true));
        assert_eq!(ways(&file), ["/etc/passwd"]);
        file.follow(&named("/etc", "/old", true));
        assert_eq!(ways(&file), ["/old/passwd"]);
        file.follow(&named("/old/passwd", "/old/link", false));
        assert_eq!(ways(&file), ["/old/passwd", "/old/link"]);
        file.follow(&Trail::Timed(b"/old/other".into()));
        assert!(!file.timed);
        file.follow(&Trail::Timed(b"/old/link".into()));
        assert!(file.timed);
        for inode in [3, 2, 2] {
            file.follow(&Trail::Linked { inode, to: format!("/old/{inode}").into() });
        }
        assert_eq!(ways(&file), ["/old/passwd", "/old/link", "/old/2"]);
    }

    #[test]
    fn names_without_end_are_not_followed() {
        let mut file = content("/a", None);
        for n in 0..1000 {
            file.follow(&named("/a", &format!("/{n}"), false));
        }
        assert_eq!(ways(&file).len(), NAMES);
    }

    #[test]
    fn a_place_has_another_path_in_another_mount_namespace() {
        let mut file = content("/host/etc/cron.d/x~", Some(("/host/etc", "/etc")));
        assert_eq!(ways(&file), ["/etc/cron.d/x~"]);
        file.follow(&named("/host/etc/cron.d/x~", "/host/etc/cron.d/x", true));
        assert_eq!(ways(&file), ["/etc/cron.d/x"]);
        let whole = content("/seen", Some(("/seen", "/etc/one")));
        assert_eq!(ways(&whole), ["/etc/one"]);
        let root = content("/etc/x", Some(("", "")));
        assert_eq!(ways(&root), ["/etc/x"]);
    }
}
