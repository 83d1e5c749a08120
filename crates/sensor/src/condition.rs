//! Conditions: what is true of the host for a time. An interface has an address, a route leads somewhere, a device is attached.

mod device;
mod mount;
mod route;

pub use device::Device;
pub use mount::Mount;
pub use route::Route;

/// A condition: what it is, and which values it has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Condition {
    /// A device.
    Device(Device),
    /// A mount.
    Mount(Mount),
    /// A route.
    Route(Route),
}

/// The kinds of conditions; a sensor reports all of a kind that hold, then says that they are complete.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "they say it all")]
pub enum ConditionKind {
    Device,
    Mount,
    Route,
}
