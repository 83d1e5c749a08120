//! What was measured of a workload, as a table and against the goals.

use std::time::Duration;

use super::{Done, Kind, Workload};
use crate::{
    report::{Bound, Report},
    spread::Spread,
    watcher::Contender,
};

/// One workload, once under one contender.
pub(super) struct Measured {
    pub(super) done: Done,
    pub(super) cpu: Duration,
    /// Traces that luarm has of it.
    pub(super) found: Option<u64>,
    pub(super) rows: u64,
    pub(super) bytes: u64,
    pub(super) lost: u64,
    pub(super) peak_memory: Option<u64>,
}

impl Measured {
    fn per_operation(&self, amount: f64) -> f64 {
        amount / self.done.operations as f64
    }

    fn pace(&self) -> f64 {
        self.per_operation(self.done.taken.as_secs_f64())
    }

    /// How many traces there are too few or too many.
    fn wrong(&self) -> u64 {
        let (least, most) = self.done.traces;
        self.found.map_or(0, |n| n.saturating_sub(most) + least.saturating_sub(n))
    }
}

/// Everything that was measured of one contender.
pub(super) struct Series {
    pub(super) contender: Contender,
    pub(super) rounds: Vec<Measured>,
}

impl Series {
    pub(super) fn new(contender: Contender) -> Self {
        Series { contender, rounds: Vec::new() }
    }

    /// How much longer an operation took than in the same round of the other.
    fn slowdown(&self, other: &Series) -> Spread {
        Spread::of(self.rounds.iter().zip(&other.rounds).map(|(own, other)| own.pace() / other.pace()))
    }

    fn cpu_ratio(&self, other: &Series) -> Spread {
        let per = |m: &Measured| m.per_operation(m.cpu.as_secs_f64());
        Spread::of(self.rounds.iter().zip(&other.rounds).map(|(own, other)| per(own) / per(other)))
    }

    fn per_operation(&self, amount: impl Fn(&Measured) -> f64) -> Spread {
        Spread::of(self.rounds.iter().map(|m| m.per_operation(amount(m))))
    }

    /// The lowest and the highest of a count over the rounds.
    fn range(&self, count: impl Fn(&Measured) -> Option<u64>) -> String {
        let counts = || self.rounds.iter().filter_map(&count);
        match (counts().min(), counts().max()) {
            (Some(low), Some(high)) if low != high => format!("{low}–{high}"),
            (low, _) => low.map_or_else(|| "–".to_owned(), |n| n.to_string()),
        }
    }

    fn row(&self, base: &Series, evidence: bool) -> Vec<String> {
        let stores = matches!(self.contender, Contender::Ebpf | Contender::Auditd);
        let nothing = self.contender == Contender::Nothing;
        let unless = |blank: bool, text: String| if blank { "–".to_owned() } else { text };
        let cpu = self.per_operation(|m| m.cpu.as_secs_f64() * 1e6);
        let digits = if cpu.median < 1.0 { 4 } else { 2 };
        let mut row = vec![
            self.contender.name().to_owned(),
            format!("{:.3}", self.slowdown(base)),
            unless(nothing, format!("{cpu:.digits$}")),
            unless(!stores, format!("{:.2}", self.per_operation(|m| m.rows as f64))),
            unless(!stores, format!("{:.0}", self.per_operation(|m| m.bytes as f64))),
        ];
        if evidence {
            row.push(self.range(|m| m.found));
            row.push(unless(self.contender != Contender::Ebpf, self.range(|m| Some(m.wrong()))));
        }
        row.push(unless(!stores, self.range(|m| Some(m.lost))));
        row.push(unless(nothing, self.range(|m| m.peak_memory.map(|k| k >> 10))));
        row
    }
}

/// Writes what was measured of one workload, below its heading.
pub(super) fn describe(
    kind: Kind,
    workload: &dyn Workload,
    all: &[Series],
    unable: &[String],
    report: &mut Report,
) {
    let Some(base) = all.first() else { return };
    let (unit, title) = (workload.unit(), kind.title());
    let seconds = Spread::of(base.rounds.iter().map(|m| m.done.taken.as_secs_f64()));
    let rate = Spread::of(base.rounds.iter().map(|m| 1.0 / m.pace()));
    report.say(&workload.describe());
    report.say(&format!(
        "Under nothing: {seconds:.2} s for {} times one {unit}, {rate:.0} in a second.",
        base.range(|m| Some(m.done.operations))
    ));
    let evidence = workload.evidence();
    if let Some(evidence) = &evidence {
        let traces = base.rounds.first().map(|m| m.done.traces);
        let wanted = match traces {
            Some((least, most)) if least == most => format!(" ({least})"),
            _ => String::new(),
        };
        report.say(&format!(
            "Found: {}{wanted}, in `fileinfo`; missing: how many too few or too many.",
            evidence.what
        ));
    }
    let mut head = vec![
        "watching".to_owned(),
        "slowdown".to_owned(),
        format!("CPU µs per {unit}"),
        format!("stored rows per {unit}"),
        format!("stored bytes per {unit}"),
    ];
    if evidence.is_some() {
        head.extend(["found", "missing"].map(str::to_owned));
    }
    head.extend(["lost", "peak RSS MB"].map(str::to_owned));
    let rows = all.iter().map(|s| s.row(base, evidence.is_some()));
    report.table(&std::iter::once(head).chain(rows).collect::<Vec<_>>());
    unable.iter().for_each(|line| report.say(line));
    goals(title, workload, all, report);
}

fn goals(title: &str, workload: &dyn Workload, all: &[Series], report: &mut Report) {
    let of = |contender| all.iter().find(|s| s.contender == contender);
    let Some(luarm) = of(Contender::Ebpf) else { return };
    let name = title.to_lowercase();
    if let Some(auditd) = of(Contender::Auditd) {
        let time = luarm.slowdown(auditd);
        report.say(&format!(
            "Time of an operation under luarm over that under auditd, in the same round: {time:.3}."
        ));
        // Where there is nothing to record, both CPU times are about nothing.
        if workload.evidence().is_some() {
            let cpu = luarm.cpu_ratio(auditd);
            report
                .say(&format!("CPU of luarm over that of auditd with kauditd, in the same round: {cpu:.2}."));
        }
    }
    if let Some(empty) = of(Contender::Empty) {
        report.say(&format!(
            "Time of an operation under luarm over that under the empty program, in the same round: {:.3}.",
            luarm.slowdown(empty)
        ));
    }
    let wrong: u64 = luarm.rounds.iter().map(|m| m.lost + m.wrong()).sum();
    report.goal(format!("{name}: lost or missing in all rounds"), Bound::AtMost(0.0), wrong as f64, "");
    let Some((contender, bound)) = workload.bound() else { return };
    let Some(other) = of(contender) else { return };
    let over =
        if contender == Contender::Nothing { "slowdown" } else { "time over that under an empty program" };
    report.goal(format!("{name}: {over}"), bound, luarm.slowdown(other).median, "");
}
