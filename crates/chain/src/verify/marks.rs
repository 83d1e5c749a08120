//! What threads notice about rows on the way.

use std::collections::{HashMap, hash_map::Entry};

use luarm_schema::TABLES;

use super::{
    Change, History, Trouble,
    exact::{MOST, Odd},
    rows::{Adder, Reading, Said, is_servers},
};
use crate::Part;

/// What a thread has noticed about rows.
#[derive(Default)]
pub(super) struct Marks {
    /// Rows that contradict themselves.
    pub(super) wrong: Vec<(i64, usize, i64, i64, Change)>,
    /// Rows that name a batch which their host's ledger has not, or a host that has none.
    pub(super) strays: Vec<Odd>,
    /// Rows that name a later batch than the last one was.
    pub(super) newer: Vec<Odd>,
    /// Rows below the bounds of retention, which stayed.
    pub(super) kept: Vec<Odd>,
    /// About manifests.
    pub(super) findings: Vec<(i64, i64, Change, String)>,
    /// What was too much to remember.
    pub(super) untold: u64,
    pub(super) rows: u64,
    /// Rows that belong to no batch, and never will.
    pub(super) unsigned: u64,
}

impl Marks {
    pub(super) fn join(all: Vec<Marks>) -> Marks {
        let mut sum = Marks::default();
        for marks in all {
            sum.wrong.extend(marks.wrong);
            sum.strays.extend(marks.strays);
            sum.newer.extend(marks.newer);
            sum.kept.extend(marks.kept);
            sum.findings.extend(marks.findings);
            sum.untold += marks.untold;
            sum.rows += marks.rows;
            sum.unsigned += marks.unsigned;
        }
        sum
    }

    /// Looks at a row that nobody could seal, because whoever asked wrote it down himself: it is in no batch, nor is its end.
    fn take_unsigned(&mut self, reading: &Reading, said: Said) {
        self.unsigned += 1;
        if said.has_end && said.dbatch.is_none() {
            self.wrong(reading.table, said, Change::EndAdded);
        }
        if let Some(batch) = said.dbatch.filter(|batch| *batch != 0) {
            push(&mut self.strays, Odd::new(reading, said, Part::End, batch), &mut self.untold);
        }
    }

    fn wrong(&mut self, table: usize, said: Said, change: Change) {
        push(&mut self.wrong, (said.host, table, said.key, said.batch, change), &mut self.untold);
    }

    /// Looks at what can be seen of a row alone, and adds its parts.
    pub(super) fn take<'b>(&mut self, adder: &mut Adder<'b>, reading: &Reading, said: Said) {
        if !said.is_summed {
            self.wrong(reading.table, said, Change::RowChanged);
        }
        if said.batch == 0 && is_servers(TABLES[reading.table]) {
            return self.take_unsigned(reading, said);
        }
        let Some(book) = adder.book(said.host) else {
            let odd = Odd::new(reading, said, said.part(), said.batch);
            return push(&mut self.strays, odd, &mut self.untold);
        };
        if said.dbatch.is_none() && said.has_end {
            self.wrong(reading.table, said, Change::EndAdded);
        }
        let end = said.end().map(|batch| (batch, Part::End));
        for (batch, part) in [Some((said.batch, said.part())), end].into_iter().flatten() {
            let marks = if said.key < book.bounds[reading.table] {
                &mut self.kept
            } else if batch > book.last {
                &mut self.newer
            } else if !adder.add(book, batch, reading, part, said.key) {
                &mut self.strays
            } else {
                continue;
            };
            push(marks, Odd::new(reading, said, part, batch), &mut self.untold);
        }
    }

    /// Forgets the rows that name a batch which has come meanwhile.
    pub(super) fn settle<H: History>(&mut self, history: &mut H) -> Result<(), Trouble> {
        let mut last = HashMap::new();
        for odd in &self.newer {
            if let Entry::Vacant(entry) = last.entry(odd.said.host) {
                entry.insert(history.last_batch(odd.said.host)?);
            }
        }
        self.newer.retain(|odd| last.get(&odd.said.host).is_none_or(|last| odd.batch > *last));
        Ok(())
    }
}

/// Remembers one more, or counts it.
pub(super) fn push<T>(all: &mut Vec<T>, one: T, untold: &mut u64) {
    if all.len() < MOST {
        all.push(one);
    } else {
        *untold += 1;
    }
}
