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

pub(crate) struct Intervals {
    open: HashMap<&'static str, (i64, Coverage)>,
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
            Some((_, known)) if *known == coverage => return,
            Some(&(coverageid, _)) => end(ctx, coverageid, now, "stop"),
            None => {}
        }
        let coverageid = ctx.numbers.next(now);
        let row = CoverageInfo {
            coverageid,
            class: Word::Borrowed(coverage.class),
            state: Word::Borrowed(match coverage.watch {
                Watch::Watched => "watched",
                Watch::Sampled => "sampled",
                Watch::Unwatched => "unwatched",
            }),
            sensor: Word::Borrowed(coverage.sensor),
            hook: (!coverage.hook.is_empty()).then(|| coverage.hook.clone()),
            reason: coverage.reason.clone(),
            created: now,
            end: None,
        };
        ctx.draft.push(row);
        self.open.insert(coverage.class, (coverageid, coverage));
    }

    /// Ends all.
    pub(crate) fn stop(&mut self, ctx: &mut Context) {
        let now = ctx.clock.now();
        for (_, (coverageid, _)) in self.open.drain() {
            end(ctx, coverageid, now, "stop");
        }
    }
}

fn end(ctx: &mut Context, coverageid: i64, destroyed: Time, ended: &'static str) {
    ctx.draft.end(coverageid, End::CoverageInfo(CoverageInfoEnd { destroyed, ended: Cow::Borrowed(ended) }));
}
