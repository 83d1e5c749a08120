//! Measures luarm on this machine: every figure is a ratio within one run, with its spread, next to what it is compared with.

mod arrival;
mod audit;
mod cpu;
mod disk;
mod evidence;
mod files;
mod fleet;
mod floor;
mod idle;
mod load;
mod machine;
mod program;
mod query;
mod recorded;
mod recorder;
mod report;
mod rows;
mod served;
mod spread;
mod stores;
mod storm;
mod watcher;

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use anyhow::{Context as _, bail};
use clap::{Parser, ValueEnum};
use signal_hook::consts::{SIGINT, SIGTERM};
use tempfile::TempDir;

use self::{disk::Disk, files::Kind, floor::Floor, program::Programs, report::Report, storm::Storm};

/// Measures luarm against nothing, against kernel audit and against the least that any reader costs
///
/// A full run takes about an hour and keeps a copy in docs/bench. The machine should have nothing else to do.
#[derive(Debug, Parser)]
#[command(name = "bench")]
struct Options {
    /// What to measure [default: everything]
    #[arg(value_enum, value_name = "PART")]
    parts: Vec<Part>,
    /// Rounds; each measures every contender once
    #[arg(long, default_value_t = 5, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// A fiftieth of everything in two rounds: shows that it works, proves nothing
    #[arg(long)]
    quick: bool,
    /// Keep a copy in docs/bench of a run of some parts, too
    #[arg(long)]
    keep: bool,
    /// Programs in an exec storm
    #[arg(long, default_value_t = 100_000, value_name = "N")]
    execs: u64,
    /// Connections in a connect storm
    #[arg(long, default_value_t = 50_000, value_name = "N")]
    connections: u64,
    /// Connections that one process makes
    #[arg(long, default_value_t = 10, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    per: u64,
    /// Rows to load; a tenth of them is recorded, for each of the hosts that load into the stores
    #[arg(long, default_value_t = 1_000_000, value_name = "N")]
    rows: u64,
    /// Rows to print
    #[arg(long, default_value_t = 10_000_000, value_name = "N")]
    lines: u64,
    /// Seconds of idling in each round
    #[arg(long, default_value_t = 30, value_name = "N")]
    seconds: u64,
    /// Seconds of events or of deliveries in each round
    #[arg(long, default_value_t = 20, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    during: u64,
    /// Agents of a fleet
    #[arg(long, default_value_t = 200, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    agents: u64,
    #[command(flatten)]
    sizes: files::Sizes,
    /// The program to measure [default: the luarm beside this program]
    #[arg(long, value_name = "PROGRAM")]
    luarm: Option<PathBuf>,
    /// Where data is kept while it measures [default: target, beside the sources]
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// Watch as the floor does, until standard input ends
    #[arg(long, hide = true)]
    floor: Option<Floor>,
}

/// What can be measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Part {
    /// Programs that start and end at once
    Exec,
    /// Connections of short-lived processes
    Connect,
    /// Rows into the SQLite store, of one host, made up
    Load,
    /// Rows that were recorded, of eight hosts at once, into SQLite, MariaDB and PostgreSQL
    Stores,
    /// What sealing, verifying and keeping the chain of evidence cost
    Evidence,
    /// From an event to its row in an answer, through agent, server and store
    Arrival,
    /// Many agents and one server
    Fleet,
    /// A recorder with nothing to do
    Idle,
    /// Rows out of the console
    Sql,
    /// What is done with files: all of the following
    Files,
    /// A source tree, unpacked and deleted
    Tree,
    /// A C project, compiled
    Compile,
    /// A mail server's files
    Mail,
    /// A walk over a file system
    Find,
    /// Bytes, read and written one by one
    Bytes,
    /// Requests to a web server
    Web,
}

/// What is measured unless something else is asked for.
const EVERYTHING: &[Part] = &[
    Part::Exec,
    Part::Connect,
    Part::Load,
    Part::Stores,
    Part::Evidence,
    Part::Arrival,
    Part::Fleet,
    Part::Idle,
    Part::Sql,
    Part::Files,
];

/// What every measurement needs.
struct Bench {
    luarm: PathBuf,
    /// Unmounted before its directory goes.
    disk: Disk,
    dir: TempDir,
    programs: Programs,
    rounds: u32,
    interrupted: Arc<AtomicBool>,
}

impl Bench {
    /// Fails once someone wants it to end, so that everything is put back on the way out.
    fn go_on(&self) -> anyhow::Result<()> {
        if self.interrupted.load(Ordering::Relaxed) {
            bail!("interrupted");
        }
        Ok(())
    }

    /// An empty directory for one measurement.
    fn empty_dir(&self) -> anyhow::Result<TempDir> {
        tempfile::tempdir_in(self.dir.path()).context("cannot make a directory")
    }

    /// An empty directory for the files of a workload.
    fn workplace(&self) -> anyhow::Result<TempDir> {
        tempfile::tempdir_in(self.disk.path()).context("cannot make a directory")
    }
}

/// The sources' root.
fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new("/"))
}

fn main() -> ExitCode {
    let mut options = Options::parse();
    if options.quick {
        options.rounds = options.rounds.min(2);
        options.seconds = options.seconds.div_ceil(10);
        options.during = options.during.div_ceil(10);
        options.agents = options.agents.div_ceil(10);
        options.sizes.shrink();
        for size in [&mut options.execs, &mut options.connections, &mut options.rows, &mut options.lines] {
            *size = size.div_ceil(50);
        }
    }
    let outcome = match options.floor {
        Some(floor) => floor::run(floor),
        None => measure(&options),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn measure(options: &Options) -> anyhow::Result<()> {
    let bench = prepare(options)?;
    let parts = if options.parts.is_empty() { EVERYTHING } else { &options.parts };
    let mut report = Report::default();
    machine::describe(&bench, &mut report);
    for part in parts {
        bench.go_on()?;
        let mut files = |kinds| files::run(&bench, kinds, &options.sizes, &mut report);
        match part {
            Part::Exec => storm::run(&bench, Storm::Exec { programs: options.execs }, &mut report)?,
            Part::Connect => {
                let storm =
                    Storm::Connect { processes: options.connections.div_ceil(options.per), per: options.per };
                storm::run(&bench, storm, &mut report)?;
            }
            Part::Load => load::run(&bench, options.rows, &mut report)?,
            // Each of the hosts has as many.
            Part::Stores => stores::run(&bench, options.rows.div_ceil(10), &mut report)?,
            Part::Evidence => evidence::run(&bench, options.execs, options.rows.div_ceil(10), &mut report)?,
            Part::Arrival => arrival::run(&bench, options.during, &mut report)?,
            Part::Fleet => fleet::run(&bench, options.agents, options.during, &mut report)?,
            Part::Idle => idle::run(&bench, options.seconds, &mut report)?,
            Part::Sql => query::run(&bench, options.lines, &mut report)?,
            Part::Files => files(&Kind::ALL)?,
            Part::Tree => files(&[Kind::Tree])?,
            Part::Compile => files(&[Kind::Project])?,
            Part::Mail => files(&[Kind::Mail])?,
            Part::Find => files(&[Kind::Find])?,
            Part::Bytes => files(&[Kind::Bytes])?,
            Part::Web => files(&[Kind::Web])?,
        }
    }
    report.goals();
    if options.quick || !(options.parts.is_empty() || options.keep) {
        eprintln!("bench: only a full run is kept in docs/bench, or with --keep");
        return Ok(());
    }
    let copy = report.keep(&root().join("docs/bench"), &options.parts)?;
    eprintln!("bench: kept as {}", copy.display());
    Ok(())
}

fn prepare(options: &Options) -> anyhow::Result<Bench> {
    let interrupted = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        // The second one ends it at once.
        signal_hook::flag::register_conditional_shutdown(signal, 130, Arc::clone(&interrupted))
            .and_then(|_| signal_hook::flag::register(signal, Arc::clone(&interrupted)))
            .context("cannot catch signals")?;
    }
    let luarm = match &options.luarm {
        Some(luarm) => luarm.clone(),
        None => std::env::current_exe().context("cannot find this program")?.with_file_name("luarm"),
    };
    let luarm = luarm.canonicalize().with_context(|| format!("cannot find {}", luarm.display()))?;
    let parent = options.dir.clone().unwrap_or_else(|| root().join("target"));
    let dir = TempDir::with_prefix_in("bench-", &parent)
        .with_context(|| format!("cannot make a directory in {}", parent.display()))?;
    let programs = Programs::compile(&root().join("bench/programs"), dir.path())?;
    let disk = Disk::make(&dir)?;
    Ok(Bench { luarm, disk, dir, programs, rounds: options.rounds, interrupted })
}
