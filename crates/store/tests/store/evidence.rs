//! Whatever is changed in a store shows, and where.

mod changes;
mod history;

use std::collections::BTreeMap;

use luarm_chain::verify::{self, History, Options, Progress, Report, Trouble, Witness};
use luarm_schema::{Dialect, TABLES};
use luarm_store::{Evidence, StoreUrl};
use luarm_testbed::{Mariadb, Postgres};

use self::{
    changes::{Known, Tamperer, Tampering},
    history::{BATCHES, Dice, HOSTS, Own, kept, populate},
};
use crate::{fixture::url, servers::parsed};

/// Which changes are made; another number, and they are others.
const SEED: u64 = 20_261_123;

fn seed() -> u64 {
    let given = std::env::var("LUARM_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed = given.unwrap_or(SEED);
    eprintln!("LUARM_SEED={seed}");
    seed
}

fn verified(url: &StoreUrl, options: &Options) -> Report {
    verify::verify(&|| Evidence::open(url).map_err(Trouble::from), options, &Progress::default()).unwrap()
}

/// All rows of all tables.
fn rows(url: &StoreUrl) -> Vec<Known> {
    let mut evidence = Evidence::open(url).unwrap();
    let mut all = Vec::new();
    for table in TABLES.iter().copied() {
        for portion in evidence.portions(table, None).unwrap() {
            let mut each = |values: &[luarm_schema::Value<'_>]| {
                let values = values.iter().map(|value| Own::of(*value)).collect();
                all.push(Known { table, values });
            };
            evidence.rows(table, portion, &mut each).unwrap();
        }
    }
    all
}

/// The tables with their columns, and `luarmproof`.
fn stored(dialect: Dialect) -> Vec<(String, String)> {
    let of = |table: &&luarm_schema::TableDef| {
        let names: Vec<&str> = table.stored().map(|column| column.name).collect();
        (dialect.stored_name(table), names.join(", "))
    };
    let proof = "host, batch, manifest, root, refused, received, receipt, signer";
    TABLES.iter().map(of).chain([("luarmproof".to_owned(), proof.to_owned())]).collect()
}

/// What makes the rows touched what they were.
fn undo(tampering: &Tampering, dialect: Dialect) -> Vec<String> {
    let all: BTreeMap<String, String> = stored(dialect).into_iter().collect();
    let mut sql = Vec::new();
    match &tampering.touched {
        Some(touched) => {
            for (table, key, host, value) in touched {
                sql.push(format!("DELETE FROM {table} WHERE host = {host} AND {key} = {value}"));
            }
            for (table, key, host, value) in touched {
                let columns = &all[table];
                sql.push(format!(
                    "INSERT INTO {table} ({columns}) SELECT {columns} FROM copy_{table} WHERE host = {host} AND {key} = {value}"
                ));
            }
        }
        None => {
            for (table, columns) in &all {
                sql.push(format!("DELETE FROM {table}"));
                sql.push(format!("INSERT INTO {table} ({columns}) SELECT {columns} FROM copy_{table}"));
            }
        }
    }
    sql
}

/// Fills a store, makes so many changes one after the other, and looks whether each is found at its place.
fn whatever_is_changed_shows(
    url: &StoreUrl,
    dialect: Dialect,
    changes: usize,
    run: &mut dyn FnMut(&[String]),
) {
    let seed = seed();
    let key = populate(url, seed);
    let mut options = Options { keys: vec![key], threads: 2, ..Options::default() };
    let report = verified(url, &options);
    assert_eq!(report.findings, [], "an untouched store");
    assert!(report.is_intact());
    let rows = rows(url);
    let sealed = rows.iter().filter(|row| row.table.name != "batchinfo").count();
    assert_eq!((report.rows, report.hosts.len()), (sealed as u64, HOSTS as usize));
    for host in &report.hosts {
        assert_eq!(
            (host.batches, host.signatures, host.receipts),
            (BATCHES as u64, BATCHES as u64, BATCHES as u64)
        );
    }
    // What was there is kept elsewhere, and is what it was.
    let heads: Vec<Witness> = report
        .hosts
        .iter()
        .map(|host| Witness::of(&kept(host.head.as_ref().unwrap()), "the head".to_owned()).unwrap())
        .collect();
    options.witnesses = heads.clone();
    assert!(verified(url, &options).is_intact());
    let copies: Vec<String> = stored(dialect)
        .iter()
        .map(|(table, columns)| format!("CREATE TABLE copy_{table} AS SELECT {columns} FROM {table}"))
        .collect();
    run(&copies);

    let mut tamperer = Tamperer { dialect, rows: &rows, dice: Dice::new(seed ^ 0xd1ce) };
    for n in 0..changes {
        let tampering = tamperer.next();
        run(&tampering.sql);
        // Only a cut needs to be told of what was there.
        options.witnesses = if tampering.touched.is_none() { heads.clone() } else { Vec::new() };
        let report = verified(url, &options);
        for place in &tampering.places {
            let is_there = report.findings.iter().any(|finding| {
                finding.table == place.table
                    && finding.key.is_some_and(|key| place.keys.contains(&key))
                    && place.batches.contains(&finding.batch)
                    && place.kinds.contains(&finding.change)
                    && !finding.is_note
            });
            assert!(is_there, "change {n}: {}: not at {place:?}: {:#?}", tampering.what, report.findings);
        }
        assert!(!report.is_intact());
        let count = report.findings.len();
        assert!(
            count <= tampering.most,
            "change {n}: {}: {count} findings: {:#?}",
            tampering.what,
            report.findings
        );
        run(&undo(&tampering, dialect));
    }
    options.witnesses = heads;
    assert_eq!(verified(url, &options).findings, [], "all is undone");
}

#[test]
fn whatever_is_changed_in_sqlite_shows() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("luarm.db");
    let mut own: Option<rusqlite::Connection> = None;
    let mut run = |sql: &[String]| {
        let own = own.get_or_insert_with(|| {
            let conn = rusqlite::Connection::open(&path).unwrap();
            // Whether the changes outlive a loss of power does not matter here.
            conn.pragma_update(None, "synchronous", "off").unwrap();
            conn
        });
        own.execute_batch(&format!("BEGIN; {}; COMMIT", sql.join("; "))).unwrap();
    };
    whatever_is_changed_shows(&url(&path), Dialect::Sqlite, 600, &mut run);
}

#[test]
fn whatever_is_changed_in_mariadb_shows() {
    let Some(server) = Mariadb::start("whatever_is_changed_in_mariadb_shows") else { return };
    let store = parsed(&server.url("root", "tampered"));
    let mut is_open = false;
    let mut run = |sql: &[String]| {
        let mut script = "USE tampered; SET sql_mode = 'NO_BACKSLASH_ESCAPES'; ".to_owned();
        if !is_open {
            // Who owns a database is held by no trigger.
            for table in TABLES.iter().filter(|table| table.is_interval()) {
                script += &format!("DROP TRIGGER IF EXISTS {}_ends; ", table.name);
            }
            is_open = true;
        }
        server.ask(&(script + "BEGIN; " + &sql.join("; ") + "; COMMIT;"));
    };
    whatever_is_changed_shows(&store, Dialect::Mysql, 250, &mut run);
}

#[test]
fn whatever_is_changed_in_postgres_shows() {
    let Some(server) = Postgres::start("whatever_is_changed_in_postgres_shows") else { return };
    server.ask("postgres", "CREATE DATABASE tampered");
    let store = parsed(&server.url("luarm", "tampered"));
    let mut run = |sql: &[String]| {
        // Who owns a database is held by no trigger.
        let script = "SET search_path = luarm; SET session_replication_role = replica; BEGIN; ".to_owned();
        server.ask("tampered", &(script + &sql.join("; ") + "; COMMIT;"));
    };
    whatever_is_changed_shows(&store, Dialect::Postgres, 150, &mut run);
}
