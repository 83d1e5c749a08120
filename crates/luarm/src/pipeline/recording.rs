//! The recorder's thread: observations in, batches out, and no batch that the store's queue has no room for.

use std::{
    sync::{Arc, Mutex, PoisonError, atomic::Ordering::Relaxed, mpsc},
    time::{Duration, Instant},
};

use luarm_recorder::{Answered, Question, Recorder, Worth};
use luarm_schema::{Batch, Time};
use luarm_sensor::{
    BootNs, Observation, clock,
    observation::{Coverage, Watch},
    queue::{Closed, Consumer},
};

use super::{
    Room,
    backlog::{Backlog, Point},
    meters::Meters,
};
use crate::{canary::Reported, own::RoomLeft, size::Size};

/// A batch is made when this many rows wait,
const BATCH_ROWS: usize = 4096;
/// or this many bytes, which long arguments fill sooner,
const BATCH_BYTES: usize = 4 << 20;
/// or when a row has waited for so long;
const BATCH_AGE: Duration = Duration::from_millis(250);
/// for so long at the most, if the recorder expects a digest.
const EXPECTING_AGE: Duration = Duration::from_secs(1);
/// Between two looks at the clock's offset, and two samples of the meters.
const SECOND: Duration = Duration::from_secs(1);
/// The recorder wants to be asked for a batch this often even when no row waits: the last sign of life must not grow old.
const HEARTBEAT: Duration = Duration::from_secs(60);
/// Between two looks at something that was not ready.
const RETRY: Duration = Duration::from_millis(10);
/// A question becomes a row after so long whatever the sensor has told.
const UNSETTLED: Duration = Duration::from_secs(2);
/// The longest sleep.
const IDLE: Duration = Duration::from_millis(500);

/// A canary's rows are in a few batches. What comes late, from a server that was away, is nobody's business any more.
const MOST_DELIVERED: usize = 256;

/// Something to be done once what it waits for is kept or delivered.
pub(crate) struct Ask {
    /// What it waits for.
    pub wanted: Wanted,
    /// How far it has to get.
    pub point: Point,
    /// Forgotten after this instant.
    pub until: Option<Instant>,
    /// To be done, on the thread that brought it there.
    pub errand: Box<dyn FnOnce() + Send>,
}

/// What an [`Ask`] waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// Everything that happened before this instant.
    Before(BootNs),
    /// Everything that existed when the sensors started: they give it before they have got to this instant.
    Inventory(BootNs),
}

/// What a console says of its questions to the store.
pub(crate) enum Heard {
    /// It asks one.
    Asked {
        /// The number that stands for it.
        ticket: u64,
        /// The question.
        question: Question,
        /// Told once it is the recorder's.
        taken: mpsc::Sender<()>,
    },
    /// It has its answer.
    Answered(u64, Answered),
}

/// The loop's state.
pub(super) struct Recording {
    pub recorder: Recorder,
    pub consumer: Consumer,
    pub backlog: Arc<Backlog>,
    /// What is left where batches are kept.
    pub room: Box<dyn Fn() -> Room + Send>,
    pub meters: Arc<Meters>,
    pub asks: mpsc::Receiver<Ask>,
    /// Questions that are asked of what is recorded, and their ends.
    pub heard: mpsc::Receiver<Heard>,
    /// The file system of what is kept.
    pub room_left: RoomLeft,
    /// Of canaries, whose rows are all in batches.
    pub reports: mpsc::Receiver<Reported>,
    /// When batches with rows of a canary could be queried.
    pub delivered: Arc<Mutex<Vec<(i64, Time)>>>,
    /// What is said of canaries, as long as they can do their rounds.
    pub tested: Coverage,
    /// Bytes of rows that may wait, here and in the queue to the store.
    pub memory_limit: usize,
    /// Number of the last batch that was made.
    pub last: i64,
    pub progress: Progress,
}

/// A question that waits for what the sensor has to tell of whoever asks.
struct Unsettled {
    ticket: u64,
    question: Question,
    answered: Option<Answered>,
    until: Instant,
}

/// Whether questions wait for the sensor.
#[derive(Clone, Copy)]
enum Wait {
    Settled,
    No,
}

/// How far the sensor has got, and what waits for it.
#[derive(Default)]
pub(super) struct Progress {
    reached: BootNs,
    asks: Vec<Ask>,
    questions: Vec<Unsettled>,
    /// Since when rows wait.
    pending: Option<Instant>,
    /// When the recorder was asked for a batch last.
    flushed: Option<Instant>,
    shedding: bool,
}

impl Recording {
    /// Records until the sensor closes its queue; then hands over all that is left.
    pub(super) fn run(mut self) {
        let mut second = Instant::now();
        loop {
            match self.consumer.receive(self.patience()) {
                Ok(Some(chunk)) => self.observe(chunk),
                Ok(None) => {}
                Err(Closed) => break,
            }
            if second.elapsed() >= SECOND {
                second = Instant::now();
                self.recorder.set_clocks(clock::read());
                self.tell_refused();
                if let Some(left) = self.room_left.look() {
                    self.recorder.is_short_of_room(
                        clock::now(),
                        &self.room_left.path(),
                        left,
                        self.room_left.bound,
                    );
                }
                self.meters.sample();
            }
            self.recorder.tick(clock::now());
            self.collect_asks();
            self.judge();
            self.deliver();
            self.measure();
        }
        if (self.room)() == Room::None {
            self.shed(0);
        }
        self.collect_questions(Wait::No);
        self.recorder.finish(clock::now());
        self.push_parts();
        let bytes = self.recorder.pending_bytes();
        let batch = self.recorder.stop(clock::now());
        self.push(batch, bytes);
        self.backlog.close();
    }

    /// How long to wait for the next chunk.
    fn patience(&self) -> Duration {
        let progress = &self.progress;
        let due = progress.pending.map_or(IDLE, |since| BATCH_AGE.saturating_sub(since.elapsed()));
        // Whatever is overdue waits for room in the backlog, whoever asks waits for the sensor: neither is worth a busy loop.
        if progress.asks.is_empty() && progress.questions.is_empty() { due.max(RETRY) } else { RETRY }
    }

    fn observe(&mut self, chunk: Vec<Observation>) {
        self.meters.observations.fetch_add(chunk.len() as u64, Relaxed);
        for observation in chunk {
            if let Observation::Reached(at) = observation {
                self.progress.reached = self.progress.reached.max(at);
            }
            if let Observation::Coverage(change) = &observation {
                self.meters.cover(change);
            }
            self.recorder.observe(observation);
            if self.is_full() {
                self.deliver();
            }
        }
    }

    fn is_full(&self) -> bool {
        self.recorder.pending_rows() >= BATCH_ROWS || self.recorder.pending_bytes() >= BATCH_BYTES
    }

    fn collect_asks(&mut self) {
        let now = Instant::now();
        self.progress.asks.retain(|ask| ask.until.is_none_or(|until| now < until));
        self.progress.asks.extend(self.asks.try_iter());
    }

    /// Takes what consoles say. A question becomes a row once the sensor has told what happened before it, the start of whoever asks above all.
    fn collect_questions(&mut self, wait: Wait) {
        let now = Instant::now();
        for heard in self.heard.try_iter() {
            match heard {
                Heard::Asked { ticket, question, taken } => {
                    let until = now + UNSETTLED;
                    self.progress.questions.push(Unsettled { ticket, question, answered: None, until });
                    // Whoever asked may be gone.
                    let _ = taken.send(());
                }
                Heard::Answered(ticket, answered) => {
                    match self.progress.questions.iter_mut().find(|waiting| waiting.ticket == ticket) {
                        Some(waiting) => waiting.answered = Some(answered),
                        None => self.recorder.answered(ticket, answered),
                    }
                }
            }
        }
        for waiting in std::mem::take(&mut self.progress.questions) {
            let settled = self.is_settled(Wanted::Before(waiting.question.at));
            if !settled && now < waiting.until && matches!(wait, Wait::Settled) {
                self.progress.questions.push(waiting);
                continue;
            }
            self.recorder.asked(waiting.ticket, &waiting.question);
            if let Some(answered) = waiting.answered {
                self.recorder.answered(waiting.ticket, answered);
            }
        }
    }

    fn is_settled(&self, wanted: Wanted) -> bool {
        match wanted {
            Wanted::Before(instant) => self.progress.reached >= instant && !self.recorder.unsettled(instant),
            Wanted::Inventory(started) => self.progress.reached >= started && !self.recorder.is_expecting(),
        }
    }

    /// Makes a batch if one is due and the store has room for it; without room, holds on to the rows as long as memory allows.
    fn deliver(&mut self) {
        self.collect_questions(Wait::Settled);
        if self.recorder.pending_rows() > 0 {
            self.progress.pending.get_or_insert_with(Instant::now);
        }
        let settled = self.progress.asks.iter().any(|ask| self.is_settled(ask.wanted));
        let older = |since: Option<Instant>, age| since.is_some_and(|since: Instant| since.elapsed() >= age);
        let due = self.is_full()
            || older(self.progress.pending, EXPECTING_AGE)
            || older(self.progress.pending, BATCH_AGE) && !self.recorder.is_expecting()
            || older(self.progress.flushed, HEARTBEAT);
        if !settled && !due {
            return;
        }
        let room = (self.room)();
        if self.backlog.has_room() && room != Room::None {
            self.progress.shedding &= self.backlog.bytes() > 0 || room != Room::Enough;
            match room {
                Room::Enough | Room::None => {}
                Room::NoReads => self.give_up(Worth::Read),
                Room::NoFiles => self.give_up(Worth::File),
            }
            self.push_parts();
            let bytes = self.recorder.pending_bytes();
            if let Some(batch) = self.recorder.flush(clock::now()) {
                self.push(batch, bytes);
            }
            self.progress.pending = None;
            self.progress.flushed = Some(Instant::now());
            self.answer();
        } else if self.recorder.pending_bytes() + self.backlog.bytes() > self.memory_limit {
            self.shed(self.memory_limit / 2);
        }
    }

    /// Makes batches of a bearable size as long as more waits than one should hold.
    fn push_parts(&mut self) {
        loop {
            let before = self.recorder.pending_bytes();
            let Some(batch) = self.recorder.part() else { return };
            self.push(batch, before.saturating_sub(self.recorder.pending_bytes()));
        }
    }

    fn push(&mut self, batch: Batch, bytes: usize) {
        let id = batch.id;
        self.last = id;
        self.backlog.push(batch, bytes);
        if self.recorder.canaried() == id {
            let delivered = Arc::clone(&self.delivered);
            self.backlog.when(Point::Delivered, id, move || {
                let mut delivered = delivered.lock().unwrap_or_else(PoisonError::into_inner);
                if delivered.len() < MOST_DELIVERED {
                    delivered.push((id, Time::now()));
                }
            });
        }
    }

    /// Takes what canaries say of themselves.
    fn judge(&mut self) {
        while let Ok((mut report, asker)) = self.reports.try_recv() {
            report.delivered =
                std::mem::take(&mut *self.delivered.lock().unwrap_or_else(PoisonError::into_inner));
            let verdict = self.recorder.judge(&report);
            let mut tested = self.tested.clone();
            if let Some(trouble) = &verdict.trouble {
                tested.watch = Watch::Unwatched;
                tested.sensor = "none";
                tested.reason = Some(trouble.clone());
            }
            self.meters.cover(&tested);
            self.recorder.observe(Observation::Coverage(tested));
            // Whoever asked may be ending.
            let _ = asker.send(verdict);
        }
    }

    /// Whatever waits for rows that are all in a batch by now waits for the store alone.
    fn answer(&mut self) {
        let asks = std::mem::take(&mut self.progress.asks);
        for ask in asks {
            if self.is_settled(ask.wanted) {
                self.backlog.when(ask.point, self.last, ask.errand);
            } else {
                self.progress.asks.push(ask);
            }
        }
    }

    /// Gives up rows that wait here until no more than `bytes` do: reads of files first, then whatever else was done with files, then the rest. How
    /// many of which table are lost is known, and stored when batches are taken again.
    fn shed(&mut self, bytes: usize) {
        for worth in [Worth::Read, Worth::File, Worth::All] {
            if self.recorder.pending_bytes() > bytes {
                self.give_up(worth);
            }
        }
    }

    fn give_up(&mut self, worth: Worth) {
        let full = (self.room)() != Room::Enough;
        let rows = self.recorder.shed(worth, if full { "spool-full" } else { "store-failed" });
        self.meters.shed_rows.fetch_add(rows, Relaxed);
        if rows == 0 || self.progress.shedding {
            return;
        }
        self.progress.shedding = true;
        if full {
            tracing::error!(
                "the spool is full or nearly so: newer rows are lost, reads of files first, and counted for lossinfo"
            );
        } else {
            tracing::error!(
                "the store is behind by {} of rows: newer rows are lost, and counted for lossinfo",
                Size(self.memory_limit as u64)
            );
        }
    }

    /// Rows that the store refused for what is in them were lost.
    fn tell_refused(&mut self) {
        for table in self.backlog.take_refused() {
            let now = Time::now();
            self.recorder.lose(table, "refused", 1, now, now);
        }
    }

    fn measure(&self) {
        let meters = &self.meters;
        meters.reached.store(self.progress.reached, Relaxed);
        meters.queued_bytes.store(self.consumer.waiting() as u64, Relaxed);
        meters.pending_bytes.store(self.recorder.pending_bytes() as u64, Relaxed);
        meters.backlog_bytes.store(self.backlog.bytes() as u64, Relaxed);
        meters.stale_ms.store(
            self.progress
                .pending
                .map_or(0, |since| since.elapsed().as_millis().try_into().unwrap_or(u64::MAX)),
            Relaxed,
        );
    }
}
