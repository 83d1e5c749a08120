//! Rows of `mountinfo`.

use luarm_schema::{
    End, Row, Time, Word,
    escape::escape,
    tables::{MountInfo, MountInfoEnd},
};
use luarm_sensor::condition::Mount;

use super::State;

/// The values of a row.
pub(super) struct MountState {
    mount: u32,
    facts: Facts,
    attachment: Option<i64>,
}

/// What makes another row when it changes.
#[derive(PartialEq)]
struct Facts {
    location: String,
    root: String,
    filesystem: String,
    source: String,
    options: String,
    device: u32,
    blockdevice: Option<String>,
}

impl MountState {
    /// A mount of what was attached under that number.
    pub(super) fn new(mount: &Mount, attachment: Option<i64>) -> Self {
        let facts = Facts {
            location: escape(&mount.point),
            root: escape(&mount.root),
            filesystem: escape(&mount.filesystem),
            source: escape(&mount.source),
            options: escape(&mount.options),
            device: mount.device.0 << 20 | mount.device.1 & 0xf_ffff,
            blockdevice: mount.block_device.as_deref().map(escape),
        };
        Self { mount: mount.id, facts, attachment }
    }
}

impl PartialEq for MountState {
    fn eq(&self, other: &Self) -> bool {
        self.facts == other.facts
    }
}

impl State for MountState {
    type Key = u32;

    fn key(&self) -> u32 {
        self.mount
    }

    fn row(&self, number: i64, created: Time, origin: Word) -> Row {
        let Facts { location, root, filesystem, source, options, device, blockdevice } = &self.facts;
        MountInfo {
            mountid: number,
            mount: self.mount,
            location: location.clone(),
            root: root.clone(),
            filesystem: filesystem.clone(),
            source: source.clone(),
            options: options.clone(),
            device: *device,
            blockdevice: blockdevice.clone(),
            attachment: self.attachment,
            origin,
            created,
            end: None,
        }
        .into()
    }

    fn of(row: &Row) -> Option<Self> {
        let Row::MountInfo(row) = row else { return None };
        let facts = Facts {
            location: row.location.clone(),
            root: row.root.clone(),
            filesystem: row.filesystem.clone(),
            source: row.source.clone(),
            options: row.options.clone(),
            device: row.device,
            blockdevice: row.blockdevice.clone(),
        };
        Some(Self { mount: row.mount, facts, attachment: row.attachment })
    }

    fn end(destroyed: Time, ended: Word) -> End {
        End::MountInfo(MountInfoEnd { destroyed, ended })
    }
}
