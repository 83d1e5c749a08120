//! Which sensor watches this host: one choice, made here, and said.

use std::{path::PathBuf, str::FromStr};

use anyhow::Context;
use luarm_sensor::{
    Sensor,
    capability::Duty,
    ebpf::{self, EbpfConfig},
    poll::{self, PollConfig},
    queue::{self, Consumer, Producer},
    surroundings::{self, Surroundings},
};

/// The name for people of the sensor that looks at times.
pub(crate) const POLLING: &str = "polling";
/// Bytes of observations that may wait for the recorder.
const QUEUE: usize = 32 << 20;

/// What `--sensor` asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Choice {
    /// eBPF where the kernel and the user's rights allow it, else polling.
    #[default]
    Auto,
    /// eBPF or nothing.
    Ebpf,
    /// Polling.
    Poll,
}

impl FromStr for Choice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "auto" => Ok(Self::Auto),
            "ebpf" => Ok(Self::Ebpf),
            "poll" => Ok(Self::Poll),
            _ => Err(format!("{text:?} is not a sensor: write auto, ebpf or poll")),
        }
    }
}

/// What of files is told; `None` for the default.
#[derive(Debug, Clone, Default)]
pub(crate) struct Policy {
    /// Whose reads are left out.
    pub quiet: Option<Vec<PathBuf>>,
    /// Whose contents are digested when they were changed.
    pub digested: Option<Vec<PathBuf>>,
    /// Bytes of the largest file that is digested.
    pub digest_limit: Option<u64>,
}

/// A sensor that runs.
pub(crate) struct Started {
    /// What watches processes.
    pub sensor: Box<dyn Sensor>,
    /// What watches everything around them.
    pub surroundings: Surroundings,
    /// What it gives.
    pub consumer: Consumer,
    /// Its name for people.
    pub name: &'static str,
}

/// Starts the sensor that was chosen. The calling thread has what that takes, and keeps little of it.
pub(crate) fn start(choice: Choice, ring: Option<u32>, policy: &Policy) -> anyhow::Result<Started> {
    match choice {
        Choice::Ebpf => ebpf(ring, policy).context("eBPF cannot be used here (luarm doctor says more)"),
        Choice::Poll => {
            tracing::info!("polling, as asked: what lives shorter than a round is not seen");
            poll()
        }
        Choice::Auto => ebpf(ring, policy).or_else(|error| {
            tracing::warn!(
                "eBPF cannot be used here: {error:#}; polling instead: what lives shorter than a round is not seen (luarm doctor says more)"
            );
            poll()
        }),
    }
}

fn ebpf(ring: Option<u32>, policy: &Policy) -> anyhow::Result<Started> {
    let mut config = EbpfConfig::default();
    config.events = ring.unwrap_or(config.events);
    config.quiet = policy.quiet.clone().unwrap_or(config.quiet);
    config.digested = policy.digested.clone().unwrap_or(config.digested);
    config.digest_limit = policy.digest_limit.unwrap_or(config.digest_limit);
    beside("eBPF", |producer| Ok(ebpf::start(config, producer)?))
}

fn poll() -> anyhow::Result<Started> {
    beside(POLLING, |producer| Ok(Box::new(poll::start(PollConfig::default(), producer)?)))
}

/// Starts a sensor and, beside it, what watches the surroundings.
fn beside(
    name: &'static str,
    start: impl FnOnce(Producer) -> anyhow::Result<Box<dyn Sensor>>,
) -> anyhow::Result<Started> {
    let (producer, consumer) = queue::bounded(QUEUE);
    let sensor = start(producer.clone())?;
    Duty::Surroundings.settle();
    let (watchers, unwatched) = surroundings::watchers();
    let surroundings = surroundings::start(watchers, unwatched, producer)
        .context("cannot start what watches the surroundings")?;
    Ok(Started { sensor, surroundings, consumer, name })
}
