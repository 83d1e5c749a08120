//! Hardware.

use crate::{Time, Word};

table! {
    /// Hardware devices that were connected or disconnected. Declared, not recorded yet: `coverageinfo` says so.
    hwinfo: HwInfo, HwInfoEnd, key hwdevid;
    begin {
        /// Number of the row, ordered by time.
        hwdevid: i64,
        /// Bus of the device: `usb`, `pci`…
        devbus: Word,
        /// What the device calls itself.
        devstring: String,
        /// Its vendor.
        devvendor: Option<String>,
        /// Who was logged in when it appeared.
        userslogged: Option<String>,
        /// When it appeared.
        created: Time,
    }
    end {
        /// When it went.
        destroyed: Time,
    }
    derived {}
    index {}
}
