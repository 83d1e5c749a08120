//! From the sensor to the store, in one process.
//!
//! ```text
//! sensor's thread ──queue of observations──▶ recorder's thread ──backlog of batches──▶ store's thread
//!                  bounded: holds the sensor back     bounded: the recorder makes no batch, then sheds rows and counts them
//! ```

mod backlog;
mod meters;
mod recording;
mod storing;

use std::{
    path::Path,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::Ordering::Relaxed,
        mpsc::{self, Sender},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use anyhow::{Context, anyhow};
use luarm_chain::{Chain, Heads, KeyFile, Sealer};
use luarm_recorder::{Recorder, Setup};
use luarm_schema::{Batch, Resume, Time};
use luarm_sensor::{
    HostFacts, Observation, RingFill, Sensor, clock,
    observation::{Coverage, Watch},
    surroundings::Surroundings,
};
use luarm_store::{StoreError, Writer};

pub(crate) use self::{
    backlog::{Backlog, Point},
    meters::Meters,
    recording::{Ask, Heard, Wanted},
};
use self::{
    recording::{Progress, Recording},
    storing::StoringError,
};
use crate::{
    canary::{self, Canary, Every, Rounds},
    data_dir::DataDir,
    launcher::Launcher,
    own::Own,
    sensor::{self, Choice, Policy},
};

/// What to record.
pub(crate) struct Plan {
    pub choice: Choice,
    /// Bytes of rows that may wait while the store cannot take them.
    pub memory_limit: usize,
    /// How often the sensors are put to the test.
    pub canary: Every,
    /// Bytes of the kernel's ring of events, where not the default.
    pub ring: Option<u32>,
    /// What of files is told.
    pub policy: Policy,
    /// What is the recorder's own.
    pub own: Own,
}

/// How batches are sealed, and where the head of what was kept is noted.
pub(crate) struct Seal {
    pub sealer: Sealer,
    pub heads: Heads,
    /// This host's name.
    pub host: String,
}

/// Where batches are kept: a store, or a spool on the way to one.
pub(crate) struct Destination {
    pub keeper: Box<dyn Keeper>,
    /// Who seals what is kept there.
    pub seal: Seal,
    /// What it remembers of this host.
    pub resume: Resume,
    /// Number of the last batch that can be queried.
    pub delivered: i64,
    /// What is left there.
    pub room: Box<dyn Fn() -> Room + Send>,
    /// Bytes of batches that may wait for it.
    pub backlog: usize,
}

/// What keeps batches.
pub(crate) trait Keeper: Send {
    /// Keeps a batch, wholly and durably or not at all; gives the tables of the rows that the engine refused for what is in them.
    fn keep(&mut self, batch: &Batch) -> Result<Vec<&'static str>, StoreError>;

    /// Whether what it keeps can be queried.
    fn delivers(&self) -> bool;
}

impl Keeper for Writer {
    fn keep(&mut self, batch: &Batch) -> Result<Vec<&'static str>, StoreError> {
        Ok(self.append(batch)?.iter().map(|row| row.table).collect())
    }

    fn delivers(&self) -> bool {
        true
    }
}

/// What is left where batches are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Room {
    /// All rows are kept.
    Enough,
    /// Reads of files are given up.
    NoReads,
    /// Whatever is done with files is given up.
    NoFiles,
    /// No batch can be kept.
    None,
}

/// What a running pipeline tells its owner.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// Everything that existed at the start is kept.
    Ready,
    /// One of its threads ended.
    Ended,
    /// The process got a signal to stop.
    Stop,
}

/// A running pipeline.
pub(crate) struct Pipeline {
    /// This host's name.
    pub host: String,
    /// The running sensor's name for people.
    pub sensor: &'static str,
    probe: Probe,
    canary: Option<Canary>,
    recording: JoinHandle<()>,
    storing: JoinHandle<Result<(), StoringError>>,
}

/// What others may ask of a running pipeline.
#[derive(Clone)]
pub(crate) struct Probe {
    /// Its figures.
    pub meters: Arc<Meters>,
    /// What waits to be kept, and for whom.
    pub backlog: Arc<Backlog>,
    sensors: Arc<Mutex<Option<Sensors>>>,
    asks: Sender<Ask>,
    hearing: Sender<Heard>,
}

/// What puts observations into the queue; the sensor says how far it has got.
struct Sensors {
    sensor: Box<dyn Sensor>,
    surroundings: Surroundings,
}

impl Probe {
    /// Has the sensor deliver what happened until now.
    pub(crate) fn drain(&self) {
        if let Some(sensors) = &*self.sensors.lock().unwrap_or_else(PoisonError::into_inner) {
            sensors.sensor.drain();
        }
    }

    /// Has what changed around the processes delivered; returns once it waits for the recorder.
    pub(crate) fn drain_surroundings(&self) {
        if let Some(sensors) = &*self.sensors.lock().unwrap_or_else(PoisonError::into_inner) {
            sensors.surroundings.drain();
        }
    }

    /// How full the kernel's rings were of late.
    pub(crate) fn rings(&self) -> Vec<RingFill> {
        let sensors = self.sensors.lock().unwrap_or_else(PoisonError::into_inner);
        sensors.as_ref().map(|sensors| sensors.sensor.rings()).unwrap_or_default()
    }

    /// Has the recorder do something once something is kept or delivered. A pipeline that is ending forgets it.
    pub(crate) fn ask(&self, ask: Ask) {
        let _ = self.asks.send(ask);
    }

    /// Tells the recorder of a question to the store, or of its end; false if there is no recorder any more.
    pub(crate) fn hear(&self, heard: Heard) -> bool {
        self.hearing.send(heard).is_ok()
    }
}

/// This host; its identity is in the data directory where the system has none.
pub(crate) fn host(dir: &DataDir) -> anyhow::Result<HostFacts> {
    let mut facts = HostFacts::read(Path::new("/"))?;
    if facts.machine_id.is_empty() {
        facts.machine_id = dir.identity()?;
        tracing::info!("this host has no /etc/machine-id: its identity is kept in {}", dir.path().display());
    }
    Ok(facts)
}

/// Whether the sensors are put to the test.
fn tested(every: Option<Duration>, obstacle: Option<&str>) -> Coverage {
    let each = every.map(|every| format!("each {} s", every.as_secs()));
    Coverage {
        class: "canary",
        watch: if every.is_some() { Watch::Sampled } else { Watch::Unwatched },
        sensor: if every.is_some() { "recorder" } else { "none" },
        hook: String::new(),
        reason: each.or_else(|| obstacle.map(str::to_owned)),
    }
}

/// Who seals the batches of this host, of which `resume` tells how far they have got. Keys and heads are in the data directory.
pub(crate) fn seal(dir: &DataDir, facts: &HostFacts, resume: &Resume) -> anyhow::Result<Seal> {
    let path = dir.path().join("chain.key");
    let last = resume.last_batch.map_or(0, |(id, _)| id);
    let (sealer, chain) =
        Sealer::open(KeyFile::open(&path)?, &facts.machine_id, last, resume.digest.as_deref())?;
    match chain {
        Chain::New => tracing::info!("the chain of this host's batches begins"),
        Chain::Continued => {}
        Chain::Restarted => tracing::warn!(
            "{} has not the key for batch {}: the chain of this host's batches begins anew there, and luarm verify will show it",
            path.display(),
            last + 1
        ),
    }
    let heads = dir.path().join("heads");
    let kept = Heads::keep_in(&heads)
        .with_context(|| format!("cannot keep the heads of the history in {}", heads.display()))?;
    Ok(Seal { sealer, heads: kept, host: facts.hostname.clone() })
}

/// How much may wait for what keeps batches, where `memory_limit` is for all that waits.
pub(crate) fn backlog_bytes(memory_limit: usize) -> usize {
    (memory_limit / 4).min(16 << 20)
}

/// Starts recording, the sensor by the launcher; what it needs beside is below `data`. Events go to `events`.
pub(crate) fn start(
    plan: &Plan,
    launcher: &Launcher,
    data: &Path,
    facts: HostFacts,
    destination: Destination,
    events: &Sender<Event>,
) -> anyhow::Result<Pipeline> {
    let host = facts.hostname.clone();
    let Destination { keeper, seal, resume, delivered, room, backlog } = destination;
    let last = resume.last_batch.map_or(0, |(id, _)| id);
    let obstacle = canary::obstacle(plan.canary);
    let every = plan.canary.0.filter(|_| obstacle.is_none());
    // While the launcher has what it takes.
    let canary = every.map(|every| Canary::prepare(launcher, every, data)).transpose()?;
    let mut recorder = Recorder::new(Setup {
        resume,
        host: facts,
        run: Time::now(),
        version: env!("CARGO_PKG_VERSION"),
        users: Box::new(luarm_recorder::SystemUsers::new("/etc/passwd")),
        clock_offset: clock::offset(),
        hosts_file: Some("/etc/hosts".into()),
        own: every.map(|_| std::process::id()),
    });
    recorder.protect(plan.own.protected());
    let tested = tested(every, obstacle);
    recorder.observe(Observation::Coverage(tested.clone()));
    let (choice, ring, policy) = (plan.choice, plan.ring, plan.policy.clone());
    let sensor::Started { sensor, surroundings, consumer, name } =
        launcher.launch(move || sensor::start(choice, ring, &policy))??;
    let backlog = Arc::new(Backlog::new(backlog, last, delivered));
    let meters = Arc::new(Meters::default());
    meters.cover(&tested);
    let (asks, asked) = mpsc::channel();
    let (hearing, heard) = mpsc::channel();
    let (judged, reports) = mpsc::channel();
    let recording = Recording {
        recorder,
        consumer,
        backlog: Arc::clone(&backlog),
        room,
        meters: Arc::clone(&meters),
        asks: asked,
        heard,
        room_left: plan.own.room(),
        reports,
        delivered: Arc::default(),
        tested,
        memory_limit: plan.memory_limit,
        last,
        progress: Progress::default(),
    };
    let (ready, settled) = (events.clone(), Arc::clone(&meters));
    let sensors = Arc::new(Mutex::new(Some(Sensors { sensor, surroundings })));
    let probe = Probe { meters: Arc::clone(&meters), backlog: Arc::clone(&backlog), sensors, asks, hearing };
    let recorder = spawn("recorder", events, move || recording.run())?;
    let store = spawn("store", events, move || storing::run(keeper, seal, &backlog, &meters))?;
    // What is there belongs to what existed at the start. It may be more than the queue holds: the recorder has to take it meanwhile.
    probe.drain_surroundings();
    probe.ask(Ask {
        wanted: Wanted::Inventory(clock::now()),
        point: Point::Kept,
        until: None,
        errand: Box::new(move || {
            settled.ready.store(true, Relaxed);
            let _ = ready.send(Event::Ready);
        }),
    });
    probe.drain();
    if let Some(canary) = &canary {
        canary.begin(Rounds { probe: probe.clone(), reports: judged, sampled: name == sensor::POLLING });
    }
    Ok(Pipeline { host, sensor: name, probe, canary, recording: recorder, storing: store })
}

impl Pipeline {
    /// What others may ask of it.
    pub(crate) fn probe(&self) -> Probe {
        self.probe.clone()
    }

    /// Stops the sensor, stores everything that it saw, and ends.
    pub(crate) fn stop(self) -> anyhow::Result<()> {
        drop(self.canary);
        let sensors = self.probe.sensors.lock().unwrap_or_else(PoisonError::into_inner).take();
        let closed_itself = self.recording.is_finished();
        if let Some(Sensors { sensor, surroundings }) = sensors {
            surroundings.stop();
            // It closes the queue.
            sensor.stop();
        }
        self.recording.join().map_err(|_| anyhow!("the recorder broke down; its message is above"))?;
        self.storing.join().map_err(|_| anyhow!("the store's thread broke down; its message is above"))??;
        if closed_itself {
            return Err(anyhow!("the sensor ended by itself; its message is above"));
        }
        Ok(())
    }
}

/// Starts a thread that sends [`Event::Ended`] however it ends.
fn spawn<T: Send + 'static>(
    name: &str,
    events: &Sender<Event>,
    body: impl FnOnce() -> T + Send + 'static,
) -> anyhow::Result<JoinHandle<T>> {
    struct Farewell(Sender<Event>);

    impl Drop for Farewell {
        fn drop(&mut self) {
            let _ = self.0.send(Event::Ended);
        }
    }

    let farewell = Farewell(events.clone());
    thread::Builder::new()
        .name(name.to_owned())
        .spawn(move || {
            let _farewell = farewell;
            body()
        })
        .with_context(|| format!("cannot start the {name}'s thread"))
}
