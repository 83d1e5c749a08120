//! From an event to its row in the answer to a question, with all parts on this machine: sensor, agent, server, store.

use std::{
    fs,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, anyhow};
use luarm_schema::Time;
use luarm_store::{Cell, Reader, RowSink, StoreUrl};
use rustix::process::geteuid;

use crate::{
    Bench,
    report::{Bound, Report},
    served::Served,
    spread::Spread,
    stores::Stores,
};

/// Events per second.
const RATES: [u64; 2] = [1_000, 10_000];

/// Between two questions for what can be seen.
const LOOK: Duration = Duration::from_millis(5);

#[derive(Default)]
struct Measured {
    median: Vec<f64>,
    late: Vec<f64>,
    /// Percent of one core.
    agent: Vec<f64>,
    server: Vec<f64>,
    lost: u64,
    rate: Vec<f64>,
}

/// Measures all stores at all rates, and reports.
pub(crate) fn run(bench: &Bench, seconds: u64, report: &mut Report) -> anyhow::Result<()> {
    report.heading("From the event to the answer");
    if !geteuid().is_root() {
        report.say("Skipped: it needs root.");
        return Ok(());
    }
    report.say(&format!(
        "{seconds} s of directories made and removed at an even pace; an agent with eBPF, its server and the store's engine on the same machine, every commit \
         on disk. An event can be asked for when the batch with its row is seen by a client that looks every {} ms; the time is from the row's `created` \
         to that look, over all events. CPU: percent of one core, the engine not included.",
        LOOK.as_millis()
    ));
    let head = [
        "store",
        "events/s",
        "events/s made",
        "median ms",
        "99th percentile ms",
        "agent CPU %",
        "server CPU %",
        "lost",
    ];
    let mut table = vec![head.map(str::to_owned).to_vec()];
    for mut stores in Stores::all(bench)? {
        for rate in RATES {
            let mut all = Measured::default();
            for round in 1..=bench.rounds {
                bench.go_on()?;
                eprintln!("bench: {rate} events/s into {}, round {round}", stores.name);
                measure(bench, &stores.fresh()?, (rate, seconds), &mut all)?;
            }
            let of = |values: &[f64]| Spread::of(values.iter().copied());
            table.push(vec![
                stores.name.to_owned(),
                rate.to_string(),
                format!("{:.0}", of(&all.rate).median),
                format!("{:.0}", of(&all.median)),
                format!("{:.0}", of(&all.late)),
                format!("{:.1}", of(&all.agent).median),
                format!("{:.1}", of(&all.server).median),
                all.lost.to_string(),
            ]);
            let name = format!("{rate} events/s into {}: 99 % can be asked for", stores.name);
            report.goal(name, Bound::AtMost(1000.0), of(&all.late).median, " ms");
        }
    }
    report.table(&table);
    Ok(())
}

fn measure(
    bench: &Bench,
    url: &StoreUrl,
    (rate, seconds): (u64, u64),
    all: &mut Measured,
) -> anyhow::Result<()> {
    let served = Served::start(bench, url)?;
    let dir = bench.empty_dir()?;
    let data = dir.path().join("agent");
    let agent = served.agent(&data)?;
    let events = dir.path().join("events");
    fs::create_dir(&events)?;
    served.sync(&data)?;
    let over = Arc::new(AtomicBool::new(false));
    let looks = {
        let (url, over) = (url.clone(), Arc::clone(&over));
        thread::spawn(move || look(&url, &over))
    };
    let before = [&agent, &served.process].map(|p| p.clock.read());
    let begun = Instant::now();
    make(&events, rate, seconds)?;
    let taken = begun.elapsed();
    served.sync(&data)?;
    for ((before, process), into) in
        before.into_iter().zip([&agent, &served.process]).zip([&mut all.agent, &mut all.server])
    {
        into.push((process.clock.read()? - before?).as_secs_f64() / begun.elapsed().as_secs_f64() * 100.0);
    }
    over.store(true, Relaxed);
    let looks = looks.join().map_err(|_| anyhow!("who looked panicked"))??;

    let mut rows = Rows(Vec::new());
    let place = events.canonicalize()?;
    let place = place.to_str().context("the path is no text")?;
    Reader::open(url)?
        .query(&format!("SELECT batch, created FROM fileinfo WHERE location = '{place}'"), &mut rows)?;
    let mut late: Vec<f64> = rows
        .0
        .iter()
        .filter_map(|(batch, created)| {
            let seen = looks.partition_point(|(_, last)| last < batch);
            Some((looks.get(seen)?.0.0 - created.0) as f64 / 1000.0)
        })
        .collect();
    late.sort_by(f64::total_cmp);
    let at = |part: f64| late.get((late.len() as f64 * part) as usize).copied().unwrap_or(f64::NAN);
    all.median.push(at(0.5));
    all.late.push(at(0.99));
    all.rate.push((rate * seconds) as f64 / taken.as_secs_f64());
    all.lost += (rate * seconds).saturating_sub(rows.0.len() as u64);
    Ok(())
}

/// Makes and removes directories: so many of both a second, spread over each millisecond.
fn make(within: &Path, rate: u64, seconds: u64) -> anyhow::Result<()> {
    let begun = Instant::now();
    let mut made = 0;
    for tick in 0..seconds * 1000 {
        let at = begun + Duration::from_millis(tick);
        thread::sleep(at.saturating_duration_since(Instant::now()));
        while made < (tick + 1) * rate / 1000 {
            let path = within.join((made / 2).to_string());
            if made % 2 == 0 {
                fs::create_dir(&path)?
            } else {
                fs::remove_dir(&path)?
            }
            made += 1;
        }
    }
    Ok(())
}

/// When which batch was the last one that could be seen.
fn look(url: &StoreUrl, over: &AtomicBool) -> anyhow::Result<Vec<(Time, i64)>> {
    let mut reader = Reader::open(url)?;
    let mut looks: Vec<(Time, i64)> = Vec::new();
    loop {
        // Once more after everything is there.
        let last_look = over.load(Relaxed);
        let mut last = Number(0);
        reader.query("SELECT max(batchid) FROM batchinfo", &mut last)?;
        if looks.last().is_none_or(|(_, known)| *known < last.0) {
            looks.push((Time::now(), last.0));
        }
        if last_look {
            return Ok(looks);
        }
        thread::sleep(LOOK);
    }
}

struct Number(i64);

impl RowSink for Number {
    fn columns(&mut self, _: &[String]) -> std::io::Result<()> {
        Ok(())
    }

    fn row(&mut self, cells: &[Cell<'_>]) -> std::io::Result<()> {
        if let [Cell::Integer(n)] = cells {
            self.0 = *n;
        }
        Ok(())
    }
}

/// The batch of each row, and when it happened.
struct Rows(Vec<(i64, Time)>);

impl RowSink for Rows {
    fn columns(&mut self, _: &[String]) -> std::io::Result<()> {
        Ok(())
    }

    fn row(&mut self, cells: &[Cell<'_>]) -> std::io::Result<()> {
        if let [Cell::Integer(batch), Cell::Text(created)] = cells
            && let Ok(created) = Time::parse(created)
        {
            self.0.push((*batch, created));
        }
        Ok(())
    }
}
