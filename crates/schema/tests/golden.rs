//! What the schema writes for people and engines, kept in the tree and compared. `LUARM_RENEW=1` writes the files anew.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::{fs, path::Path};

use luarm_schema::{Dialect, TABLES, reference};

fn compare(file: &str, fresh: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(file);
    if std::env::var_os("LUARM_RENEW").is_some() {
        fs::write(&path, fresh).unwrap();
    }
    let kept = fs::read_to_string(&path).unwrap_or_default();
    assert!(kept == fresh, "{file} is not fresh: run `LUARM_RENEW=1 cargo test -p luarm-schema`");
}

fn ddl(dialect: Dialect) -> String {
    let mut out = String::new();
    for table in TABLES {
        out.push_str(&dialect.create_table(table));
        out.push_str(";\n");
        for statement in dialect.create_rest(table) {
            out.push_str(&statement);
            out.push_str(";\n");
        }
        out.push('\n');
    }
    out
}

#[test]
fn reference_docs_are_fresh() {
    compare("../../docs/tables.md", &reference::markdown());
}

#[test]
fn ddl_of_each_dialect_is_as_reviewed() {
    compare("tests/golden/sqlite.sql", &ddl(Dialect::Sqlite));
    compare("tests/golden/mysql.sql", &ddl(Dialect::Mysql));
    compare("tests/golden/postgres.sql", &ddl(Dialect::Postgres));
}

#[test]
fn every_column_of_the_seed_exists() {
    for (table, columns) in [
        (
            "netinfo",
            "endpointinfo cyear cmonth cday chour cmin csec transport sourceip sourcefqdn sourceport destip destfqdn destport \
             ipversion username pid application dyear dmonth dday dhour dmin dsec md5sum",
        ),
        (
            "psinfo",
            "psentity md5sum username pid ppid pcpu pmem command arguments cyear cmonth cday cmin chour csec dyear dmonth dday dhour \
             dmin dsec",
        ),
        (
            "fileinfo",
            "fileaccessid md5sum filename location username application fd pid size cyear cmonth cday chour cmin csec dyear dmonth dday \
             dhour dmin dsec",
        ),
        ("hwinfo", "hwdevid md5sum devbus devstring devvendor userslogged cyear dyear"),
        ("hostinfo", "cyear"),
        ("netint", "cyear"),
        ("netroute", "cyear"),
        ("groupinfo", "cyear"),
    ] {
        let table = luarm_schema::table(table).unwrap_or_else(|| panic!("no table {table}"));
        for column in columns.split_whitespace() {
            assert!(table.column(column).is_some(), "no column {column} in {}", table.name);
        }
    }
}

#[test]
fn names_are_plain_and_unique() {
    for table in TABLES {
        let mut seen = std::collections::HashSet::new();
        for column in table.columns {
            assert!(
                column.name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit()),
                "{}",
                column.name
            );
            assert!(seen.insert(column.name), "{}.{} twice", table.name, column.name);
            assert!(!column.doc.trim().is_empty(), "{}.{} has no words", table.name, column.name);
        }
        assert!(table.column(table.key).is_some());
        assert!(table.indexes.iter().flat_map(|i| *i).all(|c| table.column(c).is_some()));
    }
}
