//! The SQLite engine.

mod append;
mod guard;
mod ledger;
mod open;
mod reader;
mod registry;
mod resume;
mod spool;
mod writer;

pub use append::Refused;
pub use ledger::Ledger;
pub use reader::{Interrupt, Reader};
pub(crate) use registry::SqliteRegistry;
pub use spool::{Parcel, Spool};
pub use writer::{Appended, Writer};
