//! A recorder with nothing to do.

use std::{
    thread,
    time::{Duration, Instant},
};

use crate::{
    Bench,
    cpu::{kilobytes, map_bytes},
    recorder::Recorder,
    report::{Bound, Report},
    spread::Spread,
};

/// Until what there was at the start is settled.
const SETTLING: Duration = Duration::from_secs(3);

#[derive(Default)]
struct Idle {
    percent: Vec<f64>,
    rss: Vec<f64>,
    pss: Vec<f64>,
    maps: Vec<f64>,
}

/// Measures both sensors, and reports.
pub(crate) fn run(bench: &Bench, seconds: u64, report: &mut Report) -> anyhow::Result<()> {
    let sensors = [("ebpf", "luarm, eBPF"), ("poll", "luarm, polling")];
    let mut measured = [const { Ok(()) }; 2].map(|ok: anyhow::Result<()>| ok.map(|()| Idle::default()));
    for round in 1..=bench.rounds {
        for ((sensor, name), idle) in sensors.into_iter().zip(&mut measured) {
            bench.go_on()?;
            let Ok(sums) = idle else { continue };
            eprintln!("bench: idle, round {round}: {name}");
            match Recorder::start(bench, sensor) {
                Ok(recorder) => sums.add(recorder, seconds)?,
                Err(error) => *idle = Err(error),
            }
        }
    }
    report.heading("Idle");
    report.say(&format!(
        "{seconds} s of a recorder while the machine does nothing else that this program knows of. CPU: percent of one core. PSS: shared pages \
         divided among their users. Maps: kernel memory behind the sensor's BPF maps, the rings included (the process's RSS counts what it touched of \
         them)."
    ));
    let mut table = vec![["watching", "CPU %", "RSS MB", "PSS MB", "maps MB"].map(str::to_owned).to_vec()];
    for ((_, name), idle) in sensors.into_iter().zip(&measured) {
        if let Ok(Idle { percent, rss, pss, maps }) = idle {
            let [percent, rss, pss, maps] = [percent, rss, pss, maps].map(|v| Spread::of(v.iter().copied()));
            table.push(vec![
                name.to_owned(),
                format!("{percent:.3}"),
                format!("{rss:.1}"),
                format!("{pss:.1}"),
                format!("{maps:.1}"),
            ]);
        }
    }
    report.table(&table);
    for ((_, name), idle) in sensors.into_iter().zip(&measured) {
        if let Err(error) = idle {
            report.say(&format!("Skipped: {name}: {error:#}"));
        }
    }
    if let Ok(idle) = &measured[0] {
        let median = |values: &[f64]| Spread::of(values.iter().copied()).median;
        report.goal("idle: CPU of a core", Bound::AtMost(0.1), median(&idle.percent), " %");
        report.goal("idle: RSS", Bound::AtMost(60.0), median(&idle.rss), " MB");
    }
    Ok(())
}

impl Idle {
    fn add(&mut self, recorder: Recorder, seconds: u64) -> anyhow::Result<()> {
        thread::sleep(SETTLING);
        let (begun, before) = (Instant::now(), recorder.clock.read()?);
        thread::sleep(Duration::from_secs(seconds));
        let used = recorder.clock.read()? - before;
        self.percent.push(used.as_secs_f64() / begun.elapsed().as_secs_f64() * 100.0);
        let megabytes =
            |name| kilobytes(recorder.pid(), "smaps_rollup", name).map_or(f64::NAN, |k| k as f64 / 1024.0);
        self.rss.push(megabytes("Rss"));
        self.pss.push(megabytes("Pss"));
        self.maps.push(map_bytes(recorder.pid()) as f64 / f64::from(1 << 20));
        recorder.stop()
    }
}
