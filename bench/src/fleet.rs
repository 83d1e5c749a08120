//! Many agents and one server: what it costs the server, whether its memory is bounded, and how far the agents are behind.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    sync::{
        Arc, Barrier, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, anyhow, ensure};
use luarm_link::{
    agent::{self, Courier, Outbox, ServerUrl},
    identity::{self, Identity},
    server,
};
use luarm_schema::tables::{NetInfo, PsInfo};
use luarm_store::StoreUrl;
use tempfile::TempDir;

use crate::{
    Bench,
    cpu::kilobytes,
    report::{Bound, Report},
    rows::{Mix, Rows, of_host, sealer},
    served::Served,
    spread::Spread,
    stores::{Stores, count_rows},
};

/// Rows that each agent has every second, in one batch.
const ROWS: u64 = 25;

/// What is memory, and not a disk: each agent of a fleet has a disk of its own, and these would share one.
const SPOOLS: &str = "/dev/shm";

#[derive(Default)]
struct Measured {
    joined: Vec<f64>,
    cpu: Vec<f64>,
    half: Vec<f64>,
    end: Vec<f64>,
    most: Vec<f64>,
    median: Vec<f64>,
    late: Vec<f64>,
}

/// Measures all stores, and reports.
pub(crate) fn run(bench: &Bench, agents: u64, seconds: u64, report: &mut Report) -> anyhow::Result<()> {
    report.heading("A fleet");
    report.say(&format!(
        "{agents} agents of one process (couriers and spools as in luarm agent, rows made up; spools in memory), each with a batch of {ROWS} rows every second \
         for {seconds} s, against one server. Joining: hosts per second, one after the other, with their views in the store. CPU: the server's, percent of one core. \
         Memory: the server's RSS after half of the time and at the end, and the most that was seen. Lag: from the batch in the spool to the receipt."
    ));
    let head = [
        "store",
        "joining, hosts/s",
        "server CPU %",
        "RSS at half, MB",
        "RSS at the end, MB",
        "most, MB",
        "lag, median ms",
        "lag, 99th percentile ms",
    ];
    let mut table = vec![head.map(str::to_owned).to_vec()];
    for mut stores in Stores::all(bench)? {
        let mut all = Measured::default();
        for round in 1..=bench.rounds {
            bench.go_on()?;
            eprintln!("bench: {agents} agents into {}, round {round}", stores.name);
            measure(bench, &stores.fresh()?, (agents, seconds), &mut all)?;
        }
        let of = |values: &[f64]| Spread::of(values.iter().copied());
        let growth = Spread::of(all.end.iter().zip(&all.half).map(|(end, half)| end / half));
        table.push(vec![
            stores.name.to_owned(),
            format!("{:.0}", of(&all.joined).median),
            format!("{:.0}", of(&all.cpu)),
            format!("{:.1}", of(&all.half)),
            format!("{:.1}", of(&all.end)),
            format!("{:.1}", of(&all.most)),
            format!("{:.0}", of(&all.median)),
            format!("{:.0}", of(&all.late)),
        ]);
        let name = format!("fleet into {}: RSS at the end over RSS at half", stores.name);
        report.goal(name, Bound::AtMost(1.05), growth.median, "");
    }
    report.table(&table);
    Ok(())
}

/// When an agent put which batch into its spool, and how long the receipts took.
#[derive(Default)]
struct Watch {
    put: HashMap<i64, Instant>,
    taken: Vec<Duration>,
}

struct Receipts(Arc<Mutex<Watch>>);

impl agent::Events for Receipts {
    fn delivered(&mut self, id: i64) {
        let mut watch = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let done: Vec<i64> = watch.put.keys().copied().filter(|put| *put <= id).collect();
        for put in done {
            let taken = watch.put.remove(&put).map(|at| now - at);
            watch.taken.extend(taken);
        }
    }

    fn refused(&mut self, table: &str, count: u32) {
        eprintln!("bench: the store refused {count} rows of {table}");
    }
}

fn measure(
    bench: &Bench,
    store: &StoreUrl,
    (agents, seconds): (u64, u64),
    all: &mut Measured,
) -> anyhow::Result<()> {
    let served = Served::start(bench, store)?;
    let parent = if Path::new(SPOOLS).is_dir() { Path::new(SPOOLS) } else { bench.dir.path() };
    let spools = TempDir::with_prefix_in("luarm-bench-", parent).context("no directory for spools")?;
    let url: ServerUrl = served.url.parse()?;
    let begun = Instant::now();
    let mut homes: Vec<PathBuf> = Vec::new();
    for host in 0..agents {
        bench.go_on()?;
        let data = spools.path().join(host.to_string());
        let token = server::make_token(served.data(), Some(store), None, Duration::from_secs(3600))?;
        let (machine, name) = of_host(host);
        agent::join(&url, &token, &data, (&name, &machine))?;
        homes.push(data);
    }
    all.joined.push(agents as f64 / begun.elapsed().as_secs_f64());

    let barrier = Arc::new(Barrier::new(homes.len() + 1));
    let running: Vec<_> = homes
        .into_iter()
        .zip(0..)
        .map(|(data, host)| {
            let (url, barrier) = (served.url.clone(), Arc::clone(&barrier));
            thread::spawn(move || {
                let courier = deliver(&data, &url);
                barrier.wait();
                let (courier, outbox, watch) = courier?;
                // Not all in the same instant.
                let begun = Instant::now() + Duration::from_secs(1) * host / u32::try_from(agents)?;
                let mut rows = Rows::new(Mix::Both);
                let mut sealer = sealer(&data, host.into())?;
                for second in 0..seconds {
                    let at = begun + Duration::from_secs(second);
                    thread::sleep(at.saturating_duration_since(Instant::now()));
                    let mut batch = rows.batch_of(host.into(), ROWS);
                    sealer.seal(&mut batch)?;
                    watch.lock().unwrap_or_else(PoisonError::into_inner).put.insert(batch.id, Instant::now());
                    outbox.put(&batch)?;
                }
                let patience = Instant::now() + Duration::from_secs(60);
                while outbox.acknowledged() < i64::try_from(seconds)? {
                    ensure!(Instant::now() < patience, "an agent is a minute behind");
                    thread::sleep(Duration::from_millis(10));
                }
                courier.stop(Duration::ZERO);
                let watch = std::mem::take(&mut *watch.lock().unwrap_or_else(PoisonError::into_inner));
                anyhow::Ok(watch.taken)
            })
        })
        .collect();
    let over = Arc::new(AtomicBool::new(false));
    barrier.wait();
    let (clock, pid) = (served.process.clock, served.process.pid());
    let (begun, before) = (Instant::now(), clock.read()?);
    let sampling = {
        let over = Arc::clone(&over);
        thread::spawn(move || {
            let mut samples = Vec::new();
            while !over.load(Relaxed) {
                samples
                    .extend(kilobytes(pid, "status", "VmRSS").map(|k| (begun.elapsed(), k as f64 / 1024.0)));
                thread::sleep(Duration::from_millis(200));
            }
            samples
        })
    };
    let mut taken = Vec::new();
    for agent in running {
        taken.extend(agent.join().map_err(|_| anyhow!("an agent panicked"))??);
    }
    all.cpu.push((clock.read()? - before).as_secs_f64() / begun.elapsed().as_secs_f64() * 100.0);
    over.store(true, Relaxed);
    let samples = sampling.join().map_err(|_| anyhow!("who sampled panicked"))?;
    let half = samples.iter().find(|(at, _)| at.as_secs() * 2 >= seconds);
    all.half.push(half.map_or(f64::NAN, |s| s.1));
    all.end.push(samples.last().map_or(f64::NAN, |s| s.1));
    all.most.push(samples.iter().map(|s| s.1).fold(0.0, f64::max));
    taken.sort_unstable();
    let at = |part: f64| {
        taken.get((taken.len() as f64 * part) as usize).map_or(f64::NAN, |t| t.as_secs_f64() * 1000.0)
    };
    all.median.push(at(0.5));
    all.late.push(at(0.99));
    let there = count_rows(store, PsInfo::TABLE)? + count_rows(store, NetInfo::TABLE)?;
    let made = agents * seconds * ROWS;
    ensure!(there == made, "{there} of {made} rows are there");
    Ok(())
}

fn deliver(data: &Path, url: &str) -> anyhow::Result<(Courier, Arc<Outbox>, Arc<Mutex<Watch>>)> {
    let identity = Identity::load(data)?;
    let (outbox, _) = Outbox::open(&identity::spool(data), identity.facts().after)?;
    let outbox = Arc::new(outbox);
    let watch = Arc::new(Mutex::new(Watch::default()));
    let plan = agent::Plan {
        data: data.to_owned(),
        servers: vec![url.parse()?],
        version: env!("CARGO_PKG_VERSION"),
    };
    let courier =
        Courier::start(plan, identity, Arc::clone(&outbox), Box::new(Receipts(Arc::clone(&watch))))?;
    Ok((courier, outbox, watch))
}
