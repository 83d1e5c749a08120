//! SQLite in memory, the yardstick.

use luarm_schema::{Dialect, Sink, TableDef, Value};
use rusqlite::{Batch, Connection, fallible_iterator::FallibleIterator as _, types::Value as Cell};

use crate::{Engine, rows::Rows};

pub(crate) struct Sqlite(Connection);

impl Sqlite {
    pub(crate) fn start() -> Self {
        Sqlite(Connection::open_in_memory().unwrap())
    }
}

/// The values of one row, as the store binds them.
#[derive(Default)]
struct Cells(Vec<Cell>);

impl Sink for Cells {
    fn put(&mut self, value: Value<'_>) {
        self.0.push(match value {
            Value::Null => Cell::Null,
            Value::Int(n) => Cell::Integer(n),
            Value::Real(x) => Cell::Real(x),
            Value::Text(s) => Cell::Text(s.to_owned()),
            Value::Time(t) => Cell::Text(t.to_string()),
        });
    }
}

impl Engine for Sqlite {
    fn dialect(&self) -> Dialect {
        Dialect::Sqlite
    }

    fn ask(&self, sql: &str) -> Vec<String> {
        let mut answer = Vec::new();
        let mut statements = Batch::new(&self.0, sql);
        while let Some(mut statement) = statements.next().unwrap() {
            let columns = statement.column_count();
            let mut rows = statement.query([]).unwrap();
            while let Some(row) = rows.next().unwrap() {
                let cells = (0..columns).map(|n| match row.get_unwrap(n) {
                    Cell::Null => "NULL".to_owned(),
                    Cell::Integer(n) => n.to_string(),
                    Cell::Real(x) => x.to_string(),
                    Cell::Text(s) => s,
                    Cell::Blob(_) => panic!("a blob"),
                });
                answer.push(cells.collect::<Vec<_>>().join("\t"));
            }
        }
        answer
    }

    fn explain(&self) -> &'static str {
        "EXPLAIN QUERY PLAN "
    }

    fn load(&self, table: &'static TableDef, rows: &Rows) {
        let mut insert = self.0.prepare(&Dialect::Sqlite.insert(table)).unwrap();
        rows.put(&mut Cells::default(), |cells| {
            insert.execute(rusqlite::params_from_iter(cells.0.drain(..))).unwrap();
        });
    }

    fn indexes(&self, table: &TableDef) -> Vec<String> {
        self.ask(&format!(
            "SELECT group_concat(i.name) FROM pragma_index_list('{}') l, pragma_index_info(l.name) i GROUP BY l.name",
            self.dialect().stored_name(table)
        ))
    }
}
