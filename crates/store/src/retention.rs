//! Keeping rows for a time, in whichever engine: the days, the rows that say what was dropped, and the manifests of which nothing is left.

use std::{collections::HashMap, time::Duration};

use luarm_chain::{Manifest, Part, SigningKey, stub};
use luarm_schema::{ACTIVITIES, NUMBERS_EPOCH, TableDef, Time, first_number, tables::RetentionInfo};

use crate::Dropped;

const DAY: i64 = 86_400_000_000;
/// Days that are made before they come, so that no row falls into the part that would have to be divided.
const AHEAD: i64 = 8;
/// More days than these are not kept apart.
const MOST: i64 = 4000;

/// The days of one act of retention.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Days {
    /// What was created before this midnight is dropped.
    pub(crate) before: Time,
    /// Days are made up to this midnight.
    until: Time,
    /// When it is done.
    pub(crate) now: Time,
}

impl Days {
    /// The days when rows are kept for `keep`, at least one day.
    pub(crate) fn new(now: Time, keep: Duration) -> Self {
        let keep = i64::try_from(keep.as_micros()).unwrap_or(i64::MAX).max(DAY);
        let midnight = |us: i64| Time(us - us.rem_euclid(DAY));
        let before = midnight(now.0.saturating_sub(keep).max(0));
        Days { before, until: Time(midnight(now.0).0 + AHEAD * DAY), now }
    }

    /// The bounds of the parts that should exist above the bound `last`: from the day that is kept first, or that of the oldest row.
    pub(crate) fn bounds(&self, last: Option<i64>, oldest: Option<i64>) -> Vec<Bound> {
        let first = match oldest {
            Some(number) => self.before.0.max(day_of(number)),
            None => self.before.0.max(self.until.0 - (AHEAD + 1) * DAY),
        };
        let first = first.max(self.until.0 - MOST * DAY);
        let midnights = (0..).map(|n| first + n * DAY).take_while(|at| *at <= self.until.0);
        let bounds = midnights.map(|at| Bound { number: first_number(Time(at)), name: name(Time(at - 1)) });
        bounds.filter(|b| last.is_none_or(|last| b.number > last)).collect()
    }

    /// The number below which rows are dropped.
    pub(crate) fn number(&self) -> i64 {
        first_number(self.before)
    }
}

/// The upper bound of a part, and the part's name: `d` and its last day.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Bound {
    pub(crate) number: i64,
    pub(crate) name: String,
}

/// The instant that a number stands for.
pub(crate) fn instant(number: i64) -> Time {
    Time((number.max(0) >> 12).saturating_add(NUMBERS_EPOCH))
}

/// The midnight before the instant that a number stands for.
fn day_of(number: i64) -> i64 {
    let at = instant(number).0;
    at - at.rem_euclid(DAY)
}

fn name(at: Time) -> String {
    let text = at.to_string();
    format!("d{}{}{}", &text[..4], &text[5..7], &text[8..10])
}

/// What a host loses in one table.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Loss {
    pub(crate) host: i64,
    pub(crate) rows: i64,
    pub(crate) open: i64,
    pub(crate) first_batch: i64,
    pub(crate) last_batch: i64,
}

/// What was dropped of the table, of those who lost something.
pub(crate) fn dropped(table: &'static TableDef, lost: &[Loss], days: Days) -> Vec<Dropped> {
    let dropped = |l: &Loss| Dropped {
        host: l.host,
        table: table.name,
        before: days.before,
        rows: l.rows - l.open,
        kept: l.open,
    };
    lost.iter().filter(|l| l.rows > l.open).map(dropped).collect()
}

/// The least number that the row has which records what was dropped of the table.
pub(crate) fn first_record(table: &TableDef, days: Days) -> i64 {
    let place = ACTIVITIES.iter().position(|t| t.name == table.name).unwrap_or_default();
    first_number(days.now).saturating_add(place as i64)
}

/// The row, of the number `id`, that records it: rows with a number below `number` were dropped. It is signed with the key, for the host of that machine id.
pub(crate) fn record(
    id: i64,
    table: &TableDef,
    loss: &Loss,
    days: Days,
    number: i64,
    signer: Option<(&SigningKey, &str)>,
) -> RetentionInfo {
    let mut info = RetentionInfo {
        retentionid: id,
        tablename: table.name.into(),
        beforekey: number,
        beforetime: instant(number),
        rowcount: loss.rows - loss.open,
        keptcount: loss.open,
        firstbatch: loss.first_batch,
        lastbatch: loss.last_batch,
        created: days.now,
        signer: None,
        signature: None,
        end: None,
    };
    if let Some((key, machine_id)) = signer {
        stub::sign(key, machine_id, &mut info);
    }
    info
}

/// What was given up of a host, by its rows of `retentioninfo`.
#[derive(Debug, Default)]
pub(crate) struct Given {
    /// Below which keys, by table.
    pub(crate) bounds: HashMap<String, i64>,
    /// First and last batch of which rows were dropped, act by act.
    batches: Vec<(i64, i64)>,
}

impl Given {
    /// Takes in one of the rows.
    pub(crate) fn add(&mut self, table: &str, before: i64, (first, last): (i64, i64)) {
        let bound = self.bounds.entry(table.to_owned()).or_insert(before);
        *bound = (*bound).max(before);
        self.batches.push((first, last));
    }

    /// The last batch of which rows were dropped; 0 for none.
    pub(crate) fn last(&self) -> i64 {
        self.batches.iter().map(|(_, last)| *last).max().unwrap_or(0)
    }

    /// Whether nothing needs the manifest of that batch any more: all that it names is below the bounds, and no row of it is left.
    pub(crate) fn is_gone(
        &self,
        batch: i64,
        manifest: &Manifest,
        is_left: impl Fn(&str, i64) -> bool,
    ) -> bool {
        let is_over = |(table, _, key, _): (&str, Part, i64, _)| {
            self.bounds.get(table).is_some_and(|bound| key < *bound) && !is_left(table, key)
        };
        self.batches.iter().any(|(first, last)| (*first..=*last).contains(&batch))
            && !manifest.is_empty()
            && manifest.entries().all(is_over)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Time {
        Time::parse(text).unwrap()
    }

    #[test]
    fn whole_days_are_kept_and_days_ahead_are_made() {
        let days = Days::new(at("2026-11-23 14:00:00.000000"), Duration::from_secs(3 * 86_400));
        assert_eq!(days.before, at("2026-11-20 00:00:00.000000"));
        let names =
            |last, oldest| -> Vec<String> { days.bounds(last, oldest).into_iter().map(|b| b.name).collect() };
        let fresh = names(None, None);
        assert_eq!(
            (fresh.first().unwrap().as_str(), fresh.last().unwrap().as_str()),
            ("d20261121", "d20261130")
        );
        let old = names(None, Some(first_number(at("2026-11-01 10:00:00.000000"))));
        assert_eq!((old.first().unwrap().as_str(), old.len()), ("d20261119", 12));
        let bound = first_number(at("2026-11-30 00:00:00.000000"));
        assert_eq!(names(Some(bound), Some(0)), ["d20261130"]);
        assert_eq!(names(Some(i64::MAX), Some(0)), [""; 0]);
    }

    #[test]
    fn any_time_to_keep_is_bounded() {
        for (now, keep) in
            [(Time::now(), Duration::MAX), (Time(0), Duration::ZERO), (Time::LAST, Duration::MAX)]
        {
            let days = Days::new(now, keep);
            assert!(days.before.0 >= 0);
            assert!(days.bounds(None, Some(i64::MIN)).len() <= MOST as usize + 1);
        }
    }
}
