//! `luarm run`: records this host, in the foreground.

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
    sync::{Arc, atomic::AtomicBool, mpsc},
    thread,
};

use anyhow::Context;
use clap::Args;
use luarm_store::{HostIdentity, StoreUrl, Writer};
use signal_hook::{
    consts::{SIGINT, SIGTERM},
    flag,
    iterator::Signals,
};

use crate::{
    FAILED, USAGE,
    canary::Every,
    cli::Place,
    config::{Config, DigestLimit, DigestPlace, Keep, MemoryLimit, RingSize},
    control::{self, Instance},
    data_dir::DataDir,
    keeping::Keeping,
    launcher::Launcher,
    log,
    metrics::{self, Address},
    own::Own,
    pipeline::{self, Destination, Event, Plan, Room},
    sensor::{Choice, Policy},
    service,
    size::Size,
};

/// Record this host until SIGTERM or SIGINT
///
/// Prints one line beginning `luarm: recording` on standard error once every sensor is attached and what existed before is stored. On SIGTERM
/// or SIGINT everything seen so far is stored; a second one ends at once.
#[derive(Debug, Args)]
pub(crate) struct Options {
    #[command(flatten)]
    place: Place,
    #[command(flatten)]
    watch: Watch,
    /// How long rows of what happened are kept, in whole days (UTC), such as 90d; at least 1d. What has ended before is dropped from a SQLite store, in small steps once an
    /// hour, and the space is used again; retentioninfo says so. For other stores see luarm server retain [default: for ever]
    #[arg(long, value_name = "TIME")]
    keep: Option<Keep>,
}

/// How a host is recorded, whatever becomes of the rows.
#[derive(Debug, Args)]
pub(crate) struct Watch {
    /// How to watch: auto (eBPF where the kernel allows it, else polling), ebpf or poll [default: auto]
    #[arg(long, value_name = "SENSOR")]
    sensor: Option<Choice>,
    /// Rows that may wait in memory while the store cannot take them [default: 64MiB]
    #[arg(long, value_name = "SIZE")]
    memory_limit: Option<MemoryLimit>,
    /// Ring through which the kernel hands over events; `luarm status` shows what was lost when it was full [default: 8MiB]
    #[arg(long, value_name = "SIZE")]
    ring: Option<RingSize>,
    /// Directory or file whose reads are not told, instead of the libraries, locales and caches that are left out by default (repeat it for more;
    /// none, and every read is told, with an empty list in the configuration file). Writes and refusals are always told. Its
    /// file system cannot be unmounted meanwhile
    #[arg(long, value_name = "PATH")]
    files_quiet: Option<Vec<PathBuf>>,
    /// Directory or file whose contents are digested (SHA-256) after a close that changed them, or when they are moved or linked there, instead of configuration,
    /// programs, boot files, jobs and keys as by default (repeat it for more; `*` for every directory; none, with an empty list in the configuration file)
    #[arg(long, value_name = "PATH")]
    files_digest: Option<Vec<DigestPlace>>,
    /// Largest file or image that is digested [default: 512MiB]
    #[arg(long, value_name = "SIZE")]
    digest_limit: Option<DigestLimit>,
    /// Tell (alertinfo, and the log) when less room than this is left where the recorder keeps its data; 0 for never [default: 512MiB]
    #[arg(long, value_name = "SIZE")]
    disk_reserve: Option<Size>,
    /// How often to run a process that does something known in each class of events, and to expect its own rows back (1s to 1d); off for never. What does not come
    /// back is a gap in coverageinfo [default: 60s]
    #[arg(long, value_name = "TIME")]
    canary: Option<Every>,
    /// Serve figures for Prometheus (GET /metrics) and whether all is well (GET /health) over HTTP at this address and port, or socket: 127.0.0.1:7468 or
    /// unix:/PATH. Whoever reaches it can read them [default: not at all]
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) metrics: Option<Address>,
}

impl Watch {
    /// What these options and the configuration mean together.
    pub(crate) fn plan(&self, config: &Config, data: &Path, store: Option<&StoreUrl>) -> Plan {
        Plan {
            own: Own::new(data, store, config.file.as_deref(), self.disk_reserve.or(config.disk_reserve)),
            choice: self.sensor.or(config.sensor).unwrap_or_default(),
            memory_limit: self.memory_limit.or(config.memory_limit).unwrap_or_default().0,
            canary: self.canary.or(config.canary).unwrap_or_default(),
            ring: self.ring.or(config.ring).map(|ring| ring.0),
            policy: Policy {
                quiet: self.files_quiet.clone().or_else(|| config.files_quiet.clone()),
                digested: self
                    .files_digest
                    .clone()
                    .or_else(|| config.files_digest.clone())
                    .map(|places| places.into_iter().map(|place| place.0).collect()),
                digest_limit: self.digest_limit.or(config.digest_limit).map(|limit| limit.0),
            },
        }
    }
}

pub(crate) fn run(options: Options, config: &Config) -> anyhow::Result<ExitCode> {
    let located = options.place.locate(config);
    let is_file = matches!(located.store, StoreUrl::Sqlite(_));
    if options.keep.is_some() && !is_file {
        log::complain(&format!(
            "{}: --keep is for a SQLite store; leave it out, and run luarm server retain once a day with the account of the database's owner",
            located.store
        ));
        return Ok(ExitCode::from(USAGE));
    }
    let keep = options.keep.or(config.keep).filter(|_| is_file);
    let dir = DataDir::hold(&located.data)?;
    let launcher = Launcher::part(&located.data, Some(&located.store))?;
    let (events, happened) = mpsc::channel();
    catch_signals(events.clone())?;
    let plan = options.watch.plan(config, &located.data, Some(&located.store));
    let facts = pipeline::host(&dir)?;
    let identity = HostIdentity::own(&facts.machine_id, &facts.hostname);
    let (writer, resume) = Writer::open_for(&located.store, &identity)?;
    let seal = pipeline::seal(&dir, &facts, &resume)?;
    let destination = Destination {
        keeper: Box::new(writer),
        seal,
        delivered: resume.last_batch.map_or(0, |(id, _)| id),
        resume,
        room: Box::new(|| Room::Enough),
        backlog: pipeline::backlog_bytes(plan.memory_limit),
    };
    let pipeline = pipeline::start(&plan, &launcher, dir.path(), facts, destination, &events)?;
    drop(launcher);
    let instance = Instance::new(
        pipeline.probe(),
        control::Identity {
            host: pipeline.host.clone(),
            sensor: pipeline.sensor.to_owned(),
            store: located.store.to_string(),
            memory_limit: plan.memory_limit,
            link: None,
        },
    );
    let address = options.watch.metrics.as_ref().or(config.metrics.as_ref());
    let _metrics = metrics::serve(address, Arc::clone(&instance) as _)?;
    let _server = control::serve(&dir, instance)?;
    let mut keeping = None;
    for event in happened {
        match event {
            Event::Ready => {
                service::ready(&format!(
                    "recording {} with {} into {} — ask it: {}",
                    pipeline.host,
                    pipeline.sensor,
                    located.store,
                    invitation(&located.arguments)
                ));
                keeping = match keep {
                    Some(Keep(keep)) => {
                        Some(Keeping::begin(located.data.clone(), located.store.clone(), keep)?)
                    }
                    None => None,
                };
            }
            Event::Stop | Event::Ended => break,
        }
    }
    service::stopping();
    drop(keeping);
    pipeline.stop()?;
    Ok(ExitCode::SUCCESS)
}

/// What to type to ask what was recorded.
fn invitation(arguments: &str) -> String {
    let program = std::env::args().next().unwrap_or_else(|| "luarm".to_owned());
    let sudo = if std::env::var_os("SUDO_UID").is_some() { "sudo " } else { "" };
    format!("{sudo}{program} sql{arguments}")
}

/// The first SIGTERM or SIGINT is an event, the second one ends the process.
pub(crate) fn catch_signals(events: mpsc::Sender<Event>) -> anyhow::Result<()> {
    let stopping = Arc::new(AtomicBool::new(false));
    for signal in [SIGTERM, SIGINT] {
        flag::register_conditional_shutdown(signal, FAILED.into(), Arc::clone(&stopping))
            .and_then(|_| flag::register(signal, Arc::clone(&stopping)))
            .context("cannot catch signals")?;
    }
    let mut signals = Signals::new([SIGTERM, SIGINT]).context("cannot catch signals")?;
    thread::Builder::new()
        .name("signals".to_owned())
        .spawn(move || {
            if signals.forever().next().is_some() {
                let _ = events.send(Event::Stop);
            }
        })
        .context("cannot start the signals' thread")?;
    Ok(())
}
