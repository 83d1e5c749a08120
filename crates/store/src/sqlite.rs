//! The SQLite engine.

mod append;
mod guard;
mod open;
mod reader;
mod resume;
mod writer;

pub use append::Refused;
pub use reader::{Interrupt, Reader};
pub use writer::{Appended, Writer};
