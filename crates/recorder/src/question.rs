//! Rows of `queryinfo`: who asked what of the store that this recorder writes.

use std::collections::HashMap;

use luarm_schema::{
    End, Time, Word,
    escape::escape,
    tables::{QueryInfo, QueryInfoEnd},
};
use luarm_sensor::{BootNs, observation::ImageId};

use crate::{context::Context, identity::same_process, process::Processes};

/// A question, as a console said it, and who asks, as the kernel says it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    /// When it came.
    pub at: BootNs,
    /// Who asks.
    pub asker: Asker,
    /// `queryinfo.kind`.
    pub kind: Word,
    /// The host that the tables are limited to.
    pub limitedto: Option<String>,
    /// The statement, or its begin.
    pub statement: String,
    /// How many bytes it has.
    pub bytes: u64,
    /// Its SHA-256 in hexadecimal, where `statement` is its begin.
    pub sha256: Option<String>,
}

/// A process that asks.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Asker {
    /// Process id.
    pub pid: u32,
    /// When it was forked, to a clock tick; `None` where /proc did not say.
    pub start: Option<BootNs>,
    /// Effective user.
    pub uid: u32,
    /// User who logged in.
    pub auid: Option<u32>,
    /// Login session.
    pub session: Option<u32>,
    /// Task name.
    pub comm: Option<Vec<u8>>,
}

/// What became of a question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answered {
    /// When it ended.
    pub at: BootNs,
    /// `queryinfo.ended`.
    pub ended: Word,
    /// How many rows went out.
    pub rows: Option<u64>,
    /// What was said where it failed.
    pub error: Option<String>,
}

/// The questions that have no end yet, by the number that their teller gave them.
pub(crate) struct Questions(HashMap<u64, i64>);

impl Questions {
    /// Ends those that an earlier run left without an end.
    pub(crate) fn begin(ctx: &mut Context, open: &[i64], last: Time) -> Self {
        for &queryid in open {
            end(ctx, queryid, last, unanswered("killed"));
        }
        Self(HashMap::new())
    }

    pub(crate) fn asked(
        &mut self,
        ctx: &mut Context,
        processes: &mut Processes,
        ticket: u64,
        question: &Question,
    ) {
        let Question { at, asker, .. } = question;
        let created = ctx.clock.time(*at);
        let queryid = ctx.numbers.next(created);
        let row = QueryInfo {
            queryid,
            door: Word::Borrowed("data"),
            kind: question.kind.clone(),
            username: ctx.users.name(asker.uid),
            uid: Some(asker.uid),
            loginname: ctx.loginname(asker.auid),
            auid: asker.auid,
            session: asker.session,
            psentity: image(processes, asker).and_then(|image| processes.creator(ctx, Some(image))),
            pid: Some(asker.pid),
            application: asker.comm.as_deref().map(escape),
            address: None,
            certificate: None,
            limitedto: question.limitedto.as_deref().map(|host| escape(host.as_bytes())),
            statement: escape(question.statement.as_bytes()),
            statementbytes: i64::try_from(question.bytes).unwrap_or(i64::MAX),
            statementsha256: question.sha256.clone(),
            created,
            end: None,
        };
        ctx.draft.happened(*at);
        ctx.draft.push(row);
        self.0.insert(ticket, queryid);
    }

    pub(crate) fn answered(&mut self, ctx: &mut Context, ticket: u64, answered: Answered) {
        if let Some(queryid) = self.0.remove(&ticket) {
            let destroyed = ctx.clock.time(answered.at);
            end(ctx, queryid, destroyed, answered);
        }
    }

    /// Ends all: nobody tells us any more how they end.
    pub(crate) fn stop(&mut self, ctx: &mut Context) {
        let now = ctx.clock.now();
        for (_, queryid) in self.0.drain() {
            end(ctx, queryid, now, unanswered("stop"));
        }
    }
}

/// The image that the process runs, as far as the sensor told until now.
fn image(processes: &Processes, asker: &Asker) -> Option<ImageId> {
    let image = processes.with_pid(asker.pid)?;
    let start = asker.start?;
    same_process(image, ImageId { start, ..image }).then_some(image)
}

fn unanswered(ended: &'static str) -> Answered {
    Answered { at: 0, ended: Word::Borrowed(ended), rows: None, error: None }
}

fn end(ctx: &mut Context, queryid: i64, destroyed: Time, answered: Answered) {
    let Answered { ended, rows, error, .. } = answered;
    let end = QueryInfoEnd {
        destroyed,
        ended,
        answerrows: rows.map(|rows| i64::try_from(rows).unwrap_or(i64::MAX)),
        error: error.map(|error| escape(error.as_bytes())),
    };
    ctx.draft.end(queryid, End::QueryInfo(end));
}
