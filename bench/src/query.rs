//! A long answer through the console, next to the sqlite3 shell's.

use std::{
    io::Read,
    path::Path,
    process::{Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};
use luarm_store::{StoreUrl, Writer};

use crate::{Bench, cpu::kilobytes, report::Report, spread::Spread};

struct Answer {
    taken: Duration,
    peak: u64,
}

/// Measures both, and reports.
pub(crate) fn run(bench: &Bench, rows: u64, report: &mut Report) -> anyhow::Result<()> {
    let dir = bench.empty_dir()?;
    let database = dir.path().join("luarm.db");
    drop(Writer::open(&StoreUrl::Sqlite(database.clone()), "bench")?);
    let query = format!(
        "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {rows}) SELECT i, 'row number ' || i AS text, i * 0.5 AS half FROM n;"
    );
    let (mut own, mut shell) = (Vec::new(), Vec::new());
    for round in 1..=bench.rounds {
        bench.go_on()?;
        eprintln!("bench: {rows} rows as csv, round {round}");
        own.push(luarm(bench, &database, &query, rows)?);
        if Command::new("sqlite3").arg("--version").output().is_ok() {
            shell.push(sqlite3(&database, &query, rows)?);
        }
    }
    report.heading("Long answers");
    report.say(&format!(
        "{rows} rows of three columns from a recursive query, as csv with a head, into a pipe that is read and counted. Peak RSS: sampled every 5 ms."
    ));
    let mut table = vec![["asking", "rows per second", "peak RSS MB"].map(str::to_owned).to_vec()];
    for (name, answers) in [("luarm sql --format csv", &own), ("sqlite3 -csv -header", &shell)] {
        if answers.is_empty() {
            report.say(&format!("Skipped: {name}: sqlite3 is not installed"));
            continue;
        }
        let rate = Spread::of(answers.iter().map(|a| rows as f64 / a.taken.as_secs_f64()));
        let peak = Spread::of(answers.iter().map(|a| a.peak as f64 / 1024.0));
        table.push(vec![name.to_owned(), format!("{rate:.0}"), format!("{peak:.1}")]);
    }
    report.table(&table);
    let ratio =
        own.iter().zip(&shell).map(|(own, shell)| shell.taken.as_secs_f64() / own.taken.as_secs_f64());
    if !shell.is_empty() {
        report.say(&format!("Rows per second of luarm over those of sqlite3: {:.2}.", Spread::of(ratio)));
    }
    Ok(())
}

fn luarm(bench: &Bench, database: &Path, query: &str, rows: u64) -> anyhow::Result<Answer> {
    let mut command = Command::new(&bench.luarm);
    command.args(["sql", "--format", "csv", "-e", query, "--store"]);
    command.arg(format!("sqlite:{}", database.display()));
    answer(command, rows)
}

fn sqlite3(database: &Path, query: &str, rows: u64) -> anyhow::Result<Answer> {
    let mut command = Command::new("sqlite3");
    command.args(["-csv", "-header", "-readonly"]).arg(database).arg(query);
    answer(command, rows)
}

fn answer(mut command: Command, rows: u64) -> anyhow::Result<Answer> {
    let begun = Instant::now();
    let mut child =
        command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().context("cannot start a console")?;
    let mut out = child.stdout.take().context("a console has no output")?;
    // The most memory so far is gone with the process: the last look before its end has to do.
    let peak = Arc::new(AtomicU64::new(0));
    let (seen, pid) = (Arc::clone(&peak), child.id());
    let watching = thread::spawn(move || {
        while let Some(kilobytes) = kilobytes(pid, "status", "VmHWM") {
            seen.store(kilobytes, Ordering::Relaxed);
            thread::sleep(Duration::from_millis(5));
        }
    });
    let mut buffer = vec![0; 1 << 16];
    let mut lines = 0;
    loop {
        let n = out.read(&mut buffer)?;
        if n == 0 {
            break;
        }
        lines += buffer[..n].iter().filter(|byte| **byte == b'\n').count() as u64;
    }
    let status = child.wait()?;
    let taken = begun.elapsed();
    ensure!(status.success(), "a console ended with {status}");
    ensure!(lines == rows + 1, "a console gave {lines} lines instead of {}", rows + 1);
    watching.join().map_err(|_| anyhow::anyhow!("cannot watch a console's memory"))?;
    Ok(Answer { taken, peak: peak.load(Ordering::Relaxed) })
}
