//! Reading beside a writer, after one, and without the right to write anything.

use std::{
    fs, io,
    os::unix::fs::PermissionsExt,
    path::Path,
    sync::mpsc::{RecvTimeoutError, channel},
    time::Duration,
};

use luarm_store::{Cell, QueryError, Reader, RowSink, StoreError, Writer};
use rusqlite::Connection;

use crate::fixture::*;

const COUNT: &str = "SELECT count(*) FROM netinfo";

fn world_may_read(dir: &Path) {
    fs::set_permissions(dir, fs::Permissions::from_mode(0o755)).unwrap();
    for file in fs::read_dir(dir).unwrap() {
        fs::set_permissions(file.unwrap().path(), fs::Permissions::from_mode(0o644)).unwrap();
    }
}

#[test]
fn a_reader_sees_each_batch_once_it_is_stored_and_stops_no_writer() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("luarm.db");
    let mut writer = store_with(&path, Vec::new());
    let mut reader = Reader::open(&url(&path)).unwrap();
    for id in 2..20 {
        writer.append(&endpoints(id, id * 10..(id + 1) * 10)).unwrap();
        assert_eq!(ask(&mut reader, COUNT).unwrap(), [((id - 1) * 10).to_string()]);
    }

    /// Appends while an answer is being read.
    struct Meanwhile<'a>(&'a mut Writer, i64);
    impl RowSink for Meanwhile<'_> {
        fn columns(&mut self, _: &[String]) -> io::Result<()> {
            Ok(())
        }
        fn row(&mut self, _: &[Cell<'_>]) -> io::Result<()> {
            self.0.append(&endpoints(self.1, self.1 * 10..(self.1 + 1) * 10)).unwrap();
            self.1 += 1;
            Ok(())
        }
    }
    let seen = reader.query("SELECT * FROM netinfo", &mut Meanwhile(&mut writer, 20)).unwrap();
    assert_eq!(seen, 180);
    assert_eq!(ask(&mut reader, COUNT).unwrap(), [(180 + 1800).to_string()]);
}

#[test]
fn a_second_writer_waits_and_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("luarm.db");
    let mut first = store_with(&path, Vec::new());
    let (mut second, resume) = Writer::open(&url(&path), MACHINE).unwrap();
    assert_eq!(resume.last_batch.map(|(id, _)| id), Some(1));
    first.append(&endpoints(2, 1..5)).unwrap();
    assert!(matches!(second.append(&endpoints(3, 6..9)).map(|refused| refused.len()), Ok(0)));
    assert!(matches!(first.append(&endpoints(3, 10..12)), Err(StoreError::Conflict { id: 3 })));

    let other = Connection::open(&path).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let error = first.append(&endpoints(4, 20..22)).unwrap_err();
    assert!(matches!(error, StoreError::Busy { .. }) && error.is_transient(), "{error}");
    other.execute_batch("ROLLBACK").unwrap();
    first.append(&endpoints(4, 20..22)).unwrap();
}

#[test]
fn a_user_who_may_only_read_reads_beside_a_writer_and_after_it() {
    if !is_root("a_user_who_may_only_read_reads_beside_a_writer_and_after_it") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("luarm.db");
    let mut writer = store_with(&path, vec![endpoint(1).into()]);
    world_may_read(dir.path());
    let target = url(&path);
    let count = move || ask(&mut Reader::open(&target).unwrap(), COUNT).unwrap();
    assert_eq!(as_nobody(count.clone()), ["1"]);
    writer.append(&endpoints(2, [2])).unwrap();
    assert_eq!(as_nobody(count.clone()), ["2"]);

    // The writer closes, and the log goes with it.
    drop(writer);
    assert!(!path.with_extension("db-wal").exists());
    assert_eq!(as_nobody(count), ["2"]);

    // A reader that began without a writer sees what one stores after.
    let target = url(&path);
    let (to_reader, orders) = channel::<()>();
    let (answers, from_reader) = channel();
    let reading = std::thread::spawn(move || {
        as_nobody(move || {
            let mut reader = Reader::open(&target).unwrap();
            reader.use_host("alpha").unwrap();
            for () in orders {
                answers.send(ask(&mut reader, COUNT).map_err(|e| e.to_string())).unwrap();
            }
        });
    });
    to_reader.send(()).unwrap();
    assert_eq!(from_reader.recv().unwrap().unwrap(), ["2"]);
    let (mut writer, _) = Writer::open(&url(&path), MACHINE).unwrap();
    writer.append(&endpoints(3, [3])).unwrap();
    world_may_read(dir.path());
    to_reader.send(()).unwrap();
    assert_eq!(from_reader.recv().unwrap().unwrap(), ["3"]);
    drop(to_reader);
    reading.join().unwrap();
}

#[test]
fn what_a_reader_cannot_read_without_writing_is_explained() {
    if !is_root("what_a_reader_cannot_read_without_writing_is_explained") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("luarm.db");
    let writer = store_with(&path, vec![endpoint(1).into()]);
    // As after a crash of the host: a log that waits, and no index of it.
    let crashed = tempfile::tempdir().unwrap();
    for tail in ["", "-wal"] {
        fs::copy(format!("{}{tail}", path.display()), crashed.path().join(format!("luarm.db{tail}")))
            .unwrap();
    }
    drop(writer);
    world_may_read(crashed.path());
    let target = url(&crashed.path().join("luarm.db"));
    let error = as_nobody(move || Reader::open(&target).map(drop).unwrap_err());
    assert!(matches!(error, StoreError::NeedsRecovery { .. }), "{error}");
    assert!(error.to_string().contains("start the recorder"), "{error}");

    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    let target = url(&path);
    let error = as_nobody(move || Reader::open(&target).map(drop).unwrap_err());
    assert!(error.to_string().to_lowercase().contains("permission denied"), "{error}");
}

#[test]
fn a_query_is_interrupted_from_another_thread_and_the_reader_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("luarm.db");
    drop(store_with(&path, Vec::new()));
    let mut reader = Reader::open(&url(&path)).unwrap();
    let interrupt = reader.interrupt();
    let (done, finished) = channel::<()>();
    // An interrupt that comes before the query began ends nothing, so it is repeated.
    let interrupting = std::thread::spawn(move || {
        while finished.recv_timeout(Duration::from_millis(5)) == Err(RecvTimeoutError::Timeout) {
            interrupt.interrupt();
        }
    });
    let endless = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n";
    let error = ask(&mut reader, endless).unwrap_err();
    drop(done);
    interrupting.join().unwrap();
    assert!(matches!(error, QueryError::Interrupted), "{error}");
    assert_eq!(ask(&mut reader, "SELECT 1").unwrap(), ["1"]);
}

#[test]
fn values_of_every_kind_come_with_the_names_of_their_columns() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("luarm.db");
    drop(store_with(&path, Vec::new()));
    let mut reader = Reader::open(&url(&path)).unwrap();
    let mut answer = Answer::default();
    reader
        .query("SELECT 1 AS a, 1.5, 'x', NULL, x'00ff', CAST(x'ff41' AS TEXT) -- end", &mut answer)
        .unwrap();
    assert_eq!(answer.columns[..4], ["a", "1.5", "'x'", "NULL"]);
    assert_eq!(answer.rows, ["1|1.5|x|NULL|[0, 255]|[255, 65]"]);
    let mut nothing = Answer::default();
    assert_eq!(reader.query("-- only words", &mut nothing).unwrap(), 0);
    assert!(nothing.columns.is_empty());
}
