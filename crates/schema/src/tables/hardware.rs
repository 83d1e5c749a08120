//! Hardware.

use crate::{Time, Word};

table! {
    /// Hardware that is attached to the host, from when it was connected until it was disconnected: everything on the USB and PCI buses, disks (loop
    /// devices and the like while there is a medium in them), network interfaces of the host's namespace (virtual ones too), input devices, sound and graphics cards, serial
    /// lines on USB or PCI.
    ///
    /// A row is written when nothing was heard of the device for two seconds (at the latest after ten), when something on it is mounted, when it
    /// goes, or when somebody asks (`luarm sync`): by then its driver is bound and its partitions are known. `created` is the instant at which it
    /// appeared. Where a value changes after that, the row ends as `changed` and another begins, with the same `attachment`. Names and numbers are what
    /// the device says: nobody vouches for them.
    hwinfo: HwInfo, HwInfoEnd, key hwdevid;
    begin {
        /// Number of the row, ordered by time.
        hwdevid: i64,
        /// Bus or class of the device: `usb`, `pci`, `block`, `net`, `input`, `sound`, `drm`, `tty`.
        devbus: Word,
        /// What the device calls itself: a USB device its product, a disk its model, a loop device its file, a network interface its name. Where it
        /// says nothing, `devproduct` or its numbers.
        devstring: String,
        /// Its vendor: by the databases of the package hwdata where those are installed, else as the device says, else its number.
        devvendor: Option<String>,
        /// Its product, by the same databases.
        devproduct: Option<String>,
        /// Its maker, as a USB device says itself.
        manufacturer: Option<String>,
        /// Its serial number; of a network interface the link-layer address.
        serial: Option<String>,
        /// Numbers of vendor and product, hexadecimal: `0951:1666`; of a PCI device also those of the subsystem.
        deviceids: Option<String>,
        /// What it is. USB: class, subclass and protocol of its interfaces (`08:06:50` is mass storage, `03:01:01` a keyboard). PCI: class code.
        /// Network: `ether`, `tun`, `wlan`, `bridge`… Input: `keyboard`, `mouse`, `joystick`.
        devclass: Option<String>,
        /// Its driver; of a USB device those of its interfaces.
        driver: Option<String>,
        /// Its directory below /sys: where it is plugged in.
        devpath: String,
        /// The kernel's number of this attachment: USB device number, sequence number of the disk, index of the interface.
        instance: Option<i64>,
        /// Disks and partitions that it provides, and what stands on them (encryption, RAID), by name.
        blockdevices: Option<String>,
        /// Who was logged in when it appeared, by utmp: names, in order; '' for nobody; NULL where it was there already when the recorder started, and
        /// where there is no utmp.
        userslogged: Option<String>,
        /// `hwdevid` of the first row of this attachment: `mountinfo.attachment` leads here.
        attachment: i64,
        /// How the row began: `event`; `found`, it was there when the recorder started.
        origin: Word,
        /// When it appeared, or had these values.
        created: Time,
    }
    end {
        /// When it went, or had other values.
        destroyed: Time,
        /// How it ended: `event`, it was disconnected; `changed`, the next row has its other values; `unseen`, while nothing watched, at the latest at
        /// `destroyed`; `boot`.
        ended: Word,
    }
    derived {}
    index { (attachment) }
}

table! {
    /// Mounted file systems, of every kind, in the mount namespace of the host.
    mountinfo: MountInfo, MountInfoEnd, key mountid;
    begin {
        /// Number of the row, ordered by time.
        mountid: i64,
        /// The kernel's number of the mount; given to another once it is gone.
        mount: u32,
        /// Where it is mounted.
        location: String,
        /// The directory of the file system that is mounted there; `/` for the whole.
        root: String,
        /// Type of the file system.
        filesystem: String,
        /// What was mounted: a device, a server's export, or any word.
        source: String,
        /// Options of the mount, then those of the file system.
        options: String,
        /// Device of its files, as major * 2^20 + minor: `fileinfo.device` leads here.
        device: u32,
        /// Name of the block device that it lies on.
        blockdevice: Option<String>,
        /// The hardware that it lies on, as `hwinfo.attachment`: the USB device by which it is plugged in, else the disk.
        attachment: Option<i64>,
        /// How the row began: `event`; `found`, it was there when the recorder started.
        origin: Word,
        /// When it was mounted, or had these values.
        created: Time,
    }
    end {
        /// When it was unmounted, or had other values.
        destroyed: Time,
        /// How it ended: `event`, it was unmounted; `changed`, the next row has its other options; `unseen`, while nothing watched, at the latest at
        /// `destroyed`; `boot`.
        ended: Word,
    }
    derived {}
    index { (attachment) }
}
