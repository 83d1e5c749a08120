//! The batch that is being written: rows that no store has yet can still be completed.

use std::collections::HashMap;

use luarm_schema::{
    End, Row, TABLES, Time,
    tables::{NetInfo, PsInfo},
};
use luarm_sensor::BootNs;

use crate::bounded::QuickMap;

/// What a row takes in memory beside its longer texts.
const ROW_BYTES: usize = 640;
const END_BYTES: usize = 200;

/// Rows and ends since the last batch.
pub(crate) struct Draft {
    rows: Vec<Row>,
    ends: Vec<(i64, End)>,
    /// Where a row stands, by the position of its table and its key; of tables whose rows end.
    places: QuickMap<(usize, i64), usize>,
    psinfo: usize,
    bytes: usize,
    first: Option<BootNs>,
}

impl Draft {
    pub(crate) fn new() -> Self {
        let psinfo = TABLES.iter().position(|t| t.name == PsInfo::TABLE.name).unwrap_or(usize::MAX);
        let (rows, ends, places) = Default::default();
        Self { rows, ends, places, psinfo, bytes: 0, first: None }
    }

    /// Notes when an event happened that belongs to this batch.
    pub(crate) fn happened(&mut self, at: BootNs) {
        self.first = Some(self.first.map_or(at, |first| first.min(at)));
    }

    pub(crate) fn push(&mut self, row: impl Into<Row>) {
        let row = row.into();
        self.bytes += weight(&row);
        if row.table().is_interval() {
            self.places.insert((row.position(), row.key()), self.rows.len());
        }
        self.rows.push(row);
    }

    /// Ends a row, whether it is stored already or not. Whoever calls it has taken care that the row ends once.
    pub(crate) fn end(&mut self, key: i64, end: End) {
        match self.places.get(&(end.position(), key)).and_then(|&place| self.rows.get_mut(place)) {
            Some(row) => {
                row.set_end(end);
            }
            None => {
                self.bytes += END_BYTES;
                self.ends.push((key, end));
            }
        }
    }

    /// The row of a process image, while no store has it.
    pub(crate) fn psinfo(&mut self, psentity: i64) -> Option<&mut PsInfo> {
        let place = *self.places.get(&(self.psinfo, psentity))?;
        match self.rows.get_mut(place) {
            Some(Row::PsInfo(row)) => Some(row),
            _ => None,
        }
    }

    pub(crate) fn rows(&self) -> usize {
        self.rows.len() + self.ends.len()
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Takes everything out: rows, ends, and when the first event happened.
    pub(crate) fn take(&mut self) -> (Vec<Row>, Vec<(i64, End)>, Option<BootNs>) {
        self.places.clear();
        self.bytes = 0;
        (std::mem::take(&mut self.rows), std::mem::take(&mut self.ends), self.first.take())
    }

    /// Adds to a loss that this batch tells of already; false if it does not.
    pub(crate) fn add_to_loss(&mut self, (class, cause): (&str, &str), count: u64, until: Time) -> bool {
        for row in &mut self.rows {
            if let Row::LossInfo(row) = row
                && row.class == class
                && row.cause == cause
            {
                row.count = row.count.saturating_add(i64::try_from(count).unwrap_or(i64::MAX));
                row.until = row.until.max(until);
                return true;
            }
        }
        false
    }

    /// Gives up every row that nothing will refer to by its end, and says how many there were in each table.
    pub(crate) fn shed(&mut self) -> Vec<(&'static str, u64)> {
        let mut shed: HashMap<&'static str, u64> = HashMap::new();
        let (rows, ends, first) = self.take();
        (self.ends, self.first) = (ends, first);
        self.bytes = self.ends.len() * END_BYTES;
        for row in rows {
            let told = matches!(row, Row::CoverageInfo(_) | Row::LossInfo(_) | Row::HostInfo(_));
            if told || row.table().is_interval() && !row.is_ended() {
                self.push(row);
            } else {
                *shed.entry(row.table().name).or_default() += 1;
            }
        }
        let mut shed: Vec<_> = shed.into_iter().collect();
        shed.sort_unstable();
        shed
    }
}

fn weight(row: &Row) -> usize {
    let texts = match row {
        Row::PsInfo(row) => {
            let PsInfo { command, argv, cwd, .. } = &**row;
            command.len() + argv.as_ref().map_or(0, String::len) + cwd.as_ref().map_or(0, String::len)
        }
        Row::ExecInfo(row) => row.command.len() + row.argv.as_ref().map_or(0, String::len),
        Row::NetInfo(row) => {
            let NetInfo { sourcefqdn, destfqdn, .. } = &**row;
            [sourcefqdn, destfqdn].into_iter().flatten().map(|name| name.0.len()).sum()
        }
        _ => 0,
    };
    ROW_BYTES + texts
}
