//! Sensors: what happens on this host, as [`Observation`]s. They know no tables.
//!
//! Only this crate reads the kernel and /proc.

pub mod observation;
pub mod queue;

pub use observation::Observation;
