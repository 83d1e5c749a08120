//! The decoders of what is told of the surroundings, for fuzzing.

use super::{mounts, uevent};

pub use super::{
    accounts::try_files as accounts,
    logins::{try_session as sessions, try_utmp as utmp},
    network::try_datagram as rtnetlink,
};

/// A message about a device.
pub fn uevent(bytes: &[u8]) {
    match uevent::parse(bytes) {
        uevent::Message::Event(event) => {
            assert!(uevent::is_plain(&event.path), "a path that leads elsewhere");
            assert!(event.path.len() + event.action.len() < bytes.len());
            for key in ["SUBSYSTEM", "DEVNAME", "MAJOR", "SYNTH_UUID", ""] {
                event.variables.get(key);
                event.variables.text(key);
            }
            event.is_synthetic();
        }
        uevent::Message::Forged => panic!("only the sender says that"),
        uevent::Message::Other | uevent::Message::Malformed => {}
    }
}

/// A list of mounts.
pub fn mountinfo(bytes: &[u8]) {
    for line in bytes.split(|byte| *byte == b'\n') {
        if let Some(mount) = mounts::parse(line) {
            let told = [&mount.point, &mount.root, &mount.filesystem, &mount.source, &mount.options];
            assert!(told.iter().map(|text| text.len()).sum::<usize>() < line.len(), "more than was said");
        }
    }
}
