//! Devices as /sys shows them.

use std::{
    collections::{BTreeMap, BTreeSet},
    ffi::OsStr,
    fs::{self, File},
    io::Read,
    os::unix::ffi::{OsStrExt, OsStringExt},
    path::{Path, PathBuf},
};

use super::{
    hwdata::{Hwdata, Names},
    uevent::{Variables, is_plain},
};
use crate::condition::Device;

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

    fn at(&self, path: &[u8]) -> PathBuf {
        self.sys.join(OsStr::from_bytes(path.strip_prefix(b"/").unwrap_or(path)))
    }

    fn attribute(&self, path: &[u8], name: &str) -> Option<Vec<u8>> {
        let mut bytes = Vec::new();
        File::open(self.at(path).join(name)).ok()?.take(ATTRIBUTE).read_to_end(&mut bytes).ok()?;
        let trimmed = bytes.trim_ascii();
        (!trimmed.is_empty()).then(|| trimmed.to_vec())
    }

    fn number(&self, path: &[u8], name: &str) -> Option<u64> {
        std::str::from_utf8(&self.attribute(path, name)?).ok()?.parse().ok()
    }

    /// The last part of where a link leads: its `subsystem`, its `driver`.
    fn link(&self, path: &[u8], name: &str) -> Option<Vec<u8>> {
        let target = fs::read_link(self.at(path).join(name)).ok()?;
        target.file_name().map(|name| name.as_bytes().to_vec())
    }

    fn entries(&self, directory: &Path) -> Vec<Vec<u8>> {
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
    fn bus_device(&self, path: &[u8]) -> Option<&'static str> {
        match &self.link(path, "subsystem")?[..] {
            b"pci" => Some("pci"),
            // Interfaces of a device belong to the same bus.
            b"usb" if self.attribute(path, "idVendor").is_some() => Some("usb"),
            _ => None,
        }
    }

    /// The device at a path, as far as it can still be read, else by what the kernel said of it; `None` where it is nothing to be told of.
    pub(super) fn device(&self, path: &[u8], said: &Variables, names: &mut Hwdata) -> Option<Device> {
        let variables = match self.attribute(path, "uevent") {
            Some(bytes) => Variables(bytes),
            None => said.clone(),
        };
        let subsystem = self.link(path, "subsystem").or_else(|| said.get("SUBSYSTEM").map(<[u8]>::to_vec))?;
        let base = path.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
        let mut device = Device { path: path.to_vec(), name: base.to_vec(), ..Device::default() };
        let told = match &subsystem[..] {
            b"usb" => {
                variables.get("DEVTYPE") == Some(b"usb_device") && self.usb(&mut device, &variables, names)
            }
            b"pci" => self.pci(&mut device, &variables, names),
            b"block" => variables.get("DEVTYPE") == Some(b"disk") && self.block(&mut device),
            b"net" => self.net(&mut device, &variables),
            b"input" => is_numbered(base, b"input") && self.input(&mut device, &variables),
            b"sound" => is_numbered(base, b"card") && self.of_class(&mut device, "sound"),
            b"drm" => is_numbered(base, b"card") && self.of_class(&mut device, "drm"),
            b"tty" => {
                // Consoles and pseudo terminals are no devices.
                ancestors(path).any(|path| self.bus_device(path).is_some())
                    && self.of_class(&mut device, "tty")
            }
            _ => false,
        };
        told.then_some(device)
    }

    fn usb(&self, device: &mut Device, variables: &Variables, database: &mut Hwdata) -> bool {
        let path = device.path.clone();
        device.bus = "usb";
        // 951/1666/110: vendor, product and release, hexadecimal, from the descriptor.
        let mut numbers = variables.text("PRODUCT").unwrap_or_default().split('/').map(hexadecimal);
        let numbers = (numbers.next().flatten(), numbers.next().flatten());
        let product = self.attribute(&path, "product");
        device.manufacturer = self.attribute(&path, "manufacturer");
        name(device, numbers, product, None, database);
        device.serial = self.attribute(&path, "serial");
        device.instance = variables.text("DEVNUM").and_then(|n| n.parse().ok());
        let (mut classes, mut drivers) = (BTreeSet::new(), BTreeSet::new());
        let base = path.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
        for entry in self.entries(&self.at(&path)) {
            // 1-1:1.0 is an interface of 1-1; those of a root hub, usb1, are called 1-0:1.0.
            let Some(colon) = entry.iter().position(|byte| *byte == b':') else { continue };
            if &entry[..colon] != base && !base.starts_with(b"usb") {
                continue;
            }
            let interface = [&path[..], b"/", &entry].concat();
            let part = |name| self.attribute(&interface, name);
            if let (Some(class), Some(subclass), Some(protocol)) =
                (part("bInterfaceClass"), part("bInterfaceSubClass"), part("bInterfaceProtocol"))
            {
                classes.insert([class, subclass, protocol].join(&b':'));
            }
            drivers.extend(self.link(&interface, "driver"));
        }
        device.class = (!classes.is_empty()).then(|| join(classes));
        device.driver = (!drivers.is_empty()).then(|| join(drivers));
        true
    }

    fn pci(&self, device: &mut Device, variables: &Variables, database: &mut Hwdata) -> bool {
        device.bus = "pci";
        let pair = |key| {
            let (vendor, product) = variables.text(key)?.split_once(':')?;
            Some((hexadecimal(vendor)?, hexadecimal(product)?))
        };
        let numbers = pair("PCI_ID").unzip();
        name(device, numbers, None, pair("PCI_SUBSYS_ID"), database);
        device.class = variables
            .text("PCI_CLASS")
            .and_then(|class| u32::from_str_radix(class, 16).ok())
            .map(|class| format!("{class:06x}").into_bytes());
        device.driver = self.link(&device.path, "driver");
        true
    }

    fn block(&self, device: &mut Device) -> bool {
        let path = &device.path;
        device.bus = "block";
        // A loop or network block device without a medium is a place for one.
        if path.starts_with(b"/devices/virtual/") && self.number(path, "size").unwrap_or(0) == 0 {
            return false;
        }
        let attributes = ["loop/backing_file", "dm/name", "device/model", "device/name"];
        if let Some(name) = attributes.iter().find_map(|name| self.attribute(path, name)) {
            device.name = name;
        }
        // Virtio has a number there.
        device.vendor = self.attribute(path, "device/vendor").filter(|vendor| !vendor.starts_with(b"0x"));
        device.serial = ["serial", "device/serial"].iter().find_map(|name| self.attribute(path, name));
        device.driver = self.link(path, "device/driver");
        device.instance = self.number(path, "diskseq");
        true
    }

    fn net(&self, device: &mut Device, variables: &Variables) -> bool {
        let path = &device.path;
        device.bus = "net";
        device.serial = self.attribute(path, "address");
        device.driver = self.link(path, "device/driver");
        device.instance = variables.text("IFINDEX").and_then(|n| n.parse().ok());
        let kind = variables.get("DEVTYPE").map(<[u8]>::to_vec);
        let tunnel = self.attribute(path, "tun_flags").map(|_| b"tun".to_vec());
        device.class = kind.or(tunnel).or_else(|| {
            // ARPHRD_ numbers of if_arp.h.
            Some(match self.number(path, "type")? {
                1 => b"ether".to_vec(),
                772 => b"loopback".to_vec(),
                other => other.to_string().into_bytes(),
            })
        });
        true
    }

    fn input(&self, device: &mut Device, variables: &Variables) -> bool {
        let path = &device.path;
        device.bus = "input";
        // What the kernel says has quotation marks.
        let said = variables.get("NAME").map(|name| name.strip_prefix(b"\"").unwrap_or(name));
        let said = said.map(|name| name.strip_suffix(b"\"").unwrap_or(name).to_vec());
        if let Some(name) = self.attribute(path, "name").or(said) {
            device.name = name;
        }
        device.serial = self.attribute(path, "uniq");
        // 3/46d/c31c/110: bus, vendor, product, version.
        let numbers: Vec<_> =
            variables.text("PRODUCT").unwrap_or_default().split('/').map(hexadecimal).collect();
        if let [_, Some(vendor), Some(product), ..] = numbers[..] {
            device.ids = Some(format!("{vendor:04x}:{product:04x}"));
        }
        device.driver = self.link(path, "device/driver");
        let mut kinds = BTreeSet::new();
        for entry in self.entries(&self.at(path)) {
            for (prefix, kind) in [(&b"mouse"[..], &b"mouse"[..]), (b"js", b"joystick")] {
                if is_numbered(&entry, prefix) {
                    kinds.insert(kind.to_vec());
                }
            }
        }
        // Keys that repeat when held down: bits 1 (EV_KEY) and 20 (EV_REP) of input-event-codes.h.
        let events = self.attribute(path, "capabilities/ev").unwrap_or_default();
        let events = std::str::from_utf8(&events).ok().and_then(|ev| u64::from_str_radix(ev, 16).ok());
        if events.is_some_and(|ev| ev & 0x10_0002 == 0x10_0002) {
            kinds.insert(b"keyboard".to_vec());
        }
        device.class = (!kinds.is_empty()).then(|| join(kinds));
        true
    }

    fn of_class(&self, device: &mut Device, bus: &'static str) -> bool {
        let path = &device.path;
        device.bus = bus;
        device.driver = self.link(path, "device/driver");
        if let Some(id) = self.attribute(path, "id") {
            device.name = id;
        }
        true
    }
}

/// The names and numbers of a device that has such.
fn name(
    device: &mut Device,
    numbers: (Option<u16>, Option<u16>),
    says: Option<Vec<u8>>,
    subsystem: Option<(u16, u16)>,
    database: &mut Hwdata,
) {
    let (Some(vendor), Some(product)) = numbers else {
        device.vendor = device.manufacturer.clone();
        device.name = says.unwrap_or_else(|| std::mem::take(&mut device.name));
        return;
    };
    let Names { vendor: maker, product: model } = database.names(device.bus, vendor, product);
    let mut ids = format!("{vendor:04x}:{product:04x}");
    device.name = says.or_else(|| model.clone()).unwrap_or_else(|| ids.clone().into_bytes());
    device.vendor =
        maker.or_else(|| device.manufacturer.clone()).or_else(|| Some(format!("{vendor:04x}").into_bytes()));
    device.product = model;
    if let Some((vendor, product)) = subsystem {
        ids.push_str(&format!(":{vendor:04x}:{product:04x}"));
    }
    device.ids = Some(ids);
}

/// The directories above a device, nearest first.
pub(super) fn ancestors(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::successors(Some(path), |path| {
        let slash = path.iter().rposition(|byte| *byte == b'/')?;
        path.get(..slash).filter(|parent| parent.starts_with(b"/devices/"))
    })
    .skip(1)
}

fn hexadecimal(text: &str) -> Option<u16> {
    u16::from_str_radix(text, 16).ok()
}

fn join(words: BTreeSet<Vec<u8>>) -> Vec<u8> {
    words.into_iter().collect::<Vec<_>>().join(&b' ')
}

/// Whether a name is `prefix` and a number.
fn is_numbered(name: &[u8], prefix: &[u8]) -> bool {
    name.strip_prefix(prefix).is_some_and(|n| !n.is_empty() && n.iter().all(u8::is_ascii_digit))
}
