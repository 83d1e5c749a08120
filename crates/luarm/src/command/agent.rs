//! `luarm agent`: records this host, and delivers what it records to its server.

use std::{
    process::ExitCode,
    sync::{
        Arc, PoisonError,
        atomic::{AtomicUsize, Ordering::Relaxed},
        mpsc,
    },
    time::Duration,
};

use anyhow::bail;
use clap::Args;
use luarm_link::{
    agent::{self, Courier, Outbox, ServerUrl},
    identity::{self, Identity},
};
use luarm_schema::{Batch, Time};
use luarm_store::StoreError;

use super::run::{Watch, catch_signals};
use crate::{
    config::{Config, SpoolLimit},
    control::{self, Instance, LinkVitals},
    data_dir::DataDir,
    launcher::Launcher,
    metrics,
    pipeline::{self, Destination, Event, Keeper, Probe, Room},
    service,
};

/// How long an agent that was told to stop goes on delivering. What is not delivered is in the spool.
const GRACE: Duration = Duration::from_secs(5);
/// The server's wishes for everything that are fulfilled at the same time, and how long one is tried.
const MOST_SYNCING: usize = 16;
const LONGEST_SYNC: Duration = Duration::from_secs(600);

/// Record this host and deliver what is recorded to its server, until SIGTERM or SIGINT
///
/// The host has joined its server before (luarm enroll join). Batches wait in DIR/spool.db until the server has stored them, through any number of
/// failures and restarts of either side. Prints one line beginning `luarm: recording` on standard error once every sensor is attached and what existed
/// before is in the spool; the server need not be there for it.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Data directory [default: /var/lib/luarm]
    #[arg(long, value_name = "DIR")]
    data: Option<std::path::PathBuf>,
    /// Server to deliver to, as https://HOST:PORT; repeat it for more, which are tried in turn [default: the one that was joined]
    #[arg(long, value_name = "URL")]
    server: Vec<ServerUrl>,
    /// Bytes that may wait for the server; when they do, newer rows are given up and counted: reads of files first, then what else is done with files,
    /// then the rest [default: 1GiB]
    #[arg(long, value_name = "SIZE")]
    spool_limit: Option<SpoolLimit>,
    #[command(flatten)]
    watch: Watch,
}

pub(crate) fn run(options: Options, config: &Config) -> anyhow::Result<ExitCode> {
    let data = config.locate(options.data, None).data;
    let identity = Identity::load(&data)?;
    let dir = DataDir::hold(&data)?;
    let launcher = Launcher::part(&data, None)?;
    let (events, happened) = mpsc::channel();
    catch_signals(events.clone())?;
    let plan = options.watch.plan(config, &data, None);
    let mut facts = pipeline::host(&dir)?;
    let joined = identity.facts().clone();
    if facts.machine_id != joined.machine_id {
        bail!(
            "this machine's id is {}, and it joined as {}: it was copied or installed anew; join again with a data directory of its own",
            facts.machine_id,
            joined.machine_id
        );
    }
    // Under the name that the server knows; what the kernel calls the host is in factinfo.
    facts.hostname.clone_from(&joined.name);
    let servers = servers(options.server, config, &joined.server)?;
    let limit = options.spool_limit.or(config.spool_limit).unwrap_or_default().0;
    let (outbox, resume) = Outbox::open(&identity::spool(&data), joined.after)?;
    let outbox = Arc::new(outbox);
    let filling = Arc::clone(&outbox);
    let seal = pipeline::seal(&dir, &facts, &resume)?;
    let destination = Destination {
        keeper: Box::new(Spooling(Arc::clone(&outbox))),
        seal,
        resume,
        delivered: outbox.acknowledged(),
        room: Box::new(move || room(filling.bytes(), limit)),
        // What is on its way into the spool when it becomes full goes into it still.
        backlog: pipeline::backlog_bytes(plan.memory_limit)
            .min(usize::try_from(limit / 16).unwrap_or(usize::MAX)),
    };
    let pipeline = pipeline::start(&plan, &launcher, dir.path(), facts, destination, &events)?;
    drop(launcher);
    let told = Told { probe: Arc::new(pipeline.probe()), syncing: Arc::default() };
    let names: Vec<String> = servers.iter().map(ToString::to_string).collect();
    let courier = Courier::start(
        agent::Plan { data: data.clone(), servers, version: env!("CARGO_PKG_VERSION") },
        identity,
        Arc::clone(&outbox),
        Box::new(told),
    )?;
    let state = courier.state();
    let instance = Instance::new(
        pipeline.probe(),
        control::Identity {
            host: pipeline.host.clone(),
            sensor: pipeline.sensor.to_owned(),
            store: names.join(" "),
            memory_limit: plan.memory_limit,
            link: Some(Box::new(move || {
                let state = state.lock().unwrap_or_else(PoisonError::into_inner).clone();
                vitals(&outbox, state, limit)
            })),
        },
    );
    let address = options.watch.metrics.as_ref().or(config.metrics.as_ref());
    let _metrics = metrics::serve(address, Arc::clone(&instance) as _)?;
    let _server = control::serve(&dir, instance)?;
    for event in happened {
        match event {
            Event::Ready => service::ready(&format!(
                "recording {} with {}, delivering to {} — see luarm status --data {}",
                pipeline.host,
                pipeline.sensor,
                names.join(" or "),
                data.display()
            )),
            Event::Stop | Event::Ended => break,
        }
    }
    service::stopping();
    pipeline.stop()?;
    courier.stop(GRACE);
    Ok(ExitCode::SUCCESS)
}

/// The servers of the command line, else of the configuration, else the one that was joined.
fn servers(named: Vec<ServerUrl>, config: &Config, joined: &str) -> anyhow::Result<Vec<ServerUrl>> {
    if !named.is_empty() {
        return Ok(named);
    }
    if let Some(named) = config.server.as_ref().filter(|named| !named.is_empty()) {
        return named.iter().map(|url| Ok(url.parse()?)).collect();
    }
    Ok(vec![joined.parse()?])
}

/// What is left of a spool: reads are given up when a fifth is, whatever else is done with files when a tenth is.
fn room(bytes: u64, limit: u64) -> Room {
    let (reads, files) = (limit / 5 * 4, limit / 10 * 9);
    match bytes {
        bytes if bytes >= limit => Room::None,
        bytes if bytes >= files => Room::NoFiles,
        bytes if bytes >= reads => Room::NoReads,
        _ => Room::Enough,
    }
}

fn vitals(outbox: &Outbox, state: agent::LinkState, limit: u64) -> LinkVitals {
    let (delivered, last) = (outbox.acknowledged(), outbox.last());
    // The clock may have been set back meanwhile.
    let lag = outbox.oldest().map_or(0, |oldest| (Time::now().0 - oldest.0).max(0));
    LinkVitals {
        connected: state.connected,
        trouble: state.trouble,
        delivered,
        waiting: last - delivered,
        lag_ms: lag.unsigned_abs() / 1000,
        spool_bytes: outbox.bytes(),
        spool_limit: limit,
        expires: state.expires.map(|at| at.to_string()),
    }
}

/// Keeps batches in the spool.
struct Spooling(Arc<Outbox>);

impl Keeper for Spooling {
    fn keep(&mut self, batch: &Batch) -> Result<Vec<&'static str>, StoreError> {
        self.0.put(batch)?;
        Ok(Vec::new())
    }

    fn delivers(&self) -> bool {
        false
    }
}

/// Tells whoever waits for it what the server has.
struct Told {
    probe: Arc<Probe>,
    /// How many of the server's wishes for everything are being fulfilled.
    syncing: Arc<AtomicUsize>,
}

impl agent::Events for Told {
    fn delivered(&mut self, id: i64) {
        self.probe.backlog.delivered(id);
    }

    fn refused(&mut self, table: &str, count: u32) {
        if let Some(table) = luarm_schema::table(table) {
            self.probe.backlog.refuse(std::iter::repeat_n(table.name, count as usize));
        }
    }

    fn sync(&mut self, done: Box<dyn FnOnce() + Send>) {
        if self.syncing.fetch_add(1, Relaxed) >= MOST_SYNCING {
            self.syncing.fetch_sub(1, Relaxed);
            return;
        }
        let (probe, syncing) = (Arc::clone(&self.probe), Arc::clone(&self.syncing));
        let spawned = std::thread::Builder::new().name("sync".to_owned()).spawn(move || {
            let settled = control::settle(&probe, LONGEST_SYNC);
            syncing.fetch_sub(1, Relaxed);
            if settled {
                done();
            }
        });
        if spawned.is_err() {
            self.syncing.fetch_sub(1, Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::size::Size;

    #[test]
    fn reads_go_first_then_what_else_is_done_with_files() {
        let limit = SpoolLimit::default().0;
        assert_eq!(Size(limit).to_string(), "1GiB");
        let percent = |n| room(limit / 100 * n + 100, limit);
        assert_eq!([percent(0), percent(79)], [Room::Enough; 2]);
        assert_eq!([percent(80), percent(89)], [Room::NoReads; 2]);
        assert_eq!([percent(90), percent(99)], [Room::NoFiles; 2]);
        assert_eq!([percent(100), percent(200)], [Room::None; 2]);
    }
}
