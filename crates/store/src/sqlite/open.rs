//! Opening a database file for writing: making it, or proving that it is ours, whole and of our version.

use std::{
    fs::{DirBuilder, OpenOptions},
    io,
    os::unix::{
        ffi::OsStrExt,
        fs::{DirBuilderExt, OpenOptionsExt},
    },
    path::Path,
    time::Duration,
};

use luarm_schema::{Dialect, SCHEMA_VERSION, TABLES};
use rusqlite::{Connection, MAIN_DB, OpenFlags, Transaction, TransactionBehavior};

use super::append::KEEP_PROOF;
use crate::{StoreError, proof};

/// `LUAR`, in the header of every database of ours.
pub(super) const APPLICATION_ID: i32 = i32::from_be_bytes(*b"LUAR");

/// How long a writer waits for another one.
const BUSY: Duration = Duration::from_secs(5);

/// Bytes of write-ahead log after which it is moved into the database. Large, because an index page that several batches
/// touch is then written once; in `benches/load.rs` the median load was faster than with 16 MiB.
const CHECKPOINT: u32 = 64 << 20;

/// Bytes of a page. With 8192 loads were no faster beyond the noise, and 16384 saved a hundredth of the space.
const PAGE: u32 = 4096;

/// Opens for writing; makes file, directories and tables where there are none.
pub(super) fn open_for_writing(path: &Path) -> Result<Connection, StoreError> {
    make_file(path)?;
    let failed = |e| StoreError::from_open(path, e);
    let flags =
        OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_URI;
    let conn = Connection::open_with_flags(uri(path, false), flags).map_err(failed)?;
    conn.busy_timeout(BUSY).map_err(failed)?;
    conn.set_prepared_statement_cache_capacity(4 * TABLES.len());
    let fresh = !is_ours(&conn, path)?;
    if conn.is_readonly(MAIN_DB).map_err(failed)? {
        return Err(StoreError::ReadOnly {
            path: path.to_owned(),
            detail: "the file is read-only".to_owned(),
        });
    }
    if fresh {
        conn.pragma_update(None, "page_size", PAGE).map_err(failed)?;
    }
    conn.pragma_update(None, "journal_mode", "wal").map_err(failed)?;
    let pages: u32 = conn.pragma_query_value(None, "page_size", |r| r.get(0)).map_err(failed)?;
    for (name, value) in [
        ("synchronous", "full".to_owned()),
        ("wal_autocheckpoint", (CHECKPOINT / pages.max(1)).to_string()),
        ("journal_size_limit", (2 * CHECKPOINT).to_string()),
        ("cache_size", "-16384".to_owned()),
        ("foreign_keys", "off".to_owned()),
    ] {
        conn.pragma_update(None, name, &value).map_err(failed)?;
    }
    if fresh {
        create_tables(&conn, path)?;
    }
    check_tables(&conn, path)?;
    Ok(conn)
}

/// Makes an empty file that only its owner may read, and the directories above it. SQLite gives its companions the same mode.
pub(super) fn make_file(path: &Path) -> Result<(), StoreError> {
    match std::fs::metadata(path) {
        Ok(meta) if meta.is_file() => return Ok(()),
        Ok(_) => return Err(StoreError::NotFile { path: path.to_owned() }),
        Err(e) if e.kind() == io::ErrorKind::NotFound => {}
        Err(source) => return Err(StoreError::File { action: "open", path: path.to_owned(), source }),
    }
    if let Some(parent) = path.parent().filter(|p| !p.as_os_str().is_empty()) {
        DirBuilder::new().recursive(true).mode(0o700).create(parent).map_err(|source| StoreError::File {
            action: "make the directory",
            path: parent.to_owned(),
            source,
        })?;
    }
    // Only ever a new file: to close a database that is open elsewhere in this process would drop its locks (fcntl(2)).
    match OpenOptions::new().write(true).create_new(true).mode(0o600).open(path) {
        Err(source) if source.kind() != io::ErrorKind::AlreadyExists => {
            Err(StoreError::File { action: "create", path: path.to_owned(), source })
        }
        _ => Ok(()),
    }
}

/// The file as a URI, in which every byte but the plainest is spelled: a plain path that begins with `file:` would be taken for one.
pub(super) fn uri(path: &Path, immutable: bool) -> String {
    let mut uri = String::from(if path.is_absolute() { "file://" } else { "file:" });
    for &byte in path.as_os_str().as_bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'/' | b'.' | b'-' | b'_' => uri.push(char::from(byte)),
            other => uri.push_str(&format!("%{other:02X}")),
        }
    }
    if immutable {
        uri.push_str("?immutable=1");
    }
    uri
}

/// Whether the database has our tables; `false` for an empty one. Every other is an error.
pub(super) fn is_ours(conn: &Connection, path: &Path) -> Result<bool, StoreError> {
    has_tables(conn, path, APPLICATION_ID)
}

/// Whether the database has the tables of the application with that id; `false` for an empty one. Every other is an error.
pub(super) fn has_tables(conn: &Connection, path: &Path, id: i32) -> Result<bool, StoreError> {
    let failed = |e| StoreError::from_open(path, e);
    let number = |name| conn.pragma_query_value(None, name, |r| r.get::<_, i64>(0)).map_err(failed);
    let application = number("application_id")?;
    let tables: i64 =
        conn.query_row("SELECT count(*) FROM sqlite_schema", [], |r| r.get(0)).map_err(failed)?;
    if application == 0 && tables == 0 {
        return Ok(false);
    }
    if application != i64::from(id) {
        let detail = format!("application id {application:#x}, {tables} tables and indexes");
        return Err(StoreError::Foreign { path: path.to_owned(), detail });
    }
    let found = number("user_version")?;
    if found != SCHEMA_VERSION {
        return Err(StoreError::Version { path: path.to_owned(), found, known: SCHEMA_VERSION });
    }
    Ok(true)
}

fn create_tables(conn: &Connection, path: &Path) -> Result<(), StoreError> {
    let failed = |e| StoreError::from_open(path, e);
    let tx = Transaction::new_unchecked(conn, TransactionBehavior::Immediate).map_err(failed)?;
    if is_ours(&tx, path)? {
        // Another process was quicker.
        return Ok(());
    }
    for table in TABLES {
        tx.execute_batch(&Dialect::Sqlite.create_table(table)).map_err(failed)?;
        for statement in Dialect::Sqlite.create_rest(table) {
            tx.execute_batch(&statement).map_err(failed)?;
        }
    }
    tx.execute_batch(&proof::create(Dialect::Sqlite)).map_err(failed)?;
    tx.pragma_update(None, "application_id", APPLICATION_ID).map_err(failed)?;
    tx.pragma_update(None, "user_version", SCHEMA_VERSION).map_err(failed)?;
    tx.commit().map_err(failed)
}

/// Prepares every statement that will be needed, so that a table that is not as it should be shows now.
fn check_tables(conn: &Connection, path: &Path) -> Result<(), StoreError> {
    conn.prepare_cached(KEEP_PROOF).map_err(|e| StoreError::from_open(path, e))?;
    for table in TABLES {
        let statements = [Some(Dialect::Sqlite.insert(table)), Dialect::Sqlite.end(table)];
        for statement in statements.into_iter().flatten() {
            conn.prepare_cached(&statement).map_err(|e| match StoreError::from_open(path, e) {
                StoreError::Engine { path, source, .. } => {
                    StoreError::Corrupt { path, detail: format!("table {}: {source}", table.name) }
                }
                other => other,
            })?;
        }
    }
    Ok(())
}
