//! Answering at the control socket. Nothing here holds up recording: each connection has its own thread, there are few, and each has a time
//! limit.

use std::{
    fs,
    io::{self, BufRead, BufReader, Read, Write},
    os::unix::{
        fs::PermissionsExt,
        net::{UnixListener, UnixStream},
    },
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
        mpsc,
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::Context;
use luarm_sensor::{clock, proc};
use rustix::{net::sockopt::socket_peercred, param::page_size, process::geteuid};

use super::{LinkVitals, Vitals};
use crate::{
    canary,
    data_dir::{self, DataDir},
    pipeline::{Ask, Point, Probe, Wanted},
};

const MOST_CONNECTIONS: usize = 16;
const LONGEST_QUESTION: u64 = 64;
/// For the question to arrive, and for the answer to be taken.
const PATIENCE: Duration = Duration::from_secs(5);
const LONGEST_SYNC: Duration = Duration::from_secs(86_400);
/// How often a sensor is asked to deliver, while it has not.
const AGAIN: Duration = Duration::from_millis(50);

/// A running recorder, for those who ask how it is.
pub(crate) struct Instance {
    probe: Probe,
    identity: Identity,
    started: Instant,
}

/// What the recorder says of itself.
pub(crate) struct Identity {
    /// The host that it records.
    pub host: String,
    /// How it watches.
    pub sensor: String,
    /// Where it stores.
    pub store: String,
    /// Bytes of rows that may wait to be stored.
    pub memory_limit: usize,
    /// How delivering to a server is, where there is one.
    pub link: Option<Box<dyn Fn() -> LinkVitals + Send + Sync>>,
}

/// Takes the socket away when the recorder ends.
pub(crate) struct Server {
    path: PathBuf,
}

impl Drop for Server {
    fn drop(&mut self) {
        // Left behind it does no harm: whoever connects is refused, and the next recorder replaces it.
        let _ = fs::remove_file(&self.path);
    }
}

struct Room {
    instance: Arc<Instance>,
    connections: AtomicUsize,
}

/// Opens the socket in the data directory and answers there until the process ends.
pub(crate) fn serve(dir: &DataDir, instance: Arc<Instance>) -> anyhow::Result<Server> {
    let path = data_dir::socket(dir.path());
    let cannot = || format!("cannot open the control socket {}", path.display());
    match fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error).with_context(cannot),
        _ => {}
    }
    let listener = UnixListener::bind(&path).with_context(cannot)?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).with_context(cannot)?;
    let room = Arc::new(Room { instance, connections: AtomicUsize::new(0) });
    thread::Builder::new()
        .name("control".to_owned())
        .spawn(move || accept(&listener, &room))
        .context("cannot start the control socket's thread")?;
    Ok(Server { path })
}

fn accept(listener: &UnixListener, room: &Arc<Room>) {
    loop {
        let Ok((stream, _)) = listener.accept() else {
            // Out of file descriptors, most likely: that passes.
            thread::sleep(AGAIN);
            continue;
        };
        if room.connections.load(Relaxed) >= MOST_CONNECTIONS {
            answer(&stream, "error too many connections");
            continue;
        }
        room.connections.fetch_add(1, Relaxed);
        let inside = Arc::clone(room);
        let spawned = thread::Builder::new().name("control".to_owned()).spawn(move || {
            let reply = converse(&stream, &inside).unwrap_or_else(|error| format!("error {error}"));
            answer(&stream, &reply);
            inside.connections.fetch_sub(1, Relaxed);
        });
        if spawned.is_err() {
            room.connections.fetch_sub(1, Relaxed);
        }
    }
}

fn answer(mut stream: &UnixStream, reply: &str) {
    // Whoever asked may be gone.
    let _ = stream
        .set_write_timeout(Some(PATIENCE))
        .and_then(|()| stream.write_all(format!("{reply}\n").as_bytes()));
}

fn converse(stream: &UnixStream, room: &Room) -> io::Result<String> {
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut question = String::new();
    BufReader::new(stream.take(LONGEST_QUESTION)).read_line(&mut question)?;
    let peer = socket_peercred(stream)?.uid;
    if !peer.is_root() && peer != geteuid() {
        return Err(io::Error::other("only root and the recorder's own user may ask"));
    }
    let mut words = question.split_whitespace();
    match (words.next(), words.next(), words.next()) {
        (Some("status"), None, None) => Ok(serde_json::to_string(&room.instance.vitals())?),
        (Some("sync"), Some(milliseconds), None) => {
            let timeout = milliseconds.parse().map(Duration::from_millis).map_err(io::Error::other)?;
            Ok(if settle(&room.instance.probe, timeout.min(LONGEST_SYNC)) { "ok" } else { "timeout" }
                .to_owned())
        }
        _ => Err(io::Error::other("write: sync MILLISECONDS, or status")),
    }
}

/// Waits until everything that happened before now is stored; false when the time is up.
pub(crate) fn settle(probe: &Probe, timeout: Duration) -> bool {
    settle_unless(probe, Point::Delivered, timeout, &|| false)
}

/// The same, up to that point, and given up when `over`.
pub(crate) fn settle_unless(probe: &Probe, point: Point, timeout: Duration, over: &dyn Fn() -> bool) -> bool {
    let until = Instant::now() + timeout;
    let (done, stored) = mpsc::channel();
    // They do not say how far they have got: what they deliver is in the queue before the instant that is asked for.
    probe.drain_surroundings();
    probe.ask(Ask {
        wanted: Wanted::Before(clock::now()),
        point,
        until: Some(until),
        errand: Box::new(move || {
            let _ = done.send(());
        }),
    });
    loop {
        // Asked after the ask is in place, so that what the sensor sends wakes the recorder to it.
        probe.drain();
        let left = until.saturating_duration_since(Instant::now());
        if stored.recv_timeout(left.min(AGAIN)).is_ok() {
            return true;
        }
        if left.is_zero() || over() {
            return false;
        }
    }
}

impl Instance {
    /// A recorder that has just been started.
    pub(crate) fn new(probe: Probe, identity: Identity) -> Arc<Self> {
        Arc::new(Self { probe, identity, started: Instant::now() })
    }

    /// How long it has been running.
    pub(crate) fn uptime(&self) -> Duration {
        self.started.elapsed()
    }

    /// Its counters, for what [`Vitals`] has not.
    pub(crate) fn probe(&self) -> &Probe {
        &self.probe
    }

    /// How it is.
    pub(crate) fn vitals(&self) -> Vitals {
        let meters = &self.probe.meters;
        let rates = meters.rates();
        Vitals {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            host: self.identity.host.clone(),
            sensor: self.identity.sensor.clone(),
            store: self.identity.store.clone(),
            uptime: self.uptime().as_secs(),
            events: meters.observations.load(Relaxed),
            events_per_second: rates.observations,
            rows: meters.rows.load(Relaxed),
            rows_per_second: rates.rows,
            batch: meters.batch.load(Relaxed),
            sensor_lag_ms: clock::now().saturating_sub(meters.reached.load(Relaxed)) / 1_000_000,
            store_lag_ms: meters.stale_ms.load(Relaxed),
            queued_bytes: meters.queued_bytes.load(Relaxed),
            pending_bytes: meters.pending_bytes.load(Relaxed),
            backlog_bytes: meters.backlog_bytes.load(Relaxed),
            memory_limit: self.identity.memory_limit as u64,
            lost_rows: meters.shed_rows.load(Relaxed),
            trouble: meters.trouble(),
            memory: resident(),
            canary: canary::summary(meters),
            missing: meters.canary().missing,
            link: self.identity.link.as_ref().map(|link| link()),
        }
    }
}

/// Resident memory of this process, bytes; 0 where /proc does not say.
pub(crate) fn resident() -> u64 {
    let stat = proc::Reader::open(Path::new("/")).ok().and_then(|reader| reader.stat(std::process::id()));
    stat.map_or(0, |stat| stat.resident.saturating_mul(page_size() as u64))
}
