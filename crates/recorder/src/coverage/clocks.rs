//! What the clocks tell: that the host was asleep, and that the wall clock was set.

use luarm_schema::{
    Time, Word,
    tables::{CoverageInfo, CoverageInfoEnd},
};
use luarm_sensor::clock::Reading;

use crate::context::Context;

/// Less is not told: so far readings may lie apart on a machine that is very busy.
const LEAST_NS: i64 = 100_000_000;

/// The readings of the clocks, compared one with the next.
pub(crate) struct Clocks {
    /// CLOCK_REALTIME - CLOCK_BOOTTIME as it was told of last, microseconds.
    offset: i64,
    last: Option<Reading>,
    /// `asleep_ns` as it was told of last.
    asleep: i64,
}

impl Clocks {
    pub(crate) fn new(ctx: &Context) -> Self {
        Self { offset: ctx.clock.offset(), last: None, asleep: 0 }
    }

    pub(crate) fn observe(&mut self, ctx: &mut Context, reading: Reading) {
        ctx.clock.advance(reading.at);
        if let Some(last) = self.last.replace(reading) {
            let slept = reading.asleep_ns.saturating_sub(self.asleep);
            if slept >= LEAST_NS {
                self.asleep = reading.asleep_ns;
                // Within these readings; the wall clock may have been set since, and that is another row.
                let (fell, woke) = (ctx.clock.time(last.at), ctx.clock.time(reading.at));
                let reason = format!("the host was suspended for {}", seconds(slept / 1000));
                tell(ctx, ("asleep", "awake"), reason, (fell, woke));
            }
        } else {
            self.asleep = reading.asleep_ns;
        }
        let before = self.offset;
        let step = reading.offset.saturating_sub(before);
        ctx.clock.set(reading.offset);
        if step.saturating_abs() < LEAST_NS / 1000 {
            return;
        }
        self.offset = reading.offset;
        let new = ctx.clock.time(reading.at);
        let old = Time(new.0.saturating_sub(step));
        let by = seconds(step.saturating_abs());
        if step > 0 {
            tell(ctx, ("step", "forward"), format!("the wall clock was set forward by {by}"), (old, new));
        } else {
            tell(ctx, ("step", "back"), format!("the wall clock was set back by {by}"), (new, old));
        }
    }
}

/// What is stored lies in the future of a recorder that starts: the wall clock was set back while nobody recorded, by this much at least.
pub(super) fn set_back_meanwhile(ctx: &mut Context, last: Time, run: Time) {
    let by = last.0.saturating_sub(run.0);
    if by >= LEAST_NS / 1000 {
        let by = seconds(by);
        let reason =
            format!("the wall clock was set back by {by} or more while the recorder was not running");
        tell(ctx, ("step", "back"), reason, (run, last));
    }
}

fn tell(
    ctx: &mut Context,
    (state, ended): (&'static str, &'static str),
    reason: String,
    (created, destroyed): (Time, Time),
) {
    let row = CoverageInfo {
        coverageid: ctx.numbers.next(destroyed),
        class: Word::Borrowed("all"),
        state: Word::Borrowed(state),
        sensor: Word::Borrowed("none"),
        hook: None,
        reason: Some(reason),
        created,
        end: Some(CoverageInfoEnd { destroyed, ended: Word::Borrowed(ended) }),
    };
    ctx.draft.push(row);
}

fn seconds(micros: i64) -> String {
    format!("{}.{:03} s", micros / 1_000_000, micros % 1_000_000 / 1000)
}
