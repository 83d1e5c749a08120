//! Keeping rows for a time on a server: what happens to the days that are over.

use std::{collections::HashMap, time::Duration};

use luarm_chain::SigningKey;
use luarm_schema::{ACTIVITIES, Dialect, TableDef, canonical::md5sum, tables::RetentionInfo};

use super::{Connection, Datum, Failure, Session, manifests, registry};
use crate::{
    Dropped, StoreError,
    error::Trouble,
    retention::{self, Bound, Days, Loss},
};

/// Dividing a table for the first time copies what it has.
const LIMIT: Duration = Duration::from_secs(6 * 3600);

/// A part of a table: its name and its upper bound, `None` for the one without.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Part {
    pub(crate) name: String,
    pub(crate) below: Option<i64>,
}

/// One act of retention.
pub(crate) struct Act<'a> {
    pub(crate) days: Days,
    /// What its records are signed with.
    key: Option<&'a SigningKey>,
    /// Machine ids of the hosts, by their numbers.
    machines: HashMap<i64, String>,
}

/// Divides the tables by day, and drops the days that are over.
pub(crate) fn retain<S: Session + Dividing>(
    connection: &mut Connection<S>,
    days: Days,
    key: Option<&SigningKey>,
) -> Result<Vec<Dropped>, StoreError> {
    let hosts = async |session: &mut S| registry::all(session).await;
    let hosts = connection.with(Some(LIMIT), hosts).map_err(|f| f.of("read", &connection.url))?;
    let machines = hosts.into_iter().map(|host| (host.host, host.machine_id)).collect();
    let act = Act { days, key, machines };
    let mut all = Vec::new();
    for table in ACTIVITIES {
        let one = async |session: &mut S| table_of(session, table, &act).await;
        all.extend(connection.with(Some(LIMIT), one).map_err(|f| f.of("retain rows of", &connection.url))?);
    }
    let forgotten = async |session: &mut S| manifests::forget(session).await;
    connection.with(Some(LIMIT), forgotten).map_err(|f| f.of("forget manifests of", &connection.url))?;
    Ok(all)
}

async fn table_of<S: Dividing>(
    session: &mut S,
    table: &'static TableDef,
    act: &Act<'_>,
) -> Result<Vec<Dropped>, Failure> {
    let days = act.days;
    session.finish(table).await?;
    let parts = session.parts(table).await?;
    let last = parts.iter().filter_map(|p| p.below).max();
    let oldest = format!("SELECT min({}) FROM {}", table.key, S::DIALECT.stored_name(table));
    let oldest = session.ask(&oldest, &[]).await?.first().and_then(|r| r.first()).and_then(Datum::int);
    let bounds = days.bounds(last, oldest);
    if !bounds.is_empty() {
        session.divide(table, last, &bounds).await?;
    }
    let parts = session.parts(table).await?;
    let over: Vec<String> =
        parts.into_iter().filter(|p| p.below.is_some_and(|b| b <= days.number())).map(|p| p.name).collect();
    if over.is_empty() {
        return Ok(Vec::new());
    }
    let lost = session.drop_parts(table, &over, act).await?;
    Ok(retention::dropped(table, &lost, days))
}

/// What [`retain`] would drop. Nothing is locked, and nothing changed.
pub(crate) fn foresee<S: Session>(
    connection: &mut Connection<S>,
    days: Days,
) -> Result<Vec<Dropped>, StoreError> {
    let mut all = Vec::new();
    for table in ACTIVITIES {
        let old = format!("{} WHERE {} < {}", S::DIALECT.stored_name(table), table.key, days.number());
        let one = async |session: &mut S| losses(session, table, &old).await;
        let lost = connection.with(Some(LIMIT), one).map_err(|f| f.of("read", &connection.url))?;
        all.extend(retention::dropped(table, &lost, days));
    }
    Ok(all)
}

/// An engine that divides tables.
pub(crate) trait Dividing: Session {
    /// Completes what an earlier act of retention left half done.
    async fn finish(&mut self, table: &'static TableDef) -> Result<(), Failure>;

    /// The parts of the table.
    async fn parts(&mut self, table: &'static TableDef) -> Result<Vec<Part>, Failure>;

    /// Divides the latest part at the bounds, which are above `last`.
    async fn divide(
        &mut self,
        table: &'static TableDef,
        last: Option<i64>,
        bounds: &[Bound],
    ) -> Result<(), Failure>;

    /// Drops the parts, keeps the rows in them that have not ended, and records it.
    async fn drop_parts(
        &mut self,
        table: &'static TableDef,
        parts: &[String],
        act: &Act<'_>,
    ) -> Result<Vec<Loss>, Failure>;
}

/// What each host has in a range of a table.
pub(crate) async fn losses<S: Session>(
    session: &mut S,
    table: &TableDef,
    from: &str,
) -> Result<Vec<Loss>, Failure> {
    let open = if table.is_interval() { "CASE WHEN destroyed IS NULL THEN 1 ELSE 0 END" } else { "0" };
    let whole = match S::DIALECT {
        Dialect::Mysql => "SIGNED",
        _ => "bigint",
    };
    let sql = format!(
        "SELECT host, count(*), CAST(sum({open}) AS {whole}), min(batch), max(batch) FROM {from} GROUP BY host ORDER BY host"
    );
    let rows = session.ask(&sql, &[]).await?;
    let loss = |row: &Vec<Datum>| match &row[..] {
        [host, rows, open, first, last] => Some(Loss {
            host: host.int()?,
            rows: rows.int()?,
            open: open.int()?,
            first_batch: first.int()?,
            last_batch: last.int()?,
        }),
        _ => None,
    };
    let losses: Option<Vec<Loss>> = rows.iter().map(loss).collect();
    losses.ok_or_else(|| Failure::trouble(Trouble::Other, "the rows to be dropped could not be counted"))
}

/// The statements that record it, as rows of `retentioninfo`.
pub(crate) fn records(dialect: Dialect, table: &TableDef, losses: &[Loss], act: &Act<'_>) -> Vec<String> {
    let record = |loss: &Loss| {
        let signer = act.key.zip(act.machines.get(&loss.host).map(String::as_str));
        let (id, number) = (retention::first_record(table, act.days), act.days.number());
        insert(dialect, loss.host, &retention::record(id, table, loss, act.days, number, signer))
    };
    losses.iter().filter(|l| l.rows > l.open).map(record).collect()
}

/// Values of ours, without any character that would have to be quoted.
fn insert(dialect: Dialect, host: i64, info: &RetentionInfo) -> String {
    struct Texts(Vec<String>);
    impl luarm_schema::Sink for Texts {
        fn put(&mut self, value: luarm_schema::Value<'_>) {
            self.0.push(match value {
                luarm_schema::Value::Int(n) => n.to_string(),
                luarm_schema::Value::Text(text) => format!("'{text}'"),
                luarm_schema::Value::Time(time) => format!("'{time}'"),
                luarm_schema::Value::Real(x) => x.to_string(),
                luarm_schema::Value::Null => "NULL".to_owned(),
            });
        }
    }
    let mut bytes = luarm_schema::canonical::Canonical::default();
    info.begin(&mut bytes);
    let mut texts = Texts(vec![host.to_string()]);
    info.begin(&mut texts);
    texts.0.push(format!("'{}'", String::from_utf8_lossy(&md5sum(&bytes.0))));
    texts.0.push("0".to_owned());
    let columns: Vec<&str> = RetentionInfo::TABLE.stored().map(|c| c.name).collect();
    format!(
        "INSERT INTO {} ({}) VALUES ({})",
        dialect.stored_name(RetentionInfo::TABLE),
        columns.join(", "),
        texts.0.join(", ")
    )
}

/// The stored columns of a table, separated by commas.
pub(crate) fn columns(table: &TableDef) -> String {
    table.stored().map(|c| c.name).collect::<Vec<_>>().join(", ")
}
