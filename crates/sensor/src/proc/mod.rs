//! Reading /proc, through a root path, so that tests can hand over a made-up one.
//!
//! Whatever stands there is hostile: names and arguments are any bytes, and a process may vanish between two reads.

mod reader;

pub use reader::Reader;
