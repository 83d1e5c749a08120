//! What is no store of ours is refused with the reason, and left as it is.

use std::{fs, os::unix::fs::PermissionsExt, path::Path};

use luarm_schema::SCHEMA_VERSION;
use luarm_store::{Reader, StoreError, StoreUrl, Writer};
use rusqlite::Connection;

use crate::fixture::*;

/// The errors of writer and reader for the same file, and proof that neither changed it.
fn refused(path: &Path) -> [StoreError; 2] {
    let before = fs::read(path).ok();
    let writer = Writer::open(&url(path), MACHINE).unwrap_err();
    let reader = Reader::open(&url(path)).unwrap_err();
    assert!(fs::read(path).ok() == before, "the file was changed");
    for error in [&writer, &reader] {
        assert!(error.to_string().contains(&path.display().to_string()), "{error}");
        assert!(!error.is_transient(), "{error}");
    }
    [writer, reader]
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn only_its_owner_may_read_a_new_store() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("data/a b%?#'.db");
    let writer = store_with(&path, Vec::new());
    assert_eq!(mode(path.parent().unwrap()), 0o700);
    for tail in ["", "-wal", "-shm"] {
        assert_eq!(mode(Path::new(&format!("{}{tail}", path.display()))), 0o600, "{tail}");
    }
    drop(writer);
    assert_eq!(ask_file(&path, "SELECT count(*) FROM batchinfo"), ["1"]);
}

#[test]
fn a_database_of_another_application_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let tables = dir.path().join("tables.db");
    Connection::open(&tables).unwrap().execute_batch("CREATE TABLE mine (x)").unwrap();
    let id = dir.path().join("id.db");
    Connection::open(&id).unwrap().execute_batch("PRAGMA application_id = 7").unwrap();
    for path in [tables, id] {
        for error in refused(&path) {
            assert!(matches!(error, StoreError::Foreign { .. }), "{error}");
        }
    }
}

#[test]
fn a_newer_store_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("luarm.db");
    drop(store_with(&path, Vec::new()));
    Connection::open(&path).unwrap().pragma_update(None, "user_version", SCHEMA_VERSION + 41).unwrap();
    for error in refused(&path) {
        assert!(matches!(error, StoreError::Version { .. }), "{error}");
        let message = error.to_string();
        assert!(
            message.contains(&format!("version {}", SCHEMA_VERSION + 41))
                && message.contains(&format!("version {SCHEMA_VERSION}:"))
                && message.contains("newer luarm"),
            "{message}"
        );
    }
}

#[test]
fn a_file_that_is_no_database_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("notes.txt");
    fs::write(&path, "these are my notes\n".repeat(500)).unwrap();
    for error in refused(&path) {
        assert!(matches!(error, StoreError::NotDatabase { .. }), "{error}");
    }
}

#[test]
fn a_damaged_store_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let whole = dir.path().join("whole.db");
    drop(store_with(&whole, Vec::new()));
    let bytes = fs::read(&whole).unwrap();
    let page = 4096;

    let schema = dir.path().join("schema.db");
    let mut damaged = bytes.clone();
    damaged[100..page].fill(0xa5);
    fs::write(&schema, &damaged).unwrap();

    let cut = dir.path().join("cut.db");
    fs::write(&cut, &bytes[..3 * page]).unwrap();

    let tables = dir.path().join("tables.db");
    fs::write(&tables, &bytes).unwrap();
    Connection::open(&tables)
        .unwrap()
        .execute_batch("ALTER TABLE netinfo_stored RENAME COLUMN destip TO elsewhere")
        .unwrap();

    for path in [schema, cut, tables] {
        let error = Writer::open(&url(&path), MACHINE).unwrap_err();
        assert!(matches!(error, StoreError::Corrupt { .. }), "{}: {error}", path.display());
        let message = error.to_string();
        assert!(
            message.contains("move it away") && message.contains(&path.display().to_string()),
            "{message}"
        );
    }
}

#[test]
fn damage_beyond_the_first_pages_shows_when_it_is_met() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("luarm.db");
    let mut writer = store_with(&path, Vec::new());
    for id in 2..40 {
        writer.append(&endpoints(id, id * 100..(id + 1) * 100)).unwrap();
    }
    drop(writer);
    let mut bytes = fs::read(&path).unwrap();
    let from = bytes.len() / 2;
    bytes[from..].fill(0xa5);
    fs::write(&path, &bytes).unwrap();
    let mut reader = Reader::open(&url(&path)).unwrap();
    let error = ask(&mut reader, "SELECT sum(length(application)) FROM netinfo").unwrap_err();
    assert!(error.to_string().contains("damaged"), "{error}");
}

#[test]
fn directories_and_missing_files_are_named() {
    let dir = tempfile::tempdir().unwrap();
    for error in refused(dir.path()) {
        assert!(matches!(error, StoreError::NotFile { .. }), "{error}");
    }
    let missing = dir.path().join("none.db");
    let error = Reader::open(&url(&missing)).unwrap_err();
    assert!(matches!(error, StoreError::Missing { .. }), "{error}");
    assert!(!missing.exists());
    let under_file = dir.path().join("file/none.db");
    fs::write(dir.path().join("file"), "").unwrap();
    for error in refused(&under_file) {
        assert!(matches!(error, StoreError::File { .. }), "{error}");
    }
}

#[test]
fn an_empty_file_becomes_a_store_and_answers_nothing_before() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("luarm.db");
    fs::write(&path, "").unwrap();
    assert!(matches!(Reader::open(&url(&path)), Err(StoreError::Foreign { .. })));
    drop(store_with(&path, Vec::new()));
    assert_eq!(ask_file(&path, "SELECT count(*) FROM hostinfo"), ["1"]);
}

#[test]
fn servers_that_are_not_there_are_named_without_the_password() {
    for text in ["mysql://audit:secret@127.0.0.1:1/audit", "postgres://audit:secret@127.0.0.1:1/audit"] {
        let url = StoreUrl::parse(text).unwrap();
        let errors = [Writer::open(&url, MACHINE).unwrap_err(), Reader::open(&url).unwrap_err()];
        for error in errors {
            let message = error.to_string();
            assert!(message.contains("audit:***@127.0.0.1:1/audit"), "{message}");
            assert!(message.contains("is the server running"), "{message}");
            assert!(!message.contains("secret") && !message.contains('\n'), "{message}");
            assert!(error.is_transient(), "{message}");
        }
    }
}

#[test]
fn a_url_that_makes_no_sense_is_refused_for_good() {
    for (text, said) in [
        ("mysql://audit@localhost", "names no database"),
        ("mysql://audit@localhost/", "names no database"),
        ("mysql://audit@localhost/x?colour=red", "colour"),
        ("postgres://audit@localhost", "names no database"),
        ("postgres://audit@localhost/x?colour=red", "colour"),
    ] {
        let error = Writer::open(&StoreUrl::parse(text).unwrap(), MACHINE).unwrap_err();
        assert!(error.to_string().contains(said) && !error.is_transient(), "{text}: {error}");
    }
}

#[test]
fn a_store_that_cannot_be_written_says_so() {
    if !is_root("a_store_that_cannot_be_written_says_so") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("luarm.db");
    drop(store_with(&path, Vec::new()));
    let open = |path: &Path| {
        let url = url(path);
        as_nobody(move || Writer::open(&url, MACHINE).map(drop).unwrap_err())
    };
    let set = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    set(dir.path(), 0o755);

    set(&path, 0o644);
    let file = open(&path);
    assert!(matches!(file, StoreError::ReadOnly { .. }), "{file}");

    set(&path, 0o666);
    let directory = open(&path);
    assert!(matches!(directory, StoreError::ReadOnly { .. }), "{directory}");

    let new = open(&dir.path().join("new.db"));
    assert!(matches!(&new, StoreError::File { action: "create", .. }), "{new}");
    let deep = open(&dir.path().join("deep/new.db"));
    assert!(matches!(&deep, StoreError::File { action: "make the directory", .. }), "{deep}");
}
