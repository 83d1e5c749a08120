//! The PostgreSQL engine.

mod failure;
mod retention;
mod session;
mod value;

pub(crate) use session::Postgres;
