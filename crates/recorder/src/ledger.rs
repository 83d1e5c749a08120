//! Closes batches, and tells what was lost.

use luarm_schema::{
    Batch, End, Row, Time, Word,
    tables::{BatchInfo, LossInfo},
};
use luarm_sensor::BootNs;

use crate::{context::Context, draft::Worth, endpoint::Endpoints, file::Files, names::Names};

/// The last sign of life that the store knows is at most this old.
const HEARTBEAT: BootNs = 60_000_000_000;
/// What goes wrong all the time is told of this often.
const ROUND: BootNs = 60_000_000_000;

pub(crate) struct Ledger {
    run: Time,
    last: i64,
    /// `lastevent` of the last batch.
    delivered: Time,
    closed: BootNs,
    told: BootNs,
    pub(crate) batches: u64,
    pub(crate) rows: u64,
}

impl Ledger {
    /// `last` is the last batch that was stored, and its `lastevent`.
    pub(crate) fn new(ctx: &Context, run: Time, last: Option<(i64, Time)>) -> Self {
        let now = ctx.clock.latest();
        let (last, delivered) = last.unwrap_or((0, run));
        Self { run, last, delivered, closed: now, told: now, batches: 0, rows: 0 }
    }

    /// Whether it is time for a batch, though there be nothing in it.
    pub(crate) fn is_silent(&self, ctx: &Context) -> bool {
        ctx.clock.latest() >= self.closed.saturating_add(HEARTBEAT)
    }

    /// Makes a batch of all there is; `delivered` is the instant up to which everything is in it.
    pub(crate) fn close(&mut self, ctx: &mut Context, delivered: BootNs) -> Batch {
        let (rows, ends, first) = ctx.draft.take();
        ctx.digests.forget_rows();
        self.delivered = ctx.clock.time(delivered);
        let first = first.map_or(self.delivered, |first| ctx.clock.time(first));
        self.closed = ctx.clock.latest();
        self.batch(ctx, rows, ends, first)
    }

    /// Makes a batch of the first of what there is, when it is more than one batch should hold. It is complete up to where the one before it was.
    pub(crate) fn part(&mut self, ctx: &mut Context) -> Option<Batch> {
        if !ctx.draft.overflows() {
            return None;
        }
        let (rows, ends) = ctx.draft.take_part();
        ctx.digests.forget_rows();
        let first = rows.first().map_or(self.delivered, Row::created);
        Some(self.batch(ctx, rows, ends, first))
    }

    fn batch(&mut self, ctx: &Context, mut rows: Vec<Row>, ends: Vec<(i64, End)>, first: Time) -> Batch {
        self.last += 1;
        let ledger = BatchInfo {
            batchid: self.last,
            run: self.run.0,
            rowcount: i64::try_from(rows.len()).unwrap_or(i64::MAX),
            endcount: i64::try_from(ends.len()).unwrap_or(i64::MAX),
            firstevent: first,
            lastevent: self.delivered,
            created: ctx.clock.time(ctx.clock.latest()),
            publickey: None,
            nextkey: None,
            digest: None,
            signature: None,
            end: None,
        };
        rows.push(ledger.into());
        self.batches += 1;
        self.rows += rows.len() as u64;
        Batch { id: self.last, rows, ends, ..Batch::default() }
    }

    /// Tells what went wrong with names and what tables overflowed, once in a while or when `all` is to be told.
    pub(crate) fn losses(
        &mut self,
        ctx: &mut Context,
        (names, endpoints, files): (&mut Names, &mut Endpoints, &mut Files),
        all: bool,
    ) {
        let now = ctx.clock.latest();
        if !all && now < self.told.saturating_add(ROUND) {
            return;
        }
        let (from, until) = (ctx.clock.time(self.told), ctx.clock.time(now));
        self.told = now;
        let wrong = std::mem::take(&mut names.wrong);
        for (cause, count) in [("malformed", wrong.malformed), ("gap", wrong.gaps), ("too-many", wrong.more)]
        {
            loss(ctx, ("names", cause), count, from, until);
        }
        loss(ctx, ("file", "table-full"), files.take_evicted(), from, until);
        for (class, count) in endpoints.take_evicted() {
            loss(ctx, (class, "table-full"), count, from, until);
        }
    }

    /// Gives up what waits, and tells of it.
    pub(crate) fn shed(&mut self, ctx: &mut Context, worth: Worth, cause: &'static str) -> u64 {
        let (from, until) = (ctx.clock.time(self.closed), ctx.clock.now());
        let mut sum = 0;
        for (table, note, count) in ctx.draft.shed(worth) {
            sum += count;
            // One row, however often: a store that takes nothing for days must not make memory grow by what tells of it.
            if !ctx.draft.add_to_loss((table, cause, note), count, until) {
                noted_loss(ctx, (table, cause, note), count, from, until);
            }
        }
        sum
    }
}

/// A row of `lossinfo`, unless nothing was lost.
pub(crate) fn loss(
    ctx: &mut Context,
    (class, cause): (impl Into<Word>, impl Into<Word>),
    count: u64,
    from: Time,
    until: Time,
) {
    noted_loss(ctx, (class, cause, None), count, from, until);
}

fn noted_loss(
    ctx: &mut Context,
    (class, cause, note): (impl Into<Word>, impl Into<Word>, Option<&str>),
    count: u64,
    from: Time,
    until: Time,
) {
    if count == 0 {
        return;
    }
    let row = LossInfo {
        lossid: ctx.numbers.next(until),
        class: class.into(),
        cause: cause.into(),
        count: i64::try_from(count).unwrap_or(i64::MAX),
        note: note.map(str::to_owned),
        created: from,
        until,
        end: None,
    };
    ctx.draft.push(row);
}
