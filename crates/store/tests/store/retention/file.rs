//! In a file: rows go in small steps, while others write and read, and a step that is ended half way was none.

use std::{
    path::{Path, PathBuf},
    process::Command,
    thread,
};

use luarm_chain::{
    KeyFile, Sealer, SigningKey, VerifyingKey,
    verify::{Change, Finding, Options, Progress, verify},
};
use luarm_schema::{Batch, End, Row};
use luarm_store::{Account, Evidence, Owner, Reader, StoreError, Writer};
use rusqlite::Connection;

use super::*;

/// A store of one host whose batches are sealed.
struct Store {
    path: PathBuf,
    sealer: Sealer,
    writer: Writer,
    last: i64,
    dir: tempfile::TempDir,
}

impl Store {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("luarm.db");
        let key = KeyFile::open(&dir.path().join("key")).unwrap();
        let (sealer, _) = Sealer::open(key, MACHINE, 0, None).unwrap();
        let (writer, _) = Writer::open(&url(&path), MACHINE).unwrap();
        let mut store = Store { path, sealer, writer, last: 0, dir };
        store.append(vec![host(MACHINE, "alpha", 1)], Vec::new());
        store
    }

    fn append(&mut self, rows: Vec<Row>, ends: Vec<(i64, End)>) {
        self.last += 1;
        let mut batch: Batch = batch(self.last, rows, ends);
        self.sealer.seal(&mut batch).unwrap();
        assert_eq!(self.writer.append(&batch).unwrap(), []);
    }

    /// So many endpoints of that day, which end at once.
    fn endpoints(&mut self, day: i64, from: i64, count: i64) {
        let ended = |n| {
            let mut row = endpoint(number(day, n));
            row.created = noon(day);
            row.end = Some(endpoint_end(noon(day)));
            row.into()
        };
        self.append((from..from + count).map(ended).collect(), Vec::new());
    }

    fn retain(&self, day: i64, keep: u64) -> Vec<Dropped> {
        owner(&self.path).retain_at(noon(day), days(keep)).unwrap()
    }

    fn ask(&self, sql: &str) -> Vec<String> {
        ask_file(&self.path, sql)
    }

    fn number(&self, sql: &str) -> i64 {
        self.ask(sql)[0].parse().unwrap()
    }

    fn found(&self) -> Vec<Finding> {
        found(&self.path, key().verifying_key())
    }
}

fn key() -> SigningKey {
    SigningKey::from_bytes(&[6; 32])
}

fn days(number: u64) -> Duration {
    Duration::from_secs(number * 86_400)
}

fn owner(path: &Path) -> Owner {
    let mut owner = Owner::open(&url(path)).unwrap();
    owner.sign_with(key());
    owner
}

/// What a verification finds that believes that key of what was dropped.
fn found(path: &Path, key: VerifyingKey) -> Vec<Finding> {
    let options = Options { stub_keys: vec![key], threads: 2, ..Options::default() };
    let report = verify(&|| Ok(Evidence::open(&url(path))?), &options, &Progress::default()).unwrap();
    assert_eq!(report.untold, 0);
    report.findings
}

#[test]
fn a_file_keeps_rows_for_a_time() {
    let mut store = Store::new();
    for day in -9..=0 {
        store.append(rows(day), Vec::new());
    }
    // Of day -8 one ends on a day that is kept.
    let late = vec![(number(-8, 0), End::NetInfo(endpoint_end(noon(-4))))];
    store.append(Vec::new(), late);
    let before = Time(noon(-4).0 - DAY / 2);
    let lost = |table, rows, kept| Dropped { host: 1, table, before, rows, kept };
    let expected = [lost("netinfo", 40, 10), lost("renameinfo", 5, 0)];
    let foreseen = Owner::look(&url(&store.path)).unwrap().would_retain_at(noon(0), days(4)).unwrap();
    assert_eq!(foreseen, expected);
    assert_eq!(store.number("SELECT count(*) FROM netinfo"), 100);
    assert_eq!(store.retain(0, 4), expected);
    let count = "SELECT count(*), count(destroyed) FROM netinfo";
    assert_eq!(store.ask(count), ["60|41"]);
    assert_eq!(store.ask("SELECT count(*) FROM batchinfo"), ["12"]);
    let recorded = "SELECT host, tablename, rowcount, keptcount, firstbatch, lastbatch, beforetime, batch, signature IS NULL \
                    FROM retentioninfo ORDER BY tablename";
    assert_eq!(
        store.ask(recorded),
        [format!("1|netinfo|40|10|2|6|{before}|0|0"), format!("1|renameinfo|5|0|2|6|{before}|0|0")]
    );
    let bound = first_number(before);
    assert_eq!(store.number(&format!("SELECT count(*) FROM retentioninfo WHERE beforekey = {bound}")), 2);
    let counts = Reader::open(&url(&store.path)).unwrap().row_counts().unwrap();
    assert!(counts.contains(&("netinfo", 60)) && counts.contains(&("renameinfo", 5)), "{counts:?}");
    assert_eq!(store.found(), []);
    let manifests = "SELECT batch FROM luarmproof WHERE manifest IS NULL ORDER BY batch";
    let without = |store: &Store| -> Vec<i64> {
        let file = Connection::open(&store.path).unwrap();
        let mut statement = file.prepare(manifests).unwrap();
        statement.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect()
    };
    assert_eq!(without(&store), [0i64; 0]);

    // What is there once more on the same day is nothing new.
    assert_eq!(store.retain(0, 4), []);
    // The rows that stayed can end. They go when the day on which they ended is over, and with the last of them the manifest of their batch.
    let ends = [number(-7, 0), number(-7, 1), number(-8, 1)];
    let ends = ends.map(|key| (key, End::NetInfo(endpoint_end(noon(-3)))));
    store.append(Vec::new(), ends.to_vec());
    assert_eq!((store.writer.appended().ends, store.writer.appended().unmatched), (4, 0));
    assert_eq!(Writer::open(&url(&store.path), MACHINE).unwrap().1.endpoints.len(), 16);
    assert_eq!(store.found(), []);
    store.retain(1, 4);
    assert_eq!(
        store.number(&format!("SELECT count(*) FROM netinfo WHERE endpointinfo < {}", number(-7, 9))),
        5
    );
    assert_eq!(without(&store), [0i64; 0]);
    store.retain(2, 4);
    assert_eq!(
        store.number(&format!("SELECT count(*) FROM netinfo WHERE endpointinfo < {}", number(-7, 9))),
        2
    );
    assert_eq!(without(&store), [3, 4]);
    assert_eq!(store.found(), []);

    // A row that was taken from below the bounds is not missed, one from above is; and what stayed is what it was.
    let file = Connection::open(&store.path).unwrap();
    let first = number(-9, 0);
    file.execute_batch(&format!("UPDATE netinfo_stored SET pid = 1 WHERE endpointinfo = {first}")).unwrap();
    let is = |finding: &Finding, change| finding.change == change && finding.table == "netinfo";
    let found_now = store.found();
    assert!(found_now.iter().any(|f| f.key == Some(first)), "{found_now:?}");
    file.execute_batch(&format!("UPDATE netinfo_stored SET pid = 7371 WHERE endpointinfo = {first}"))
        .unwrap();
    assert_eq!(store.found(), []);
    // Whoever drops rows himself and says so in a row that exists is found, and so is one who signs with another key.
    let last = number(-1, 5);
    let raised = first_number(noon(0));
    file.execute_batch(&format!(
        "CREATE TABLE was AS SELECT * FROM retentioninfo_stored; DELETE FROM netinfo_stored WHERE endpointinfo = {last};"
    ))
    .unwrap();
    assert!(store.found().iter().any(|f| is(f, Change::RowDeleted) && f.key == Some(last)));
    for change in
        [format!("beforekey = {raised}"), "rowcount = rowcount + 1".to_owned(), "signature = NULL".to_owned()]
    {
        file.execute_batch(&format!("UPDATE retentioninfo_stored SET {change} WHERE tablename = 'netinfo'"))
            .unwrap();
        let found = store.found();
        assert!(found.iter().any(|f| f.change == Change::RetentionUnsigned), "{change}: {found:?}");
        file.execute_batch(
            "DELETE FROM retentioninfo_stored; INSERT INTO retentioninfo_stored SELECT * FROM was",
        )
        .unwrap();
    }
    let other = SigningKey::from_bytes(&[7; 32]).verifying_key();
    assert!(found(&store.path, other).iter().any(|f| f.change == Change::RetentionUnsigned));
}

#[test]
fn a_file_has_no_accounts_and_is_not_made_by_retention() {
    let store = Store::new();
    let account = Account::Server { name: "luarm".to_owned(), password: None };
    let mut owner = owner(&store.path);
    let errors = [owner.grant(&account).unwrap_err(), owner.is_account("luarm").unwrap_err()];
    assert!(errors.iter().all(|e| matches!(e, StoreError::OnlyServers { .. })), "{errors:?}");
    let nowhere = store.dir.path().join("nowhere.db");
    for error in [Owner::open(&url(&nowhere)).unwrap_err(), Owner::look(&url(&nowhere)).unwrap_err()] {
        assert!(matches!(error, StoreError::Missing { .. }), "{error}");
    }
    assert!(!nowhere.exists());
}

#[test]
fn a_file_grows_no_more_when_rows_go_as_they_come() {
    let mut store = Store::new();
    let pages = |store: &Store| -> i64 {
        let file = Connection::open(&store.path).unwrap();
        file.query_row("PRAGMA page_count", [], |row| row.get(0)).unwrap()
    };
    let mut sizes = Vec::new();
    for day in 0..20 {
        store.endpoints(day, 0, 500);
        store.endpoints(day, 500, 500);
        store.retain(day, 2);
        sizes.push(pages(&store));
    }
    assert_eq!(store.number("SELECT count(*) FROM netinfo"), 3 * 1000);
    let a_day = sizes[1] - sizes[0];
    assert!(a_day > 20, "{sizes:?}");
    // What still grows is the ledger, two batches a day.
    assert!(sizes[19] - sizes[5] < a_day / 2, "{sizes:?}");
    assert_eq!(store.found(), []);
}

#[test]
fn rows_go_while_others_write_read_and_verify() {
    const OLD: i64 = 16_000;
    let mut store = Store::new();
    for n in 0..OLD / 1000 {
        store.endpoints(-5, n * 1000, 1000);
    }
    let path = store.path.clone();
    let retaining = thread::spawn(move || owner(&path).retain_at(noon(0), days(2)).unwrap());
    let (mut stored, mut half_way) = (0, 0);
    // It ends when retention does, which a test that cannot go on is told by its own error.
    while !retaining.is_finished() {
        store.endpoints(0, stored, 10);
        stored += 10;
        let left =
            store.number(&format!("SELECT count(*) FROM netinfo WHERE endpointinfo < {}", number(-4, 0)));
        half_way += i64::from(left > 0 && left < OLD);
        assert_eq!(store.found(), []);
        let today = format!("SELECT count(*) FROM netinfo WHERE endpointinfo >= {}", number(0, 0));
        assert_eq!(store.number(&today), stored);
    }
    let dropped = retaining.join().unwrap();
    assert_eq!((dropped.len(), dropped[0].rows, dropped[0].kept), (1, OLD, 0));
    assert!(half_way > 0, "nothing was stored meanwhile");
    assert_eq!(store.number("SELECT count(*) FROM netinfo"), stored);
    assert_eq!(store.number("SELECT sum(rowcount) FROM retentioninfo"), OLD);
    assert_eq!(store.found(), []);
}

const VICTIM: &str = "LUARM_TEST_RETENTION_STORE";

/// The process that is killed: drops rows until then.
#[test]
#[ignore = "is the child of killed_half_way_it_has_recorded_what_it_dropped"]
fn retention_that_is_killed() {
    if let Some(path) = std::env::var_os(VICTIM).map(PathBuf::from) {
        owner(&path).retain_at(noon(0), days(2)).unwrap();
    }
}

#[test]
fn killed_half_way_it_has_recorded_what_it_dropped() {
    const OLD: i64 = 16_000;
    let mut store = Store::new();
    for n in 0..OLD / 1000 {
        store.endpoints(-5, n * 1000, 1000);
    }
    store.append(rows(-5).split_off(10), Vec::new());
    store.endpoints(0, 0, 10);
    let left = format!("SELECT count(*) FROM netinfo WHERE endpointinfo < {}", number(-4, 0));
    let dropped = "SELECT coalesce(sum(rowcount), 0) FROM retentioninfo WHERE tablename = 'netinfo'";
    let mut half_way = 0;
    for round in 1..=5 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["retention::file::retention_that_is_killed", "--exact", "--ignored", "--nocapture"])
            .env(VICTIM, &store.path)
            .spawn()
            .unwrap();
        // Until so many are gone, or it has done all.
        while store.number(dropped) < round * 2500 && child.try_wait().unwrap().is_none() {
            thread::sleep(Duration::from_millis(1));
        }
        child.kill().unwrap();
        child.wait().unwrap();
        let (left, dropped) = (store.number(&left), store.number(dropped));
        assert_eq!(left + dropped, OLD, "round {round}");
        half_way += i64::from(left > 0 && dropped > 0);
        assert_eq!(store.found(), [], "round {round}");
        store.endpoints(0, round * 10, 10);
    }
    assert!(half_way > 0, "it was never killed half way");
    store.retain(0, 2);
    assert_eq!((store.number(&left), store.number(dropped)), (0, OLD));
    assert_eq!(store.number("SELECT count(*) FROM netinfo"), 60);
    assert_eq!(store.number("SELECT count(*) FROM renameinfo"), 0);
    assert_eq!(store.found(), []);
}
