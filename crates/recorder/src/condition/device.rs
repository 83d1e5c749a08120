//! Rows of `hwinfo`.

use luarm_schema::{
    End, Row, Time, Word,
    escape::{escape, unescape},
    tables::{HwInfo, HwInfoEnd},
};
use luarm_sensor::condition::Device;

use super::State;

/// The values of a row.
pub(super) struct DeviceState {
    path: Vec<u8>,
    facts: Facts,
    userslogged: Option<String>,
    /// Of the rows before, where there are any.
    attachment: Option<i64>,
}

/// What makes another row when it changes.
#[derive(PartialEq)]
struct Facts {
    devbus: Word,
    devstring: String,
    devvendor: Option<String>,
    devproduct: Option<String>,
    manufacturer: Option<String>,
    serial: Option<String>,
    deviceids: Option<String>,
    devclass: Option<String>,
    driver: Option<String>,
    instance: Option<i64>,
    blockdevices: Option<String>,
}

impl Facts {
    /// Whether both are of one device that was plugged in once.
    fn is_same_attachment(&self, other: &Self) -> bool {
        self.devbus == other.devbus
            && self.instance == other.instance
            && self.serial == other.serial
            && self.deviceids == other.deviceids
    }
}

impl DeviceState {
    /// The number of the first row of this attachment, if `number` is that of the present one.
    pub(super) fn attachment(&self, number: i64) -> i64 {
        self.attachment.unwrap_or(number)
    }
}

impl PartialEq for DeviceState {
    fn eq(&self, other: &Self) -> bool {
        self.facts == other.facts
    }
}

fn list(words: &[Vec<u8>]) -> String {
    words.iter().map(|word| escape(word)).collect::<Vec<_>>().join(" ")
}

impl From<&Device> for DeviceState {
    fn from(device: &Device) -> Self {
        let text = |bytes: &Option<Vec<u8>>| bytes.as_deref().map(escape);
        let facts = Facts {
            devbus: Word::Borrowed(device.bus),
            devstring: escape(&device.name),
            devvendor: text(&device.vendor),
            devproduct: text(&device.product),
            manufacturer: text(&device.manufacturer),
            serial: text(&device.serial),
            deviceids: device.ids.clone(),
            devclass: text(&device.class),
            driver: text(&device.driver),
            instance: device.instance.and_then(|n| i64::try_from(n).ok()),
            blockdevices: (!device.block_devices.is_empty()).then(|| list(&device.block_devices)),
        };
        let userslogged = device.logged_in.as_deref().map(list);
        Self { path: device.path.clone(), facts, userslogged, attachment: None }
    }
}

impl State for DeviceState {
    type Key = Vec<u8>;

    fn key(&self) -> Vec<u8> {
        self.path.clone()
    }

    fn follow(&mut self, before: &Self, number: i64) {
        if self.facts.is_same_attachment(&before.facts) {
            self.attachment = Some(before.attachment(number));
            self.userslogged.clone_from(&before.userslogged);
        }
    }

    fn row(&self, number: i64, created: Time, origin: Word) -> Row {
        let Facts { devbus, devstring, devvendor, devproduct, manufacturer, .. } = &self.facts;
        let Facts { serial, deviceids, devclass, driver, instance, blockdevices, .. } = &self.facts;
        HwInfo {
            hwdevid: number,
            devbus: devbus.clone(),
            devstring: devstring.clone(),
            devvendor: devvendor.clone(),
            devproduct: devproduct.clone(),
            manufacturer: manufacturer.clone(),
            serial: serial.clone(),
            deviceids: deviceids.clone(),
            devclass: devclass.clone(),
            driver: driver.clone(),
            devpath: escape(&self.path),
            instance: *instance,
            blockdevices: blockdevices.clone(),
            userslogged: self.userslogged.clone(),
            attachment: self.attachment(number),
            origin,
            created,
            end: None,
        }
        .into()
    }

    fn of(row: &Row) -> Option<Self> {
        let Row::HwInfo(row) = row else { return None };
        let HwInfo { devbus, devstring, devvendor, devproduct, manufacturer, serial, .. } = &**row;
        let HwInfo { deviceids, devclass, driver, instance, blockdevices, .. } = &**row;
        let facts = Facts {
            devbus: devbus.clone(),
            devstring: devstring.clone(),
            devvendor: devvendor.clone(),
            devproduct: devproduct.clone(),
            manufacturer: manufacturer.clone(),
            serial: serial.clone(),
            deviceids: deviceids.clone(),
            devclass: devclass.clone(),
            driver: driver.clone(),
            instance: *instance,
            blockdevices: blockdevices.clone(),
        };
        Some(Self {
            path: unescape(&row.devpath),
            facts,
            userslogged: row.userslogged.clone(),
            attachment: Some(row.attachment),
        })
    }

    fn end(destroyed: Time, ended: Word) -> End {
        End::HwInfo(HwInfoEnd { destroyed, ended })
    }
}
