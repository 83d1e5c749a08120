//! What tests stand on: database servers of their own, in a directory of their own, gone with the test.
//!
//! [`Mariadb`] and [`Postgres`] are started from what Debian's packages install, as an unprivileged user where the test is root, on a socket and
//! a free port of the loopback. They can be stopped, killed and started again over the same data. Only tests and measurements use this crate.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod mariadb;
mod postgres;
mod server;

pub use mariadb::Mariadb;
pub use postgres::Postgres;
pub use server::{printed, run_with, skip};
