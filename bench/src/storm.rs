//! Storms of programs and of connections, under each contender in turn.

use std::time::Duration;

use anyhow::Context as _;

use crate::{
    Bench,
    audit::Audit,
    report::{Bound, Report},
    spread::Spread,
    watcher::{Contender, Found, Watcher},
};

/// What happens.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Storm {
    /// So many times fork, exec of a program that does nothing, and exit.
    Exec { programs: u64 },
    /// So many processes that connect so many times each.
    Connect { processes: u64, per: u64 },
}

impl Storm {
    /// How many programs or connections there are.
    fn events(self) -> u64 {
        match self {
            Storm::Exec { programs } => programs,
            Storm::Connect { processes, per } => processes * per,
        }
    }

    /// What is counted.
    fn unit(self) -> &'static str {
        match self {
            Storm::Exec { .. } => "exec",
            Storm::Connect { .. } => "connection",
        }
    }

    /// A fiftieth of it, at least a little.
    pub(crate) fn warm_up(self) -> Self {
        match self {
            Storm::Exec { programs } => Storm::Exec { programs: programs.div_ceil(50).max(200) },
            Storm::Connect { processes, per } => {
                Storm::Connect { processes: processes.div_ceil(50).max(20), per }
            }
        }
    }

    /// The rules with which auditd watches it.
    fn audit_rules(self) -> Vec<String> {
        let calls = match self {
            Storm::Exec { .. } => [("execve,execveat", "luarm_exec"), ("exit_group", "luarm_exit")],
            Storm::Connect { .. } => [("connect", "luarm_connect"), ("accept,accept4", "luarm_accept")],
        };
        calls.map(|(calls, key)| format!("-F arch=b64 -S {calls} -k {key}")).to_vec()
    }

    /// Asks luarm for the number of events, of different events, of accepted connections, and of what it knows to be lost.
    pub(crate) fn query(self, tag: &str, port: Option<u16>) -> String {
        let lost = "(SELECT coalesce(sum(count), 0) FROM lossinfo)";
        match port {
            None => format!(
                "SELECT count(*), count(DISTINCT arguments), 0, {lost} FROM psinfo WHERE arguments LIKE '{tag}%'"
            ),
            Some(port) => format!(
                "SELECT count(*) FILTER (WHERE out), count(DISTINCT socket) FILTER (WHERE out), count(*) FILTER (WHERE came), {lost} FROM
                (SELECT socket, direction = 'out' AND application = 'dial' AS out, direction = 'in' AND application = 'acceptor' AS came
                FROM netinfo WHERE destport = {port} AND destip = '127.0.0.1')"
            ),
        }
    }

    /// Lets it happen, and returns how long it took, and to which port it connected.
    pub(crate) fn rage(self, bench: &Bench, tag: &str) -> anyhow::Result<(Duration, Option<u16>)> {
        match self {
            Storm::Exec { programs } => Ok((bench.programs.exec(programs, tag)?, None)),
            Storm::Connect { processes, per } => {
                let acceptor = bench.programs.accept()?;
                let taken = bench.programs.connect(processes, per, tag, &acceptor)?;
                Ok((taken, Some(acceptor.port)))
            }
        }
    }
}

/// One storm under one contender.
struct Measured {
    taken: Duration,
    cpu: Duration,
    found: Found,
    peak_memory: Option<u64>,
}

/// Everything that was measured of one contender, or why nothing was.
struct Series {
    contender: Contender,
    rounds: anyhow::Result<Vec<Measured>>,
}

/// Measures all contenders, and reports.
pub(crate) fn run(bench: &Bench, storm: Storm, report: &mut Report) -> anyhow::Result<()> {
    let audit = Audit::hold();
    let rules = storm.audit_rules();
    let mut all: Vec<Series> = Vec::new();
    for contender in Contender::STORM {
        // What cannot even start is left out of the rounds.
        let possible = Watcher::start(bench, contender, &rules, &audit).and_then(Watcher::stop);
        all.push(Series { contender, rounds: possible.map(|()| Vec::new()) });
    }
    for round in 1..=bench.rounds {
        for series in &mut all {
            bench.go_on()?;
            let Ok(rounds) = &mut series.rounds else { continue };
            eprintln!("bench: {} storm, round {round}: {}", storm.unit(), series.contender.name());
            let measured = measure(bench, series.contender, storm, &audit)
                .with_context(|| format!("{} storm under {}", storm.unit(), series.contender.name()))?;
            rounds.push(measured);
        }
    }
    describe(storm, &all, report);
    Ok(())
}

fn measure(
    bench: &Bench,
    contender: Contender,
    storm: Storm,
    audit: &anyhow::Result<Audit>,
) -> anyhow::Result<Measured> {
    // What the one before left to be written is not for this one to pay.
    rustix::fs::sync();
    let mut watcher = Watcher::start(bench, contender, &storm.audit_rules(), audit)?;
    storm.warm_up().rage(bench, "warm")?;
    watcher.mark()?;
    let before = watcher.cpu()?;
    let (taken, port) = storm.rage(bench, "storm")?;
    watcher.settle()?;
    let cpu = watcher.cpu()? - before;
    let found = watcher.found(storm, "storm", port)?;
    let peak_memory = watcher.peak_memory();
    watcher.stop()?;
    Ok(Measured { taken, cpu, found, peak_memory })
}

impl Series {
    fn rounds(&self) -> &[Measured] {
        self.rounds.as_deref().unwrap_or_default()
    }

    /// How much longer the storm took than in the same round of the other.
    fn slowdown(&self, other: &Series) -> Spread {
        let pairs = self.rounds().iter().zip(other.rounds());
        Spread::of(pairs.map(|(own, other)| own.taken.as_secs_f64() / other.taken.as_secs_f64()))
    }

    /// CPU time in relation to that of the other in the same round.
    fn cpu_ratio(&self, other: &Series) -> Spread {
        let pairs = self.rounds().iter().zip(other.rounds());
        Spread::of(pairs.map(|(own, other)| own.cpu.as_secs_f64() / other.cpu.as_secs_f64()))
    }

    fn cpu(&self, storm: Storm) -> Spread {
        Spread::of(self.rounds().iter().map(|m| m.cpu.as_secs_f64() * 1e6 / storm.events() as f64))
    }

    /// The lowest and the highest of a count over the rounds.
    fn range(&self, count: impl Fn(&Measured) -> u64) -> String {
        let counts = || self.rounds().iter().map(&count);
        match (counts().min(), counts().max()) {
            (Some(low), Some(high)) if low != high => format!("{low}–{high}"),
            (low, _) => low.map_or_else(|| "–".to_owned(), |n| n.to_string()),
        }
    }

    fn row(&self, storm: Storm, base: &Series) -> Vec<String> {
        let nothing = self.contender == Contender::Nothing;
        let floor = matches!(self.contender, Contender::Rings | Contender::Observations);
        let unless = |blank: bool, text: String| if blank { "–".to_owned() } else { text };
        let accepted = match storm {
            Storm::Exec { .. } => String::new(),
            Storm::Connect { .. } => format!(" + {}", self.range(|m| m.found.accepted.unwrap_or(0))),
        };
        let counted = self.range(|m| m.found.events);
        vec![
            self.contender.name().to_owned(),
            format!("{:.3}", self.slowdown(base)),
            unless(nothing, format!("{:.1}", self.cpu(storm))),
            unless(nothing, if floor { format!("{counted} records") } else { counted + &accepted }),
            unless(nothing || floor, self.range(|m| m.found.doubled)),
            unless(nothing || floor, self.range(|m| m.found.lost)),
            unless(nothing, self.range(|m| m.peak_memory.unwrap_or(0) >> 10)),
        ]
    }
}

fn describe(storm: Storm, all: &[Series], report: &mut Report) {
    let Some(base) = all.first() else { return };
    let (events, unit) = (storm.events(), storm.unit());
    let seconds = Spread::of(base.rounds().iter().map(|m| m.taken.as_secs_f64()));
    match storm {
        Storm::Exec { programs } => {
            report.heading("Exec storm");
            report.say(&format!(
                "{programs} times fork, exec and wait for a static program of 5 kB that only exits, each with an argument of its own, from one driver \
                 for each processor. Under nothing: {seconds:.2} s. auditd has rules for execve, execveat and exit_group."
            ));
        }
        Storm::Connect { processes, per } => {
            report.heading("Connect storm");
            report.say(&format!(
                "{processes} times fork, exec and wait for a static program that connects {per} times to 127.0.0.1 and waits each time for the other side \
                 to close, from one driver for each processor; another process for each processor accepts: {events} connections, rows for both their \
                 sides. Under nothing: {seconds:.2} s. auditd has rules for connect and accept alone; luarm records the processes as well."
            ));
        }
    }
    report.say(
        "Slowdown: wall time over that under nothing in the same round. CPU: of the recording process with all its threads (for auditd with kauditd), \
         until all of it is stored; what is spent inside of the watched processes shows in the slowdown. Doubled: found more than once. Lost: as the \
         contender itself says.",
    );
    let cpu = format!("CPU µs per {unit}");
    let of = format!("found of {events}{}", if unit == "exec" { "" } else { " + as many accepted" });
    let head =
        ["watching", "slowdown", &cpu, &of, "doubled", "lost", "peak RSS MB"].map(str::to_owned).to_vec();
    let measured = all.iter().filter(|s| s.rounds.is_ok()).map(|s| s.row(storm, base));
    report.table(&std::iter::once(head).chain(measured).collect::<Vec<_>>());
    for series in all {
        if let Err(error) = &series.rounds {
            report.say(&format!("Skipped: {}: {error:#}", series.contender.name()));
        }
    }
    goals(storm, all, base, report);
}

fn goals(storm: Storm, all: &[Series], base: &Series, report: &mut Report) {
    let of = |contender| all.iter().find(|s| s.contender == contender).filter(|s| !s.rounds().is_empty());
    let Some(luarm) = of(Contender::Ebpf) else { return };
    let (events, unit) = (storm.events(), storm.unit());
    let wrong = luarm.rounds().iter().map(|m| {
        let accepted = m.found.accepted.unwrap_or(events);
        m.found.events.abs_diff(events) + accepted.abs_diff(events) + m.found.doubled + m.found.lost
    });
    let wrong: u64 = wrong.sum();
    report.goal(format!("{unit} storm: lost or doubled in all rounds"), Bound::AtMost(0.0), wrong as f64, "");
    if matches!(storm, Storm::Exec { .. }) {
        report.goal("exec storm: slowdown", Bound::AtMost(1.08), luarm.slowdown(base).median, "");
    }
    if let Some(auditd) = of(Contender::Auditd) {
        let ratio = luarm.cpu_ratio(auditd);
        report.say(&format!("CPU of luarm over that of auditd with kauditd, in the same round: {ratio:.2}."));
        if matches!(storm, Storm::Exec { .. }) {
            report.goal(
                "exec storm: CPU over that of auditd with kauditd",
                Bound::AtMost(0.5),
                ratio.median,
                "",
            );
        }
    }
    if let Some(floor) = of(Contender::Rings) {
        report.say(&format!(
            "CPU of luarm over that of the floor, in the same round: {:.2}.",
            luarm.cpu_ratio(floor)
        ));
    }
}
