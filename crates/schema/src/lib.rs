//! The relational model of luarm: every table is declared once, here.
//!
//! From one declaration ([`tables`]) come the row structs, the DDL of each dialect ([`dialect`]), the values that a store
//! binds ([`Row::stored`], [`Sink`]), the streams that engines load in bulk ([`bulk`]), the bytes that travel ([`wire`]), the canonical bytes behind `md5sum`
//! ([`canonical`]), the console's `describe` and the reference in `docs/tables.md` ([`mod@reference`]). Adding a column is one edit.

#[macro_use]
mod declare;
mod batch;
pub mod bulk;
pub mod canonical;
pub mod coverage;
pub mod dialect;
pub mod escape;
mod number;
pub mod reference;
mod stored;
pub mod tables;
mod value;
pub mod wire;

pub use batch::{Batch, OpenEndpoint, OpenFile, OpenProcess, Resume};
pub use declare::{Column, Derivation, Index, Part, Role, TableDef};
pub use dialect::Dialect;
pub use number::{NUMBERS_EPOCH, first_number};
pub use tables::{ACTIVITIES, CONDITIONS, End, Row, STORE_MADE, TABLES, table};
pub use value::{Field, HostName, Kind, Sink, Source, Time, TimeError, Value, Word};

/// Version of the set of tables; a store that says a higher one was written by a newer luarm.
pub const SCHEMA_VERSION: i64 = 2;
