//! What the store remembers of a host: what a recorder needs when it starts.

use luarm_chain::{is_server, link::Tip};
use luarm_schema::{
    CONDITIONS, OpenEndpoint, OpenFile, OpenProcess, Resume, Role, Source, TableDef, Time, Value,
};
use rusqlite::{
    Connection, OptionalExtension, Row,
    types::{Type, ValueRef},
};

use super::servers;

/// The number of a computer or server, if the store knows it.
pub(super) fn host_number(conn: &Connection, machine_id: &str) -> rusqlite::Result<Option<i64>> {
    if is_server(machine_id) {
        return servers::number(conn, machine_id);
    }
    conn.prepare_cached("SELECT host FROM hostinfo WHERE machineid = ? LIMIT 1")?
        .query_row([machine_id], |r| r.get(0))
        .optional()
}

/// The number that a new computer gets.
pub(super) fn next_host_number(conn: &Connection) -> rusqlite::Result<i64> {
    let highest = |sql| conn.query_row(sql, [], |r| r.get::<_, Option<i64>>(0));
    let hosts = highest("SELECT max(host) FROM hostinfo")?;
    let batches = highest("SELECT max(host) FROM batchinfo")?;
    Ok(hosts.max(batches).max(servers::highest(conn)?).unwrap_or(0) + 1)
}

/// The number of the host's last batch; 0 for none.
pub(super) fn last_batch(conn: &Connection, host: i64) -> rusqlite::Result<i64> {
    let last: Option<i64> = conn
        .prepare_cached("SELECT max(batchid) FROM batchinfo WHERE host = ?")?
        .query_row([host], |r| r.get(0))?;
    Ok(last.unwrap_or(0))
}

/// Number and digest of the host's last batch; 0 and `None` if it has none.
pub(super) fn last(conn: &Connection, host: i64) -> rusqlite::Result<(i64, Option<String>)> {
    let last = conn
        .prepare_cached("SELECT batchid, digest FROM batchinfo WHERE host = ? ORDER BY batchid DESC LIMIT 1")?
        .query_row([host], |r| Ok((r.get(0)?, r.get(1)?)))
        .optional()?;
    Ok(last.unwrap_or((0, None)))
}

/// Where the chain of the host stands after that batch; `None` if it was not sealed.
pub(super) fn tip(conn: &Connection, host: i64, batch: i64) -> rusqlite::Result<Option<Tip>> {
    let texts: Option<(Option<String>, Option<String>)> = conn
        .prepare_cached("SELECT digest, nextkey FROM batchinfo WHERE host = ? AND batchid = ?")?
        .query_row([host, batch], |r| Ok((r.get(0)?, r.get(1)?)))
        .optional()?;
    Ok(texts.and_then(|(digest, key)| Tip::read(digest.as_deref(), key.as_deref())))
}

/// Reads what the store remembers of the host of that number.
pub(super) fn resume(conn: &Connection, host: i64) -> rusqlite::Result<Resume> {
    let last = conn
        .query_row(
            "SELECT batchid, lastevent, digest FROM batchinfo WHERE host = ? ORDER BY batchid DESC LIMIT 1",
            [host],
            |r| Ok(((r.get(0)?, time(r, 1)?), r.get(2)?)),
        )
        .optional()?;
    let (last_batch, digest) = last.map_or((None, None), |(last, digest)| (Some(last), digest));
    let boot = conn
        .query_row(
            "SELECT bootid, bootentity FROM hostinfo WHERE host = ? ORDER BY batch DESC, bootentity DESC LIMIT 1",
            [host],
            |r| Ok((r.get(0)?, r.get(1)?)),
        )
        .optional()?;
    let processes = all(
        conn,
        host,
        "SELECT psentity, ppsentity, pid, execs, created FROM psinfo WHERE host = ? AND destroyed IS NULL ORDER BY psentity",
        |r| {
            Ok(OpenProcess {
                psentity: r.get(0)?,
                ppsentity: r.get(1)?,
                pid: r.get(2)?,
                execs: r.get(3)?,
                created: time(r, 4)?,
            })
        },
    )?;
    let endpoints = all(
        conn,
        host,
        "SELECT endpointinfo, transport, direction, socket, sourceip, sourceport, destip, destport FROM netinfo \
         WHERE host = ? AND destroyed IS NULL ORDER BY endpointinfo",
        endpoint,
    )?;
    let files = all(
        conn,
        host,
        "SELECT fileaccessid, created FROM fileinfo WHERE host = ? AND destroyed IS NULL ORDER BY fileaccessid",
        |r| Ok(OpenFile { fileaccessid: r.get(0)?, created: time(r, 1)? }),
    )?;
    let coverage = all(
        conn,
        host,
        "SELECT coverageid FROM coverageinfo WHERE host = ? AND destroyed IS NULL ORDER BY coverageid",
        |r| r.get(0),
    )?;
    // Those that a server answered are its own.
    let queries = all(
        conn,
        host,
        "SELECT queryid FROM queryinfo WHERE host = ? AND destroyed IS NULL AND batch > 0 ORDER BY queryid",
        |r| r.get(0),
    )?;
    let mut conditions = Vec::new();
    for table in CONDITIONS {
        conditions.extend(open_rows(conn, host, table)?);
    }
    Ok(Resume { last_batch, digest, boot, processes, endpoints, files, coverage, queries, conditions })
}

/// The rows of a table that have not ended. One that cannot be read is passed over: its end will not be set.
fn open_rows(
    conn: &Connection,
    host: i64,
    table: &'static TableDef,
) -> rusqlite::Result<Vec<luarm_schema::Row>> {
    let begin = table.columns.iter().filter(|c| c.role == Role::Begin).map(|c| c.name);
    let sql = format!(
        "SELECT {} FROM {} WHERE host = ? AND destroyed IS NULL ORDER BY {}",
        begin.collect::<Vec<_>>().join(", "),
        table.name,
        table.key
    );
    let rows = all(conn, host, &sql, |row| {
        let read = luarm_schema::Row::read(table, &mut Columns { row, next: 0 });
        if read.is_none() {
            tracing::warn!(table = table.name, "an open row cannot be read, and stays open");
        }
        Ok(read)
    })?;
    Ok(rows.into_iter().flatten().collect())
}

/// The values of a row, one after the other.
struct Columns<'a, 'r> {
    row: &'a Row<'r>,
    next: usize,
}

impl Source for Columns<'_, '_> {
    fn take(&mut self) -> Value<'_> {
        let value = self.row.get_ref(self.next).unwrap_or(ValueRef::Null);
        self.next += 1;
        match value {
            ValueRef::Integer(n) => Value::Int(n),
            ValueRef::Real(x) => Value::Real(x),
            ValueRef::Text(text) => str::from_utf8(text).map_or(Value::Null, Value::Text),
            ValueRef::Null | ValueRef::Blob(_) => Value::Null,
        }
    }
}

/// The peer is the source of what came in, and the target of what went out.
fn endpoint(row: &Row<'_>) -> rusqlite::Result<OpenEndpoint> {
    let direction: String = row.get(2)?;
    let peer = match direction.as_str() {
        "out" => Some((row.get(6)?, row.get(7)?)),
        "in" => Some((row.get(4)?, row.get(5)?)),
        _ => None,
    };
    // Cookies fit 63 bits: the schema stores a larger number as the largest.
    let socket = u64::try_from(row.get::<_, i64>(3)?).unwrap_or(0);
    Ok(OpenEndpoint { endpointinfo: row.get(0)?, transport: row.get(1)?, direction, socket, peer })
}

fn time(row: &Row<'_>, column: usize) -> rusqlite::Result<Time> {
    let text: String = row.get(column)?;
    Time::parse(&text).map_err(|e| rusqlite::Error::FromSqlConversionFailure(column, Type::Text, Box::new(e)))
}

fn all<T>(
    conn: &Connection,
    host: i64,
    sql: &str,
    row: impl FnMut(&Row<'_>) -> rusqlite::Result<T>,
) -> rusqlite::Result<Vec<T>> {
    conn.prepare(sql)?.query_map([host], row)?.collect()
}
