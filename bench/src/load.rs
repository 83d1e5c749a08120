//! Loading rows into the SQLite store, next to a bare loop over a prepared statement of the same engine.

use std::{
    fs,
    path::Path,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use luarm_schema::{
    Batch, Dialect, Sink, TABLES, Value,
    canonical::{Canonical, md5sum},
};
use luarm_store::{StoreUrl, Writer};
use rusqlite::{Connection, types};

use crate::{
    Bench,
    report::{Bound, Report},
    rows::{BATCH, MACHINE, Mix, Rows},
    spread::Spread,
};

struct Loaded {
    taken: Duration,
    bytes: u64,
}

/// Measures both for both mixes, and reports.
pub(crate) fn run(bench: &Bench, rows: u64, report: &mut Report) -> anyhow::Result<()> {
    let mixes = [(Mix::Both, "processes and endpoints, 1:1"), (Mix::Endpoints, "endpoints")];
    let mut measured = mixes.map(|_| (Vec::new(), Vec::new()));
    for round in 1..=bench.rounds {
        for ((mix, name), (own, bare)) in mixes.into_iter().zip(&mut measured) {
            bench.go_on()?;
            eprintln!("bench: load of {rows} rows, round {round}: {name}");
            own.push(through_writer(bench.empty_dir()?.path(), mix, rows)?);
            bare.push(through_loop(bench.empty_dir()?.path(), mix, rows)?);
        }
    }
    report.heading("Load");
    report.say(&format!(
        "{rows} rows with all their indexes, {BATCH} in a transaction, WAL with synchronous=FULL. The store: `Writer::append`, which also makes the \
         digests and the texts of instants. The loop: binds values that are ready, digests included, to a prepared INSERT of the same tables with the \
         same pragmas. Making the rows is not in the time."
    ));
    let head = ["rows", "loop, rows/s", "store, rows/s", "store over loop", "bytes per row"];
    let mut table = vec![head.map(str::to_owned).to_vec()];
    for ((_, name), (own, bare)) in mixes.into_iter().zip(&measured) {
        let rate = |loads: &[Loaded]| Spread::of(loads.iter().map(|l| rows as f64 / l.taken.as_secs_f64()));
        let ratio = Spread::of(
            own.iter().zip(bare).map(|(own, bare)| bare.taken.as_secs_f64() / own.taken.as_secs_f64()),
        );
        let bytes = Spread::of(own.iter().map(|l| l.bytes as f64 / rows as f64));
        table.push(vec![
            name.to_owned(),
            format!("{:.0}", rate(bare)),
            format!("{:.0}", rate(own)),
            format!("{ratio:.2}"),
            format!("{:.0}", bytes.median),
        ]);
        report.goal(format!("load of {name}: store over loop"), Bound::AtLeast(0.8), ratio.median, "");
    }
    report.table(&table);
    Ok(())
}

/// The sizes of the batches that make so many rows.
fn batches(rows: u64) -> impl Iterator<Item = u64> {
    (0..rows.div_ceil(BATCH)).map(move |n| BATCH.min(rows - n * BATCH))
}

fn through_writer(dir: &Path, mix: Mix, rows: u64) -> anyhow::Result<Loaded> {
    let path = dir.join("store.db");
    rustix::fs::sync();
    let (mut writer, _) = Writer::open(&StoreUrl::Sqlite(path.clone()), MACHINE)?;
    let mut source = Rows::new(mix);
    let mut taken = Duration::ZERO;
    for size in batches(rows) {
        let batch = source.batch(size);
        let begun = Instant::now();
        writer.append(&batch)?;
        taken += begun.elapsed();
    }
    drop(writer);
    Ok(Loaded { taken, bytes: size(&path)? })
}

fn through_loop(dir: &Path, mix: Mix, rows: u64) -> anyhow::Result<Loaded> {
    let path = dir.join("loop.db");
    rustix::fs::sync();
    let conn = open(&path)?;
    let mut inserts = Vec::new();
    for table in TABLES {
        conn.execute_batch(&Dialect::Sqlite.create_table(table))?;
        for statement in Dialect::Sqlite.create_rest(table) {
            conn.execute_batch(&statement)?;
        }
        inserts.push(conn.prepare(&Dialect::Sqlite.insert(table))?);
    }
    let mut source = Rows::new(mix);
    let mut taken = Duration::ZERO;
    for size in batches(rows) {
        let ready = values(&source.batch(size));
        let begun = Instant::now();
        conn.execute_batch("BEGIN IMMEDIATE")?;
        for (table, values) in &ready {
            let insert = &mut inserts[*table];
            for (n, value) in values.iter().enumerate() {
                insert.raw_bind_parameter(n + 1, value)?;
            }
            insert.raw_execute()?;
        }
        conn.execute_batch("COMMIT")?;
        taken += begun.elapsed();
    }
    drop(inserts);
    drop(conn);
    Ok(Loaded { taken, bytes: size(&path)? })
}

/// A database with the pragmas of the store.
pub(crate) fn open(path: &Path) -> anyhow::Result<Connection> {
    let conn = Connection::open(path)?;
    for (name, value) in [
        ("page_size", "4096"),
        ("journal_mode", "wal"),
        ("synchronous", "full"),
        ("wal_autocheckpoint", "16384"),
        ("journal_size_limit", "134217728"),
        ("cache_size", "-16384"),
    ] {
        conn.pragma_update(None, name, value)?;
    }
    Ok(conn)
}

/// Values as an engine takes them.
#[derive(Default)]
pub(crate) struct Values(pub Vec<types::Value>);

impl Sink for Values {
    fn put(&mut self, value: Value<'_>) {
        self.0.push(match value {
            Value::Null => types::Value::Null,
            Value::Int(n) => types::Value::Integer(n),
            Value::Real(x) => types::Value::Real(x),
            Value::Text(text) => types::Value::Text(text.to_owned()),
            Value::Time(time) => types::Value::Text(time.to_string()),
        });
    }
}

/// What stands in the columns of each row, and in which table.
fn values(batch: &Batch) -> Vec<(usize, Vec<types::Value>)> {
    let all = batch.rows.iter().map(|row| {
        let (mut values, mut bytes) = (Values::default(), Canonical::default());
        values.put(Value::Int(1));
        row.begin(&mut values);
        row.begin(&mut bytes);
        let ended = row.end(&mut values);
        values.put(Value::Text(&String::from_utf8_lossy(&md5sum(&bytes.0))));
        values.put(Value::Int(batch.id));
        if row.table().is_interval() {
            values.put(if ended { Value::Int(batch.id) } else { Value::Null });
        }
        (row.position(), values.0)
    });
    all.collect()
}

fn size(path: &Path) -> anyhow::Result<u64> {
    Ok(fs::metadata(path).with_context(|| format!("cannot find {}", path.display()))?.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(path: &Path, table: &str) -> Vec<Vec<types::Value>> {
        let conn = Connection::open(path).unwrap();
        let mut select = conn.prepare(&format!("SELECT * FROM {table} ORDER BY 1, 2")).unwrap();
        let columns = select.column_count();
        let all = select.query_map([], |row| (0..columns).map(|c| row.get(c)).collect()).unwrap();
        all.map(Result::unwrap).collect()
    }

    #[test]
    fn store_and_loop_leave_the_same_rows() {
        let dir = tempfile::tempdir().unwrap();
        through_writer(dir.path(), Mix::Both, 5000).unwrap();
        through_loop(dir.path(), Mix::Both, 5000).unwrap();
        for (table, count) in [("psinfo", 2500), ("netinfo", 2500), ("batchinfo", 2), ("hostinfo", 1)] {
            let stored = rows(&dir.path().join("store.db"), table);
            assert_eq!(stored.len(), count, "{table}");
            assert!(stored == rows(&dir.path().join("loop.db"), table), "{table} differs");
        }
    }
}
