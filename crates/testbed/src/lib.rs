//! What tests stand on: database servers of their own, in a directory of their own, gone with the test.
//!
//! [`Mariadb`], a cluster of it ([`Galera`]) and [`Postgres`] are started from what Debian's packages install, as an unprivileged user where the test is root, on a socket and
//! a free port of the loopback. They can be stopped, killed and started again over the same data. A [`Cable`] joins two network
//! namespaces by a network that is as bad as a test wants it. Only tests and measurements use this crate.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod galera;
mod mariadb;
mod network;
mod postgres;
mod server;

pub use galera::{Galera, NODES};
pub use mariadb::Mariadb;
pub use network::{Cable, Place, Weather};
pub use postgres::Postgres;
pub use server::{printed, run_with, skip};
