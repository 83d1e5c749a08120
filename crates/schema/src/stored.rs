//! A row as it is stored: which values, in which order. Every way into a store goes through here.

use crate::{
    End, Row, Sink, Value,
    canonical::{Canonical, md5sum},
};

impl Row {
    /// Gives the values of all of [`TableDef::stored`](crate::TableDef::stored), in order: the host's number, what the row began with,
    /// what ended it, `md5sum`, the batch that created it, and for an interval the batch that ended it.
    ///
    /// A NUL in a text, which one engine refuses and another takes for the end, is spelled `\x00`: what
    /// [`escape`](mod@crate::escape) made has none, and other text is no reason to lose a row.
    ///
    /// Afterwards `digested` holds the canonical bytes of the beginning.
    pub fn stored<S: Sink>(&self, host: i64, batch: i64, sink: &mut S, digested: &mut Canonical) {
        digested.0.clear();
        sink.put(Value::Int(host));
        self.begin(&mut WithoutNul(&mut Both(sink, digested)));
        let ended = self.end(&mut WithoutNul(sink));
        sink.put(Value::Text(str::from_utf8(&md5sum(&digested.0)).unwrap_or_default()));
        sink.put(Value::Int(batch));
        if self.table().is_interval() {
            sink.put(if ended { Value::Int(batch) } else { Value::Null });
        }
    }
}

impl Row {
    /// Gives the values of the `Begin` columns, in order, as they are stored.
    pub fn told<S: Sink>(&self, sink: &mut S) {
        self.begin(&mut WithoutNul(sink));
    }

    /// Gives the values of the `End` columns, in order, as they are stored; NULL for each while the row lasts.
    pub fn told_end<S: Sink>(&self, sink: &mut S) {
        self.end(&mut WithoutNul(sink));
    }
}

impl End {
    /// Gives the values of the `End` columns, in order, as a row that ended in its own batch has them stored.
    pub fn told<S: Sink>(&self, sink: &mut S) {
        self.put(&mut WithoutNul(sink));
    }
}

/// Gives each value to a store and to the digest.
struct Both<'a, S>(&'a mut S, &'a mut Canonical);

impl<S: Sink> Sink for Both<'_, S> {
    fn put(&mut self, value: Value<'_>) {
        self.0.put(value);
        self.1.put(value);
    }
}

/// Passes values on, NUL spelled.
struct WithoutNul<'a, S>(&'a mut S);

impl<S: Sink> Sink for WithoutNul<'_, S> {
    fn put(&mut self, value: Value<'_>) {
        match value {
            Value::Text(s) if s.contains('\0') => self.0.put(Value::Text(&s.replace('\0', "\\x00"))),
            value => self.0.put(value),
        }
    }
}
