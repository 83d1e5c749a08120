//! Whether a host is heard of, as its ledger and its coverage tell.

use std::{fmt, io, time::Duration};

use luarm_schema::Time;

use crate::{Cell, QueryError, RowSink, Source};

/// A recorder with nothing to tell says once a minute that it lives: one that was not heard of for three of these is overdue.
pub const OVERDUE: Duration = Duration::from_secs(180);

/// How a host is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// It was heard of within the time.
    Live,
    /// Its recorder was stopped, and said so: it ended all that it watched.
    Stopped,
    /// It fell silent without a word.
    Overdue,
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            State::Live => "live",
            State::Stopped => "stopped",
            State::Overdue => "overdue",
        })
    }
}

/// What the store last heard of a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Presence {
    /// Number of its last batch.
    pub batch: i64,
    /// When its recorder closed that batch, by the host's own clock.
    pub last_seen: Time,
    /// Whether that batch said goodbye: nothing is watched after it.
    pub stopped: bool,
}

impl Presence {
    /// What the store heard of the host of that number; `None` if it has no batch of it.
    pub fn of(source: &mut dyn Source, host: i64) -> Result<Option<Self>, QueryError> {
        let mut answer = Answer(None);
        let watched = format!("SELECT count(*) FROM coverageinfo WHERE host = {host} AND destroyed IS NULL");
        let last = format!("SELECT batchid, created, ({watched}) AS watched FROM batchinfo");
        source.query(&format!("{last} WHERE host = {host} ORDER BY batchid DESC LIMIT 1"), &mut answer)?;
        Ok(answer.0)
    }

    /// How long ago it was heard of, if its clock is right.
    pub fn silent(&self, now: Time) -> Duration {
        Duration::from_micros(u64::try_from(now.0.saturating_sub(self.last_seen.0)).unwrap_or_default())
    }

    /// How the host is, if it is overdue after `patience`.
    pub fn state(&self, now: Time, patience: Duration) -> State {
        match self.silent(now) {
            _ if self.stopped => State::Stopped,
            silent if silent < patience => State::Live,
            _ => State::Overdue,
        }
    }
}

struct Answer(Option<Presence>);

impl RowSink for Answer {
    fn columns(&mut self, _: &[String]) -> io::Result<()> {
        Ok(())
    }

    fn row(&mut self, cells: &[Cell<'_>]) -> io::Result<()> {
        if let [Cell::Integer(batch), Cell::Text(created), Cell::Integer(watched)] = cells {
            let last_seen = Time::parse(created).map_err(io::Error::other)?;
            self.0 = Some(Presence { batch: *batch, last_seen, stopped: *watched == 0 });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn silence_without_a_word_is_overdue() {
        let now = Time(1_000_000_000_000_000);
        let state = |seconds: i64, stopped| {
            let last_seen = Time(now.0 - seconds * 1_000_000);
            Presence { batch: 1, last_seen, stopped }.state(now, OVERDUE)
        };
        assert_eq!((state(0, false), state(179, false)), (State::Live, State::Live));
        assert_eq!((state(180, false), state(i64::MAX / 2_000_000, false)), (State::Overdue, State::Overdue));
        assert_eq!((state(1, true), state(1_000_000, true)), (State::Stopped, State::Stopped));
        // A clock that is ahead.
        assert_eq!(state(-1_000, false), State::Live);
    }
}
