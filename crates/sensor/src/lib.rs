//! Sensors: what happens on this host, as [`Observation`]s. They know no tables.
//!
//! Only this crate reads the kernel and /proc.

pub mod clock;
pub mod condition;
mod digest;
pub mod ebpf;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
pub mod host;
pub mod observation;
pub mod poll;
pub mod probe;
pub mod proc;
pub mod queue;
pub mod sockets;
pub mod surroundings;

pub use host::HostFacts;
pub use observation::{BootNs, Observation};

/// A running sensor: a thread that puts what it sees into the queue.
pub trait Sensor: Send {
    /// Asks for everything that happened before now, and returns this now: once `Observation::Reached` of that instant or a later one came
    /// through the queue, all of it has.
    fn drain(&self) -> BootNs;

    /// Delivers everything that happened before now, then closes the queue and ends the sensor.
    fn stop(self: Box<Self>);
}
