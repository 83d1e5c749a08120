//! The MariaDB and MySQL engine.

mod failure;
mod nodes;
mod retention;
mod session;

pub(crate) use session::Mysql;
