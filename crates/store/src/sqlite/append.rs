//! One batch into the tables. The caller holds the transaction.

use luarm_chain::Part;
use luarm_schema::{Batch, Dialect, End, Row, STORE_MADE, Sink, TABLES, Value, canonical::Canonical};
use rusqlite::{CachedStatement, Connection, ErrorCode, params, types::ValueRef};

use super::ready::Ready;
use crate::{Appended, Refused, proof::Proof, writer::Outcome};

pub(super) const KEEP_PROOF: &str = "INSERT INTO luarmproof (host, batch, manifest, root, refused, received, receipt, signer) \
                                     VALUES (?, ?, ?, ?, ?, ?, ?, ?)";

/// The SQL of each table, by its place in [`TABLES`].
pub(super) struct Statements {
    insert: Vec<String>,
    end: Vec<Option<String>>,
}

impl Statements {
    pub(super) fn new() -> Self {
        Statements {
            insert: TABLES.iter().map(|t| Dialect::Sqlite.insert(t)).collect(),
            end: TABLES.iter().map(|t| Dialect::Sqlite.end(t)).collect(),
        }
    }
}

impl Statements {
    /// Stores a row in the place of one of the same key, if there is one.
    pub(super) fn replace(
        &self,
        conn: &Connection,
        host: i64,
        batch: i64,
        row: &Row,
        buffer: &mut Canonical,
    ) -> rusqlite::Result<()> {
        let insert = self.insert[row.position()].replacen("INSERT", "INSERT OR REPLACE", 1);
        insert_row(&mut conn.prepare_cached(&insert)?, host, batch, row, buffer)
    }
}

/// Stores rows and ends of the batch, of which `ready` is made already.
pub(super) fn append(
    conn: &Connection,
    statements: &Statements,
    host: i64,
    (batch, ready): (&Batch, Option<&Ready>),
    buffer: &mut Canonical,
) -> rusqlite::Result<Outcome> {
    let mut done = Appended::default();
    let (mut refused, mut unmatched) = (Vec::new(), Vec::new());
    let mut inserts: Vec<Option<CachedStatement<'_>>> = statements.insert.iter().map(|_| None).collect();
    // Table by table: the pages of one are at hand while its rows come.
    let mut places: Vec<usize> = (0..batch.rows.len()).collect();
    places.sort_by_key(|place| batch.rows[*place].position());
    for place in places {
        let row = &batch.rows[place];
        let position = row.position();
        if STORE_MADE.iter().any(|t| t.name == TABLES[position].name) {
            let (table, key) = (TABLES[position].name, row.key());
            tracing::error!(table, key, "only the store itself makes rows of this table");
            refused.push(Refused { table, key, part: Part::of_row(row) });
            continue;
        }
        let insert = prepared(conn, &mut inserts[position], &statements.insert[position])?;
        let inserted = match ready {
            Some(ready) => insert_ready(insert, host, ready.row(place)),
            None => insert_row(insert, host, batch.id, row, buffer),
        };
        match inserted {
            Ok(()) => done.rows += 1,
            Err(e) => {
                let row = Refused { table: TABLES[position].name, key: row.key(), part: Part::of_row(row) };
                refused.push(refusal(e, row, refused.is_empty())?);
            }
        }
    }
    let mut ends: Vec<Option<CachedStatement<'_>>> = statements.end.iter().map(|_| None).collect();
    for (key, end) in &batch.ends {
        let position = end.position();
        let Some(sql) = &statements.end[position] else {
            continue;
        };
        let update = prepared(conn, &mut ends[position], sql)?;
        let changed = match end_row(update, host, batch.id, *key, end) {
            Ok(changed) => changed,
            Err(e) => {
                let end = Refused { table: TABLES[position].name, key: *key, part: Part::End };
                refused.push(refusal(e, end, refused.is_empty())?);
                continue;
            }
        };
        if changed == 0 {
            // One message for each batch: what a host sends must not fill the log of its server.
            if done.unmatched == 0 {
                tracing::warn!(
                    host,
                    batch = batch.id,
                    table = TABLES[position].name,
                    key,
                    "an end came for a row that is not stored or has ended; further ones in this batch are not told"
                );
            }
            done.unmatched += 1;
            unmatched.push((TABLES[position].name, *key));
        } else {
            done.ends += 1;
        }
    }
    Ok(Outcome { done, refused, unmatched })
}

/// Keeps what proves the batch. The caller holds the transaction.
pub(super) fn keep_proof(
    conn: &Connection,
    host: i64,
    batch: i64,
    proof: &Proof<'_>,
) -> rusqlite::Result<()> {
    conn.prepare_cached(KEEP_PROOF)?.execute(params![
        host,
        batch,
        proof.manifest,
        proof.root,
        proof.refused(),
        proof.received(),
        proof.signature(),
        proof.signer,
    ])?;
    Ok(())
}

/// Tells an error that is the row's own from one that is the store's. Only the one statement was undone; the transaction goes on. The first one
/// in a batch is told.
fn refusal(error: rusqlite::Error, refused: Refused, first: bool) -> rusqlite::Result<Refused> {
    match error.sqlite_error_code() {
        Some(ErrorCode::ConstraintViolation | ErrorCode::TooBig | ErrorCode::TypeMismatch) => {
            if first {
                let Refused { table, key, .. } = refused;
                tracing::error!(table, key, "a row cannot be stored, and is counted as lost: {error}");
            }
            Ok(refused)
        }
        _ => Err(error),
    }
}

fn prepared<'s, 'c>(
    conn: &'c Connection,
    slot: &'s mut Option<CachedStatement<'c>>,
    sql: &str,
) -> rusqlite::Result<&'s mut CachedStatement<'c>> {
    match slot {
        Some(statement) => Ok(statement),
        None => Ok(slot.insert(conn.prepare_cached(sql)?)),
    }
}

fn insert_row(
    insert: &mut CachedStatement<'_>,
    host: i64,
    batch: i64,
    row: &Row,
    buffer: &mut Canonical,
) -> rusqlite::Result<()> {
    let mut binding = Binding::new(insert);
    row.stored(host, batch, &mut binding, buffer);
    binding.result?;
    insert.raw_execute()?;
    Ok(())
}

fn insert_ready<'a>(
    insert: &mut CachedStatement<'_>,
    host: i64,
    values: impl Iterator<Item = ValueRef<'a>>,
) -> rusqlite::Result<()> {
    let mut binding = Binding::new(insert);
    binding.put(Value::Int(host));
    for value in values {
        match value {
            ValueRef::Null => binding.next += 1,
            value => binding.bind(value),
        }
    }
    binding.result?;
    insert.raw_execute()?;
    Ok(())
}

fn end_row(
    update: &mut CachedStatement<'_>,
    host: i64,
    batch: i64,
    key: i64,
    end: &End,
) -> rusqlite::Result<usize> {
    let mut binding = Binding::new(update);
    end.put(&mut binding);
    for number in [batch, host, key] {
        binding.put(Value::Int(number));
    }
    binding.result?;
    update.raw_execute()
}

/// Binds values to the parameters of a statement, one after the other, and keeps the first error.
struct Binding<'s, 'c> {
    statement: &'s mut CachedStatement<'c>,
    next: usize,
    result: rusqlite::Result<()>,
}

impl<'s, 'c> Binding<'s, 'c> {
    fn new(statement: &'s mut CachedStatement<'c>) -> Self {
        // What is not bound is NULL, and much is.
        statement.clear_bindings();
        Binding { statement, next: 1, result: Ok(()) }
    }

    #[inline]
    fn bind(&mut self, value: ValueRef<'_>) {
        let result =
            self.statement.raw_bind_parameter(self.next, rusqlite::types::ToSqlOutput::Borrowed(value));
        self.next += 1;
        if self.result.is_ok() {
            self.result = result;
        }
    }
}

impl Sink for Binding<'_, '_> {
    fn put(&mut self, value: Value<'_>) {
        match value {
            Value::Null => self.next += 1,
            Value::Int(n) => self.bind(ValueRef::Integer(n)),
            Value::Real(x) => self.bind(ValueRef::Real(x)),
            Value::Text(s) => self.bind(ValueRef::Text(s.as_bytes())),
            Value::Time(t) => self.bind(ValueRef::Text(&t.format())),
        }
    }
}
