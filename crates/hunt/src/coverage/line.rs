//! The line under an answer.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use luarm_schema::{Time, coverage};

use super::{
    history::{Gap, History, Host},
    question::Question,
    ranges::Ranges,
};
use crate::print::visible;

/// Parts of one kind that are spelled out; the others are counted.
const SPELLED: usize = 3;
/// Characters of a reason.
const REASON: usize = 120;
/// A class that was watched in another way for all but so long of the span was so for all of it.
const NEARLY: i64 = 60_000_000;

/// What an answer cannot know, in parts.
#[derive(Debug, Default)]
pub(super) struct Line {
    parts: Vec<String>,
}

/// Classes of one host that were not wholly watched, by how and why.
type Partly = BTreeMap<(String, String, String), (BTreeSet<&'static str>, Ranges, bool)>;

/// What is said when nothing can be.
pub(super) fn unknown(why: &str) -> String {
    format!("Coverage: not known: {}", shown(why))
}

impl Line {
    /// What there is to say of the span that a question asks about; `None` if all of it was watched and nothing lost.
    pub(super) fn of(question: &Question, history: &History, now: Time) -> Option<Self> {
        let (mut line, mut down, mut partly) = (Line::default(), Vec::new(), Partly::new());
        let (mut quiet, mut unknown) = (Vec::new(), Vec::new());
        for host in history.hosts.values() {
            if host.beginning.is_none() {
                unknown.push(shown(&host.name));
                continue;
            }
            let gaps = gaps(question, host, now, &mut partly);
            if !gaps.is_empty() {
                down.push((host, gaps));
            }
            quiet.extend(interruptions(question, host, now));
        }
        line.unobserved(down, now);
        line.add(partly.into_iter().map(|((host, state, reason), (classes, ranges, whole))| {
            let of = if classes.len() == 1 { "class" } else { "classes" };
            let classes = classes.into_iter().collect::<Vec<_>>().join(", ");
            let host = shown(&host);
            let when = match (whole, ranges.iter().next(), ranges.iter().last()) {
                (false, Some((from, _)), Some((_, until))) => format!(" {}", period(from, until, now)),
                _ => String::new(),
            };
            let state = if state == "sampled" { "only sampled" } else { &state };
            format!("{of} {classes} of host {host} {state}{when}{}", because(&reason))
        }));
        line.add(quiet.into_iter());
        line.add(losses(history));
        if !unknown.is_empty() {
            let more = unknown.len() - 1;
            let more = if more == 0 { String::new() } else { format!(" and {more} more") };
            line.parts.push(format!("not known of host {}{more}: nothing in coverageinfo", unknown[0]));
        }
        (!line.parts.is_empty()).then_some(line)
    }

    /// Adds parts of one kind.
    fn add(&mut self, parts: impl Iterator<Item = String>) {
        let mut parts = parts.collect::<Vec<_>>();
        let more = parts.len().saturating_sub(SPELLED);
        parts.truncate(SPELLED);
        self.parts.append(&mut parts);
        if more > 0 {
            self.parts.push(format!("{more} more of the kind"));
        }
    }

    /// Hosts that nobody recorded: the one with the longest gap by its name.
    fn unobserved(&mut self, down: Vec<(&Host, Vec<Gap>)>, now: Time) {
        let hosts = down.len();
        let longest = |gaps: &[Gap]| gaps.iter().map(|gap| gap.until.0 - gap.from.0).max();
        let Some((host, gaps)) = down.into_iter().max_by_key(|(_, gaps)| longest(gaps)) else { return };
        let mut times = Ranges::default();
        gaps.iter().for_each(|gap| times.add(gap.from, gap.until));
        let Some(worst) = gaps.iter().max_by_key(|gap| gap.until.0 - gap.from.0) else { return };
        let around = times.iter().find(|&(from, until)| (from..until).contains(&worst.from));
        let (from, until) = around.unwrap_or((worst.from, worst.until));
        let count = times.iter().count();
        let times = match count {
            1 => String::new(),
            _ => format!("{count} times, {} in all, the longest ", duration(times.length())),
        };
        let others = match hosts - 1 {
            0 => String::new(),
            1 => ", and 1 other host".to_owned(),
            more => format!(", and {more} other hosts"),
        };
        let (name, period) = (shown(&host.name), period(from, until, now));
        self.parts.push(format!("host {name} unobserved {times}{period} ({}){others}", worst.why));
    }
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Coverage: {}. See coverageinfo and lossinfo.", self.parts.join("; "))
    }
}

/// The span that is asked about of a host.
fn asked(span: super::question::Span, host: &Host, now: Time) -> (Time, Time) {
    let from = span.from.or(host.beginning).unwrap_or(now);
    (from, span.until.map_or(now, |until| until.min(now)))
}

/// When nobody recorded what fills the tables; what was watched in part goes to `partly`.
fn gaps(question: &Question, host: &Host, now: Time, partly: &mut Partly) -> Vec<Gap> {
    let mut gaps = Vec::new();
    let mut not_whole =
        |class: &'static str, state: &str, reason: &str, (from, until), asked: (Time, Time)| {
            let key = (host.name.clone(), state.to_owned(), reason.to_owned());
            let (classes, ranges, whole) = partly.entry(key).or_default();
            classes.insert(class);
            ranges.add(from, until);
            let (from, until) = (ranges.iter().next().map(|r| r.0), ranges.iter().last().map(|r| r.1));
            *whole |= from.is_some_and(|from| from.0 - asked.0.0 < NEARLY)
                && until.is_some_and(|until| asked.1.0 - until.0 < NEARLY);
        };
    for (table, &span) in question {
        let (from, until) = asked(span, host, now);
        let beginning = host.beginning.unwrap_or(from);
        if from < beginning.min(until) {
            let (why, until) = ("before its first recording", beginning.min(until));
            gaps.push(Gap { from, until, why, is_of_class: false });
        }
        let classes = luarm_schema::table(table).map_or(&[][..], coverage::classes);
        for &class in classes.iter().filter(|class| !coverage::PARTS.contains(class)) {
            let asked = (from.max(beginning), until);
            for gap in host.unrecorded(class, asked, now) {
                if gap.is_of_class {
                    not_whole(class, "unwatched", &gap.why, (gap.from, gap.until), asked);
                } else {
                    gaps.push(gap);
                }
            }
            for (row, from, until) in host.in_state(class, |state| state != "watched", asked, now) {
                not_whole(class, &row.state, &row.reason, (from, until), asked);
            }
        }
    }
    gaps
}

/// Sleeps of the host and steps of its clock.
fn interruptions(question: &Question, host: &Host, now: Time) -> Vec<String> {
    let mut told = BTreeMap::new();
    for &span in question.values() {
        let states = |state: &str| state == "asleep" || state == "step";
        for (row, ..) in host.in_state("all", states, asked(span, host, now), now) {
            told.insert(row.from, row);
        }
    }
    let name = shown(&host.name);
    let each = told.into_values().map(|row| {
        let until = row.until.unwrap_or(row.from);
        if row.state == "asleep" {
            return format!("host {name} asleep {}", period(row.from, until, now));
        }
        // Where the clock stood before.
        let at = if row.ended == "back" { until } else { row.from };
        format!("host {name}: {} at {}", shown(&row.reason), &at.to_string()[..19])
    });
    each.collect()
}

fn losses(history: &History) -> impl Iterator<Item = String> {
    let mut sums: BTreeMap<(&str, &str), i64> = BTreeMap::new();
    for loss in history.hosts.values().flat_map(|host| &host.losses) {
        let sum = sums.entry((loss.class.as_str(), loss.cause.as_str())).or_default();
        *sum = sum.saturating_add(loss.count);
    }
    let mut sums: Vec<_> = sums.into_iter().collect();
    sums.sort_by_key(|&(_, count)| std::cmp::Reverse(count));
    let part = |((class, cause), count): ((&str, &str), i64)| {
        let noun = if luarm_schema::table(class).is_some() { "row" } else { "event" };
        let plural = if count == 1 { "" } else { "s" };
        let of = match class {
            "all" => "of any class".to_owned(),
            class if noun == "row" => format!("of {}", shown(class)),
            class => format!("of class {}", shown(class)),
        };
        format!("{} {noun}{plural} {of} lost ({})", grouped(count), shown(cause))
    };
    sums.into_iter().map(part).collect::<Vec<_>>().into_iter()
}

fn because(reason: &str) -> String {
    if reason.is_empty() { String::new() } else { format!(" ({})", shown(reason)) }
}

/// A stored text as it may be shown, in one line, not too long.
fn shown(text: &str) -> String {
    let mut out = String::new();
    match text.char_indices().nth(REASON) {
        Some((end, _)) => {
            visible::push(&mut out, &text[..end]);
            out.push('…');
        }
        None => visible::push(&mut out, text),
    }
    out
}

/// A span in words: to the second, or more exactly where that says nothing.
fn period(from: Time, until: Time, now: Time) -> String {
    let (begin, end) = (from.to_string(), until.to_string());
    if until >= now {
        return format!("since {}", &begin[..19]);
    }
    let digits = if begin[..19] == end[..19] { 23 } else { 19 };
    let same_day = begin[..10] == end[..10];
    format!("{}–{}", &begin[..digits], if same_day { &end[11..digits] } else { &end[..digits] })
}

fn duration(micros: i64) -> String {
    let seconds = micros / 1_000_000;
    format!("{}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60)
}

/// A number with a comma after each thousand.
fn grouped(number: i64) -> String {
    let digits = number.to_string();
    let mut out = String::new();
    for (n, digit) in digits.chars().enumerate() {
        if n > 0 && (digits.len() - n).is_multiple_of(3) && !out.ends_with('-') {
            out.push(',');
        }
        out.push(digit);
    }
    out
}
