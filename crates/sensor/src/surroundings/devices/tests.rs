//! Devices of a made-up /sys.

use std::{fs, os::unix::fs::symlink};

use super::*;
use crate::condition::ConditionKind;

const PCI: &str = "/devices/pci0000:00/0000:00:14.0";
const STICK: &str = "/devices/pci0000:00/0000:00:14.0/usb1/1-2";
const DISK: &str = "/devices/pci0000:00/0000:00:14.0/usb1/1-2/1-2:1.0/host3/target3:0:0/3:0:0:0/block/sda";

/// A tree that grows and shrinks.
struct Tree(tempfile::TempDir);

impl Tree {
    /// With a USB controller.
    fn new() -> Self {
        let tree = Self(tempfile::tempdir().unwrap());
        tree.device(PCI, "pci", "PCI_CLASS=C0330\nPCI_ID=8086:A12F\nPCI_SUBSYS_ID=17AA:2247\n", &[]);
        tree.listed("bus/pci/devices/0000:00:14.0", PCI);
        tree.driver(PCI, "xhci_hcd");
        tree
    }

    fn file(&self, path: &str, content: &[u8]) {
        let path = self.0.path().join(path.trim_start_matches('/'));
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    fn link(&self, path: &str, to: &str) {
        let path = self.0.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        symlink(to, path).unwrap();
    }

    fn device(&self, path: &str, subsystem: &str, uevent: &str, attributes: &[(&str, &str)]) {
        self.file(&format!("sys{path}/uevent"), uevent.as_bytes());
        self.link(&format!("sys{path}/subsystem"), &format!("/sys/class/{subsystem}"));
        for (name, value) in attributes {
            self.file(&format!("sys{path}/{name}"), format!("{value}\n").as_bytes());
        }
    }

    fn driver(&self, path: &str, name: &str) {
        self.link(&format!("sys{path}/driver"), &format!("/sys/bus/x/drivers/{name}"));
    }

    fn listed(&self, list: &str, path: &str) {
        self.link(&format!("sys/{list}"), &format!("../../..{path}"));
    }

    /// A stick without its driver.
    fn plug(&self, devnum: u32) {
        let uevent = format!("DEVTYPE=usb_device\nPRODUCT=951/1666/110\nDEVNUM={devnum:03}\n");
        let says = [
            ("idVendor", "0951"),
            ("product", "DataTraveler 3.0"),
            ("manufacturer", "Kingston"),
            ("serial", "60A44C"),
        ];
        self.device(STICK, "usb", &uevent, &says);
        self.listed("bus/usb/devices/1-2", STICK);
        let interface = format!("{STICK}/1-2:1.0");
        let classes = [("bInterfaceClass", "08"), ("bInterfaceSubClass", "06"), ("bInterfaceProtocol", "50")];
        self.device(&interface, "usb", "DEVTYPE=usb_interface\n", &classes);
    }

    /// What the driver makes of it.
    fn bind(&self) {
        self.driver(&format!("{STICK}/1-2:1.0"), "usb-storage");
        self.device(DISK, "block", "DEVTYPE=disk\n", &[("size", "100"), ("diskseq", "7")]);
        self.file(&format!("sys{DISK}/device/model"), b"DataTraveler\n");
        self.listed("class/block/sda", DISK);
        let partition = format!("{DISK}/sda1");
        self.device(&partition, "block", "DEVTYPE=partition\n", &[("partition", "1")]);
        self.listed("class/block/sda1", &partition);
        self.link("sys/dev/block/8:1", &format!("../../..{partition}"));
    }

    fn pull(&self) {
        let sys = self.0.path().join("sys");
        let _ = fs::remove_dir_all(sys.join(STICK.trim_start_matches('/')));
        for list in ["bus/usb/devices/1-2", "class/block/sda", "class/block/sda1"] {
            let _ = fs::remove_file(sys.join(list));
        }
    }

    fn devices(&self) -> (Devices, Vec<Device>) {
        let mut devices = Devices::new(self.0.path());
        let mut out = Vec::new();
        devices.inventory(1, &mut out);
        (devices, told(out).into_iter().map(|(_, device)| device.unwrap()).collect())
    }
}

fn event(at: BootNs, action: &str, path: &str, variables: &str) -> (BootNs, Uevent) {
    let variables = Variables(variables.replace('\n', "\0").into_bytes());
    (at, Uevent { action: action.into(), path: path.into(), variables })
}

/// When something was told, and the device, unless it ended.
fn told(out: Vec<Observation>) -> Vec<(BootNs, Option<Device>)> {
    let one = |observation| match observation {
        Observation::Condition { at, condition, .. } => match *condition {
            Condition::Device(device) => (at, Some(device)),
            other => panic!("{other:?}"),
        },
        Observation::ConditionEnd { at, .. } => (at, None),
        other => panic!("{other:?} {:?}", ConditionKind::Device),
    };
    out.into_iter().map(one).collect()
}

fn act(devices: &mut Devices, events: &[(BootNs, Uevent)]) -> Vec<(BootNs, Option<Device>)> {
    let mut out = Vec::new();
    devices.act(events, &mut out);
    told(out)
}

fn settle(devices: &mut Devices, now: BootNs) -> Vec<(BootNs, Option<Device>)> {
    let mut out = Vec::new();
    devices.settle(now, &mut out);
    told(out)
}

fn text(bytes: &Option<Vec<u8>>) -> &str {
    bytes.as_deref().map_or("-", |bytes| std::str::from_utf8(bytes).unwrap())
}

#[test]
fn a_stick_is_one_device_with_its_driver_and_disks() {
    let tree = Tree::new();
    tree.file("usr/share/misc/usb.ids", b"0951  Kingston Technology\n\t1666  DataTraveler 100 G3\n");
    tree.file("usr/share/misc/pci.ids", b"8086  Intel Corporation\n\ta12f  Sunrise Point-H xHCI\n");
    let (mut devices, found) = tree.devices();
    assert_eq!(found.len(), 1);
    let controller = &found[0];
    assert_eq!(controller.name, b"Sunrise Point-H xHCI");
    assert_eq!((text(&controller.vendor), text(&controller.class)), ("Intel Corporation", "0c0330"));
    assert_eq!(controller.ids.as_deref(), Some("8086:a12f:17aa:2247"));
    assert_eq!((text(&controller.driver), &controller.logged_in), ("xhci_hcd", &None));

    let mut utmp = vec![0; size_of::<libc::utmpx>()];
    utmp[0] = u8::try_from(libc::USER_PROCESS).unwrap();
    utmp[44..51].copy_from_slice(b"mallory");
    tree.file("run/utmp", &utmp);
    tree.plug(5);
    assert_eq!(act(&mut devices, &[event(1_000, "add", STICK, "SUBSYSTEM=usb")]), []);
    tree.bind();
    let second = 1_000_000_000;
    let bound = event(second, "bind", &format!("{STICK}/1-2:1.0"), "SUBSYSTEM=usb");
    let disk = event(second, "add", DISK, "SUBSYSTEM=block\nDEVTYPE=disk");
    // Who logs in later was not there.
    tree.file("run/utmp", b"");
    assert_eq!(act(&mut devices, &[bound, disk]), []);
    assert_eq!(settle(&mut devices, 2 * second), []);
    let told = settle(&mut devices, 4 * second);
    let of = |path: &str| told.iter().find(|(_, d)| d.as_ref().unwrap().path == path.as_bytes()).unwrap();
    assert_eq!(told.len(), 2, "{told:?}");
    let (at, Some(stick)) = of(STICK) else { panic!() };
    assert_eq!((*at, stick.bus, &stick.name[..]), (1_000, "usb", &b"DataTraveler 3.0"[..]));
    assert_eq!((text(&stick.vendor), text(&stick.product)), ("Kingston Technology", "DataTraveler 100 G3"));
    assert_eq!((text(&stick.manufacturer), text(&stick.serial)), ("Kingston", "60A44C"));
    assert_eq!((text(&stick.class), text(&stick.driver)), ("08:06:50", "usb-storage"));
    assert_eq!((stick.ids.as_deref(), stick.instance), (Some("0951:1666"), Some(5)));
    assert_eq!(stick.block_devices, [b"sda".to_vec(), b"sda1".to_vec()]);
    assert_eq!(stick.logged_in, Some(vec![b"mallory".to_vec()]));
    let (_, Some(disk)) = of(DISK) else { panic!() };
    assert_eq!((disk.bus, &disk.name[..], disk.instance), ("block", &b"DataTraveler"[..], Some(7)));
    assert_eq!(devices.sysfs.attached_to(&devices.sysfs.block_by_number((8, 1)).unwrap()), STICK.as_bytes());

    // It goes: first its parts, then all of it; what it had stands.
    let mut gone = vec![event(5 * second, "unbind", &format!("{STICK}/1-2:1.0"), "")];
    gone.extend([format!("{DISK}/sda1"), DISK.to_owned()].map(|path| event(5 * second, "remove", &path, "")));
    assert_eq!(act(&mut devices, &gone), [(5 * second, None)]);
    tree.pull();
    assert_eq!(act(&mut devices, &[event(6 * second, "remove", STICK, "")]), [(6 * second, None)]);
    assert_eq!((settle(&mut devices, BootNs::MAX), devices.due()), (vec![], None));
}

#[test]
fn what_went_before_it_was_told_of_is_told_of() {
    let tree = Tree::new();
    let (mut devices, _) = tree.devices();
    tree.plug(5);
    tree.bind();
    act(&mut devices, &[event(10, "add", STICK, ""), event(11, "add", DISK, "")]);
    tree.pull();
    let told = act(&mut devices, &[event(20, "remove", DISK, ""), event(21, "remove", STICK, "")]);
    let [(11, Some(_)), (20, None), (10, Some(stick)), (21, None)] = &told[..] else { panic!("{told:?}") };
    assert_eq!(stick.block_devices.len(), 2);
    // Gone before anything of it could be read: what the kernel said is all that is known.
    let said = "SUBSYSTEM=usb\nDEVTYPE=usb_device\nPRODUCT=951/1666/110\nDEVNUM=006";
    let told = act(&mut devices, &[event(30, "add", STICK, said), event(31, "remove", STICK, said)]);
    let [(30, Some(stick)), (31, None)] = &told[..] else { panic!("{told:?}") };
    assert_eq!(
        (stick.ids.as_deref(), stick.instance, &stick.name[..]),
        (Some("0951:1666"), Some(6), &b"0951:1666"[..])
    );
    assert_eq!(text(&stick.vendor), "0951");
}

#[test]
fn encryption_on_a_stick_leads_to_the_stick() {
    let tree = Tree::new();
    tree.plug(5);
    tree.bind();
    let mapped = "/devices/virtual/block/dm-0";
    tree.device(mapped, "block", "DEVTYPE=disk\n", &[("size", "90"), ("dm/name", "secret")]);
    tree.listed("class/block/dm-0", mapped);
    tree.link("sys/devices/virtual/block/dm-0/slaves/sda1", "../../../../x/sda1");
    let empty = "/devices/virtual/block/loop0";
    tree.device(empty, "block", "DEVTYPE=disk\n", &[("size", "0")]);
    tree.listed("class/block/loop0", empty);
    // A device that stands on itself is no device that exists.
    tree.link("sys/devices/virtual/block/dm-0/slaves/dm-0", "../../dm-0");
    let (devices, found) = tree.devices();
    let stick = found.iter().find(|device| device.path == STICK.as_bytes()).unwrap();
    assert_eq!(stick.block_devices, [b"dm-0".to_vec(), b"sda".to_vec(), b"sda1".to_vec()]);
    assert_eq!(devices.sysfs.attached_to(mapped.as_bytes()), STICK.as_bytes());
    assert!(found.iter().any(|device| device.name == b"secret"));
    assert!(found.iter().all(|device| device.path != empty.as_bytes()));
}

#[test]
fn a_medium_comes_and_goes_and_others_take_its_place() {
    let tree = Tree::new();
    let path = "/devices/virtual/block/loop3";
    let medium = |size: &str, sequence: &str| {
        for (name, value) in [("size", size), ("diskseq", sequence)] {
            tree.file(&format!("sys{path}/{name}"), value.as_bytes());
        }
    };
    tree.device(path, "block", "DEVTYPE=disk\n", &[("loop/backing_file", "/tmp/image")]);
    medium("0", "1");
    let (mut devices, found) = tree.devices();
    assert_eq!(found.len(), 1);
    medium("8", "2");
    assert_eq!(act(&mut devices, &[event(10, "change", path, "")]), []);
    let told = settle(&mut devices, BootNs::MAX);
    assert_eq!((told[0].0, &told[0].1.as_ref().unwrap().name[..]), (10, &b"/tmp/image"[..]));
    // Out and in again: both are told of, however quickly.
    medium("0", "2");
    assert_eq!(act(&mut devices, &[event(20, "change", path, "")]), [(20, None)]);
    medium("8", "3");
    act(&mut devices, &[event(30, "change", path, "")]);
    medium("0", "3");
    let told = act(&mut devices, &[event(40, "change", path, "")]);
    assert!(matches!(&told[..], [(30, Some(_)), (40, None)]), "{told:?}");
}

#[test]
fn what_was_missed_is_found_by_a_scan() {
    let tree = Tree::new();
    tree.plug(5);
    let (mut devices, found) = tree.devices();
    assert_eq!(found.len(), 2);
    let mut out = Vec::new();
    devices.scan(&mut out);
    assert_eq!(told(out), []);
    tree.pull();
    tree.file("sys/devices/virtual/net/tun0/tun_flags", b"0x1\n");
    tree.device("/devices/virtual/net/tun0", "net", "IFINDEX=9\n", &[("type", "65534")]);
    tree.listed("class/net/tun0", "/devices/virtual/net/tun0");
    let mut out = Vec::new();
    devices.scan(&mut out);
    let told = told(out);
    assert_eq!(told.len(), 2, "{told:?}");
    let tunnel = told.iter().find_map(|(_, device)| device.as_ref()).unwrap();
    assert_eq!((text(&tunnel.class), tunnel.instance), ("tun", Some(9)));
}

#[test]
fn a_tree_of_nonsense_does_no_harm() {
    let tree = Tree::new();
    let strange = "/devices/strange";
    let garbage = String::from_utf8_lossy(&[0xff; 9000]).into_owned();
    for subsystem in ["usb", "pci", "block", "net", "input", "sound", "drm", "tty", "", "nothing"] {
        let path = format!("{strange}/{subsystem}/input1");
        let uevent = "DEVTYPE=usb_device\nPRODUCT=zzzz/-1/\nDEVNUM=99999999999999999999\nPCI_ID=:\nPCI_CLASS=x\nIFINDEX=-1\nNAME=\"";
        tree.device(&path, subsystem, uevent, &[("serial", &garbage), ("name", &garbage), ("size", "-1")]);
        tree.listed(&format!("class/net/{subsystem}x"), &path);
    }
    tree.link("sys/class/net/outside", "../../../etc/passwd");
    tree.link("sys/class/net/dots", "../../devices/../../etc");
    let (mut devices, found) = tree.devices();
    assert!(found.len() > 3);
    assert!(found.iter().all(|device| device.serial.as_ref().is_none_or(|serial| serial.len() <= 4096)));
    for action in ["add", "remove", "change", "bind", "unbind", "move", "offline", "", "nonsense"] {
        let events: Vec<_> = [strange, "/devices/", "/devices/none", STICK, DISK]
            .iter()
            .map(|path| event(5, action, path, "DEVPATH_OLD=/devices/strange\nSUBSYSTEM=usb"))
            .collect();
        act(&mut devices, &events);
    }
    settle(&mut devices, BootNs::MAX);
}
