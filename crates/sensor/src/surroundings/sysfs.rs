//! Devices as /sys shows them.

use std::{
    collections::{BTreeMap, BTreeSet},
    ffi::OsStr,
    fs::{self, File},
    io::Read,
    os::unix::ffi::{OsStrExt, OsStringExt},
    path::{Path, PathBuf},
};

use super::uevent::is_plain;

/// An attribute has at most a page.
const ATTRIBUTE: u64 = 4096;
/// How many entries of one directory are looked at.
const ENTRIES: usize = 1 << 16;
/// How deep a block device may stand on others (encryption on RAID on partitions).
const STACKED: u32 = 8;
/// Where the devices are listed that are told of.
const LISTS: [&str; 8] = [
    "bus/pci/devices",
    "bus/usb/devices",
    "class/block",
    "class/net",
    "class/input",
    "class/sound",
    "class/drm",
    "class/tty",
];

/// Names of block devices by the path of the device that provides them.
pub(super) type Blocks = BTreeMap<Vec<u8>, BTreeSet<Vec<u8>>>;

/// A /sys.
pub(super) struct Sysfs {
    sys: PathBuf,
}

impl Sysfs {
    /// The `sys` below `root`.
    pub(super) fn new(root: &Path) -> Self {
        Self { sys: root.join("sys") }
    }

    pub(super) fn at(&self, path: &[u8]) -> PathBuf {
        self.sys.join(OsStr::from_bytes(path.strip_prefix(b"/").unwrap_or(path)))
    }

    pub(super) fn attribute(&self, path: &[u8], name: &str) -> Option<Vec<u8>> {
        let mut bytes = Vec::new();
        File::open(self.at(path).join(name)).ok()?.take(ATTRIBUTE).read_to_end(&mut bytes).ok()?;
        let trimmed = bytes.trim_ascii();
        (!trimmed.is_empty()).then(|| trimmed.to_vec())
    }

    pub(super) fn number(&self, path: &[u8], name: &str) -> Option<u64> {
        std::str::from_utf8(&self.attribute(path, name)?).ok()?.parse().ok()
    }

    /// The last part of where a link leads: its `subsystem`, its `driver`.
    pub(super) fn link(&self, path: &[u8], name: &str) -> Option<Vec<u8>> {
        let target = fs::read_link(self.at(path).join(name)).ok()?;
        target.file_name().map(|name| name.as_bytes().to_vec())
    }

    pub(super) fn entries(&self, directory: &Path) -> Vec<Vec<u8>> {
        let Ok(entries) = fs::read_dir(directory) else { return Vec::new() };
        let mut names: Vec<_> =
            entries.take(ENTRIES).flatten().map(|entry| entry.file_name().into_vec()).collect();
        names.sort_unstable();
        names
    }

    /// The device that an entry of a list is a link to.
    fn resolve(&self, list: &Path, name: &[u8]) -> Option<Vec<u8>> {
        let target = fs::read_link(list.join(OsStr::from_bytes(name))).ok()?.into_os_string().into_vec();
        let mut path = &target[..];
        while let Some(rest) = path.strip_prefix(b"../") {
            path = rest;
        }
        let path = [b"/", path].concat();
        (path.starts_with(b"/devices/") && is_plain(&path)).then_some(path)
    }

    /// Whether a device is there, and is not about to go: this link is among the first that the kernel removes.
    pub(super) fn exists(&self, path: &[u8]) -> bool {
        self.at(path).join("subsystem").is_symlink()
    }

    /// The paths of all devices that may be told of.
    pub(super) fn all(&self) -> Vec<Vec<u8>> {
        let mut paths = BTreeSet::new();
        for list in LISTS {
            let list = self.sys.join(list);
            paths.extend(self.entries(&list).iter().filter_map(|name| self.resolve(&list, name)));
        }
        paths.into_iter().collect()
    }

    /// The path of a block device by its number.
    pub(super) fn block_by_number(&self, (major, minor): (u32, u32)) -> Option<Vec<u8>> {
        self.resolve(&self.sys.join("dev/block"), format!("{major}:{minor}").as_bytes())
    }

    /// The path of a block device by its name.
    pub(super) fn block_by_name(&self, name: &[u8]) -> Option<Vec<u8>> {
        (!name.contains(&b'/')).then(|| self.resolve(&self.sys.join("class/block"), name))?
    }

    /// Every block device and what provides it.
    pub(super) fn blocks(&self) -> Blocks {
        let mut blocks = Blocks::new();
        let list = self.sys.join("class/block");
        for name in self.entries(&list) {
            let Some(path) = self.resolve(&list, &name) else { continue };
            for provider in self.providers(&path, STACKED) {
                blocks.entry(provider).or_default().insert(name.clone());
            }
        }
        blocks
    }

    /// What a block device comes from: its disk, what that is plugged into, and the same for the disks that it stands on.
    pub(super) fn providers(&self, block: &[u8], depth: u32) -> Vec<Vec<u8>> {
        let disk = self.disk(block);
        let mut providers = vec![disk.to_vec()];
        providers.extend(ancestors(disk).find(|path| self.bus_device(path).is_some()).map(<[u8]>::to_vec));
        if depth > 0 {
            for slave in self.entries(&self.at(block).join("slaves")) {
                if let Some(path) = self.block_by_name(&slave) {
                    providers.extend(self.providers(&path, depth - 1));
                }
            }
        }
        providers
    }

    /// What a mount of a block device leads to: the USB device that it is plugged in by, where there is one, else its disk.
    pub(super) fn attached_to(&self, block: &[u8]) -> Vec<u8> {
        let providers = self.providers(block, STACKED);
        let usb = providers.into_iter().find(|path| self.bus_device(path) == Some("usb"));
        usb.unwrap_or_else(|| self.disk(block).to_vec())
    }

    /// The disk of a partition; a disk itself.
    fn disk<'a>(&self, block: &'a [u8]) -> &'a [u8] {
        let disk = if self.attribute(block, "partition").is_some() { ancestors(block).next() } else { None };
        disk.unwrap_or(block)
    }

    /// Whether something is plugged into a bus there.
    pub(super) fn bus_device(&self, path: &[u8]) -> Option<&'static str> {
        match &self.link(path, "subsystem")?[..] {
            b"pci" => Some("pci"),
            // Interfaces of a device belong to the same bus.
            b"usb" if self.attribute(path, "idVendor").is_some() => Some("usb"),
            _ => None,
        }
    }
}

/// The directories above a device, nearest first.
pub(super) fn ancestors(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::successors(Some(path), |path| {
        let slash = path.iter().rposition(|byte| *byte == b'/')?;
        path.get(..slash).filter(|parent| parent.starts_with(b"/devices/"))
    })
    .skip(1)
}
