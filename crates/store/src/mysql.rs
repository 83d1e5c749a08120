//! The MariaDB and MySQL engine.

mod failure;
mod retention;
mod session;

pub(crate) use session::Mysql;
