//! The SQLite engine.

mod append;
mod evidence;
mod guard;
mod ledger;
mod open;
mod reader;
mod ready;
mod registry;
mod resume;
mod retention;
mod servers;
mod spool;
mod writer;

pub(crate) use evidence::Evidence;
pub(crate) use ledger::Ledger;
pub(crate) use reader::{Interrupt, Reader};
pub(crate) use ready::Ready;
pub(crate) use registry::SqliteRegistry;
pub(crate) use retention::Retainer;
pub use spool::{Parcel, Spool};
pub(crate) use writer::Writer;
