//! What sealing takes of a recorder in the exec storm.

use anyhow::{Context as _, ensure};

use crate::{Bench, recorder::Recorder, storm::Storm};

/// One storm, in seconds.
pub(super) struct Sealed {
    /// CPU of the recorder, until all of the storm is stored.
    pub(super) cpu: f64,
    /// Of it, sealing.
    pub(super) sealing: f64,
    pub(super) batches: f64,
}

/// Lets a storm happen under a recorder that tells of itself.
pub(super) fn measure(bench: &Bench, programs: u64) -> anyhow::Result<Sealed> {
    rustix::fs::sync();
    let recorder = Recorder::monitored(bench, "ebpf")?;
    let storm = Storm::Exec { programs };
    storm.warm_up().rage(bench, "warm")?;
    recorder.sync()?;
    let before = (recorder.figures()?, recorder.clock.read()?);
    storm.rage(bench, "storm")?;
    recorder.sync()?;
    let after = (recorder.figures()?, recorder.clock.read()?);
    let [found, distinct, ..] = recorder.ask(&storm.query("storm", None))?[..] else {
        anyhow::bail!("a query answers too little");
    };
    ensure!((found, distinct) == (programs, programs), "{distinct} of {programs} programs are there");
    recorder.stop()?;
    let grown = |name: &str| {
        let of = |text: &str| figure(text, name).with_context(|| format!("the recorder tells no {name}"));
        anyhow::Ok(of(&after.0)? - of(&before.0)?)
    };
    Ok(Sealed {
        cpu: (after.1 - before.1).as_secs_f64(),
        sealing: grown("luarm_sealing_cpu_seconds_total")?,
        batches: grown("luarm_batches_stored_total")?,
    })
}

/// The one figure of that name in Prometheus' text format.
fn figure(text: &str, name: &str) -> Option<f64> {
    text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_figure_is_the_one_of_that_name() {
        let text = "# TYPE rows counter\nrows_more 3\nrows{a=\"b\"} 4\nrows 5.5\n";
        assert_eq!(figure(text, "rows"), Some(5.5));
        assert_eq!(figure(text, "row"), None);
    }
}
