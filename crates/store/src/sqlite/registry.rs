//! The registry in SQLite.

use std::path::{Path, PathBuf};

use rusqlite::{Connection, ToSql, params_from_iter, types::ValueRef};

use super::open;
use crate::{
    StoreError,
    registry::{Parameter, RegistrySql, TABLES},
};

/// A connection for the registry.
pub(crate) struct SqliteRegistry {
    conn: Connection,
    path: PathBuf,
}

impl SqliteRegistry {
    /// Opens the file, and makes what is missing.
    pub(crate) fn open(path: &Path) -> Result<Self, StoreError> {
        let conn = open::open_for_writing(path)?;
        for table in TABLES {
            conn.execute_batch(table).map_err(|e| StoreError::from_open(path, e))?;
        }
        Ok(SqliteRegistry { conn, path: path.to_owned() })
    }

    fn run(&mut self, sql: &str, parameters: &[Parameter<'_>]) -> Result<usize, StoreError> {
        let changed = self
            .conn
            .prepare_cached(sql)
            .and_then(|mut statement| statement.execute(params_from_iter(parameters)));
        changed.map_err(|e| StoreError::from_append(&self.path, e))
    }
}

impl ToSql for Parameter<'_> {
    fn to_sql(&self) -> rusqlite::Result<rusqlite::types::ToSqlOutput<'_>> {
        Ok(match self {
            Parameter::Null => rusqlite::types::Null.into(),
            Parameter::Int(n) => (*n).into(),
            Parameter::Time(time) => time.to_string().into(),
            Parameter::Text(text) => (*text).into(),
        })
    }
}

impl RegistrySql for SqliteRegistry {
    fn change(&mut self, sql: &str, parameters: &[Parameter<'_>]) -> Result<(), StoreError> {
        self.run(sql, parameters).map(|_| ())
    }

    fn insert(
        &mut self,
        table: &str,
        columns: &str,
        parameters: &[Parameter<'_>],
    ) -> Result<bool, StoreError> {
        let marks = vec!["?"; parameters.len()].join(", ");
        let sql = format!("INSERT INTO {table} ({columns}) VALUES ({marks}) ON CONFLICT DO NOTHING");
        self.run(&sql, parameters).map(|inserted| inserted == 1)
    }

    fn ask(
        &mut self,
        sql: &str,
        parameters: &[Parameter<'_>],
    ) -> Result<Vec<Vec<Option<String>>>, StoreError> {
        let failed = |e| StoreError::from_append(&self.path, e);
        let mut statement = self.conn.prepare_cached(sql).map_err(failed)?;
        let width = statement.column_count();
        let rows = statement.query_map(params_from_iter(parameters), |row| {
            (0..width)
                .map(|column| {
                    Ok(match row.get_ref(column)? {
                        ValueRef::Integer(n) => Some(n.to_string()),
                        ValueRef::Text(text) => str::from_utf8(text).ok().map(str::to_owned),
                        _ => None,
                    })
                })
                .collect()
        });
        rows.and_then(Iterator::collect).map_err(failed)
    }
}
