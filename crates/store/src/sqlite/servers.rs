//! Servers that seal rows of their own, as a file knows them: the table `luarmserver`, made with the first of them.
//!
//! They have numbers as audited computers have, and a ledger under each, but no row in `hostinfo`: nobody recorded what they run on.

use luarm_chain::verify::HostFacts;
use rusqlite::{Connection, OptionalExtension};

use super::resume;

/// Whether the file has the table.
fn has_table(conn: &Connection) -> rusqlite::Result<bool> {
    conn.prepare_cached("SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = 'luarmserver'")?
        .exists([])
}

/// The number of the server with that machine id.
pub(super) fn number(conn: &Connection, machine_id: &str) -> rusqlite::Result<Option<i64>> {
    if !has_table(conn)? {
        return Ok(None);
    }
    conn.prepare_cached("SELECT host FROM luarmserver WHERE machineid = ?")?
        .query_row([machine_id], |row| row.get(0))
        .optional()
}

/// The highest number that a server has.
pub(super) fn highest(conn: &Connection) -> rusqlite::Result<Option<i64>> {
    if !has_table(conn)? {
        return Ok(None);
    }
    conn.query_row("SELECT max(host) FROM luarmserver", [], |row| row.get(0))
}

/// The number of a server; it gets one if it has none. The caller holds the transaction.
pub(super) fn enter(conn: &Connection, machine_id: &str, name: &str) -> rusqlite::Result<i64> {
    if let Some(number) = number(conn, machine_id)? {
        return Ok(number);
    }
    conn.execute_batch(
        "CREATE TABLE IF NOT EXISTS luarmserver (host INTEGER NOT NULL PRIMARY KEY, machineid TEXT NOT NULL UNIQUE, name TEXT NOT NULL) STRICT",
    )?;
    let number = resume::next_host_number(conn)?;
    conn.execute(
        "INSERT INTO luarmserver (host, machineid, name) VALUES (?, ?, ?)",
        (number, machine_id, name),
    )?;
    Ok(number)
}

/// All of them, in the order of their numbers.
pub(super) fn all(conn: &Connection) -> rusqlite::Result<Vec<HostFacts>> {
    if !has_table(conn)? {
        return Ok(Vec::new());
    }
    let mut statement = conn.prepare("SELECT host, name, machineid FROM luarmserver ORDER BY host")?;
    let facts = statement.query_map([], |row| {
        Ok(HostFacts { number: row.get(0)?, name: row.get(1)?, machine_ids: vec![row.get(2)?] })
    })?;
    facts.collect()
}
