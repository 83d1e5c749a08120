//! The database of wtmpdb(8), which keeps what wtmp(5) kept: one row for each login, which gets its end at the logout, and one for each boot. SQLite reads it, without
//! making or changing a file; what it can be made to do by what stands there is bounded.

use std::{fs, os::unix::fs::FileExt, path::Path, time::Duration};

use rusqlite::{Connection, ErrorCode, OpenFlags, Row, config::DbConfig, limits::Limit};

use crate::condition::{Login, LoginSource};

/// How many rows are read, the latest.
const LIMIT: usize = super::LIMIT;
/// The largest database that is opened.
const LARGEST: u64 = 1 << 30;
/// The longest text that is taken: no user, terminal or host has one that long.
const LONGEST: usize = 1024;
/// How long to wait for a writer.
const PATIENCE: Duration = Duration::from_millis(100);
/// Steps of SQLite's machine: some hundred times what the rows take.
const STEPS: u64 = 20_000_000;
const STRIDE: i32 = 10_000;
/// The kinds of rows, as wtmpdb numbers them.
const BOOT_TIME: i64 = 1;
const USER_PROCESS: i64 = 3;

/// The longest row: many of them are read.
const ROW: i32 = 64 << 10;

const QUERY: &str = "select ID, Type, cast(substr(User, 1, ?2) as blob), Login, Logout, cast(substr(TTY, 1, ?2) as blob), \
     cast(substr(RemoteHost, 1, ?2) as blob), cast(substr(Service, 1, ?2) as blob) from wtmp order by ID desc limit ?1";

/// Why it is not read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Unread {
    /// As `lossinfo` says it.
    pub(super) cause: &'static str,
    pub(super) reason: String,
}

impl Unread {
    fn new(cause: &'static str, reason: &impl ToString) -> Self {
        Self { cause, reason: reason.to_string() }
    }
}

impl From<rusqlite::Error> for Unread {
    fn from(error: rusqlite::Error) -> Self {
        let cause = match error.sqlite_error_code() {
            // A writer that died left a journal that only a writer may play back.
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked | ErrorCode::ReadOnly) => "locked",
            Some(ErrorCode::PermissionDenied | ErrorCode::CannotOpen | ErrorCode::SystemIoFailure) => {
                "unreadable"
            }
            _ => "malformed",
        };
        Self::new(cause, &error)
    }
}

/// What the database has.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Records {
    /// Logins that are over, in the order of their beginnings.
    pub(super) past: Vec<Login>,
    /// Those that are not.
    pub(super) open: Vec<Login>,
}

/// Reads the database at a path; `None` where there is none.
pub(super) fn read(path: &Path) -> Option<Result<Records, Unread>> {
    match fs::metadata(path) {
        Ok(facts) if !facts.is_file() => Some(Err(Unread::new("malformed", &"it is no file"))),
        Ok(facts) if facts.len() > LARGEST => {
            Some(Err(Unread::new("too-large", &format!("it has {} bytes", facts.len()))))
        }
        // As it is before the first login.
        Ok(facts) if facts.len() == 0 => Some(Ok(Records::default())),
        Ok(_) => Some(open(path).and_then(|database| records(&database))),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => None,
        Err(e) => Some(Err(Unread::new("unreadable", &e))),
    }
}

fn open(path: &Path) -> Result<Connection, Unread> {
    // The versions of the format; 2 is a write-ahead log, beside which a reader would make files of its own. wtmpdb has none.
    let mut versions = [0; 2];
    let read = fs::File::open(path).and_then(|file| file.read_exact_at(&mut versions, 18));
    if read.is_ok() && versions.contains(&2) {
        return Err(Unread::new("malformed", &"it has a write-ahead log"));
    }
    let flags =
        OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_EXRESCODE;
    let mut database = Connection::open_with_flags(path, flags)?;
    database.busy_timeout(PATIENCE)?;
    database.set_db_config(DbConfig::SQLITE_DBCONFIG_TRUSTED_SCHEMA, false)?;
    database.set_db_config(DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true)?;
    database.set_limit(Limit::SQLITE_LIMIT_LENGTH, ROW)?;
    let mut steps = 0;
    database.progress_handler(
        STRIDE,
        Some(move || {
            steps += u64::from(STRIDE.unsigned_abs());
            steps > STEPS
        }),
    )?;
    database.pragma_update(None, "query_only", true)?;
    database.pragma_update(None, "temp_store", "memory")?;
    Ok(database)
}

fn records(database: &Connection) -> Result<Records, Unread> {
    let table: i64 = database.query_row(
        "select count(*) from sqlite_schema where type = 'table' and name = 'wtmp'",
        [],
        |row| row.get(0),
    )?;
    if table != 1 {
        return Err(Unread::new("malformed", &"it has no table wtmp"));
    }
    let mut statement = database.prepare(QUERY)?;
    let [limit, longest] = [LIMIT, LONGEST].map(|n| i64::try_from(n).unwrap_or(i64::MAX));
    let mut rows = statement.query([limit, longest])?;
    let mut records = Records::default();
    // When the system was started after what is read next.
    let mut booted: Option<i64> = None;
    while let Some(row) = rows.next()? {
        let (kind, since): (i64, i64) = (row.get(1)?, row.get::<_, Option<i64>>(3)?.unwrap_or(0));
        if kind == BOOT_TIME {
            booted = Some(since);
        }
        let Some(mut login) = (if kind == USER_PROCESS { login(row, since)? } else { None }) else {
            continue;
        };
        // Whoever was logged in when the system stopped is logged in no more.
        login.until = row.get::<_, Option<i64>>(4)?.or(booted).map(|until| until.max(since));
        if login.until.is_some() { records.past.push(login) } else { records.open.push(login) }
    }
    records.past.reverse();
    records.open.reverse();
    Ok(records)
}

/// The login in a row; `None` for one that names nobody, or began before 1970.
fn login(row: &Row<'_>, since: i64) -> rusqlite::Result<Option<Login>> {
    let text = |column: usize| -> rusqlite::Result<Option<Vec<u8>>> {
        let text = row.get_ref(column)?.as_blob_or_null()?.filter(|text| !text.is_empty());
        Ok(text.map(|text| text[..text.len().min(LONGEST)].to_vec()))
    };
    let Some(user) = text(2)?.filter(|_| since >= 0) else { return Ok(None) };
    let host = text(6)?;
    Ok(Some(Login {
        source: LoginSource::Wtmpdb,
        id: row.get::<_, i64>(0)?.to_string().into_bytes(),
        user,
        tty: text(5)?.map(|tty| tty.strip_prefix(b"/dev/").map(<[u8]>::to_vec).unwrap_or(tty)),
        address: host.as_deref().and_then(|host| std::str::from_utf8(host).ok()?.parse().ok()),
        host,
        service: text(7)?,
        pid: 0,
        session: None,
        since,
        until: None,
    }))
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// As wtmpdb makes it.
    pub(in super::super) const SCHEMA: &str = "CREATE TABLE IF NOT EXISTS wtmp(ID INTEGER PRIMARY KEY, Type INTEGER, User TEXT NOT NULL, Login INTEGER, \
         Logout INTEGER, TTY TEXT, RemoteHost TEXT, Service TEXT) STRICT;";

    fn database(dir: &Path, rows: &str) -> std::path::PathBuf {
        let path = dir.join("wtmp.db");
        let database = Connection::open(&path).unwrap();
        database.execute_batch(&format!("{SCHEMA}{rows}")).unwrap();
        path
    }

    fn told(logins: &[Login]) -> Vec<(String, i64, Option<i64>)> {
        logins.iter().map(|l| (String::from_utf8(l.user.clone()).unwrap(), l.since, l.until)).collect()
    }

    #[test]
    fn logins_end_with_their_logout_or_with_the_system() {
        let dir = tempfile::tempdir().unwrap();
        let path = database(
            dir.path(),
            "insert into wtmp values (1, 1, 'reboot', 10, 100, '~', '6.12.0', null);
             insert into wtmp values (2, 3, 'alice', 20, 30, 'pts/0', '192.0.2.7', 'sshd');
             insert into wtmp values (3, 3, 'bob', 40, null, 'tty1', null, 'login');
             insert into wtmp values (4, 1, 'reboot', 200, null, '~', '6.12.0', null);
             insert into wtmp values (5, 3, 'carol', 210, null, '/dev/pts/0', 'client.example', 'sshd');
             insert into wtmp values (6, 3, '', 220, null, 'pts/1', null, null);
             insert into wtmp values (7, 3, 'dave', -5, null, 'pts/1', null, null);
             insert into wtmp values (8, 3, 'eve', 250, 240, null, null, null);",
        );
        let records = read(&path).unwrap().unwrap();
        assert_eq!(
            told(&records.past),
            [("alice".into(), 20, Some(30)), ("bob".into(), 40, Some(200)), ("eve".into(), 250, Some(250))]
        );
        assert_eq!(told(&records.open), [("carol".into(), 210, None)]);
        let [carol] = &records.open[..] else { panic!() };
        assert_eq!((carol.tty.as_deref(), carol.address), (Some(&b"pts/0"[..]), None));
        assert_eq!(carol.host.as_deref(), Some(&b"client.example"[..]));
        assert_eq!(records.past[0].address, "192.0.2.7".parse().ok());
        assert_eq!(records.past[0].service.as_deref(), Some(&b"sshd"[..]));
    }

    #[test]
    fn reading_leaves_nothing_behind() {
        let dir = tempfile::tempdir().unwrap();
        let path = database(dir.path(), "insert into wtmp values (1, 3, 'alice', 20, 30, null, null, null);");
        let before = fs::read(&path).unwrap();
        assert_eq!(read(&path).unwrap().unwrap().past.len(), 1);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
        assert_eq!(fs::read(&path).unwrap(), before);
        // Beside a write-ahead log a reader would make files.
        let wal: String = Connection::open(&path)
            .unwrap()
            .query_row("pragma journal_mode = wal", [], |r| r.get(0))
            .unwrap();
        assert_eq!(wal, "wal");
        assert_eq!(read(&path).unwrap().unwrap_err().cause, "malformed");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn what_cannot_be_read_is_said_and_why() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("wtmp.db");
        let cause = || read(&path).map(|records| records.map_err(|unread| unread.cause));
        assert_eq!(cause(), None);
        fs::write(&path, "").unwrap();
        assert_eq!(cause(), Some(Ok(Records::default())));
        for foreign in [&b"SQLite format 3\0"[..], &[0xff; 9000], b"text"] {
            fs::write(&path, foreign).unwrap();
            assert_eq!(cause(), Some(Err("malformed")), "{foreign:?}");
        }
        fs::remove_file(&path).unwrap();
        fs::create_dir(&path).unwrap();
        assert_eq!(cause(), Some(Err("malformed")));
        fs::remove_dir(&path).unwrap();
        fs::File::create(&path).unwrap().set_len(LARGEST + 1).unwrap();
        assert_eq!(cause(), Some(Err("too-large")));
        fs::remove_file(&path).unwrap();
        // Damage in the middle.
        let rows: String = (1..500)
            .map(|n| format!("insert into wtmp values ({n}, 3, 'u{n}', {n}, {n}, 'pts/1', 'host', 'sshd');"))
            .collect();
        database(dir.path(), &rows);
        let mut bytes = fs::read(&path).unwrap();
        bytes[8192..].fill(0xa5);
        fs::write(&path, bytes).unwrap();
        assert_eq!(cause(), Some(Err("malformed")));
        fs::remove_file(&path).unwrap();
        // A table of that name that is none, and has no end.
        let database = Connection::open(&path).unwrap();
        let view = "create view wtmp as with recursive n(i) as (select 1 union all select i + 1 from n) select i as ID, 3 as Type, 'u' as User, \
            1 as Login, 1 as Logout, null as TTY, null as RemoteHost, null as Service from n";
        database.execute_batch(view).unwrap();
        assert_eq!(cause(), Some(Err("malformed")));
        database.execute_batch("drop view wtmp; create table wtmp (ID, Type, User, Login)").unwrap();
        assert_eq!(cause(), Some(Err("malformed")));
        // Of a table without order, only so much is looked at.
        database
            .execute_batch(
                "drop table wtmp; create table wtmp (ID, Type, User, Login, Logout, TTY, RemoteHost, Service);
                 insert into wtmp with recursive n(i) as (select 1 union all select i + 1 from n limit 1000000) select i, 3, 'u', 1, 1, null, null, null from n",
            )
            .unwrap();
        assert_eq!(cause(), Some(Err("malformed")));
    }

    #[test]
    fn a_writer_is_not_waited_for_without_end() {
        let dir = tempfile::tempdir().unwrap();
        let path =
            database(dir.path(), "insert into wtmp values (1, 3, 'alice', 20, null, null, null, null);");
        let writer = Connection::open(&path).unwrap();
        writer.execute_batch("begin exclusive").unwrap();
        assert_eq!(read(&path).unwrap().unwrap_err().cause, "locked");
        writer.execute_batch("update wtmp set Logout = 30; commit").unwrap();
        assert_eq!(read(&path).unwrap().unwrap().past.len(), 1);
    }

    #[test]
    fn more_rows_than_are_read_are_not_all_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = database(
            dir.path(),
            "insert into wtmp with recursive n(i) as (select 1 union all select i + 1 from n limit 20000) select i, 3, 'u', i, i, null, hex(zeroblob(600)), null from n",
        );
        let records = read(&path).unwrap().unwrap();
        assert_eq!((records.past.len(), records.past.last().unwrap().since), (LIMIT, 20_000));
        assert_eq!(records.past[0].host.as_ref().map(Vec::len), Some(LONGEST));
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_can_stand_in_the_file(at in 0usize..12_000, bytes: Vec<u8>) {
            let dir = tempfile::tempdir().unwrap();
            let path = database(dir.path(), "insert into wtmp values (1, 3, 'alice', 20, 30, null, null, null);");
            let file = fs::File::options().write(true).open(&path).unwrap();
            file.write_all_at(&bytes, at as u64).unwrap();
            let _ = read(&path);
        }
    }
}
