//! The reader refuses every write at the engine, and nothing on disk changes.

use std::{collections::BTreeMap, fs, path::Path};

use luarm_store::{QueryError, Reader};

use crate::fixture::*;

fn files(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    let read = |e: fs::DirEntry| (e.file_name().to_string_lossy().into_owned(), fs::read(e.path()).unwrap());
    fs::read_dir(dir).unwrap().map(|e| read(e.unwrap())).filter(|(name, _)| !name.ends_with("-shm")).collect()
}

#[test]
fn no_statement_writes() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("luarm.db");
    let _writer = store_with(&path, vec![endpoint(1).into()]);
    let before = files(dir.path());
    let out = dir.path().join("out");
    let out = out.display();
    for host in [None, Some("alpha")] {
        let mut reader = Reader::open(&url(&path)).unwrap();
        if let Some(host) = host {
            reader.use_host(host).unwrap();
        }
        for statement in [
            "INSERT INTO lossinfo (host, lossid) VALUES (1, 1)",
            "REPLACE INTO hostinfo SELECT * FROM hostinfo",
            "UPDATE netinfo SET username = 'root'",
            "UPDATE main.netinfo SET username = 'root' RETURNING *",
            "DELETE FROM main.netinfo",
            "DROP TABLE main.netinfo",
            "DROP VIEW temp.netinfo",
            "ALTER TABLE main.netinfo RENAME TO gone",
            "CREATE TABLE mine (x)",
            "CREATE TEMP TABLE mine (x)",
            "CREATE TEMP VIEW mine AS SELECT 1",
            "CREATE TEMP TRIGGER mine AFTER INSERT ON main.netinfo BEGIN SELECT 1; END",
            "CREATE INDEX mine ON netinfo (pid)",
            "CREATE VIRTUAL TABLE mine USING fts5(x)",
            "WITH x AS (SELECT 1) INSERT INTO lossinfo (host) SELECT * FROM x",
            "/* SELECT */ DELETE FROM main.netinfo -- SELECT",
            "EXPLAIN DELETE FROM main.netinfo",
            "PRAGMA writable_schema = on",
            "PRAGMA query_only = off",
            "PRAGMA journal_mode = delete",
            "PRAGMA main.user_version = 9",
            "PRAGMA user_version(9)",
            "PRAGMA wal_checkpoint(truncate)",
            "PRAGMA optimize",
            "PRAGMA temp_store_directory = '/'",
            "SELECT * FROM pragma_journal_mode('delete')",
            "VACUUM",
            "ANALYZE",
            "REINDEX",
            "BEGIN",
            "BEGIN EXCLUSIVE",
            "SAVEPOINT x",
            "SELECT load_extension('/lib/x.so')",
            "SELECT fts3_tokenizer('simple', x'00')",
            &format!("VACUUM INTO '{out}'"),
            &format!("ATTACH '{out}' AS x"),
            &format!("SELECT writefile('{out}', 'x')"),
            "SELECT readfile('/etc/passwd')",
            "SELECT 1; DELETE FROM main.netinfo",
        ] {
            let error = ask(&mut reader, statement).expect_err(statement);
            assert!(
                matches!(error, QueryError::Refused(_) | QueryError::Statement(_)),
                "{statement}: {error}"
            );
        }
        assert!(files(dir.path()) == before, "something was written");
        assert_eq!(ask(&mut reader, "SELECT username FROM main.netinfo").unwrap(), ["nobody"]);
    }
}

#[test]
fn refusals_say_why() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("luarm.db");
    drop(store_with(&path, Vec::new()));
    let mut reader = Reader::open(&url(&path)).unwrap();
    for (statement, words) in [
        ("DELETE FROM netinfo", "reads only"),
        ("ATTACH 'x' AS y", "reads only"),
        ("SELECT * FROM nowhere", "no such table: nowhere"),
        ("selec 1", "syntax error"),
        ("SELECT 1; SELECT 2", "one statement"),
    ] {
        let message = ask(&mut reader, statement).unwrap_err().to_string();
        assert!(message.contains(words), "{statement}: {message}");
    }
}

#[test]
fn statements_that_only_read_are_answered() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("luarm.db");
    drop(store_with(&path, vec![endpoint(1).into()]));
    let mut reader = Reader::open(&url(&path)).unwrap();
    for statement in [
        "PRAGMA table_info(netinfo)",
        "PRAGMA user_version",
        "PRAGMA integrity_check",
        "SELECT * FROM pragma_table_xinfo('psinfo')",
        "SELECT sql FROM sqlite_schema",
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 9) SELECT max(i) FROM n",
        "SELECT username, count(*) OVER () FROM netinfo GROUP BY username HAVING count(*) > 0 ORDER BY 1",
        "SELECT value FROM json_each('[1,2]')",
        "EXPLAIN QUERY PLAN SELECT * FROM netinfo",
        "SELECT n.pid FROM netinfo n LEFT JOIN psinfo p USING (host, psentity) UNION SELECT 2",
        "VALUES (1), (2)",
    ] {
        let rows = ask(&mut reader, statement).unwrap_or_else(|e| panic!("{statement}: {e}"));
        assert!(!rows.is_empty(), "{statement}");
    }
}
