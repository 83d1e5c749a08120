//! The batch that a server's rows name before it is sealed.

use std::collections::BTreeMap;

use luarm_schema::{
    Batch, End, Row, Time,
    tables::{BatchInfo, QueryInfo, QueryInfoEnd},
};
use luarm_store::{Asked, Questions, Written};

use crate::LinkError;

/// What a row takes in memory beside its longest texts.
const ROW: usize = 1024;

/// What is in the store under the number of this batch.
pub(super) struct Open {
    pub(super) number: i64,
    /// What waits here, in bytes.
    pub(super) bytes: usize,
    begun: BTreeMap<i64, QueryInfo>,
    /// Of questions that earlier batches hold.
    ended: BTreeMap<i64, QueryInfoEnd>,
    /// Nobody knows whether these are in the store: the connection broke, or something else went wrong meanwhile.
    doubted: Vec<QueryInfo>,
    doubted_ends: Vec<(Asked, QueryInfoEnd)>,
}

impl Open {
    /// A batch of that number, with nothing in it.
    pub(super) fn new(number: i64) -> Self {
        let (begun, ended, doubted) = (BTreeMap::new(), BTreeMap::new(), Vec::new());
        Open { number, bytes: 0, begun, ended, doubted, doubted_ends: Vec::new() }
    }

    /// Whether there is nothing to seal, nor to find out.
    pub(super) fn is_empty(&self) -> bool {
        self.begun.is_empty()
            && self.ended.is_empty()
            && self.doubted.is_empty()
            && self.doubted_ends.is_empty()
    }

    /// The question is in the store.
    pub(super) fn begin(&mut self, question: QueryInfo) {
        self.bytes += ROW + question.statement.len();
        self.begun.insert(question.queryid, question);
    }

    /// The question may be in the store.
    pub(super) fn doubt(&mut self, question: QueryInfo) {
        self.bytes += ROW + question.statement.len();
        self.doubted.push(question);
    }

    /// The question has ended in the store. Only the first end counts there.
    pub(super) fn end(&mut self, queryid: i64, end: QueryInfoEnd) {
        self.bytes += ROW + end.error.as_ref().map_or(0, String::len);
        match self.begun.get_mut(&queryid) {
            Some(question) => _ = question.end.get_or_insert(end),
            None => _ = self.ended.entry(queryid).or_insert(end),
        }
    }

    /// The question may have ended in the store.
    pub(super) fn doubt_end(&mut self, asked: Asked, end: QueryInfoEnd) {
        self.bytes += ROW + end.error.as_ref().map_or(0, String::len);
        self.doubted_ends.push((asked, end));
    }

    /// Takes what the row has of this batch.
    pub(super) fn take_up(&mut self, row: &Written) {
        let Written { question, batch, dbatch } = row;
        let end = question.end.clone().filter(|_| *dbatch == Some(self.number));
        if *batch == self.number {
            self.begin(QueryInfo { end, ..question.clone() });
        } else if let Some(end) = end {
            self.end(question.queryid, end);
        }
    }

    /// Finds out what is in the store of what was in doubt, as the server of that number.
    pub(super) fn settle(&mut self, host: i64, questions: &mut Questions) -> Result<(), LinkError> {
        while let Some(question) = self.doubted.last() {
            let stands = questions.stands((host, self.number), question)?;
            if let Some(question) = self.doubted.pop().filter(|_| stands) {
                self.begin(question);
            }
        }
        while let Some((asked, _)) = self.doubted_ends.last() {
            let ended = questions.has_ended(*asked, self.number)?;
            if let Some((asked, end)) = self.doubted_ends.pop().filter(|_| ended) {
                self.end(asked.queryid, end);
            }
        }
        Ok(())
    }

    /// The batch as it is to be sealed.
    pub(super) fn seal(&self, run: Time) -> Batch {
        let now = Time::now();
        let mut rows: Vec<Row> = self.begun.values().cloned().map(Row::from).collect();
        let ends: Vec<(i64, End)> =
            self.ended.iter().map(|(key, end)| (*key, End::QueryInfo(end.clone()))).collect();
        let instants = self.begun.values().map(|question| question.created);
        let instants = instants.chain(self.ended.values().map(|end| end.destroyed));
        let info = BatchInfo {
            batchid: self.number,
            run: run.0,
            rowcount: rows.len() as i64,
            endcount: ends.len() as i64,
            firstevent: instants.min().unwrap_or(now),
            lastevent: now,
            created: now,
            publickey: None,
            nextkey: None,
            digest: None,
            signature: None,
            end: None,
        };
        rows.push(info.into());
        Batch { id: self.number, rows, ends, ..Batch::default() }
    }
}
