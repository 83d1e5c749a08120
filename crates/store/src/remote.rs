//! What MariaDB/MySQL and PostgreSQL have in common: a connection that may break, an account that may do little, and many hosts in one store.
//!
//! An engine gives a [`session::Session`]; everything else is written once, here.

mod address;
pub(crate) mod appender;
pub(crate) mod asker;
mod connection;
mod deliveries;
mod enrolment;
mod evidence;
mod failure;
pub(crate) mod grants;
pub(crate) mod guard;
mod lease;
mod manifests;
pub(crate) mod noting;
mod places;
mod placing;
mod registry;
mod resume;
pub(crate) mod retention;
mod schema;
mod session;
pub(crate) mod tls;

pub(crate) use address::{Address, Tls};
pub(crate) use appender::Appender;
pub(crate) use asker::{Asker, Cancel};
pub(crate) use connection::{CONNECTING, Connection, Keeping};
pub(crate) use deliveries::Deliveries;
pub(crate) use enrolment::RemoteRegistry;
pub(crate) use evidence::Evidence;
pub(crate) use failure::{Class, Failure, TOO_LONG};
pub(crate) use places::make_all as places_of_all;
pub(crate) use schema::make_routine;
pub(crate) use session::{Datum, Session, StreamError, is_loopback};
