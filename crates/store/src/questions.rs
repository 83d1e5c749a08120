//! Questions that a server answers, as rows of `queryinfo` of its own.

use std::fmt;

use luarm_chain::verify::History;
use luarm_schema::{
    Dialect, Role, Row, Sink, Source, TableDef, Time, Value,
    canonical::{Canonical, md5sum},
    first_number,
    tables::{QueryInfo, QueryInfoEnd},
};

use crate::{
    Evidence, StoreError, StoreUrl,
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

/// Where a question's row stands: the server that was asked, and number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Asked {
    /// The server, by its number in the store.
    pub host: i64,
    /// `queryinfo.queryid`.
    pub queryid: i64,
}

/// A question as it is written down.
#[derive(Debug, Clone, PartialEq)]
pub struct Written {
    /// Its row, with its end if it has one.
    pub question: QueryInfo,
    /// The batch that holds it.
    pub batch: i64,
    /// The batch that holds its end.
    pub dbatch: Option<i64>,
}

/// Writes down what a server is asked: at once, under the number of the batch that will hold it. To seal that batch is for the caller.
pub struct Questions {
    sql: Box<dyn RegistrySql>,
    dialect: Dialect,
    url: StoreUrl,
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
        Ok(Questions { sql, dialect, url: url.clone(), last: 0 })
    }

    /// Writes a question down, durably, before it is answered, as the server of that number and in that batch. Its number is made here, and is in the row also after an error, when
    /// [`stands`](Self::stands) tells what became of it.
    pub fn begin(
        &mut self,
        (host, batch): (i64, i64),
        question: &mut QueryInfo,
    ) -> Result<Asked, StoreError> {
        let table = QueryInfo::TABLE;
        question.end = None;
        let columns: Vec<&str> = table.stored().map(|column| column.name).collect();
        for _ in 0..TRIES {
            question.queryid = first_number(question.created).max(self.last + 1);
            self.last = question.queryid;
            let asked = Asked { host, queryid: question.queryid };
            let mut values = Values::default();
            Row::from(question.clone()).stored(host, batch, &mut values, &mut Canonical::default());
            let stored = self.dialect.stored_name(table);
            let is_new = self.sql.insert(&stored, &columns.join(", "), &values.parameters())?;
            // The answer to a first try may have been lost.
            if is_new || self.stands((host, batch), question)? {
                return Ok(asked);
            }
        }
        Err(StoreError::Numbers { table: table.name })
    }

    /// Whether that question is written down, with that number and in that batch.
    pub fn stands(&mut self, (host, batch): (i64, i64), question: &QueryInfo) -> Result<bool, StoreError> {
        let mut bytes = Canonical::default();
        question.begin(&mut bytes);
        let sum = md5sum(&bytes.0);
        let sql = "SELECT md5sum FROM queryinfo WHERE host = ? AND queryid = ? AND batch = ?";
        let rows = self.sql.ask(sql, &[Int(host), Int(question.queryid), Int(batch)])?;
        Ok(rows.into_iter().flatten().flatten().any(|stored| stored.as_bytes() == sum))
    }

    /// Writes down how it ended, in that batch. A question that has ended is left alone.
    pub fn end(&mut self, asked: Asked, batch: i64, end: &QueryInfoEnd) -> Result<(), StoreError> {
        let mut values = Values::default();
        end.put(&mut values);
        values.put(Value::Int(batch));
        values.put(Value::Int(asked.host));
        values.put(Value::Int(asked.queryid));
        self.sql.change(&update(self.dialect, QueryInfo::TABLE), &values.parameters())
    }

    /// Whether that batch ended the question.
    pub fn has_ended(&mut self, asked: Asked, batch: i64) -> Result<bool, StoreError> {
        let sql = "SELECT queryid FROM queryinfo WHERE host = ? AND queryid = ? AND dbatch = ?";
        let rows = self.sql.ask(sql, &[Int(asked.host), Int(asked.queryid), Int(batch)])?;
        Ok(!rows.is_empty())
    }

    /// What the server of that number has written down, and that a batch after that one has to hold or that has not ended; in the order of numbers. A row that no server has
    /// written is left out.
    pub fn unsealed(&mut self, host: i64, last: i64) -> Result<Vec<Written>, StoreError> {
        let sql = "SELECT queryid FROM queryinfo WHERE host = ? AND batch > 0 AND (batch > ? OR dbatch > ? OR destroyed IS NULL) ORDER BY queryid";
        let rows = self.sql.ask(sql, &[Int(host), Int(last), Int(last)])?;
        let keys: Vec<i64> =
            rows.into_iter().flatten().flatten().filter_map(|key| key.parse().ok()).collect();
        let mut written = Vec::with_capacity(keys.len());
        if keys.is_empty() {
            return Ok(written);
        }
        let mut evidence = Evidence::open(&self.url)?;
        for key in keys {
            let mut row = None;
            let read = evidence.row(QueryInfo::TABLE, host, key, &mut |values| row = read(values));
            read.map_err(|error| StoreError::Unread {
                table: QueryInfo::TABLE.name,
                detail: error.to_string(),
            })?;
            match row {
                Some(row) => written.push(row),
                None => tracing::error!(
                    key,
                    "a row of queryinfo is none that a server has written, and is not sealed"
                ),
            }
        }
        Ok(written)
    }

    /// Ends the questions that were written down without a batch before that instant, and that nobody can be answering any more.
    pub fn abandon(&mut self, before: Time, now: Time) -> Result<(), StoreError> {
        let stored = self.dialect.stored_name(QueryInfo::TABLE);
        let sql = format!(
            "UPDATE {stored} SET destroyed = ?, ended = ?, dbatch = 0 WHERE batch = 0 AND destroyed IS NULL AND queryid < ?"
        );
        let parameters = [Parameter::Time(now), Text("killed"), Int(first_number(before))];
        self.sql.change(&sql, &parameters)
    }
}

/// A stored row, as [`History`] gives it; `None` if no server has written it.
fn read(values: &[Value<'_>]) -> Option<Written> {
    let of = |role: Role| QueryInfo::TABLE.columns.iter().filter(|column| column.role == role).count();
    let (begun, ended) = (1 + of(Role::Begin), 1 + of(Role::Begin) + of(Role::End));
    let mut question = QueryInfo::read(&mut Stored(values.get(1..begun)?.iter()))?;
    let ends = values.get(begun..ended)?;
    if ends.iter().any(|value| *value != Value::Null) {
        question.end = Some(QueryInfoEnd::read(&mut Stored(ends.iter()))?);
    }
    let number = |value: &Value<'_>| match value {
        Value::Int(n) => Some(*n),
        _ => None,
    };
    let [_, batch, dbatch] = values.get(ended..)? else { return None };
    Some(Written { question, batch: number(batch)?, dbatch: number(dbatch) })
}

/// Values, one after the other.
struct Stored<'a, 'v>(std::slice::Iter<'a, Value<'v>>);

impl Source for Stored<'_, '_> {
    fn take(&mut self) -> Value<'_> {
        self.0.next().copied().unwrap_or(Value::Null)
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
