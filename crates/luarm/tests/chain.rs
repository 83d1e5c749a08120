//! The chain of a host that records itself: it outlives every end of the recorder, and a tail that is cut shows.

#![expect(clippy::unwrap_used, reason = "a step that fails fails the test")]

mod support;

use std::{fs, os::unix::fs::MetadataExt, path::Path};

use luarm_chain::{
    Head,
    verify::{Change, Options, Progress, Report, Witness, verify},
};
use luarm_store::{Evidence, StoreUrl};
use support::{Launch, count, sql};

const POLL: &[&str] = &["--sensor", "poll"];

fn verified(data: &Path, witnesses: Vec<Witness>) -> Report {
    let url = StoreUrl::Sqlite(data.join("luarm.db"));
    let options = Options { witnesses, threads: 2, ..Options::default() };
    verify(&|| Ok(Evidence::open(&url)?), &options, &Progress::default()).unwrap()
}

fn intact(data: &Path) {
    let report = verified(data, Vec::new());
    assert!(report.is_intact(), "{:?}", report.findings.iter().take(5).collect::<Vec<_>>());
    let [host] = &report.hosts[..] else { panic!("{:?}", report.hosts) };
    assert_eq!(host.signatures, host.batches);
}

fn head(data: &Path) -> Head {
    let host = sql(data, "select hostname from hostinfo limit 1");
    let name = Head::file_name(host[0]["hostname"].as_str().unwrap());
    Head::read(&fs::read_to_string(data.join("heads").join(name)).unwrap()).unwrap()
}

#[test]
fn the_chain_goes_on_over_kills_and_a_lost_key_shows() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let mut recording = Launch::on(&data).with(POLL).start();
    let key = data.join("chain.key");
    assert_eq!(fs::metadata(&key).unwrap().mode() & 0o7777, 0o600);
    for kills in 0..4 {
        recording.sync();
        if kills % 2 == 0 {
            recording.kill();
        } else {
            assert!(recording.stop().success());
        }
        recording = Launch::on(&data).with(POLL).start();
    }
    recording.sync();
    assert!(recording.stop().success());
    intact(&data);

    fs::remove_file(&key).unwrap();
    let recording = Launch::on(&data).with(POLL).start();
    recording.wait_for("begins anew there");
    recording.sync();
    assert!(recording.stop().success());
    let restarts = verified(&data, Vec::new()).findings;
    let restarts: Vec<Change> = restarts.iter().map(|finding| finding.change).collect();
    assert_eq!(restarts, [Change::ChainRestarted]);
}

#[test]
fn the_head_that_is_kept_beside_the_store_shows_a_tail_that_is_cut_from_it() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let recording = Launch::on(&data).with(POLL).start();
    recording.sync();
    assert!(recording.stop().success());
    intact(&data);
    let head = head(&data);
    assert_eq!(count(&data, "select max(batchid) from batchinfo"), head.batch);
    let witness = || vec![Witness::of(&head, "heads".to_owned()).unwrap()];
    assert!(verified(&data, witness()).is_intact());

    // By somebody who may write the store: the last batch goes, with all that it did.
    let conn = rusqlite::Connection::open(data.join("luarm.db")).unwrap();
    let tables = "SELECT name FROM sqlite_schema WHERE type = 'table' AND name LIKE '%\\_stored' ESCAPE '\\'";
    let mut statement = conn.prepare(tables).unwrap();
    let tables: Vec<String> =
        statement.query_map([], |row| row.get(0)).unwrap().collect::<Result<_, _>>().unwrap();
    for table in tables {
        conn.execute(&format!("DELETE FROM {table} WHERE batch = ?"), [head.batch]).unwrap();
        let ends = format!("SELECT count(*) FROM pragma_table_info('{table}') WHERE name = 'destroyed'");
        if conn.query_row(&ends, [], |row| row.get::<_, i64>(0)).unwrap() == 1 {
            let columns = luarm_schema::table(table.trim_end_matches("_stored")).unwrap().ends();
            let set: Vec<String> = columns.map(|column| format!("{} = NULL", column.name)).collect();
            let sql = format!("UPDATE {table} SET {}, dbatch = NULL WHERE dbatch = ?", set.join(", "));
            conn.execute(&sql, [head.batch]).unwrap();
        }
    }
    conn.execute("DELETE FROM luarmproof WHERE batch = ?", [head.batch]).unwrap();
    // What is left is whole by itself.
    assert!(verified(&data, Vec::new()).is_intact());
    let findings = verified(&data, witness()).findings;
    let changes: Vec<Change> = findings.iter().map(|finding| finding.change).collect();
    assert_eq!(changes, [Change::TailCut]);
}
