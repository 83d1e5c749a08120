//! The SQLite engine.

mod append;
mod guard;
mod open;
mod reader;
mod resume;
mod writer;

pub(crate) use reader::{Interrupt, Reader};
pub(crate) use writer::Writer;
