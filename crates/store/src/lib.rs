//! Where rows are kept: the ledger and the tables, in one transaction for each batch.
//!
//! Only this crate speaks to a database engine: SQLite in a file, MariaDB/MySQL and PostgreSQL on a server. Which one, the [`StoreUrl`] says; what can
//! be done is the same.
//!
//! - [`Writer`] appends batches: each is stored wholly, durably and once, or not at all.
//! - [`Ledger`] does so for many hosts, and [`Intake`] from many threads: a server's way in. [`Registry`] knows which hosts may.
//! - [`Spool`] keeps an agent's batches until its server has them.
//! - [`Reader`] answers queries and cannot write, whatever the statement. [`Source`] is its face, which a server far away may have as well.
//! - [`Evidence`] reads all of it again, to be verified.
//! - [`Questions`] writes down what a server is asked; [`Presence`] tells which hosts are heard of.
//! - [`Owner`] makes accounts and views on a server, and drops what is older than it is to be kept.

mod error;
mod evidence;
mod intake;
mod ledger;
mod mysql;
mod owner;
mod postgres;
mod presence;
mod proof;
mod query;
mod questions;
mod reader;
mod registry;
mod remote;
mod retention;
mod source;
mod sqlite;
mod url;
mod writer;

pub use error::{QueryError, StoreError, Trouble};
pub use evidence::Evidence;
pub use intake::Intake;
pub use ledger::Ledger;
pub use owner::{Account, Dropped, Owner};
pub use presence::{OVERDUE, Presence, State};
pub use query::{Cell, Host, Note, NoteEnd, RowSink};
pub use questions::{Asked, Questions, Written};
pub use reader::{Interrupt, Reader};
pub use registry::{Certified, Claim, Registry, Scope, Token, analyst_id};
pub use source::Source;
pub use sqlite::{Parcel, Spool};
pub use url::StoreUrl;
pub use writer::{Appended, HostIdentity, Refused, Stored, Writer};
