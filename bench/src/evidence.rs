//! What evidence costs: sealing in the exec storm, verifying a history, and the bytes that it takes. All on rows that a recorder made.

mod sealing;
mod space;
mod verifying;

use rustix::process::geteuid;

use self::{sealing::Sealed, space::Spaces, verifying::Verified};
use crate::{
    Bench,
    recorded::Recorded,
    report::{Bound, Report},
    spread::Spread,
    stores::HOSTS,
};

/// Measures all three, and reports. Each of the hosts in the store that is verified has so many rows at least.
pub(crate) fn run(bench: &Bench, programs: u64, rows: u64, report: &mut Report) -> anyhow::Result<()> {
    report.heading("Evidence");
    if !geteuid().is_root() {
        report.say("Skipped: it needs root.");
        return Ok(());
    }
    let mut sealed = Vec::new();
    for round in 1..=bench.rounds {
        bench.go_on()?;
        eprintln!("bench: exec storm of {programs} programs, sealed, round {round}");
        sealed.push(sealing::measure(bench, programs)?);
    }
    report_sealing(programs, &sealed, report);
    eprintln!("bench: {rows} rows are recorded");
    let recorded = Recorded::record(bench, rows, HOSTS)?;
    let history = verifying::History::fill(bench, &recorded)?;
    let (mut all, mut one) = (Vec::new(), Vec::new());
    for round in 1..=bench.rounds {
        bench.go_on()?;
        eprintln!("bench: {} rows are verified, round {round}", history.rows);
        all.push(history.verify(bench, false)?);
        one.push(history.verify(bench, true)?);
    }
    report_verifying(&history, &all, &one, report);
    bench.go_on()?;
    eprintln!("bench: what evidence takes on disk");
    let spaces = space::measure(bench, &recorded)?;
    report_space(&recorded, &spaces, history.receipts()?, report);
    Ok(())
}

fn report_sealing(programs: u64, sealed: &[Sealed], report: &mut Report) {
    report.say(&format!(
        "Sealing: an exec storm of {programs} programs under `luarm run` with eBPF and rows in SQLite, one batch for {:.0} programs. Sealing is what digesting its rows, \
         signing, and keeping the next key on disk take of the store's thread, by that thread's processor clock; added is that over the CPU of the whole recorder without it, \
         in the same storm.",
        Spread::of(sealed.iter().map(|s| programs as f64 / s.batches)).median,
    ));
    let micros = |seconds: f64| seconds * 1e6 / programs as f64;
    let cpu = Spread::of(sealed.iter().map(|s| micros(s.cpu)));
    let sealing = Spread::of(sealed.iter().map(|s| micros(s.sealing)));
    let added = Spread::of(sealed.iter().map(|s| 100.0 * s.sealing / (s.cpu - s.sealing)));
    let head = ["CPU µs per exec, recorder", "of it sealing", "added %"].map(str::to_owned).to_vec();
    report.table(&[head, vec![format!("{cpu:.2}"), format!("{sealing:.3}"), format!("{added:.2}")]]);
    report.goal("sealing in the exec storm: CPU added", Bound::AtMost(5.0), added.median, " %");
}

fn report_verifying(history: &verifying::History, all: &[Verified], one: &[Verified], report: &mut Report) {
    report.say(&format!(
        "Verifying: `luarm verify` of a store in SQLite that a server filled: {} rows of {HOSTS} hosts, as recorded by an agent under programs, connections and work with files, in {} \
         batches ({} MB, read before and so in memory where that holds it), with the signature of each batch and the server's receipt for it. CPU in user and in kernel mode, of \
         the whole process.",
        history.rows,
        history.batches,
        history.bytes >> 20,
    ));
    let mut table =
        vec![["processors", "rows per second", "rows per second of CPU"].map(str::to_owned).to_vec()];
    for (name, runs) in [("all", all), ("one", one)] {
        let rate = Spread::of(runs.iter().map(|run| history.rows as f64 / run.taken));
        let core = Spread::of(runs.iter().map(|run| history.rows as f64 / run.cpu));
        table.push(vec![name.to_owned(), format!("{rate:.0}"), format!("{core:.0}")]);
        report.goal(
            format!("luarm verify, {name} processors: thousand rows per second and core"),
            Bound::AtLeast(500.0),
            core.median / 1e3,
            "",
        );
    }
    report.table(&table);
}

fn report_space(recorded: &Recorded, spaces: &Spaces, receipts: f64, report: &mut Report) {
    let (row, batch) = spaces.split();
    report.say(&format!(
        "Space: pages that SQLite (dbstat) counts for `luarmproof` and its index, and those of `batchinfo` over what it has where nothing is sealed, in a store of one host that records \
         itself. Once with the batches as they were recorded ({} rows in {} batches), once with the same rows and ends in {} batches of at most {} rows: what a batch and a row \
         take follows from the two. {:.3} of the rows end in a later batch, and so stand in two manifests. A server's receipts take {receipts:.0} bytes more for each batch.",
        spaces.rows,
        spaces.recorded.batches,
        spaces.few.batches,
        space::FEW,
        recorded.ends() as f64 / spaces.rows as f64,
    ));
    let head =
        ["batches", "evidence, bytes", "of it manifests", "bytes per row in all", "store, bytes per row"];
    let mut table = vec![head.map(str::to_owned).to_vec()];
    for (name, space) in [("as recorded", &spaces.recorded), ("small", &spaces.few)] {
        let of_row = |bytes: u64| format!("{:.1}", bytes as f64 / spaces.rows as f64);
        table.push(vec![
            name.to_owned(),
            space.evidence.to_string(),
            space.manifests.to_string(),
            of_row(space.evidence),
            of_row(space.store),
        ]);
    }
    report.table(&table);
    report.goal("evidence in SQLite: bytes per row", Bound::AtMost(24.0), row, "");
    report.goal("evidence in SQLite: bytes per batch", Bound::AtMost(300.0), batch, "");
}
