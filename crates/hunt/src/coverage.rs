//! What an answer cannot know: the spans in which nobody watched what a question asks about, and what was lost there.
//!
//! A question asks about a span of time, whatever rows answer it: an empty answer is one too. What events fill the tables that it reads is known from
//! the schema ([`luarm_schema::coverage`]); how they were watched and what was lost, from `coverageinfo` and `lossinfo`, by one further question.

mod bounds;
mod history;
mod line;
mod question;
mod ranges;

use std::collections::BTreeSet;

use luarm_schema::{Time, coverage};
use luarm_store::{QueryError, Source};

use self::{
    history::{History, Wanted},
    line::Line,
    question::{Span, question},
};

const DAY: i64 = 86_400_000_000;

/// The line that belongs under the answer to a statement, if it asks about a span with a gap or a loss. It never fails: what is not known is said.
pub(crate) fn line(source: &mut dyn Source, sql: &str) -> Option<String> {
    let question = question(sql, source.dialect());
    if question.is_empty() {
        return None;
    }
    let tables = question.keys().filter_map(|name| luarm_schema::table(name));
    let classes: BTreeSet<&'static str> = tables.flat_map(coverage::classes).copied().collect();
    let hull = question.values().copied().reduce(Span::hull).unwrap_or_default();
    let wanted = Wanted { classes: Some(&classes), losses: Some((hull, question.keys().copied().collect())) };
    let history = match History::read(source, &wanted) {
        Ok(history) => history,
        Err(error) => return Some(line::unknown(&error.to_string())),
    };
    Line::of(&question, &history, Time::now()).map(|line| line.to_string())
}

/// How much of its life a class of events of a host was observed.
#[derive(Debug, Clone, PartialEq)]
pub struct Observed {
    /// The host's number in the store.
    pub host: i64,
    /// The class, as in `coverageinfo`.
    pub class: String,
    /// Since the host's recorder began: how much every event was watched, and how much only what was there when the sensor looked; from 0 to 1.
    pub life: (f64, f64),
    /// The same of the last 24 hours, as far as the host was known by then.
    pub day: (f64, f64),
}

/// How much was observed, of each class and host. Time in which nothing can have happened (the host was asleep, the wall clock leapt over it) does not
/// count; time since a recorder ended does.
pub fn observed(source: &mut dyn Source) -> Result<Vec<Observed>, QueryError> {
    let history = History::read(source, &Wanted { classes: None, losses: None })?;
    let now = Time::now();
    let mut all = Vec::new();
    for (&number, host) in &history.hosts {
        let Some(beginning) = host.beginning else { continue };
        for class in host.classes() {
            let shares = |from| {
                let share = |state| host.share(class, state, from, now).unwrap_or(0.0);
                (share("watched"), share("sampled"))
            };
            let day = Time(now.0 - DAY).max(beginning);
            all.push(Observed {
                host: number,
                class: class.to_owned(),
                life: shares(beginning),
                day: shares(day),
            });
        }
    }
    Ok(all)
}
