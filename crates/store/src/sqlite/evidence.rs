//! Reading a file again, to be verified.

use std::path::{Path, PathBuf};

use luarm_chain::verify::{Entry, History, HostFacts, LedgerRow, Portion, Proof, StoredManifest, Trouble};
use luarm_schema::{
    Dialect, Kind, TableDef, Time, Value,
    tables::{BatchInfo, HostInfo},
};
use rusqlite::{Connection, OptionalExtension, Params, types::ValueRef};

use super::{
    reader::{open_for_reading, query_error},
    servers,
};
use crate::{
    StoreError,
    evidence::{PAGE, columns, misfit},
};

/// Bytes of the longest value that is read.
const LONGEST: usize = 1 << 30;
/// Row numbers of a share.
const SHARE: i64 = 1 << 16;

/// A connection that reads a file to be verified.
pub(crate) struct Evidence {
    conn: Connection,
    path: PathBuf,
}

impl Evidence {
    pub(crate) fn open(path: &Path) -> Result<Self, StoreError> {
        let (conn, _) = open_for_reading(path, LONGEST)?;
        Ok(Evidence { conn, path: path.to_owned() })
    }

    fn done<T>(&self, result: rusqlite::Result<T>) -> Result<T, Trouble> {
        result.map_err(|error| query_error(&self.path, error).into())
    }

    /// Asks for stored rows of a table.
    fn ask(
        &self,
        table: &'static TableDef,
        filter: &str,
        parameters: impl Params,
        each: &mut dyn FnMut(&[Value<'_>]),
    ) -> Result<(), Trouble> {
        let (names, kinds) = columns(table);
        let sql = format!("SELECT {names} FROM {} WHERE {filter}", Dialect::Sqlite.stored_name(table));
        let read = || {
            let mut statement = self.conn.prepare_cached(&sql)?;
            let mut rows = statement.query(parameters)?;
            while let Some(row) = rows.next()? {
                let mut values = Vec::with_capacity(kinds.len());
                for (n, kind) in kinds.iter().enumerate() {
                    values.push(value(*kind, row.get_ref(n)?));
                }
                each(&values);
            }
            Ok(())
        };
        self.done(read())
    }

    fn proofs(&self, host: i64, after: i64) -> rusqlite::Result<Vec<(i64, Proof)>> {
        let sql = "SELECT batch, manifest IS NOT NULL, root, refused, received, receipt, signer FROM luarmproof \
                   WHERE host = ? AND batch > ? ORDER BY batch LIMIT ?";
        let mut statement = self.conn.prepare_cached(sql)?;
        let proof = |row: &rusqlite::Row<'_>| {
            let proof = Proof {
                has_manifest: row.get(1)?,
                root: row.get(2)?,
                refused: row.get(3)?,
                received: row.get(4)?,
                receipt: row.get(5)?,
                signer: row.get(6)?,
            };
            Ok((row.get(0)?, proof))
        };
        statement.query_map((host, after, PAGE as i64), proof)?.collect()
    }

    /// The numbers in that column, each once.
    fn numbers(&self, table: &str) -> rusqlite::Result<Vec<i64>> {
        let sql = format!("SELECT host FROM {table} WHERE host > ? ORDER BY host LIMIT 1");
        let mut statement = self.conn.prepare(&sql)?;
        let (mut all, mut last) = (Vec::new(), i64::MIN);
        while let Some(next) = statement.query_row([last], |row| row.get(0)).optional()? {
            all.push(next);
            last = next;
        }
        Ok(all)
    }

    fn facts(&self, host: i64) -> rusqlite::Result<HostFacts> {
        let stored = Dialect::Sqlite.stored_name(HostInfo::TABLE);
        let sql = format!(
            "SELECT hostname, machineid FROM {stored} WHERE host = ? ORDER BY batch DESC, bootentity DESC"
        );
        let mut statement = self.conn.prepare(&sql)?;
        let known = statement.query_map([host], |row| Ok((row.get(0)?, row.get(1)?)))?;
        let known: Vec<(String, String)> = known.collect::<rusqlite::Result<_>>()?;
        let name = known.first().map_or_else(|| host.to_string(), |(name, _)| name.clone());
        let mut machine_ids: Vec<String> = Vec::new();
        for (_, id) in known {
            if !machine_ids.contains(&id) {
                machine_ids.push(id);
            }
        }
        Ok(HostFacts { number: host, name, machine_ids })
    }
}

impl History for Evidence {
    fn hosts(&mut self) -> Result<Vec<HostFacts>, Trouble> {
        let facts = || {
            let mut numbers = self.numbers(&Dialect::Sqlite.stored_name(BatchInfo::TABLE))?;
            numbers.extend(self.numbers("luarmproof")?);
            // One that has not sealed its first rows yet is known as well.
            let servers = servers::all(&self.conn)?;
            numbers.extend(servers.iter().map(|server| server.number));
            numbers.sort_unstable();
            numbers.dedup();
            let facts = |host| match servers.iter().find(|server| server.number == host) {
                Some(server) => Ok(server.clone()),
                None => self.facts(host),
            };
            numbers.into_iter().map(facts).collect()
        };
        self.done(facts())
    }

    fn entries(&mut self, host: i64, after: i64) -> Result<Vec<Entry>, Trouble> {
        let mut rows = Vec::new();
        let filter = "host = ? AND batchid > ? ORDER BY batchid LIMIT ?";
        self.ask(BatchInfo::TABLE, filter, (host, after, PAGE as i64), &mut |values| {
            rows.extend(LedgerRow::read(values));
        })?;
        Ok(Entry::pair(rows, self.done(self.proofs(host, after))?, PAGE))
    }

    fn last_batch(&mut self, host: i64) -> Result<i64, Trouble> {
        let sql = format!(
            "SELECT max(batchid) FROM {} WHERE host = ?",
            Dialect::Sqlite.stored_name(BatchInfo::TABLE)
        );
        let last: rusqlite::Result<Option<i64>> = self.conn.query_row(&sql, [host], |row| row.get(0));
        Ok(self.done(last)?.unwrap_or(0))
    }

    fn manifests(
        &mut self,
        host: i64,
        from: i64,
        to: i64,
        each: &mut dyn FnMut(StoredManifest<'_>),
    ) -> Result<(), Trouble> {
        let sql = "SELECT batch, manifest, refused FROM luarmproof WHERE host = ? AND batch BETWEEN ? AND ? ORDER BY batch";
        let mut read = || {
            let mut statement = self.conn.prepare_cached(sql)?;
            let mut rows = statement.query((host, from, to))?;
            while let Some(row) = rows.next()? {
                let bytes = |n| Ok::<_, rusqlite::Error>(row.get_ref(n)?.as_blob_or_null().unwrap_or(None));
                each((row.get(0)?, bytes(1)?, bytes(2)?));
            }
            Ok(())
        };
        self.done(read())
    }

    fn portions(&mut self, table: &'static TableDef, host: Option<i64>) -> Result<Vec<Portion>, Trouble> {
        let sql = format!(
            "SELECT rowid FROM {} WHERE rowid >= ? ORDER BY rowid LIMIT 1",
            Dialect::Sqlite.stored_name(table)
        );
        let read = || {
            let mut statement = self.conn.prepare(&sql)?;
            let (mut all, mut from) = (Vec::new(), i64::MIN);
            // Wherever there are numbers without rows, and however many, they are leapt over.
            while let Some(first) = statement.query_row([from], |row| row.get::<_, i64>(0)).optional()? {
                let to = first.saturating_add(SHARE - 1);
                all.push(Portion { host, from: first, to });
                match to.checked_add(1) {
                    Some(next) => from = next,
                    None => break,
                }
            }
            Ok(all)
        };
        self.done(read())
    }

    fn rows(
        &mut self,
        table: &'static TableDef,
        portion: Portion,
        each: &mut dyn FnMut(&[Value<'_>]),
    ) -> Result<(), Trouble> {
        let Portion { host, from, to } = portion;
        match host {
            None => self.ask(table, "rowid BETWEEN ? AND ?", (from, to), each),
            Some(host) => self.ask(table, "rowid BETWEEN ? AND ? AND host = ?", (from, to, host), each),
        }
    }

    fn row(
        &mut self,
        table: &'static TableDef,
        host: i64,
        key: i64,
        each: &mut dyn FnMut(&[Value<'_>]),
    ) -> Result<(), Trouble> {
        self.ask(table, &format!("host = ? AND {} = ?", table.key), (host, key), each)
    }
}

fn value(kind: Kind, value: ValueRef<'_>) -> Value<'_> {
    match (kind, value) {
        (_, ValueRef::Null) => Value::Null,
        (Kind::Big | Kind::Int | Kind::Small, ValueRef::Integer(n)) => Value::Int(n),
        (Kind::Real, ValueRef::Real(x)) => Value::Real(x),
        (Kind::Text | Kind::Name, ValueRef::Text(bytes)) => {
            str::from_utf8(bytes).map_or(misfit(kind), Value::Text)
        }
        (Kind::Time, ValueRef::Text(bytes)) => Time::parse_exact(bytes).map_or(misfit(kind), Value::Time),
        _ => misfit(kind),
    }
}
