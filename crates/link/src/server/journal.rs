//! The rows that a server makes itself, in a chain of its own: who asked what through it.
//!
//! A question is a row in the store before it is answered, and that is all it waits for. The row names the batch that is open; a thread seals that batch a moment later, with a
//! key that moves forward as a host's does, and appends it to the server's own ledger, signed by the notary. So a server that is killed loses none of its rows: those that are not
//! sealed are sealed as they are found when it starts again.

use std::{
    path::Path,
    sync::{Arc, Condvar, Mutex, PoisonError},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use luarm_chain::{AHEAD, Heads, Notary};
use luarm_schema::{
    Time,
    tables::{QueryInfo, QueryInfoEnd},
};
use luarm_store::{Asked, Questions, StoreUrl};

use super::{backend::lock, chain::Chain, open::Open};
use crate::LinkError;

/// A batch is sealed so long after its first row.
const ROUND: Duration = Duration::from_secs(1);
/// Between two attempts to seal a batch.
const AGAIN: Duration = Duration::from_secs(2);
/// The same while the server stops.
const HURRY: Duration = Duration::from_millis(100);
/// How long a server that stops tries to seal what is left.
const LAST: Duration = Duration::from_secs(5);
/// Bytes of rows that wait to be sealed. No more questions are taken down while there are as many.
const MOST: usize = 16 << 20;
/// With as many bytes a batch is sealed at once.
const FULL: usize = 1 << 20;

/// Writes down what a server is asked, and seals it.
pub(super) struct Journal {
    shared: Arc<Shared>,
    sealing: Mutex<Option<JoinHandle<()>>>,
}

struct Shared {
    state: Mutex<State>,
    changed: Condvar,
    /// Locked after `state`, or alone.
    chain: Mutex<Chain>,
}

struct State {
    questions: Questions,
    /// The server's number in the store, once it has one.
    host: Option<i64>,
    open: Open,
    /// Bytes of the batch that is being sealed.
    sealing: usize,
    /// Why nothing can be sealed any more.
    broken: Option<String>,
    over: bool,
}

impl Journal {
    /// Of the server with that data directory. What it left unsealed when it was killed is sealed now, and the questions that it was answering then are ended.
    pub(super) fn open(
        data: &Path,
        store: &StoreUrl,
        notary: &Notary,
        heads: Arc<Heads>,
    ) -> Result<Self, LinkError> {
        let mut chain = Chain::open(data, store, notary, heads)?;
        let questions = Questions::open(store)?;
        let known = chain.is_known()?;
        let (host, open) = (None, Open::new(1));
        let mut state = State { questions, host, open, sealing: 0, broken: None, over: false };
        if known {
            state.go_on(&mut chain)?;
        }
        let shared =
            Arc::new(Shared { state: Mutex::new(state), changed: Condvar::new(), chain: Mutex::new(chain) });
        let theirs = Arc::clone(&shared);
        let sealing = thread::Builder::new().name("sealing".to_owned()).spawn(move || theirs.seal());
        let sealing = sealing.map_err(|source| LinkError::File {
            action: "start the sealing thread for",
            path: data.to_owned(),
            source,
        })?;
        Ok(Journal { shared, sealing: Mutex::new(Some(sealing)) })
    }

    /// Writes a question down, durably, before it is answered.
    pub(super) fn begin(&self, mut question: QueryInfo) -> Result<Asked, LinkError> {
        let mut state = lock(&self.shared.state);
        if let Some(why) = &state.broken {
            return Err(LinkError::Unsealed { detail: why.clone() });
        }
        if state.over {
            return Err(LinkError::Unsealed { detail: "the server is stopping".to_owned() });
        }
        if state.open.bytes + state.sealing > MOST {
            let detail = "too many of the questions before it wait to be sealed; the log says why".to_owned();
            return Err(LinkError::Unsealed { detail });
        }
        let host = match state.host {
            Some(host) => host,
            None => state.go_on(&mut lock(&self.shared.chain))?,
        };
        let State { questions, open, .. } = &mut *state;
        let asked = questions.begin((host, open.number), &mut question);
        match asked {
            Ok(_) => open.begin(question),
            // Whether it is there is found out before the batch is sealed.
            Err(_) => open.doubt(question),
        }
        drop(state);
        self.shared.changed.notify_all();
        Ok(asked?)
    }

    /// Writes down how a question ended.
    pub(super) fn end(&self, asked: Asked, end: &QueryInfoEnd) -> Result<(), LinkError> {
        let mut state = lock(&self.shared.state);
        state.end(asked, end)?;
        drop(state);
        self.shared.changed.notify_all();
        Ok(())
    }

    /// Ends the questions of servers before this version, which stand in no batch.
    pub(super) fn abandon(&self, before: Time, now: Time) -> Result<(), LinkError> {
        Ok(lock(&self.shared.state).questions.abandon(before, now)?)
    }

    /// Seals what is left. From now on no question is taken down.
    pub(super) fn close(&self) {
        lock(&self.shared.state).over = true;
        self.shared.changed.notify_all();
        if let Some(sealing) = lock(&self.sealing).take() {
            // One that died has said so.
            let _ = sealing.join();
        }
    }
}

impl Drop for Journal {
    fn drop(&mut self) {
        self.close();
    }
}

impl State {
    /// Begins the server's chain, or goes on with it. Gives the server's number.
    fn go_on(&mut self, chain: &mut Chain) -> Result<i64, LinkError> {
        let (host, mut last) = chain.enter()?;
        let written = self.questions.unsealed(host, last)?;
        let highest = written.iter().map(|row| row.dbatch.unwrap_or_default().max(row.batch)).max();
        for number in last + 1..=last + AHEAD {
            if highest.is_some_and(|highest| highest >= number) {
                let mut left = Open::new(number);
                written.iter().for_each(|row| left.take_up(row));
                chain.append(&mut left.seal(chain.run()))?;
                tracing::warn!(
                    "batch {number} of {} was not sealed when the server ended: it is sealed as it was found",
                    chain.name()
                );
                last = number;
            }
        }
        if highest.is_some_and(|highest| highest > last) {
            tracing::error!(
                "rows of {} name batches after the {last} that its ledger has: they cannot be sealed, and luarm verify shows them; was the store restored from a backup?",
                chain.name()
            );
        }
        self.open = Open::new(last + 1);
        self.host = Some(host);
        // Nobody answers them any more: no other process is this server.
        let now = Time::now();
        for row in written.iter().filter(|row| row.question.end.is_none()) {
            let asked = Asked { host, queryid: row.question.queryid };
            let end = QueryInfoEnd { destroyed: now, ended: "killed".into(), answerrows: None, error: None };
            self.end(asked, &end)?;
        }
        Ok(host)
    }

    fn end(&mut self, asked: Asked, end: &QueryInfoEnd) -> Result<(), LinkError> {
        let ended = self.questions.end(asked, self.open.number, end);
        match ended {
            Ok(()) => self.open.end(asked.queryid, end.clone()),
            Err(_) => self.open.doubt_end(asked, end.clone()),
        }
        Ok(ended?)
    }

    /// Takes the open batch away, for it to be sealed, and opens the next one; `None` if there is nothing in it.
    fn take(&mut self) -> Result<Option<Open>, LinkError> {
        let Some(host) = self.host else { return Ok(None) };
        self.open.settle(host, &mut self.questions)?;
        if self.open.is_empty() {
            return Ok(None);
        }
        let next = Open::new(self.open.number + 1);
        let taken = std::mem::replace(&mut self.open, next);
        self.sealing = taken.bytes;
        Ok(Some(taken))
    }
}

impl Shared {
    /// Seals batch after batch, until the journal is closed and nothing is left.
    fn seal(&self) {
        let mut is_told = false;
        loop {
            let mut state = lock(&self.state);
            state = self
                .changed
                .wait_while(state, |state| state.open.is_empty() && !state.over)
                .unwrap_or_else(PoisonError::into_inner);
            state = self
                .changed
                .wait_timeout_while(state, ROUND, |state| state.open.bytes < FULL && !state.over)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
            let is_over = state.over;
            let taken = state.take();
            drop(state);
            match taken {
                Ok(Some(taken)) => {
                    if !self.keep(&taken) {
                        return;
                    }
                    lock(&self.state).sealing = 0;
                    is_told = false;
                }
                Ok(None) if is_over => return,
                Ok(None) => {}
                Err(error) => {
                    if !std::mem::replace(&mut is_told, true) || is_over {
                        tracing::error!(
                            "what was asked is written down, and cannot be sealed: {error}; it is tried again"
                        );
                    }
                    if is_over {
                        return;
                    }
                    self.pause(AGAIN);
                }
            }
        }
    }

    /// Waits, unless the journal is closed meanwhile.
    fn pause(&self, time: Duration) {
        let waited = self.changed.wait_timeout_while(lock(&self.state), time, |state| !state.over);
        let is_over = waited.unwrap_or_else(PoisonError::into_inner).0.over;
        if is_over {
            thread::sleep(HURRY);
        }
    }

    /// Seals a batch and appends it. `false` if that is not to be had.
    fn keep(&self, taken: &Open) -> bool {
        let mut batch = {
            let chain = lock(&self.chain);
            taken.seal(chain.run())
        };
        let (mut is_told, mut until) = (false, None);
        loop {
            let error = match lock(&self.chain).append(&mut batch) {
                Ok(()) => return true,
                Err(error) => error,
            };
            let is_over = lock(&self.state).over;
            let is_late = is_over && Instant::now() >= *until.get_or_insert_with(|| Instant::now() + LAST);
            let is_final = matches!(&error, LinkError::Store(error) if !error.is_transient());
            if is_final || is_late || !std::mem::replace(&mut is_told, true) {
                let then = match (is_final, is_late) {
                    (true, _) => "no more questions are taken down until the server is started again",
                    (_, true) => "it is sealed when the server starts again",
                    _ => "it is tried again",
                };
                tracing::error!(
                    "batch {} of the server's own rows cannot be sealed: {error}; {then}",
                    taken.number
                );
            }
            if is_final {
                lock(&self.state).broken = Some(format!("earlier ones cannot be sealed: {error}"));
            }
            if is_final || is_late {
                return false;
            }
            self.pause(AGAIN);
        }
    }
}
