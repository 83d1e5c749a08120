//! The same rows into real engines, each started for the test and for it alone, and the same answers out of them: what SQLite says
//! is what MariaDB and PostgreSQL have to say.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod compare;
mod mariadb;
mod postgres;
mod rows;
mod seed;
mod server;
mod sqlite;

use luarm_schema::{Dialect, TableDef};

/// An engine with the tables of luarm, asked in its own dialect.
pub(crate) trait Engine {
    fn dialect(&self) -> Dialect;

    /// The statement's answer: a row a line, values separated by tabs. Nothing in the values may need quoting.
    fn ask(&self, sql: &str) -> Vec<String>;

    /// What before a query asks for the indexes that it can use.
    fn explain(&self) -> &'static str;

    /// Loads rows in bulk through the engine's stock client.
    fn load(&self, table: &'static TableDef, rows: &rows::Rows);

    /// The columns of each index of the table, separated by commas.
    fn indexes(&self, table: &TableDef) -> Vec<String>;
}

#[test]
fn mariadb_answers_as_sqlite_does() {
    if let Some(mariadb) = mariadb::Mariadb::start("mariadb_answers_as_sqlite_does") {
        compare::with_sqlite(&mariadb);
    }
}

#[test]
fn postgres_answers_as_sqlite_does() {
    if let Some(postgres) = postgres::Postgres::start("postgres_answers_as_sqlite_does") {
        compare::with_sqlite(&postgres);
    }
}
