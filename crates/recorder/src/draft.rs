//! The batch that is being written: rows that no store has yet can still be completed.

use std::collections::HashMap;

use luarm_schema::{End, Row, Sink, TABLES, Time, Value, tables::PsInfo};
use luarm_sensor::BootNs;

use crate::bounded::QuickMap;

/// What a row takes in memory beside its longer texts.
const ROW_BYTES: usize = 640;
const END_BYTES: usize = 200;
/// What one batch holds at most: rows and ends, and bytes as reckoned here, but for a single row that is larger.
const BATCH_ROWS: usize = 8192;
const BATCH_BYTES: usize = 6 << 20;

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

    /// The rows of process images that no store has yet.
    pub(crate) fn psinfos(&mut self) -> impl Iterator<Item = &mut PsInfo> {
        self.rows.iter_mut().filter_map(|row| match row {
            Row::PsInfo(row) => Some(&mut **row),
            _ => None,
        })
    }

    pub(crate) fn rows(&self) -> usize {
        self.rows.len() + self.ends.len()
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether more waits than one batch should hold.
    pub(crate) fn overflows(&self) -> bool {
        self.rows() > BATCH_ROWS || self.bytes > BATCH_BYTES
    }

    /// Takes out as much as one batch should hold: ends first, since their rows are in earlier batches, then the oldest rows.
    pub(crate) fn take_part(&mut self) -> (Vec<Row>, Vec<(i64, End)>) {
        let ends: Vec<_> = self.ends.drain(..self.ends.len().min(BATCH_ROWS)).collect();
        let mut bytes = ends.len() * END_BYTES;
        let mut count = 0;
        for row in self.rows.iter().take(BATCH_ROWS - ends.len()) {
            bytes += weight(row);
            if bytes > BATCH_BYTES && count > 0 {
                break;
            }
            count += 1;
        }
        let rest = self.rows.split_off(count);
        let rows = std::mem::replace(&mut self.rows, rest);
        self.bytes =
            self.bytes.saturating_sub(ends.len() * END_BYTES + rows.iter().map(weight).sum::<usize>());
        self.places.clear();
        for (place, row) in self.rows.iter().enumerate() {
            if row.table().is_interval() {
                self.places.insert((row.position(), row.key()), place);
            }
        }
        (rows, ends)
    }

    /// Takes everything out: rows, ends, and when the first event happened.
    pub(crate) fn take(&mut self) -> (Vec<Row>, Vec<(i64, End)>, Option<BootNs>) {
        self.places.clear();
        self.bytes = 0;
        (std::mem::take(&mut self.rows), std::mem::take(&mut self.ends), self.first.take())
    }

    /// Adds to a loss that this batch tells of already; false if it does not.
    pub(crate) fn add_to_loss(
        &mut self,
        (class, cause, note): (&str, &str, Option<&str>),
        count: u64,
        until: Time,
    ) -> bool {
        for row in &mut self.rows {
            if let Row::LossInfo(row) = row
                && row.class == class
                && row.cause == cause
                && row.note.as_deref() == note
            {
                row.count = row.count.saturating_add(i64::try_from(count).unwrap_or(i64::MAX));
                row.until = row.until.max(until);
                return true;
            }
        }
        false
    }

    /// Gives up the rows of that worth or less that nothing will refer to by its end, and says how many there were in each table, and of which
    /// worth where a table has several.
    pub(crate) fn shed(&mut self, worth: Worth) -> Vec<(&'static str, Option<&'static str>, u64)> {
        let mut shed: HashMap<(&'static str, Option<&'static str>), u64> = HashMap::new();
        let (rows, ends, first) = self.take();
        (self.ends, self.first) = (ends, first);
        self.bytes = self.ends.len() * END_BYTES;
        for row in rows {
            let told = matches!(row, Row::CoverageInfo(_) | Row::LossInfo(_) | Row::HostInfo(_));
            if told || Worth::of(&row) > worth || row.table().is_interval() && !row.is_ended() {
                self.push(row);
            } else {
                let note = (Worth::of(&row) == Worth::Read).then_some("reads");
                *shed.entry((row.table().name, note)).or_default() += 1;
            }
        }
        let mut shed: Vec<_> = shed.into_iter().map(|((table, note), count)| (table, note, count)).collect();
        shed.sort_unstable();
        shed
    }
}

/// What a row is worth when not all can be kept: less is given up first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Worth {
    /// A file that was only read.
    Read,
    /// Whatever else was done with a file.
    File,
    /// Everything: executions, connections, logins and the rest.
    All,
}

impl Worth {
    fn of(row: &Row) -> Self {
        match row {
            // A refusal says more than a success.
            Row::FileInfo(row)
                if row.operation == "open"
                    && row.access.as_deref() == Some("r")
                    && row.result.is_none_or(|result| result == 0) =>
            {
                Worth::Read
            }
            Row::FileInfo(_) => Worth::File,
            _ => Worth::All,
        }
    }
}

/// Bytes that a row takes in memory, about.
fn weight(row: &Row) -> usize {
    struct Texts(usize);

    impl Sink for Texts {
        fn put(&mut self, value: Value<'_>) {
            if let Value::Text(text) = value {
                self.0 += text.len();
            }
        }
    }

    let mut texts = Texts(ROW_BYTES);
    row.begin(&mut texts);
    texts.0
}
