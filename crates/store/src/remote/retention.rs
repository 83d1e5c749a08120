//! Keeping rows for a time: the days that tables are divided by, and what happens to those that are over.

use std::{collections::HashMap, time::Duration};

use luarm_chain::{SigningKey, stub};
use luarm_schema::{
    ACTIVITIES, Dialect, TableDef, Time, canonical::md5sum, first_number, tables::RetentionInfo,
};

use super::{Connection, Datum, Failure, Session, manifests, registry};
use crate::{Dropped, StoreError, error::Trouble};

const DAY: i64 = 86_400_000_000;
/// Days that are made before they come, so that no row falls into the part that would have to be divided.
const AHEAD: i64 = 8;
/// More days than these are not kept apart.
const MOST: i64 = 4000;
/// Dividing a table for the first time copies what it has.
const LIMIT: Duration = Duration::from_secs(6 * 3600);

/// The days of one act of retention.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Days {
    /// What was created before this midnight is dropped.
    pub(crate) before: Time,
    /// Days are made up to this midnight.
    until: Time,
    now: Time,
}

impl Days {
    /// The days when rows are kept for `keep`, at least one day.
    pub(crate) fn new(now: Time, keep: Duration) -> Self {
        let keep = i64::try_from(keep.as_micros()).unwrap_or(i64::MAX).max(DAY);
        let midnight = |us: i64| Time(us - us.rem_euclid(DAY));
        let before = midnight(now.0.saturating_sub(keep).max(0));
        Days { before, until: Time(midnight(now.0).0 + AHEAD * DAY), now }
    }

    /// The bounds of the parts that should exist above the bound `last`: from the day that is kept first, or that of the oldest row.
    pub(crate) fn bounds(&self, last: Option<i64>, oldest: Option<i64>) -> Vec<Bound> {
        let first = match oldest {
            Some(number) => self.before.0.max(day_of(number)),
            None => self.before.0.max(self.until.0 - (AHEAD + 1) * DAY),
        };
        let first = first.max(self.until.0 - MOST * DAY);
        let midnights = (0..).map(|n| first + n * DAY).take_while(|at| *at <= self.until.0);
        let bounds = midnights.map(|at| Bound { number: first_number(Time(at)), name: name(Time(at - 1)) });
        bounds.filter(|b| last.is_none_or(|last| b.number > last)).collect()
    }

    /// The number below which rows are dropped.
    pub(crate) fn number(&self) -> i64 {
        first_number(self.before)
    }
}

/// The upper bound of a part, and the part's name: `d` and its last day.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Bound {
    pub(crate) number: i64,
    pub(crate) name: String,
}

/// The midnight before the instant that a number stands for.
fn day_of(number: i64) -> i64 {
    let at = (number.max(0) >> 12) + luarm_schema::NUMBERS_EPOCH;
    at - at.rem_euclid(DAY)
}

fn name(at: Time) -> String {
    let text = at.to_string();
    format!("d{}{}{}", &text[..4], &text[5..7], &text[8..10])
}

/// A part of a table: its name and its upper bound, `None` for the one without.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Part {
    pub(crate) name: String,
    pub(crate) below: Option<i64>,
}

/// What a host loses in one table.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Loss {
    pub(crate) host: i64,
    pub(crate) rows: i64,
    pub(crate) open: i64,
    pub(crate) first_batch: i64,
    pub(crate) last_batch: i64,
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
    Ok(dropped(table, &lost, days))
}

fn dropped(table: &'static TableDef, lost: &[Loss], days: Days) -> Vec<Dropped> {
    let dropped = |l: &Loss| Dropped {
        host: l.host,
        table: table.name,
        before: days.before,
        rows: l.rows - l.open,
        kept: l.open,
    };
    lost.iter().filter(|l| l.rows > l.open).map(dropped).collect()
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
        all.extend(dropped(table, &lost, days));
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
    let days = act.days;
    let place = ACTIVITIES.iter().position(|t| t.name == table.name).unwrap_or_default();
    let record = |loss: &Loss| {
        let mut info = RetentionInfo {
            retentionid: first_number(days.now).saturating_add(place as i64),
            tablename: table.name.into(),
            beforekey: days.number(),
            beforetime: days.before,
            rowcount: loss.rows - loss.open,
            keptcount: loss.open,
            firstbatch: loss.first_batch,
            lastbatch: loss.last_batch,
            created: days.now,
            signer: None,
            signature: None,
            end: None,
        };
        if let (Some(key), Some(machine_id)) = (act.key, act.machines.get(&loss.host)) {
            stub::sign(key, machine_id, &mut info);
        }
        insert(dialect, loss.host, &info)
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

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Time {
        Time::parse(text).unwrap()
    }

    #[test]
    fn whole_days_are_kept_and_days_ahead_are_made() {
        let days = Days::new(at("2026-11-23 14:00:00.000000"), Duration::from_secs(3 * 86_400));
        assert_eq!(days.before, at("2026-11-20 00:00:00.000000"));
        let names =
            |last, oldest| -> Vec<String> { days.bounds(last, oldest).into_iter().map(|b| b.name).collect() };
        let fresh = names(None, None);
        assert_eq!(
            (fresh.first().unwrap().as_str(), fresh.last().unwrap().as_str()),
            ("d20261121", "d20261130")
        );
        let old = names(None, Some(first_number(at("2026-11-01 10:00:00.000000"))));
        assert_eq!((old.first().unwrap().as_str(), old.len()), ("d20261119", 12));
        let bound = first_number(at("2026-11-30 00:00:00.000000"));
        assert_eq!(names(Some(bound), Some(0)), ["d20261130"]);
        assert_eq!(names(Some(i64::MAX), Some(0)), [""; 0]);
    }

    #[test]
    fn any_time_to_keep_is_bounded() {
        for (now, keep) in
            [(Time::now(), Duration::MAX), (Time(0), Duration::ZERO), (Time::LAST, Duration::MAX)]
        {
            let days = Days::new(now, keep);
            assert!(days.before.0 >= 0);
            assert!(days.bounds(None, Some(i64::MIN)).len() <= MOST as usize + 1);
        }
    }
}
