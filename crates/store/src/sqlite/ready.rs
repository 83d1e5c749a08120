//! Rows as values that only have to be bound.

use luarm_schema::{Batch, Sink, Value, canonical::Canonical};
use rusqlite::types::ValueRef;

/// The rows of a batch: digests and the texts of instants are made already, so that whoever holds the file has only the engine's work left.
pub(crate) struct Ready {
    values: Vec<Slot>,
    text: Vec<u8>,
    /// Where the values of each row end, and where their texts do.
    ends: Vec<(usize, usize)>,
}

enum Slot {
    Null,
    Int(i64),
    Real(f64),
    /// Bytes of text, behind those of the text before.
    Text(usize),
}

impl Ready {
    /// Of a batch.
    pub(crate) fn of(batch: &Batch) -> Self {
        let mut digested = Canonical::default();
        let mut ready =
            Ready { values: Vec::new(), text: Vec::new(), ends: Vec::with_capacity(batch.rows.len()) };
        for row in &batch.rows {
            // The host's number is known to the store alone.
            row.stored(0, batch.id, &mut ready, &mut digested);
            ready.ends.push((ready.values.len(), ready.text.len()));
        }
        ready
    }

    /// The values of the row at that place, but for the first, which is the host's number.
    pub(super) fn row(&self, place: usize) -> impl Iterator<Item = ValueRef<'_>> {
        let (values, mut at) = place.checked_sub(1).map_or((0, 0), |before| self.ends[before]);
        let values = self.values[values..self.ends[place].0].iter().skip(1);
        values.map(move |value| match value {
            Slot::Null => ValueRef::Null,
            Slot::Int(n) => ValueRef::Integer(*n),
            Slot::Real(x) => ValueRef::Real(*x),
            Slot::Text(length) => {
                at += length;
                ValueRef::Text(&self.text[at - length..at])
            }
        })
    }
}

impl Sink for Ready {
    fn put(&mut self, value: Value<'_>) {
        let mut text = |bytes: &[u8]| {
            self.text.extend_from_slice(bytes);
            Slot::Text(bytes.len())
        };
        let value = match value {
            Value::Null => Slot::Null,
            Value::Int(n) => Slot::Int(n),
            Value::Real(x) => Slot::Real(x),
            Value::Text(s) => text(s.as_bytes()),
            Value::Time(t) => text(&t.format()),
        };
        self.values.push(value);
    }
}
