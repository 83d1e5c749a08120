//! Sensors: what happens on this host, as [`Observation`]s. They know no tables.
//!
//! Only this crate reads the kernel and /proc.

pub mod capability;
pub mod clock;
pub mod condition;
mod digest;
pub mod ebpf;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
pub mod host;
mod lookup;
pub mod observation;
pub mod poll;
pub mod probe;
pub mod proc;
pub mod queue;
pub mod sockets;
pub mod surroundings;

pub use host::HostFacts;
pub use observation::{BootNs, Observation};

/// How full a ring between the kernel and the sensor was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RingFill {
    /// Which: `events` or `bulk`.
    pub name: &'static str,
    /// Bytes that were found in it at most when it was emptied, within the last half minute to minute.
    pub peak: u64,
    /// Bytes that it holds.
    pub size: u64,
}

/// A running sensor: a thread that puts what it sees into the queue.
pub trait Sensor: Send {
    /// Asks for everything that happened before now, and returns this now: once `Observation::Reached` of that instant or a later one came
    /// through the queue, all of it has.
    fn drain(&self) -> BootNs;

    /// How full the kernel's rings were of late; empty where there are none.
    fn rings(&self) -> Vec<RingFill> {
        Vec::new()
    }

    /// Delivers everything that happened before now, then closes the queue and ends the sensor.
    fn stop(self: Box<Self>);
}
