//! Where rows are kept: the ledger and the tables, in one transaction for each batch.
//!
//! Only this crate speaks to a database engine. SQLite is connected; MariaDB/MySQL and PostgreSQL have their URLs and their
//! DDL (`luarm_schema::Dialect`) but no connection yet.
//!
//! - [`Writer`] appends batches: each is stored wholly, durably and once, or not at all.
//! - [`Ledger`] does so for many hosts: a server's way in. [`Registry`] knows which hosts may.
//! - [`Spool`] keeps an agent's batches until its server has them.
//! - [`Reader`] answers queries and cannot write, whatever the statement.

mod error;
mod query;
mod registry;
mod sqlite;
mod url;

pub use error::{QueryError, StoreError};
pub use query::{Cell, Host, RowSink};
pub use registry::{Certified, Claim, Registry, Token};
pub use sqlite::{Appended, Interrupt, Ledger, Parcel, Reader, Refused, Spool, Writer};
pub use url::StoreUrl;
