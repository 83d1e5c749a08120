//! Rows of `coverageinfo`: which class of events is watched, how, since when.

mod clocks;

use std::{borrow::Cow, collections::HashMap};

use luarm_schema::{
    End, Resume, Time, Word,
    tables::{CoverageInfo, CoverageInfoEnd},
};
use luarm_sensor::observation::{Coverage, Watch};

use self::clocks::Clocks;
use crate::{context::Context, protection};

/// The row of a class that has not ended.
struct Open {
    coverageid: i64,
    since: Time,
    /// What the canary misses, if the row is a gap.
    missing: Option<String>,
    /// What its sensor said last.
    told: Coverage,
}

pub(crate) struct Intervals {
    open: HashMap<&'static str, Open>,
    pub(crate) clocks: Clocks,
}

impl Intervals {
    /// Ends what an earlier run left open, tells of the gap since, and of what nobody watches.
    pub(crate) fn begin(ctx: &mut Context, resume: &Resume, run: Time) -> Self {
        if let Some((_, last)) = resume.last_batch {
            for &coverageid in &resume.coverage {
                end(ctx, coverageid, last, "killed");
            }
            let stopped = resume.coverage.is_empty();
            let reason = if stopped { "the recorder was stopped" } else { "the recorder was not running" };
            let coverageid = ctx.numbers.next(run);
            let row = CoverageInfo {
                coverageid,
                class: Word::Borrowed("all"),
                state: Word::Borrowed("gap"),
                sensor: Word::Borrowed("none"),
                hook: None,
                reason: Some(reason.to_owned()),
                created: last.min(run),
                end: Some(CoverageInfoEnd { destroyed: run, ended: Word::Borrowed("start") }),
            };
            ctx.draft.push(row);
            if !stopped {
                protection::killed(ctx, coverageid);
            }
            clocks::set_back_meanwhile(ctx, last, run);
        }
        Self { open: HashMap::new(), clocks: Clocks::new(ctx) }
    }

    pub(crate) fn observe(&mut self, ctx: &mut Context, coverage: Coverage) {
        let now = ctx.clock.now();
        match self.open.get(coverage.class) {
            Some(open) if open.told == coverage => return,
            Some(open) => end(ctx, open.coverageid, now, "stop"),
            None => {}
        }
        let coverageid = begin(ctx, &coverage, now, None);
        self.open.insert(coverage.class, Open { coverageid, since: now, missing: None, told: coverage });
    }

    /// How a class is watched, as its sensor says.
    pub(crate) fn watch(&self, class: &str) -> Option<Watch> {
        self.open.get(class).map(|open| open.told.watch)
    }

    /// What its sensor says of a class is not so, since the instant at which it was proved last: `missing` did not come back.
    pub(crate) fn miss(
        &mut self,
        ctx: &mut Context,
        class: &str,
        proved: Option<Time>,
        (missing, reason): (&str, &str),
    ) {
        let now = ctx.clock.now();
        let Some(open) = self.open.get_mut(class) else { return };
        let since = match open.missing.as_deref() {
            Some(known) if known == missing => return,
            Some(_) => now.max(open.since),
            None => proved.map_or(open.since, |proved| proved.max(open.since)),
        };
        end(ctx, open.coverageid, since, "canary");
        open.coverageid = begin(ctx, &open.told, since, Some(reason));
        open.since = since;
        open.missing = Some(missing.to_owned());
    }

    /// What its sensor says of a class is so, since that instant at the latest.
    pub(crate) fn prove(&mut self, ctx: &mut Context, class: &str, at: Time) {
        let Some(open) = self.open.get_mut(class).filter(|open| open.missing.is_some()) else { return };
        open.since = at.max(open.since);
        end(ctx, open.coverageid, open.since, "canary");
        open.coverageid = begin(ctx, &open.told, open.since, None);
        open.missing = None;
    }

    /// Ends all.
    pub(crate) fn stop(&mut self, ctx: &mut Context) {
        let now = ctx.clock.now();
        for (_, open) in self.open.drain() {
            end(ctx, open.coverageid, now, "stop");
        }
    }
}

/// A row of what a sensor says of a class, or of the gap that there is instead, for that reason. Gives its number.
fn begin(ctx: &mut Context, told: &Coverage, created: Time, gap: Option<&str>) -> i64 {
    let coverageid = ctx.numbers.next(ctx.clock.now());
    let state = match told.watch {
        _ if gap.is_some() => "gap",
        Watch::Watched => "watched",
        Watch::Sampled => "sampled",
        Watch::Unwatched => "unwatched",
    };
    let row = CoverageInfo {
        coverageid,
        class: Word::Borrowed(told.class),
        state: Word::Borrowed(state),
        sensor: Word::Borrowed(if gap.is_some() { "none" } else { told.sensor }),
        hook: (!told.hook.is_empty()).then(|| told.hook.clone()),
        reason: gap.map(str::to_owned).or_else(|| told.reason.clone()),
        created,
        end: None,
    };
    ctx.draft.push(row);
    coverageid
}

fn end(ctx: &mut Context, coverageid: i64, destroyed: Time, ended: &'static str) {
    ctx.draft.end(coverageid, End::CoverageInfo(CoverageInfoEnd { destroyed, ended: Cow::Borrowed(ended) }));
}
