//! Real rows of several hosts at once into each engine, next to the engine's own bulk load of the same rows into the same tables.

mod bulk;
mod engine;

use std::{
    thread,
    time::{Duration, Instant},
};

use anyhow::{anyhow, ensure};
use luarm_chain::{Manifest, Notary, SigningKey};
use luarm_link::packed;
use luarm_schema::TableDef;
use luarm_store::{Cell, HostIdentity, Intake, Parcel, Reader, RowSink, StoreUrl};
use rustix::process::geteuid;

pub(crate) use self::engine::Stores;
use crate::{
    Bench,
    recorded::Recorded,
    report::{Bound, Report},
    rows::of_host,
    spread::Spread,
};

/// Hosts that deliver at the same time.
pub(crate) const HOSTS: u64 = 8;
/// Rows of a batch of a host that has little to do.
const FEW: usize = 25;

struct Loaded {
    rate: f64,
    bytes: f64,
}

/// Measures all engines, and reports. Each host has so many rows at least.
pub(crate) fn run(bench: &Bench, rows: u64, report: &mut Report) -> anyhow::Result<()> {
    report.heading("Stores");
    if !geteuid().is_root() {
        report.say("Skipped: it needs root.");
        return Ok(());
    }
    eprintln!("bench: {rows} rows are recorded");
    let recorded = Recorded::record(bench, rows, HOSTS)?;
    describe(&recorded, report)?;
    let head =
        ["engine", "its bulk load, rows/s", "store, rows/s", "store over bulk load", "bytes per row on disk"];
    let mut table = vec![head.map(str::to_owned).to_vec()];
    for mut stores in Stores::all(bench)? {
        let name = stores.name;
        let (mut own, mut bulk) = (Vec::new(), Vec::new());
        for round in 1..=bench.rounds {
            bench.go_on()?;
            eprintln!("bench: {} rows into {name}, round {round}", recorded.rows() * HOSTS);
            own.push(measure(&mut stores, &recorded, |_, url| through_intake(url, &recorded))?);
            let dir = bench.empty_dir()?;
            bulk.push(measure(&mut stores, &recorded, |stores, url| {
                bulk::load(stores, url, dir.path(), &recorded)
            })?);
        }
        let rate = |loads: &[Loaded]| Spread::of(loads.iter().map(|l| l.rate));
        let ratio = Spread::of(own.iter().zip(&bulk).map(|(own, bulk)| own.rate / bulk.rate));
        let bytes = Spread::of(own.iter().map(|l| l.bytes));
        table.push(vec![
            name.to_owned(),
            format!("{:.0}", rate(&bulk)),
            format!("{:.0}", rate(&own)),
            format!("{ratio:.2}"),
            format!("{:.0}", bytes.median),
        ]);
        report.goal(format!("load into {name}: store over bulk load"), Bound::AtLeast(0.7), ratio.median, "");
    }
    report.table(&table);
    Ok(())
}

fn describe(recorded: &Recorded, report: &mut Report) -> anyhow::Result<()> {
    let (rows, batches) = (recorded.rows(), recorded.batches());
    let mut tables = recorded.tables();
    tables.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    let tables: Vec<String> =
        tables.iter().map(|(table, count)| format!("{count} of {}", table.name)).collect();
    report.say(&format!(
        "{rows} rows, recorded by an agent with eBPF whose server was away, while programs started and ended, connected to each other, and a source tree, a C project and a mail \
         server's files were worked with: {}. {} of them were stored before they ended. They are delivered by {HOSTS} hosts at once, each with a \
         copy under its own name, into tables with all their indexes, every commit on disk. The store: for each host what the server does with a spool that is delivered: \
         unpacked and appended ({:.0} rows on average), its manifest made, its seal checked and signed, streams and digests made on the way, ends as updates; SQLite has one connection for all hosts and stores batches that wait in one transaction, a server has four and a transaction for each batch. The engine: of rows that are ready, \
         each once and as it is in the end; LOAD DATA and COPY by the engine's own client, one for each host, with one stream for each table; in SQLite prepared inserts over one connection in one transaction, with the \
         store's settings, sorted by host and table; no manifests. A server that runs beside it takes part of the same machine in both.",
        tables.join(", "),
        recorded.ends(),
        rows as f64 / batches.max(1) as f64,
    ));
    report.say(&format!(
        "Bytes per row on the wire, TLS not included: {:.0} in batches as they were recorded, {:.0} in batches of at most {FEW} rows.",
        recorded.wire_bytes(usize::MAX)? as f64 / rows as f64,
        recorded.wire_bytes(FEW)? as f64 / rows as f64,
    ));
    Ok(())
}

/// Fills a fresh store, in which everything must be afterwards.
fn measure(
    stores: &mut Stores,
    recorded: &Recorded,
    fill: impl FnOnce(&Stores, &StoreUrl) -> anyhow::Result<Duration>,
) -> anyhow::Result<Loaded> {
    let url = stores.fresh()?;
    let empty = stores.bytes()?;
    // What the one before left to be written is not for this one to pay.
    rustix::fs::sync();
    let taken = fill(stores, &url)?;
    for (table, count) in recorded.tables() {
        let (there, all) = (count_rows(&url, table)?, count * HOSTS);
        ensure!(there == all, "{there} of {all} rows of {} are there", table.name);
    }
    let rows = (recorded.rows() * HOSTS) as f64;
    let bytes = stores.bytes()?.saturating_sub(empty) as f64 / rows;
    stores.discard()?;
    Ok(Loaded { rate: rows / taken.as_secs_f64(), bytes })
}

/// A host that has joined: its place in the store, and what its spool has.
struct Host {
    identity: HostIdentity,
    parcels: Vec<Parcel>,
}

impl Host {
    fn deliver(&self, intake: &Intake) -> anyhow::Result<()> {
        for parcel in &self.parcels {
            let mut batch = packed::unpack(parcel)?;
            batch.manifest = Manifest::of(&batch).encode();
            let stored = intake.append(&self.identity, batch)?;
            ensure!(stored.refused.is_empty(), "rows were refused");
        }
        Ok(())
    }
}

/// Who signs for what was delivered.
pub(crate) fn notary() -> Notary {
    Notary::new(SigningKey::from_bytes(&[7; 32]))
}

/// What a server does with what all hosts deliver.
pub(crate) fn through_intake(url: &StoreUrl, recorded: &Recorded) -> anyhow::Result<Duration> {
    let intake = Intake::open(url, &notary())?;
    let mut hosts = Vec::new();
    for host in 0..HOSTS {
        let (machine, name) = of_host(host);
        let identity = HostIdentity::enrolled(&machine, &name);
        ensure!(intake.last_batch(&identity)? == 0, "{name} is known already");
        hosts.push(Host { identity, parcels: recorded.parcels(host)? });
    }
    let begun = Instant::now();
    thread::scope(|scope| {
        let running: Vec<_> = hosts.iter().map(|host| scope.spawn(|| host.deliver(&intake))).collect();
        running.into_iter().try_for_each(|host| host.join().map_err(|_| anyhow!("a host panicked"))?)
    })?;
    // A file is whole once it is closed.
    drop(intake);
    Ok(begun.elapsed())
}

/// Rows of a table in a store.
pub(crate) fn count_rows(url: &StoreUrl, table: &TableDef) -> anyhow::Result<u64> {
    let mut count = Count(0);
    Reader::open(url)?.query(&format!("SELECT count(*) FROM {}", table.name), &mut count)?;
    Ok(u64::try_from(count.0)?)
}

struct Count(i64);

impl RowSink for Count {
    fn columns(&mut self, _: &[String]) -> std::io::Result<()> {
        Ok(())
    }

    fn row(&mut self, cells: &[Cell<'_>]) -> std::io::Result<()> {
        if let [Cell::Integer(n)] = cells {
            self.0 += n;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use luarm_schema::TABLES;

    use super::*;
    use crate::rows::sample;

    struct Lines(Vec<String>);

    impl RowSink for Lines {
        fn columns(&mut self, _: &[String]) -> std::io::Result<()> {
            Ok(())
        }

        fn row(&mut self, cells: &[Cell<'_>]) -> std::io::Result<()> {
            self.0.push(format!("{cells:?}"));
            Ok(())
        }
    }

    /// All rows of a table but for the hosts' numbers, which are given as they come.
    fn rows(url: &StoreUrl, table: &TableDef) -> Vec<String> {
        let columns: Vec<&str> = table.stored().map(|c| c.name).filter(|name| *name != "host").collect();
        let mut lines = Lines(Vec::new());
        let query = format!("SELECT {} FROM {}", columns.join(", "), table.name);
        Reader::open(url).unwrap().query(&query, &mut lines).unwrap();
        lines.0.sort_unstable();
        lines.0
    }

    #[test]
    fn store_and_engine_load_the_same() {
        let recorded = Recorded::of(sample(200), HOSTS).unwrap();
        assert!(recorded.ends() > 0);
        for mut stores in Stores::installed(tempfile::tempdir().unwrap(), "store_and_engine_load_the_same") {
            let own = stores.fresh().unwrap();
            through_intake(&own, &recorded).unwrap();
            let engine = stores.fresh().unwrap();
            bulk::load(&stores, &engine, tempfile::tempdir().unwrap().path(), &recorded).unwrap();
            for table in TABLES {
                let stored = rows(&own, table);
                assert!(stored == rows(&engine, table), "{}: {} differs", stores.name, table.name);
                let count =
                    recorded.tables().iter().find(|(t, _)| t.name == table.name).map_or(0, |(_, n)| *n);
                assert_eq!(stored.len() as u64, count * HOSTS, "{}: {}", stores.name, table.name);
            }
        }
    }
}
