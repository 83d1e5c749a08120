//! From an event to its row in the answer to a question, with all parts on this machine: sensor, agent, server, store.

use std::{
    collections::HashSet,
    fs,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, anyhow, ensure};
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
    rate: Vec<f64>,
    events: u64,
    missing: u64,
    doubled: u64,
    told: u64,
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
         to that look, over all events. CPU: percent of one core, the engine not included. Missing: events that have no row after `luarm sync`; told: what \
         `lossinfo` says was lost meanwhile on the whole host.",
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
        "missing",
        "doubled",
        "told",
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
                format!("{} of {}", all.missing, all.events),
                all.doubled.to_string(),
                all.told.to_string(),
            ]);
            let name = format!("{rate} events/s into {}", stores.name);
            let late = of(&all.late).median;
            report.goal(format!("{name}: 99 % can be asked for"), Bound::AtMost(1000.0), late, " ms");
            let wrong = (all.missing + all.doubled) as f64;
            report.goal(format!("{name}: missing or doubled in all rounds"), Bound::AtMost(0.0), wrong, "");
            let silent = all.missing.saturating_sub(all.told) as f64;
            report.goal(format!("{name}: missing and not told"), Bound::AtMost(0.0), silent, "");
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
    let told = told(url)?;
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

    let place = events.canonicalize()?;
    let place = place.to_str().context("the path is no text")?;
    let mut rows = Rows::default();
    Reader::open(url)?.query(
        &format!("SELECT batch, created, operation, filename FROM fileinfo WHERE location = '{place}'"),
        &mut rows,
    )?;
    let (made, found) = (rate * seconds, rows.events.len() as u64);
    ensure!(found <= made, "{found} different events have rows, and {made} were made");
    all.events += made;
    all.missing += made - found;
    all.doubled += rows.seen.len() as u64 - found;
    all.told += self::told(url)?.saturating_sub(told);
    let mut late = Vec::with_capacity(rows.seen.len());
    for (batch, created) in &rows.seen {
        let look = looks.get(looks.partition_point(|(_, last)| last < batch));
        let (at, _) = look.with_context(|| format!("batch {batch} was not seen when all was stored"))?;
        late.push((at.0 - created.0) as f64 / 1000.0);
    }
    late.sort_by(f64::total_cmp);
    let at = |part: f64| late.get((late.len() as f64 * part) as usize).copied().unwrap_or(f64::NAN);
    all.median.push(at(0.5));
    all.late.push(at(0.99));
    all.rate.push(made as f64 / taken.as_secs_f64());
    Ok(())
}

/// What the store says was lost so far.
fn told(url: &StoreUrl) -> anyhow::Result<u64> {
    let mut lost = Number(0);
    Reader::open(url)?.query("SELECT count FROM lossinfo", &mut Sum(&mut lost))?;
    Ok(u64::try_from(lost.0)?)
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
                fs::create_dir(&path)?;
            } else {
                fs::remove_dir(&path)?;
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

/// Adds up what comes.
struct Sum<'a>(&'a mut Number);

impl RowSink for Sum<'_> {
    fn columns(&mut self, _: &[String]) -> std::io::Result<()> {
        Ok(())
    }

    fn row(&mut self, cells: &[Cell<'_>]) -> std::io::Result<()> {
        let Number(before) = *self.0;
        self.0.row(cells)?;
        self.0.0 = self.0.0.saturating_add(before);
        Ok(())
    }
}

/// The batch of each row, and when it happened; and what has rows.
#[derive(Default)]
struct Rows {
    seen: Vec<(i64, Time)>,
    events: HashSet<(String, String)>,
}

impl RowSink for Rows {
    fn columns(&mut self, _: &[String]) -> std::io::Result<()> {
        Ok(())
    }

    fn row(&mut self, cells: &[Cell<'_>]) -> std::io::Result<()> {
        let [Cell::Integer(batch), Cell::Text(created), Cell::Text(operation), Cell::Text(name)] = cells
        else {
            return Err(std::io::Error::other(format!("a row of fileinfo is {cells:?}")));
        };
        let created = Time::parse(created).map_err(std::io::Error::other)?;
        self.seen.push((*batch, created));
        self.events.insert(((*operation).to_owned(), (*name).to_owned()));
        Ok(())
    }
}
