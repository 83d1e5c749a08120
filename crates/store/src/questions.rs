//! Questions that a server answers, as rows of `queryinfo` that the store makes itself.

use std::fmt;

use luarm_schema::{
    Dialect, Row, Sink, TableDef, Time, Value,
    canonical::Canonical,
    first_number,
    tables::{QueryInfo, QueryInfoEnd},
};

use crate::{
    StoreError, StoreUrl,
    mysql::Mysql,
    postgres::Postgres,
    registry::{
        Parameter::{self, Int, Text},
        RegistrySql,
    },
    remote::RemoteRegistry,
    sqlite::SqliteRegistry,
};

/// Numbers that are tried, when others have taken those before.
const TRIES: i64 = 16;

/// Where a question's row stands: host and number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Asked {
    /// The host, 0 for none alone.
    pub host: i64,
    /// `queryinfo.queryid`.
    pub queryid: i64,
}

/// Writes down what a server is asked.
pub struct Questions {
    sql: Box<dyn RegistrySql>,
    dialect: Dialect,
    last: i64,
}

impl Questions {
    /// Opens the store, as one who may add rows.
    pub fn open(url: &StoreUrl) -> Result<Self, StoreError> {
        let (sql, dialect): (Box<dyn RegistrySql>, _) = match url {
            StoreUrl::Sqlite(path) => (Box::new(SqliteRegistry::open(path)?), Dialect::Sqlite),
            StoreUrl::Mysql(_) => (Box::new(RemoteRegistry::<Mysql>::open(url)?), Dialect::Mysql),
            StoreUrl::Postgres(_) => (Box::new(RemoteRegistry::<Postgres>::open(url)?), Dialect::Postgres),
        };
        Ok(Questions { sql, dialect, last: 0 })
    }

    /// The number of the host of that name or machine id.
    pub fn host(&mut self, name: &str) -> Result<Option<i64>, StoreError> {
        let sql = match self.dialect {
            Dialect::Sqlite => {
                "SELECT host FROM hostinfo WHERE hostname = ? OR machineid = ? ORDER BY bootentity DESC LIMIT 1"
            }
            _ => "SELECT host FROM luarmhost WHERE name = ? OR machineid = ?",
        };
        let rows = self.sql.ask(sql, &[Text(name), Text(name)])?;
        Ok(rows.into_iter().flatten().flatten().next().and_then(|number| number.parse().ok()))
    }

    /// Writes a question down, durably, before it is answered. Its number is made here.
    pub fn begin(&mut self, host: i64, question: QueryInfo) -> Result<Asked, StoreError> {
        let table = QueryInfo::TABLE;
        let mut question = QueryInfo { end: None, ..question };
        let columns: Vec<&str> = table.stored().map(|column| column.name).collect();
        for _ in 0..TRIES {
            question.queryid = first_number(question.created).max(self.last + 1);
            self.last = question.queryid;
            let queryid = question.queryid;
            let mut values = Values::default();
            Row::from(question.clone()).stored(host, 0, &mut values, &mut Canonical::default());
            let stored = self.dialect.stored_name(table);
            if self.sql.insert(&stored, &columns.join(", "), &values.parameters())? {
                return Ok(Asked { host, queryid });
            }
        }
        Err(StoreError::Numbers { table: table.name })
    }

    /// Writes down how it ended. A question that has ended is left alone.
    pub fn end(&mut self, asked: Asked, end: &QueryInfoEnd) -> Result<(), StoreError> {
        let mut values = Values::default();
        end.put(&mut values);
        values.put(Value::Int(0));
        values.put(Value::Int(asked.host));
        values.put(Value::Int(asked.queryid));
        self.sql.change(&update(self.dialect, QueryInfo::TABLE), &values.parameters())
    }

    /// Ends the questions that a server came to before that instant, and that nobody can be answering any more.
    pub fn abandon(&mut self, before: Time, now: Time) -> Result<(), StoreError> {
        let stored = self.dialect.stored_name(QueryInfo::TABLE);
        let sql = format!(
            "UPDATE {stored} SET destroyed = ?, ended = ?, dbatch = 0 WHERE batch = 0 AND destroyed IS NULL AND queryid < ?"
        );
        let parameters = [Parameter::Time(now), Text("killed"), Int(first_number(before))];
        self.sql.change(&sql, &parameters)
    }
}

/// As [`Dialect::end`], with `?` for each parameter.
fn update(dialect: Dialect, table: &TableDef) -> String {
    let set: Vec<String> = table.ends().map(|column| format!("{} = ?", column.name)).collect();
    format!(
        "UPDATE {} SET {}, dbatch = ? WHERE host = ? AND {} = ? AND destroyed IS NULL",
        dialect.stored_name(table),
        set.join(", "),
        table.key
    )
}

impl fmt::Debug for Questions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Questions")
    }
}

/// Values for a statement.
#[derive(Default)]
struct Values(Vec<Owned>);

enum Owned {
    Null,
    Int(i64),
    Text(String),
    Time(Time),
}

impl Values {
    fn parameters(&self) -> Vec<Parameter<'_>> {
        let parameter = |value| match value {
            &Owned::Null => Parameter::Null,
            &Owned::Int(n) => Int(n),
            Owned::Text(text) => Text(text),
            &Owned::Time(time) => Parameter::Time(time),
        };
        self.0.iter().map(parameter).collect()
    }
}

impl Sink for Values {
    fn put(&mut self, value: Value<'_>) {
        self.0.push(match value {
            Value::Null | Value::Real(_) => Owned::Null,
            Value::Int(n) => Owned::Int(n),
            Value::Text(text) => Owned::Text(text.to_owned()),
            Value::Time(time) => Owned::Time(time),
        });
    }
}
