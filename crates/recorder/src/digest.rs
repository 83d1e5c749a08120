//! SHA-256 of images: rows of `imageinfo`, and the column of `psinfo`.

use std::{collections::HashMap, fmt::Write as _, sync::Arc};

use luarm_schema::{Time, escape::escape, tables::ImageInfo};
use luarm_sensor::observation::{ImageDigest, ImageVersion};

use crate::{bounded::Generations, context::Context};

/// Images whose digest is remembered, at least.
const REMEMBERED: usize = 8192;
/// Rows that wait for a digest, at most.
const WAITING: usize = 8192;

/// What is known of images, and which rows would like to know.
pub(crate) struct Digests {
    known: Generations<ImageVersion, Arc<str>>,
    waiting: HashMap<ImageVersion, Vec<i64>>,
    rows: usize,
}

impl Digests {
    pub(crate) fn new() -> Self {
        Self { known: Generations::new(REMEMBERED), waiting: HashMap::new(), rows: 0 }
    }

    /// The digest of an image, if it is known; else the row gets it when it comes before the row is stored.
    pub(crate) fn of(&mut self, psentity: i64, image: ImageVersion) -> Option<Arc<str>> {
        if let Some(known) = self.known.touch(&image) {
            return Some(Arc::clone(known));
        }
        if self.rows >= WAITING {
            // Those that waited longest are stored by now.
            self.waiting.clear();
            self.rows = 0;
        }
        self.rows += 1;
        self.waiting.entry(image).or_default().push(psentity);
        None
    }
}

/// An image was digested.
pub(crate) fn digested(ctx: &mut Context, digest: &ImageDigest) {
    let mut text = String::with_capacity(64);
    for byte in digest.sha256 {
        // A string takes everything.
        let _ = write!(text, "{byte:02x}");
    }
    let sha256: Arc<str> = text.into();
    let version = digest.file.version;
    let waiting = ctx.digests.waiting.remove(&version).unwrap_or_default();
    ctx.digests.rows = ctx.digests.rows.saturating_sub(waiting.len());
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
