//! Devices.

/// A device that is attached to the host. Texts are what the device or its driver says: bytes that nobody vouches for.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Device {
    /// Its directory below /sys, such as `/devices/pci0000:00/0000:00:14.0/usb1/1-2`; names it while it is attached.
    pub path: Vec<u8>,
    /// The kernel's subsystem: `usb`, `pci`, `block`, `net`, `input`, `sound`, `drm` or `tty`.
    pub bus: &'static str,
    /// What it calls itself; where it does not, what the database of names or the kernel calls it.
    pub name: Vec<u8>,
    /// Its maker: by the database of names, else what the device says, else its number.
    pub vendor: Option<Vec<u8>>,
    /// What it is, by the database of names.
    pub product: Option<Vec<u8>>,
    /// Its maker, as the device says.
    pub manufacturer: Option<Vec<u8>>,
    /// Its serial number, or link-layer address.
    pub serial: Option<Vec<u8>>,
    /// Its numbers, `vendor:product` and what its bus has beyond, hexadecimal.
    pub ids: Option<String>,
    /// What kind of device it is, in the terms of its bus.
    pub class: Option<Vec<u8>>,
    /// Its driver; for USB those of its interfaces, separated by blanks.
    pub driver: Option<Vec<u8>>,
    /// A number that the kernel gives to each attachment: USB device number, disk sequence number, interface index.
    pub instance: Option<u64>,
    /// Disks and partitions that it provides, by name, in order.
    pub block_devices: Vec<Vec<u8>>,
    /// Who was logged in when it appeared; `None` where that is not known.
    pub logged_in: Option<Vec<Vec<u8>>>,
}
