//! Answering queries.

use std::{
    fmt, fs, io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use luarm_schema::{Dialect, TABLES, TableDef};
use rusqlite::{Connection, ErrorCode, InterruptHandle, OpenFlags, types::ValueRef};

use super::{guard, open, writer};
use crate::{Cell, Host, QueryError, RowSink, StoreError};

/// How long a reader waits while a writer recovers or closes the file.
const BUSY: Duration = Duration::from_secs(5);

/// The one who asks. It cannot write, whatever the statement, and does not stop a writer.
pub(crate) struct Reader {
    conn: Connection,
    path: PathBuf,
    longest: usize,
    /// The file is read as if nobody could write it, because this user cannot make the files through which readers and writers agree.
    immutable: bool,
    /// The host that the tables are limited to.
    host: Option<i64>,
    interrupt: Interrupt,
}

/// Ends the running query of a [`Reader`], from another thread.
#[derive(Clone)]
pub(crate) struct Interrupt(Arc<Mutex<InterruptHandle>>);

impl Interrupt {
    /// Ends the query that runs now, if one does; it returns [`QueryError::Interrupted`].
    pub(crate) fn interrupt(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).interrupt();
    }
}

impl fmt::Debug for Interrupt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Interrupt")
    }
}

impl Reader {
    /// Opens the store for reading; a recorder may write it meanwhile.
    /// No value of an answer has more bytes than `longest`.
    pub(crate) fn open(path: &Path, longest: usize) -> Result<Self, StoreError> {
        let path = path.to_owned();
        let (conn, immutable) = open_for_reading(&path, longest)?;
        let interrupt = Interrupt(Arc::new(Mutex::new(conn.get_interrupt_handle())));
        Ok(Reader { conn, path, longest, immutable, host: None, interrupt })
    }

    /// Asks one statement; the answer goes to the sink as it comes. Returns the number of rows.
    pub(crate) fn query(&mut self, sql: &str, sink: &mut dyn RowSink) -> Result<u64, QueryError> {
        self.refresh()?;
        let failed = |e| query_error(&self.path, e);
        let mut statement = self.conn.prepare(sql).map_err(failed)?;
        if !statement.readonly() {
            return Err(QueryError::Refused("the statement writes".to_owned()));
        }
        let width = statement.column_count();
        if width == 0 {
            return Ok(0);
        }
        let names: Vec<String> = statement.column_names().map(str::to_owned).collect();
        sink.columns(&names)?;
        let mut rows = statement.raw_query();
        let mut count = 0;
        while let Some(row) = rows.next().map_err(failed)? {
            let mut cells = Vec::with_capacity(width);
            for column in 0..width {
                cells.push(cell(row.get_ref(column).map_err(failed)?));
            }
            sink.row(&cells)?;
            count += 1;
        }
        Ok(count)
    }

    /// What ends this reader's queries.
    pub(crate) fn interrupt(&self) -> Interrupt {
        self.interrupt.clone()
    }

    /// The audited computers in the store, in the order of their numbers.
    pub(crate) fn hosts(&mut self) -> Result<Vec<Host>, QueryError> {
        self.refresh()?;
        let failed = |e| query_error(&self.path, e);
        let mut statement = self
            .conn
            .prepare(
                "SELECT host, hostname, machineid FROM main.hostinfo AS h WHERE bootentity = (SELECT bootentity FROM main.hostinfo \
                 WHERE host = h.host ORDER BY batch DESC, bootentity DESC LIMIT 1) ORDER BY host",
            )
            .map_err(failed)?;
        let hosts = statement
            .query_map([], |r| Ok(Host { number: r.get(0)?, name: r.get(1)?, machine_id: r.get(2)? }))
            .and_then(Iterator::collect);
        hosts.map_err(failed)
    }

    /// How many rows each table has, as its last row number says: counting them would take as long as there are many. Where rows were dropped they are counted.
    pub(crate) fn row_counts(&mut self) -> Result<Vec<(&'static str, i64)>, QueryError> {
        self.refresh()?;
        let count = |table: &TableDef| {
            let (name, stored) = (table.name, Dialect::Sqlite.stored_name(table));
            let sql = format!(
                "SELECT CASE WHEN EXISTS (SELECT 1 FROM main.retentioninfo WHERE tablename = '{name}') \
                 THEN (SELECT count(*) FROM main.{stored}) ELSE (SELECT coalesce(max(rowid), 0) FROM main.{stored}) END"
            );
            self.conn.query_row(&sql, [], |r| r.get(0))
        };
        let counts = TABLES.iter().map(|table| Ok((table.name, count(table)?)));
        counts.collect::<rusqlite::Result<_>>().map_err(|e| query_error(&self.path, e))
    }

    /// From now on the tables hold only what this host recorded; it is named by its latest name or its machine id.
    pub(crate) fn use_host(&mut self, name: &str) -> Result<Host, QueryError> {
        let hosts = self.hosts()?;
        let mut named = hosts.iter().filter(|h| h.name == name || h.machine_id == name);
        let (Some(host), None) = (named.next(), named.next()) else {
            let known: Vec<String> =
                hosts.iter().map(|h| format!("{:?} ({})", h.name, h.machine_id)).collect();
            let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
            return Err(QueryError::NoHost { name: name.to_owned(), known });
        };
        let host = host.clone();
        self.limit_to(Some(host.number))?;
        Ok(host)
    }

    /// From now on the tables hold what all hosts recorded.
    pub(crate) fn use_all(&mut self) -> Result<(), QueryError> {
        self.limit_to(None)
    }

    /// Bytes that the store takes on disk.
    pub(crate) fn size(&self) -> u64 {
        writer::size(&self.path)
    }

    /// Views stand before the tables while they are limited to a host.
    fn limit_to(&mut self, host: Option<i64>) -> Result<(), QueryError> {
        let mut sql = String::new();
        for table in TABLES {
            let name = table.name;
            sql.push_str(&format!("DROP VIEW IF EXISTS temp.{name};"));
            if let Some(host) = host {
                sql.push_str(&format!(
                    "CREATE TEMP VIEW {name} AS SELECT * FROM main.{name} WHERE host = {host};"
                ));
            }
        }
        let result = guard::disarm(&mut self.conn).and_then(|()| self.conn.execute_batch(&sql));
        guard::arm(&mut self.conn).and(result).map_err(|e| query_error(&self.path, e))?;
        self.host = host;
        Ok(())
    }

    /// A file that is read as immutable is opened again once somebody writes it.
    fn refresh(&mut self) -> Result<(), QueryError> {
        if !self.immutable || has_no_log(&self.path) {
            return Ok(());
        }
        let (conn, immutable) = open_for_reading(&self.path, self.longest)?;
        *self.interrupt.0.lock().unwrap_or_else(PoisonError::into_inner) = conn.get_interrupt_handle();
        (self.conn, self.immutable) = (conn, immutable);
        self.limit_to(self.host)
    }
}

impl fmt::Debug for Reader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reader").field("path", &self.path).field("host", &self.host).finish_non_exhaustive()
    }
}

/// Opens, and says whether as immutable.
pub(super) fn open_for_reading(path: &Path, longest: usize) -> Result<(Connection, bool), StoreError> {
    match fs::metadata(path) {
        Ok(meta) if meta.is_file() => {}
        Ok(_) => return Err(StoreError::NotFile { path: path.to_owned() }),
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            return Err(StoreError::Missing { path: path.to_owned() });
        }
        Err(source) => return Err(StoreError::File { action: "open", path: path.to_owned(), source }),
    }
    let detail = match connect(path, longest, false) {
        Err(StoreError::ReadOnly { detail, .. }) => detail,
        other => return other.map(|conn| (conn, false)),
    };
    // Without the right to make the -shm file SQLite reads only what no log stands beside.
    if !has_no_log(path) {
        return Err(StoreError::NeedsRecovery { path: path.to_owned(), detail });
    }
    match connect(path, longest, true) {
        Err(StoreError::ReadOnly { .. }) => {
            let source = io::Error::from(io::ErrorKind::PermissionDenied);
            Err(StoreError::File { action: "read", path: path.to_owned(), source })
        }
        other => other.map(|conn| (conn, true)),
    }
}

fn connect(path: &Path, longest: usize, immutable: bool) -> Result<Connection, StoreError> {
    let failed = |e| StoreError::from_open(path, e);
    let flags =
        OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_URI;
    let mut conn = Connection::open_with_flags(open::uri(path, immutable), flags).map_err(failed)?;
    conn.busy_timeout(BUSY).map_err(failed)?;
    guard::restrict(&conn, longest).map_err(failed)?;
    if !open::is_ours(&conn, path)? {
        return Err(StoreError::Foreign { path: path.to_owned(), detail: "it has no tables".to_owned() });
    }
    guard::arm(&mut conn).map_err(failed)?;
    Ok(conn)
}

fn has_no_log(path: &Path) -> bool {
    fs::metadata(writer::companion(path, "-wal")).map_or(true, |m| m.len() == 0)
}

fn cell(value: ValueRef<'_>) -> Cell<'_> {
    match value {
        ValueRef::Null => Cell::Null,
        ValueRef::Integer(n) => Cell::Integer(n),
        ValueRef::Real(x) => Cell::Real(x),
        ValueRef::Text(bytes) => std::str::from_utf8(bytes).map_or(Cell::Blob(bytes), Cell::Text),
        ValueRef::Blob(bytes) => Cell::Blob(bytes),
    }
}

pub(super) fn query_error(path: &Path, source: rusqlite::Error) -> QueryError {
    let message = match &source {
        rusqlite::Error::SqliteFailure(_, Some(message)) => message.clone(),
        rusqlite::Error::SqlInputError { msg, .. } => msg.clone(),
        rusqlite::Error::MultipleStatement => "one statement at a time".to_owned(),
        other => other.to_string(),
    };
    match source.sqlite_error_code() {
        Some(ErrorCode::AuthorizationForStatementDenied | ErrorCode::ReadOnly) => {
            QueryError::Refused(message)
        }
        // What the analyst knows as a table is a view, and writing to it fails before the authorizer is asked.
        _ if message.ends_with("because it is a view") => QueryError::Refused(message),
        Some(ErrorCode::OperationInterrupted) => QueryError::Interrupted,
        Some(
            ErrorCode::DatabaseCorrupt
            | ErrorCode::NotADatabase
            | ErrorCode::SystemIoFailure
            | ErrorCode::DiskFull
            | ErrorCode::DatabaseBusy
            | ErrorCode::CannotOpen,
        ) => QueryError::Store(StoreError::from_append(path, source)),
        _ => QueryError::Statement(message),
    }
}
