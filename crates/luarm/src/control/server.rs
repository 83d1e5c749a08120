//! Answering at the control socket. Nothing here holds up recording: each connection has its own thread, there are few, and each has a time
//! limit.

use std::{
    fs,
    io::{self, BufRead, BufReader, Read},
    os::unix::net::UnixStream,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed},
        mpsc,
    },
    time::{Duration, Instant},
};

use luarm_link::statement;
use luarm_recorder::{Answered, Asker, Question};
use luarm_schema::Word;
use luarm_sensor::{clock, proc};
use rustix::{
    net::{UCred, sockopt::socket_peercred},
    param::page_size,
    process::geteuid,
};

use super::{
    Asked, Ended, LinkVitals, Vitals,
    socket::{self, PATIENCE, Places, Server, answer},
};
use crate::{
    canary,
    data_dir::{self, DataDir},
    pipeline::{Ask, Heard, Point, Probe, Wanted},
};

/// Questions to the store that have no end yet.
const MOST_QUESTIONS: usize = 64;
/// A statement may be told by six bytes for each of its own.
pub(super) const LONGEST_LINE: u64 = 6 * statement::MOST as u64 + (16 << 10);
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

struct Room {
    instance: Arc<Instance>,
    questions: AtomicUsize,
    tickets: AtomicU64,
}

/// Opens the socket in the data directory and answers there until the process ends.
pub(crate) fn serve(dir: &DataDir, instance: Arc<Instance>) -> anyhow::Result<Server> {
    let path = data_dir::socket(dir.path());
    let room = Room { instance, questions: AtomicUsize::new(0), tickets: AtomicU64::new(0) };
    socket::open(path, "control", move |stream, places| converse(stream, &room, places))
}

fn converse(stream: &UnixStream, room: &Room, places: &Places) -> io::Result<String> {
    let peer = socket_peercred(stream)?;
    may_ask(&peer)?;
    let mut reader = BufReader::new(stream);
    let mut question = String::new();
    (&mut reader).take(LONGEST_LINE).read_line(&mut question)?;
    if let Some(asked) = question.strip_prefix("question ") {
        let asked = serde_json::from_str(asked)?;
        return attend(reader, (room, places), asker(&peer), asked);
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

/// Whether whoever is at the other end may ask at all.
pub(super) fn may_ask(peer: &UCred) -> io::Result<()> {
    if peer.uid.is_root() || peer.uid == geteuid() {
        return Ok(());
    }
    Err(io::Error::other("only root and the recorder's own user may ask"))
}

/// Who is at the other end, as the kernel tells it: the process that connected.
pub(super) fn asker(peer: &UCred) -> Asker {
    let pid = peer.pid.as_raw_nonzero().get().unsigned_abs();
    let process = proc::Reader::open(Path::new("/")).ok().and_then(|reader| reader.process(pid));
    let stat = process.as_ref().and_then(proc::Process::stat);
    Asker {
        pid,
        start: stat.as_ref().map(|stat| stat.start),
        uid: peer.uid.as_raw(),
        auid: process.as_ref().and_then(proc::Process::auid),
        session: process.as_ref().and_then(proc::Process::login_session),
        comm: stat.map(|stat| stat.comm),
    }
}

/// Tells the recorder of a question, and of its end.
fn attend(
    mut reader: BufReader<&UnixStream>,
    (room, places): (&Room, &Places),
    asker: Asker,
    asked: Asked,
) -> io::Result<String> {
    let Instance { probe, identity, .. } = &*room.instance;
    if !is_same(&asked.store, &identity.store) {
        return Err(io::Error::other(format!("this recorder writes {}", identity.store)));
    }
    if room.questions.fetch_add(1, Relaxed) >= MOST_QUESTIONS {
        room.questions.fetch_sub(1, Relaxed);
        return Err(io::Error::other("too many questions at once"));
    }
    let ticket = room.tickets.fetch_add(1, Relaxed);
    let question = Question {
        at: clock::now(),
        asker,
        kind: word(&asked.kind),
        limitedto: asked.host,
        statement: asked.statement,
        bytes: asked.bytes,
        sha256: asked.sha256.filter(|digest| digest.len() == 64),
    };
    // A question may take its time: meanwhile others may ask how the recorder is.
    let answered = take(probe, ticket, question).and_then(|()| places.without(|| ending(&mut reader)));
    room.questions.fetch_sub(1, Relaxed);
    let gone = || Answered { at: 0, ended: "gone".into(), rows: None, error: None };
    let told = answered.is_ok();
    let answered = Answered { at: clock::now(), ..answered.unwrap_or_else(|_| gone()) };
    probe.hear(Heard::Answered(ticket, answered));
    if told { Ok("ok".to_owned()) } else { Err(io::ErrorKind::ConnectionAborted.into()) }
}

/// Waits until the recorder has taken the question.
fn take(probe: &Probe, ticket: u64, question: Question) -> io::Result<()> {
    let (taken, told) = mpsc::channel();
    let until = Instant::now() + PATIENCE;
    if !probe.hear(Heard::Asked { ticket, question, taken }) {
        return Err(io::Error::other("the recorder is stopping"));
    }
    loop {
        // It sleeps until the sensor has something to tell.
        probe.drain();
        match told.recv_timeout(AGAIN) {
            Ok(()) => return Ok(()),
            Err(mpsc::RecvTimeoutError::Timeout) if Instant::now() < until => {}
            Err(_) => return Err(io::Error::other("the recorder does not take it in time")),
        }
    }
}

/// Says that the question is the recorder's, and waits for how it ended.
pub(super) fn ending(reader: &mut BufReader<&UnixStream>) -> io::Result<Answered> {
    answer(reader.get_ref(), "ok");
    reader.get_ref().set_read_timeout(None)?;
    let mut line = String::new();
    reader.take(LONGEST_LINE).read_line(&mut line)?;
    let Some(ended) = line.strip_prefix("ended ") else {
        return Err(io::ErrorKind::UnexpectedEof.into());
    };
    let Ended { how, rows, error } = serde_json::from_str(ended)?;
    let error = error.as_deref().map(statement::error);
    Ok(Answered { at: clock::now(), ended: how.word().into(), rows, error })
}

/// A kind of question that is known here.
pub(super) fn word(kind: &str) -> Word {
    Word::Borrowed(if kind == "status" { "status" } else { "sql" })
}

/// Whether both are the same store. A file's path may be spelled in several ways.
pub(super) fn is_same(asked: &str, own: &str) -> bool {
    let file = |url: &str| url.strip_prefix("sqlite:").and_then(|path| fs::canonicalize(path).ok());
    asked == own || file(asked).is_some_and(|asked| file(own) == Some(asked))
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
