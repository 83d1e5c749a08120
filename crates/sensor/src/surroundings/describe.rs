//! What a device is: its values, by the attributes of its kind.

use std::collections::BTreeSet;

use super::{
    hwdata::{Hwdata, Names},
    sysfs::{Sysfs, ancestors},
    uevent::Variables,
};
use crate::condition::Device;

impl Sysfs {
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
