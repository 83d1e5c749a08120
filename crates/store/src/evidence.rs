//! Reading everything again, to be verified.

use std::fmt;

use luarm_chain::verify::{Entry, History, HostFacts, Portion, StoredManifest, Trouble};
use luarm_schema::{Kind, TableDef, Value};

use crate::{StoreError, StoreUrl, mysql::Mysql, postgres::Postgres, remote, sqlite};

/// A connection that reads a store to be verified; an account that may select is enough. Writers go on meanwhile.
///
/// It blocks, and must not be called from within an asynchronous task.
pub struct Evidence(Engine);

enum Engine {
    Sqlite(sqlite::Evidence),
    Mysql(Box<remote::Evidence<Mysql>>),
    Postgres(Box<remote::Evidence<Postgres>>),
}

impl fmt::Debug for Evidence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Evidence")
    }
}

impl Evidence {
    /// Opens the store for reading.
    pub fn open(url: &StoreUrl) -> Result<Self, StoreError> {
        Ok(Evidence(match url {
            StoreUrl::Sqlite(path) => Engine::Sqlite(sqlite::Evidence::open(path)?),
            StoreUrl::Mysql(_) => Engine::Mysql(Box::new(remote::Evidence::open(url)?)),
            StoreUrl::Postgres(_) => Engine::Postgres(Box::new(remote::Evidence::open(url)?)),
        }))
    }

    fn history(&mut self) -> &mut dyn History {
        match &mut self.0 {
            Engine::Sqlite(evidence) => evidence,
            Engine::Mysql(evidence) => &mut **evidence,
            Engine::Postgres(evidence) => &mut **evidence,
        }
    }
}

impl History for Evidence {
    fn hosts(&mut self) -> Result<Vec<HostFacts>, Trouble> {
        self.history().hosts()
    }

    fn entries(&mut self, host: i64, after: i64) -> Result<Vec<Entry>, Trouble> {
        self.history().entries(host, after)
    }

    fn last_batch(&mut self, host: i64) -> Result<i64, Trouble> {
        self.history().last_batch(host)
    }

    fn manifests(
        &mut self,
        host: i64,
        from: i64,
        to: i64,
        each: &mut dyn FnMut(StoredManifest<'_>),
    ) -> Result<(), Trouble> {
        self.history().manifests(host, from, to, each)
    }

    fn portions(&mut self, table: &'static TableDef, host: Option<i64>) -> Result<Vec<Portion>, Trouble> {
        self.history().portions(table, host)
    }

    fn rows(
        &mut self,
        table: &'static TableDef,
        portion: Portion,
        each: &mut dyn FnMut(&[Value<'_>]),
    ) -> Result<(), Trouble> {
        self.history().rows(table, portion, each)
    }

    fn row(
        &mut self,
        table: &'static TableDef,
        host: i64,
        key: i64,
        each: &mut dyn FnMut(&[Value<'_>]),
    ) -> Result<(), Trouble> {
        self.history().row(table, host, key, each)
    }
}

/// Entries of a page.
pub(crate) const PAGE: usize = 1000;

/// What stands for a value that no writer has stored in a column of that kind: one of another kind, so that no digest is that of any such row.
pub(crate) fn misfit(kind: Kind) -> Value<'static> {
    match kind {
        Kind::Text | Kind::Name | Kind::Time | Kind::Real => Value::Int(i64::MIN),
        Kind::Big | Kind::Int | Kind::Small => Value::Text("no number"),
    }
}

/// The stored columns, separated by commas, and their kinds.
pub(crate) fn columns(table: &TableDef) -> (String, Vec<Kind>) {
    let names: Vec<&str> = table.stored().map(|column| column.name).collect();
    (names.join(", "), table.stored().map(|column| column.kind).collect())
}
