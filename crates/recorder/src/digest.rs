//! SHA-256 of images: rows of `imageinfo`, and the column of `psinfo`.

use std::{
    collections::{HashMap, VecDeque},
    fmt::Write as _,
    sync::Arc,
};

use luarm_schema::{Time, escape::escape, tables::ImageInfo};
use luarm_sensor::{
    BootNs,
    observation::{FileVersion, ImageDigest, ImageFile},
};

use crate::{bounded::Generations, context::Context};

/// Images whose digest is remembered, at least. The sensor relies on it.
const REMEMBERED: usize = 8192;
/// Rows that wait for a digest, at most.
const WAITING: usize = 8192;
/// How long a batch waits for the digest of an image that it is about.
const HELD_BACK: BootNs = 1_000_000_000;

/// What is known of images, and which rows of the open batch would like to know.
pub(crate) struct Digests {
    known: Generations<FileVersion, Arc<str>>,
    waiting: HashMap<FileVersion, Vec<i64>>,
    rows: usize,
    /// Of them those that are worth waiting for: since when. Some wait no longer.
    held_back: VecDeque<(BootNs, FileVersion)>,
}

impl Digests {
    pub(crate) fn new() -> Self {
        let (waiting, rows, held_back) = Default::default();
        Self { known: Generations::new(REMEMBERED), waiting, rows, held_back }
    }

    /// The digest of an image, if it is known; else the row gets it when it comes before the row is stored. `begun`: since when the image runs, if it is news.
    pub(crate) fn of(&mut self, psentity: i64, image: ImageFile, begun: Option<BootNs>) -> Option<Arc<str>> {
        if let Some(known) = self.known.touch(&image.version) {
            return Some(Arc::clone(known));
        }
        if !image.digest || self.rows >= WAITING {
            return None;
        }
        self.rows += 1;
        self.waiting.entry(image.version).or_default().push(psentity);
        self.held_back.extend(begun.map(|begun| (begun, image.version)));
        None
    }

    /// Gives up waiting for what has not come by now.
    pub(crate) fn settle(&mut self, now: BootNs) {
        while let Some((begun, version)) = self.held_back.front()
            && (begun.saturating_add(HELD_BACK) <= now || !self.waiting.contains_key(version))
        {
            self.held_back.pop_front();
        }
    }

    /// Whether the open batch waits.
    pub(crate) fn is_waiting(&self) -> bool {
        self.held_back.iter().any(|(_, version)| self.waiting.contains_key(version))
    }

    /// Since when the open batch waits.
    pub(crate) fn oldest_waiting(&self) -> Option<BootNs> {
        let waits = |version: &FileVersion| self.waiting.contains_key(version);
        self.held_back.iter().filter(|(_, version)| waits(version)).map(|(begun, _)| *begun).min()
    }

    /// The batch is closed.
    pub(crate) fn forget_rows(&mut self) {
        self.waiting.clear();
        self.rows = 0;
        self.held_back.clear();
    }
}

/// An image was digested, or cannot be.
pub(crate) fn digested(ctx: &mut Context, digest: &ImageDigest) {
    let version = digest.file.version;
    let waiting = ctx.digests.waiting.remove(&version).unwrap_or_default();
    ctx.digests.rows = ctx.digests.rows.saturating_sub(waiting.len());
    let Some(sha256) = digest.sha256.as_ref().map(hexadecimal) else { return };
    for psentity in waiting {
        if let Some(row) = ctx.draft.psinfo(psentity) {
            row.imagesha256 = Some(Arc::clone(&sha256));
        }
    }
    ctx.digests.known.insert(version, Arc::clone(&sha256));
    let created = ctx.clock.time(digest.at);
    let row = ImageInfo {
        imageid: ctx.numbers.next(created),
        command: escape(&digest.path),
        imagedev: digest.file.dev,
        imageinode: version.inode,
        size: version.size,
        mtime: Time(version.mtime / 1000),
        ctime: Time(version.ctime / 1000),
        sha256,
        created,
        end: None,
    };
    ctx.draft.push(row);
}

/// As columns hold it.
pub(crate) fn hexadecimal(sha256: &[u8; 32]) -> Arc<str> {
    let mut text = String::with_capacity(64);
    for byte in sha256 {
        // A string takes everything.
        let _ = write!(text, "{byte:02x}");
    }
    text.into()
}
