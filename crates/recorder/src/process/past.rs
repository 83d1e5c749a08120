//! Images that ended lately. Processors deliver their events slightly out of order, and what is late must find the row it belongs to
//! rather than make another one.

use std::sync::Arc;

use luarm_sensor::{BootNs, observation::ImageId};

use super::image::Image;
use crate::bounded::Generations;

/// How many ended images and processes are remembered at least.
const REMEMBERED: usize = 4096;

/// An ended image keeps its facts for children that are heard of late, when they are small enough to.
const SMALL: usize = 1024;

struct PastImage {
    psentity: i64,
    facts: Option<Arc<Image>>,
}

pub(crate) struct Past {
    images: Generations<ImageId, PastImage>,
    /// How many execs each process had done, by pid and start.
    processes: Generations<(u32, BootNs), u32>,
    /// Every image that ended after this instant is remembered.
    horizon: BootNs,
    young_since: BootNs,
}

impl Past {
    /// Nothing is remembered of what ended before `horizon`.
    pub(crate) fn new(horizon: BootNs) -> Self {
        Self {
            images: Generations::new(REMEMBERED),
            processes: Generations::new(REMEMBERED),
            horizon,
            young_since: horizon,
        }
    }

    pub(crate) fn image_ended(&mut self, image: ImageId, psentity: i64, facts: &Arc<Image>, now: BootNs) {
        let facts = (facts.bytes() <= SMALL).then(|| Arc::clone(facts));
        if self.images.insert(image, PastImage { psentity, facts }) {
            self.horizon = self.young_since;
            self.young_since = now;
        }
    }

    pub(crate) fn process_ended(&mut self, image: ImageId) {
        let key = (image.pid, image.start);
        let execs = self.processes.get(&key).map_or(image.execs, |&execs| execs.max(image.execs));
        self.processes.insert(key, execs);
    }

    pub(crate) fn process_lives(&mut self, image: ImageId) {
        self.processes.remove(&(image.pid, image.start));
    }

    /// The row of that image.
    pub(crate) fn psentity(&self, image: ImageId) -> Option<i64> {
        self.images.get(&image).map(|past| past.psentity)
    }

    pub(crate) fn facts(&self, image: ImageId) -> Option<Arc<Image>> {
        self.images.get(&image)?.facts.clone()
    }

    /// How many execs the process had done when it ended.
    pub(crate) fn execs(&self, image: ImageId) -> Option<u32> {
        self.processes.get(&(image.pid, image.start)).copied()
    }

    /// Whether an image that is not remembered and ended after `at` cannot have a row.
    pub(crate) fn is_complete_since(&self, at: BootNs) -> bool {
        at >= self.horizon
    }
}
