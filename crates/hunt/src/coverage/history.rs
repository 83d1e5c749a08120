//! What `coverageinfo` and `lossinfo` say of the hosts of a store.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    io,
};

use luarm_schema::Time;
use luarm_store::{Cell, QueryError, RowSink, Source};

use super::{question::Span, ranges::Ranges};

/// Rows that are taken: a store with more of them has thousands of hosts, or recorders that end all the time.
const MOST: usize = 200_000;
/// Rows whose end is not stored last until now if the store has heard of their host since: three of the recorder's heartbeats.
const SILENCE: i64 = 180_000_000;
/// Within so long after the first of its classes a host's recorder has told how each is watched.
const BEGINNING: i64 = 60_000_000;

/// What the hosts of a store told of how they were watched, by their numbers.
#[derive(Debug, Default)]
pub(super) struct History {
    pub(super) hosts: BTreeMap<i64, Host>,
    rows: usize,
}

/// One host.
#[derive(Debug, Default)]
pub(super) struct Host {
    pub(super) name: String,
    named: Option<Time>,
    /// When its recorder told first how something is watched.
    pub(super) beginning: Option<Time>,
    /// When its last batch was made, and up to where everything is in it.
    last: Option<(Time, Time)>,
    /// By class, in the order of their beginnings; `all` for what is true of the whole host.
    classes: BTreeMap<String, Vec<Watch>>,
    pub(super) losses: Vec<Loss>,
}

/// A row of `coverageinfo`.
#[derive(Debug)]
pub(super) struct Watch {
    pub(super) state: String,
    pub(super) from: Time,
    pub(super) until: Option<Time>,
    pub(super) ended: String,
    pub(super) reason: String,
}

/// Losses of one kind.
#[derive(Debug)]
pub(super) struct Loss {
    pub(super) class: String,
    pub(super) cause: String,
    pub(super) count: i64,
}

/// A span in which a host or a class of its events was not watched, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Gap {
    pub(super) from: Time,
    pub(super) until: Time,
    pub(super) why: &'static str,
    /// Whether the recorder ran, and the class was none of its own.
    pub(super) is_of_class: bool,
}

/// What is asked of it.
pub(super) struct Wanted<'w> {
    /// The classes, or `None` for all.
    pub(super) classes: Option<&'w BTreeSet<&'static str>>,
    /// The span and the tables of the losses, if they are wanted.
    pub(super) losses: Option<(Span, Vec<&'static str>)>,
}

impl History {
    /// Asks for it, in one question.
    pub(super) fn read(source: &mut dyn Source, wanted: &Wanted<'_>) -> Result<Self, QueryError> {
        let mut history = History::default();
        source.query(&wanted.sql(), &mut history)?;
        history.hosts.values_mut().for_each(Host::settle);
        Ok(history)
    }

    fn take(&mut self, cells: &[Cell<'_>]) -> Option<()> {
        let text = |at: usize| match cells.get(at) {
            Some(Cell::Text(text)) => Some(*text),
            _ => None,
        };
        let number = |at: usize| match cells.get(at) {
            Some(Cell::Integer(number)) => Some(*number),
            // A sum has another type with some engines.
            Some(Cell::Real(number)) => Some(*number as i64),
            _ => None,
        };
        let time = |at: usize| Time::parse(text(at)?).ok();
        let host = self.hosts.entry(number(1)?).or_default();
        match text(0)? {
            "host" => {
                let at = time(4)?;
                if host.named.is_none_or(|named| named <= at) {
                    (host.name, host.named) = (text(2)?.to_owned(), Some(at));
                }
            }
            "began" => host.beginning = Some(time(4)?),
            "last" => host.last = Some((time(4)?, time(5)?)),
            "watch" => {
                let rows = host.classes.entry(text(2)?.to_owned()).or_default();
                rows.push(Watch {
                    state: text(3)?.to_owned(),
                    from: time(4)?,
                    until: time(5),
                    ended: text(6)?.to_owned(),
                    reason: text(7)?.to_owned(),
                });
            }
            "loss" => {
                let (class, cause) = (text(2)?.to_owned(), text(3)?.to_owned());
                host.losses.push(Loss { class, cause, count: number(8)? });
            }
            _ => {}
        }
        Some(())
    }
}

impl RowSink for History {
    fn columns(&mut self, _: &[String]) -> io::Result<()> {
        Ok(())
    }

    fn row(&mut self, cells: &[Cell<'_>]) -> io::Result<()> {
        self.rows += 1;
        if self.rows > MOST {
            return Err(io::Error::other(format!("coverageinfo has more than {MOST} rows about this")));
        }
        // A row that cannot be understood is passed over: then less is known to be watched.
        let _ = self.take(cells);
        Ok(())
    }
}

impl Wanted<'_> {
    /// One statement, in words that each engine understands. Its columns: what it is about, host, class or name, state or cause, from, until, ended,
    /// reason, count.
    fn sql(&self) -> String {
        let mut sql = "/* coverage of the answer before */ SELECT 'watch' AS about, c.host, c.class, c.state, c.created, c.destroyed, coalesce(c.ended, '') AS ended, \
                       coalesce(c.reason, '') AS reason, 0 AS number FROM coverageinfo c"
            .to_owned();
        if let Some(classes) = self.classes {
            let _ = write!(sql, " WHERE c.class IN ({})", list(classes.iter().copied().chain(["all"])));
        }
        sql += " UNION ALL SELECT 'host', h.host, h.hostname, '', h.created, h.created, '', '', 0 FROM hostinfo h";
        // By keys, which are ordered by time: the ledger is long.
        let one = |column, table, key, order| {
            format!(
                "(SELECT b.{column} FROM {table} b WHERE b.host = o.host ORDER BY b.{key} {order} LIMIT 1)"
            )
        };
        let last = |column| one(column, "batchinfo", "batchid", "DESC");
        let first = one("created", "coverageinfo", "coverageid", "ASC");
        for (about, from, until) in
            [("last", last("created"), last("lastevent")), ("began", first.clone(), first)]
        {
            let _ = write!(
                sql,
                " UNION ALL SELECT '{about}', o.host, '', '', {from}, {until}, '', '', 0 FROM (SELECT DISTINCT host FROM hostinfo) o"
            );
        }
        if let Some((span, tables)) = &self.losses {
            let classes = self.classes.into_iter().flatten().copied();
            let classes = list(classes.chain(tables.iter().copied()).chain(["all"]));
            let _ = write!(
                sql,
                " UNION ALL SELECT 'loss', l.host, l.class, l.cause, min(l.created), max(l.until), '', '', sum(l.count) FROM lossinfo l \
                 WHERE l.class IN ({classes})"
            );
            if let Some(from) = span.from {
                let _ = write!(sql, " AND l.until >= '{from}'");
            }
            if let Some(until) = span.until {
                let _ = write!(sql, " AND l.created <= '{until}'");
            }
            sql += " GROUP BY l.host, l.class, l.cause";
        }
        sql
    }
}

fn list<'w>(words: impl Iterator<Item = &'w str>) -> String {
    words.map(|word| format!("'{word}'")).collect::<Vec<_>>().join(", ")
}

impl Host {
    /// Puts the rows in order. The first ones are told of one after the other, and hold from the beginning.
    fn settle(&mut self) {
        self.classes.values_mut().for_each(|rows| rows.sort_by_key(|row| row.from));
        let Some(beginning) = self.beginning else { return };
        for rows in self.classes.iter_mut().filter(|(class, _)| *class != "all").map(|(_, rows)| rows) {
            if let Some(first) = rows.first_mut()
                && first.from.0 - beginning.0 <= BEGINNING
            {
                first.from = beginning;
            }
        }
    }

    /// Its classes.
    pub(super) fn classes(&self) -> impl Iterator<Item = &str> {
        self.classes.keys().map(String::as_str).filter(|class| *class != "all")
    }

    /// How a class was watched.
    fn rows(&self, class: &str) -> &[Watch] {
        self.classes.get(class).map_or(&[], Vec::as_slice)
    }

    /// Until when a row held.
    fn end(&self, row: &Watch, now: Time) -> Time {
        match (row.until, self.last) {
            (Some(until), _) => until,
            (None, Some((made, complete))) if now.0.saturating_sub(made.0) > SILENCE => {
                complete.max(row.from)
            }
            (None, _) => now.max(row.from),
        }
    }

    /// When the class was in one of these states, within the span.
    pub(super) fn in_state(
        &self,
        class: &str,
        states: impl Fn(&str) -> bool,
        (from, until): (Time, Time),
        now: Time,
    ) -> Vec<(&Watch, Time, Time)> {
        let rows = self.rows(class).iter().filter(|row| states(&row.state));
        let held = rows.map(|row| (row, row.from.max(from), self.end(row, now).min(until)));
        held.filter(|(_, from, until)| from < until).collect()
    }

    /// When nobody recorded the class, within the span: whatever no row of it tells of. What comes before the host's beginning is told by the
    /// caller.
    pub(super) fn unrecorded(&self, class: &str, (from, until): (Time, Time), now: Time) -> Vec<Gap> {
        let rows = self.rows(class);
        let beginning = self.beginning.unwrap_or(from);
        let mut told = Ranges::default();
        rows.iter().for_each(|row| told.add(row.from, self.end(row, now)));
        let mut all = Ranges::default();
        all.add(from.max(beginning), until);
        let gaps = all.without(&told);
        let gap = |(from, until)| {
            let before = rows.iter().rev().find(|row| self.end(row, now) <= from);
            let why = match before {
                None => "not watched by the luarm of that time",
                Some(row) if row.ended == "stop" => "recorder stopped",
                Some(row) if row.until.is_none() && until >= now => "nothing stored since",
                Some(_) => "recorder down",
            };
            Gap { from, until, why, is_of_class: before.is_none() }
        };
        gaps.iter().map(gap).collect()
    }

    /// Instants at which nothing can have happened: the host was asleep, or the wall clock leapt over them.
    pub(super) fn quiet(&self) -> Ranges {
        let mut quiet = Ranges::default();
        for row in self.rows("all") {
            if row.state == "asleep" || row.state == "step" && row.ended == "forward" {
                quiet.add(row.from, row.until.unwrap_or(row.from));
            }
        }
        quiet
    }

    /// The share of a span in which a class was in that state, of the time in which something can have happened; `None` where there was none.
    pub(super) fn share(&self, class: &str, state: &str, from: Time, now: Time) -> Option<f64> {
        let mut all = Ranges::default();
        all.add(from, now);
        let all = all.without(&self.quiet());
        let mut held = Ranges::default();
        for row in self.rows(class).iter().filter(|row| row.state == state) {
            held.add(row.from.max(from), self.end(row, now).min(now));
        }
        let length = all.length();
        (length > 0).then(|| 1.0 - all.without(&held).length() as f64 / length as f64)
    }
}
