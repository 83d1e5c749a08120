//! Reading /proc, through a root path, so that tests can hand over a made-up one.
//!
//! Whatever stands there is hostile: names and arguments are any bytes. A process may vanish between two reads, and most of what belongs to
//! other users is not for an unprivileged reader: both give `None`, never an error. See proc(5).

mod found;
mod process;
mod reader;
mod stat;
mod status;

pub use process::{ARGUMENTS_LIMIT, Process};
pub use reader::Reader;
pub use stat::{Image, Stat};
pub use status::{Io, Status};
