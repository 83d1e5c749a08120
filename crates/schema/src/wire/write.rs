//! Writing batches.

use super::{VERSION, kind_tag};
use crate::{Batch, Role, Sink, TABLES, TableDef, Value};

/// The bytes of a batch.
pub fn encode(batch: &Batch) -> Vec<u8> {
    let mut out = vec![VERSION];
    zigzag(&mut out, batch.id);
    let mut tables = Tables::new(batch);
    varint(&mut out, tables.used.len() as u64);
    for table in &tables.used {
        text(&mut out, table.def.name);
        for columns in [begins(table.def), ends(table.def)] {
            varint(&mut out, columns.len() as u64);
            for (name, kind) in columns {
                text(&mut out, name);
                out.push(kind);
            }
        }
    }
    varint(&mut out, batch.rows.len() as u64);
    for row in &batch.rows {
        let (place, table) = tables.at(row.position());
        varint(&mut out, place as u64);
        out.push(u8::from(row.is_ended()));
        let mut values = Values::new(&mut out, &mut table.begin);
        row.begin(&mut values);
        if row.is_ended() {
            row.end(&mut Values::new(&mut out, &mut table.end));
        }
    }
    varint(&mut out, batch.ends.len() as u64);
    for (key, end) in &batch.ends {
        let (place, table) = tables.at(end.position());
        varint(&mut out, place as u64);
        zigzag(&mut out, key.wrapping_sub(table.key));
        table.key = *key;
        end.put(&mut Values::new(&mut out, &mut table.end));
    }
    out
}

fn begins(table: &TableDef) -> Vec<(&'static str, u8)> {
    let begin = table.columns.iter().filter(|c| c.role == Role::Begin);
    begin.map(|c| (c.name, kind_tag(c.kind))).collect()
}

fn ends(table: &TableDef) -> Vec<(&'static str, u8)> {
    table.ends().map(|c| (c.name, kind_tag(c.kind))).collect()
}

/// The tables that a batch uses, by where they stand in it.
struct Tables {
    used: Vec<Table>,
    /// By the position in [`TABLES`].
    places: Vec<Option<usize>>,
}

/// A table, and the last number of each of its columns.
struct Table {
    def: &'static TableDef,
    begin: Vec<i64>,
    end: Vec<i64>,
    key: i64,
}

impl Tables {
    fn new(batch: &Batch) -> Self {
        let mut tables = Tables { used: Vec::new(), places: vec![None; TABLES.len()] };
        let rows = batch.rows.iter().map(crate::Row::position);
        for position in rows.chain(batch.ends.iter().map(|(_, end)| end.position())) {
            if tables.places[position].is_none() {
                tables.places[position] = Some(tables.used.len());
                let def = TABLES[position];
                let (begin, end) = (vec![0; begins(def).len()], vec![0; ends(def).len()]);
                tables.used.push(Table { def, begin, end, key: 0 });
            }
        }
        tables
    }

    fn at(&mut self, position: usize) -> (usize, &mut Table) {
        let place = self.places[position].unwrap_or_default();
        (place, &mut self.used[place])
    }
}

/// Takes the values of one row: the bitmap first, which is filled in as they come.
struct Values<'a> {
    out: &'a mut Vec<u8>,
    last: &'a mut [i64],
    bitmap: usize,
    next: usize,
}

impl<'a> Values<'a> {
    fn new(out: &'a mut Vec<u8>, last: &'a mut [i64]) -> Self {
        let bitmap = out.len();
        out.resize(bitmap + last.len().div_ceil(8), 0);
        Values { out, last, bitmap, next: 0 }
    }
}

impl Sink for Values<'_> {
    fn put(&mut self, value: Value<'_>) {
        let column = self.next;
        self.next += 1;
        if value != Value::Null {
            self.out[self.bitmap + column / 8] |= 1 << (column % 8);
        }
        match value {
            Value::Null => {}
            Value::Int(n) | Value::Time(crate::Time(n)) => {
                zigzag(self.out, n.wrapping_sub(self.last[column]));
                self.last[column] = n;
            }
            Value::Real(x) => self.out.extend(x.to_le_bytes()),
            Value::Text(s) => text(self.out, s),
        }
    }
}

fn varint(out: &mut Vec<u8>, mut n: u64) {
    while n >= 0x80 {
        out.push(n as u8 | 0x80);
        n >>= 7;
    }
    out.push(n as u8);
}

fn zigzag(out: &mut Vec<u8>, n: i64) {
    varint(out, ((n << 1) ^ (n >> 63)).cast_unsigned());
}

fn text(out: &mut Vec<u8>, s: &str) {
    varint(out, s.len() as u64);
    out.extend(s.as_bytes());
}
