//! A USB stick in a computer of its own: plugged in, mounted, written to, pulled out.

#![expect(clippy::unwrap_used, reason = "a step that fails fails the test")]

mod support;

use std::{
    fs::{self, File},
    os::unix::fs::FileExt,
    path::Path,
    process::Command,
};

use serde_json::json;
use support::{
    Row,
    guest::{Guest, Kernel, Machine},
};

const MODULES: [&str; 11] = [
    "xhci_pci",
    "usb_storage",
    "sd_mod",
    "vfat",
    "nls_cp437",
    "nls_ascii",
    "nls_utf8",
    "tcp_diag",
    "udp_diag",
    "usbhid",
    "hid_generic",
];
/// A record of utmp(5), as glibc has it on x86-64, and where in it type and user stand.
const UTMP: (usize, usize, usize) = (384, 0, 44);
/// Where the partition of a stick begins, and how long it is, in sectors.
const PARTITION: (u32, u32) = (2048, 14 << 10);

/// Makes what a new stick holds: one partition with a FAT file system.
fn stick(image: &Path) {
    let file = File::create(image).unwrap();
    file.set_len(u64::from(PARTITION.0 + PARTITION.1) * 512).unwrap();
    // The table of partitions of a master boot record: type, begin and length.
    let mut entry = [0; 16];
    entry[4] = 0x0c;
    entry[8..12].copy_from_slice(&PARTITION.0.to_le_bytes());
    entry[12..].copy_from_slice(&PARTITION.1.to_le_bytes());
    file.write_all_at(&entry, 446).unwrap();
    file.write_all_at(&[0x55, 0xaa], 510).unwrap();
    let offset = format!("--offset={}", PARTITION.0);
    let blocks = (PARTITION.1 / 2).to_string();
    let made = Command::new("mkfs.vfat").arg(offset).arg(image).arg(blocks).output().unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
}

fn plug(guest: &mut Guest, name: &str, serial: &str) {
    let image = guest.directory().join(name);
    stick(&image);
    let file = json!({"driver": "file", "filename": image});
    guest.qmp("blockdev-add", &json!({"driver": "raw", "node-name": name, "file": file}));
    guest.qmp(
        "device_add",
        &json!({"driver": "usb-storage", "id": name, "drive": name, "serial": serial, "removable": true}),
    );
}

fn pull(guest: &mut Guest, name: &str) {
    guest.qmp("device_del", &json!({"id": name}));
    guest.qmp_event("DEVICE_DELETED");
    guest.until("! test -e /sys/class/block/sda");
}

fn texts<'a>(row: &'a Row, columns: &[&str]) -> Vec<&'a str> {
    columns.iter().map(|column| row[*column].as_str().unwrap_or("NULL")).collect()
}

#[test]
fn a_stick_is_told_of_from_the_plug_to_the_pull() {
    let Some(kernel) = Kernel::fetched("stock") else { return };
    let ids = tempfile::NamedTempFile::new().unwrap();
    fs::write(&ids, "46f4  QEMU, by the database\n\t0001  Stick, by the database\n").unwrap();
    let utmp = tempfile::NamedTempFile::new().unwrap();
    let mut record = vec![0; UTMP.0];
    record[UTMP.1] = 7;
    record[UTMP.2..UTMP.2 + 7].copy_from_slice(b"mallory");
    fs::write(&utmp, record).unwrap();
    let machine = Machine {
        kernel: &kernel,
        modules: &MODULES,
        files: &[(ids.path(), "/usr/share/misc/usb.ids"), (utmp.path(), "/etc/utmp")],
        arguments: &["-device", "qemu-xhci,id=usb"],
    };
    let mut guest = machine.boot();
    guest.record("");

    let before = guest.sql("select count(*) as n from hwinfo where devbus = 'usb' and serial like 'LUARM%'");
    assert_eq!(before[0]["n"], 0);
    guest.sh("cp /etc/utmp /run/utmp");
    plug(&mut guest, "first", "LUARM-0815");
    guest.until("test -b /dev/sda1");
    guest.sh("mount -t vfat /dev/sda1 /mnt && echo secret >/mnt/copied");
    let open = "select count(*) as n from mountinfo where location = '/mnt' and destroyed is null";
    assert_eq!(guest.sql(open)[0]["n"], 1);
    guest.sh("umount /mnt");
    assert_eq!(guest.sql(open)[0]["n"], 0);
    pull(&mut guest, "first");

    // The last row of each attachment has all that became known.
    let device = "select * from hwinfo where devbus = 'usb' and serial = 'LUARM-0815' order by hwdevid";
    let rows = guest.sql(device);
    let last = rows.last().unwrap();
    let columns = ["devvendor", "devproduct", "devstring", "manufacturer", "deviceids", "devclass", "driver"];
    assert_eq!(
        texts(last, &columns),
        [
            "QEMU, by the database",
            "Stick, by the database",
            "QEMU USB HARDDRIVE",
            "QEMU",
            "46f4:0001",
            "08:06:50",
            "usb-storage"
        ]
    );
    let wanted = ["sda sda1", "mallory", "event", "event"];
    assert_eq!(texts(last, &["blockdevices", "userslogged", "origin", "ended"]), wanted);
    let attachment = last["attachment"].as_i64().unwrap();
    assert_eq!(rows[0]["hwdevid"].as_i64(), Some(attachment));
    assert!(rows.iter().all(|row| row["attachment"] == attachment), "{rows:?}");
    assert!(rows.iter().rev().skip(1).all(|row| row["ended"] == "changed"), "{rows:?}");

    // The disk is a device of its own, at the same place.
    let disks = guest.sql("select d.* from hwinfo d join hwinfo u on d.devpath like u.devpath || '/%' where u.serial = 'LUARM-0815' and d.devbus = 'block' order by d.hwdevid");
    let disk = disks.last().unwrap();
    assert_eq!(
        texts(disk, &["devstring", "devvendor", "blockdevices", "driver", "ended"]),
        ["QEMU HARDDISK", "QEMU", "sda sda1", "sd", "event"]
    );

    // What was mounted leads to it, and everything happened in this order.
    let mounts = guest.sql("select m.location, m.filesystem, m.source, m.blockdevice, m.ended, h.serial, h.created as plugged, m.created as mounted, m.destroyed as unmounted, (select max(p.destroyed) from hwinfo p where p.attachment = h.attachment) as pulled from mountinfo m join hwinfo h on h.hwdevid = m.attachment where m.location = '/mnt'");
    assert_eq!(mounts.len(), 1, "{mounts:?}");
    let mount = &mounts[0];
    assert_eq!(
        texts(mount, &["location", "filesystem", "source", "blockdevice", "ended", "serial"]),
        ["/mnt", "vfat", "/dev/sda1", "sda1", "event", "LUARM-0815"]
    );
    let instants = texts(mount, &["plugged", "mounted", "unmounted", "pulled"]);
    assert!(instants.is_sorted() && !instants.contains(&"NULL"), "{instants:?}");
    assert!(instants[0] < instants[3], "{instants:?}");

    // The same stick again is another attachment; one that is torn out while it is mounted ends all the same.
    guest.sh("rm /run/utmp");
    plug(&mut guest, "second", "LUARM-0815");
    guest.until("test -b /dev/sda1");
    guest.sh("mount -t vfat /dev/sda1 /mnt");
    assert_eq!(guest.sql(open)[0]["n"], 1);
    pull(&mut guest, "second");
    let again = guest.sql(device);
    let last = again.last().unwrap();
    assert_eq!(texts(last, &["blockdevices", "userslogged", "ended"]), ["sda sda1", "NULL", "event"]);
    assert!(last["attachment"].as_i64() > Some(attachment));
    guest.sh("umount /mnt");
    let mounts =
        guest.sql("select ended, attachment from mountinfo where location = '/mnt' order by mountid");
    assert_eq!(mounts.len(), 2, "{mounts:?}");
    assert_eq!((&mounts[1]["ended"], &mounts[1]["attachment"]), (&json!("event"), &last["attachment"]));

    // A keyboard says what it is.
    guest.qmp("device_add", &json!({"driver": "usb-kbd", "id": "keys", "serial": "LUARM-KEYS"}));
    guest.until("grep -q QEMU /sys/class/input/input*/name");
    let keyboard = guest.sql("select h.devclass, h.driver, i.devclass as kind, i.devstring from hwinfo h join hwinfo i on i.devpath like h.devpath || '/%' and i.devbus = 'input' where h.serial = 'LUARM-KEYS' and h.destroyed is null order by i.hwdevid");
    let last = keyboard.last().unwrap();
    assert_eq!(
        texts(last, &["devclass", "driver", "kind", "devstring"]),
        ["03:01:01", "usbhid", "keyboard", "QEMU QEMU USB Keyboard"]
    );
    let lost =
        guest.sql("select * from lossinfo where class in ('hardware', 'mounts', 'hwinfo', 'mountinfo')");
    assert_eq!(lost.len(), 0, "{lost:?}");
}
