//! Rows are kept for a time; those that have not ended stay, and what was dropped is recorded.

use std::{collections::HashMap, time::Duration};

use luarm_chain::{
    KeyFile, Sealer, SigningKey, stub,
    verify::{Change, Finding, Options, Progress, verify},
};
use luarm_schema::{
    Batch, End, Role, Row, Time, Word, first_number,
    tables::{RenameInfo, RetentionInfo},
};
use luarm_store::{Dropped, Evidence, HostIdentity, Owner, Reader, StoreUrl, Writer};
use luarm_testbed::{Galera, Mariadb, Postgres};

use crate::{fixture::*, servers::parsed};

mod file;

const DAY: i64 = 86_400_000_000;

/// 2026-11-20 12:00:00 UTC, day 0.
fn noon(day: i64) -> Time {
    Time(1_795_176_000_000_000 + day * DAY)
}

fn number(day: i64, n: i64) -> i64 {
    first_number(noon(day)) + n
}

/// Ten endpoints of the day, of which the first two do not end, and a change of name.
fn rows(day: i64) -> Vec<Row> {
    let endpoints = (0..10).map(|n| {
        let mut row = endpoint(number(day, n));
        row.created = noon(day);
        row.end = (n > 1).then(|| endpoint_end(Time(noon(day).0 + 1)));
        row.into()
    });
    let rename = RenameInfo {
        renameid: number(day, 0),
        psentity: 1,
        username: "nobody".into(),
        loginname: None,
        pid: 7,
        application: "crond".to_owned(),
        oldapplication: "perl".to_owned(),
        auid: None,
        session: None,
        created: noon(day),
        end: None,
    };
    endpoints.chain([rename.into()]).collect()
}

#[test]
fn mariadb_keeps_rows_for_a_time() {
    let Some(mariadb) = Mariadb::start("mariadb_keeps_rows_for_a_time") else {
        return;
    };
    check(&parsed(&mariadb.url("root", "luarm")), &|| parts_of_mariadb(|sql| mariadb.ask(sql)), &|way| {
        half_of_mariadb(way, |sql| mariadb.ask(sql));
    });
}

#[test]
fn a_cluster_keeps_rows_for_a_time() {
    let Some(galera) = Galera::start("a_cluster_keeps_rows_for_a_time") else {
        return;
    };
    // Done at one node, and seen at another.
    let ask = |sql: &str| galera.ask(2, &format!("SET wsrep_sync_wait = 15; {sql}"));
    check(&parsed(&galera.url(&[0, 1], "luarm")), &|| parts_of_mariadb(ask), &|way| {
        half_of_mariadb(way, ask);
    });
}

fn parts_of_mariadb(ask: impl Fn(&str) -> String) -> Vec<String> {
    let sql = "SELECT group_concat(partition_name ORDER BY partition_ordinal_position) FROM information_schema.partitions \
               WHERE table_schema = 'luarm' AND table_name = 'netinfo'";
    ask(sql).trim().split(',').map(str::to_owned).collect()
}

/// An act that was ended half way, after its parts were dropped and before the open rows were back.
fn half_of_mariadb(way: u32, ask: impl Fn(&str) -> String) {
    if way == 0 {
        let key = number(-6, 1);
        ask(&format!(
            "USE luarm; CREATE TABLE kept_netinfo LIKE netinfo; ALTER TABLE kept_netinfo REMOVE PARTITIONING; \
             INSERT INTO kept_netinfo ({0}) SELECT {0} FROM netinfo WHERE endpointinfo = {key}; DELETE FROM netinfo WHERE endpointinfo = {key}",
            columns()
        ));
    }
}

fn columns() -> String {
    let table = luarm_schema::table("netinfo").unwrap();
    table.stored().map(|c| c.name).collect::<Vec<_>>().join(", ")
}

#[test]
fn postgres_keeps_rows_for_a_time() {
    let Some(postgres) = Postgres::start("postgres_keeps_rows_for_a_time") else {
        return;
    };
    let parts = || {
        let sql = "SELECT substr(c.relname, 9) FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid \
                   WHERE i.inhparent = 'luarm.netinfo_stored'::regclass ORDER BY 1";
        postgres.ask("postgres", sql).lines().map(str::to_owned).collect()
    };
    check(&parsed(&postgres.url("luarm", "postgres")), &parts, &|_| ());
}

fn check(url: &StoreUrl, parts: &dyn Fn() -> Vec<String>, half: &dyn Fn(u32)) {
    let keys = tempfile::tempdir().unwrap();
    let file = KeyFile::open(&keys.path().join("key")).unwrap();
    let (mut sealer, _) = Sealer::open(file, MACHINE, 0, None).unwrap();
    let mut sealed = |mut batch: Batch| {
        sealer.seal(&mut batch).unwrap();
        batch
    };
    let (mut alpha, _) = Writer::open_for(url, &HostIdentity::own(MACHINE, "alpha")).unwrap();
    let first = [vec![host(MACHINE, "alpha", 1)], rows(-9)].concat();
    alpha.append(&sealed(batch(1, first, Vec::new()))).unwrap();
    for day in -8..=0 {
        alpha.append(&sealed(batch(day + 10, rows(day), Vec::new()))).unwrap();
    }
    let (mut beta, _) = Writer::open_for(url, &HostIdentity::own("b", "beta")).unwrap();
    beta.append(&batch(1, [vec![host("b", "beta", 1)], rows(-5)].concat(), Vec::new())).unwrap();
    assert_eq!(parts(), ["latest"]);
    // Where several nodes give numbers, not every number is given.
    let b = ask(&mut Reader::open(url).unwrap(), "SELECT max(host) FROM luarmhost").unwrap()[0].clone();

    let notary = SigningKey::from_bytes(&[6; 32]);
    let mut owner = Owner::open(url).unwrap();
    owner.sign_with(notary.clone());
    let keep = |days: u64| Duration::from_secs(days * 86_400);
    let foreseen = Owner::look(url).unwrap().would_retain_at(noon(0), keep(4)).unwrap();
    assert_eq!(parts(), ["latest"]);
    let dropped = owner.retain_at(noon(0), keep(4)).unwrap();
    assert_eq!(foreseen, dropped);
    // Days -9 to -5: five of alpha, one of beta.
    let before = Time(noon(-4).0 - DAY / 2);
    let lost = |host, table, rows, kept| Dropped { host, table, before, rows, kept };
    assert_eq!(
        dropped,
        [
            lost(1, "netinfo", 40, 10),
            lost(b.parse().unwrap(), "netinfo", 8, 2),
            lost(1, "renameinfo", 5, 0),
            lost(b.parse().unwrap(), "renameinfo", 1, 0)
        ]
    );
    let divided = parts();
    assert!(
        divided.contains(&"d20261120".to_owned()) && divided.contains(&"d20261127".to_owned()),
        "{divided:?}"
    );
    assert!(!divided.contains(&"d20261115".to_owned()), "{divided:?}");

    let mut reader = Reader::open(url).unwrap();
    let mut said = |sql: &str| ask(&mut reader, sql).unwrap();
    let count = "SELECT host, count(*), count(destroyed) FROM netinfo GROUP BY host ORDER BY host";
    assert_eq!(said(count), ["1|60|40".to_owned(), format!("{b}|2|0")]);
    // The ledger stays whole, and what is no activity.
    assert_eq!(said("SELECT count(*) FROM batchinfo"), ["11"]);
    assert_eq!(said("SELECT count(*) FROM hostinfo"), ["2"]);
    let recorded = "SELECT host, tablename, rowcount, keptcount, firstbatch, lastbatch, beforetime, batch FROM retentioninfo \
                    ORDER BY tablename, host";
    assert_eq!(
        said(recorded),
        [
            format!("1|netinfo|40|10|1|5|{before}|0"),
            format!("{b}|netinfo|8|2|1|1|{before}|0"),
            format!("1|renameinfo|5|0|1|5|{before}|0"),
            format!("{b}|renameinfo|1|0|1|1|{before}|0"),
        ]
    );
    assert_eq!(
        said(&format!("SELECT count(*) FROM retentioninfo WHERE beforekey = {}", first_number(before))),
        ["4"]
    );

    // Each is signed, and for its own host.
    let machines = HashMap::from([("1".to_owned(), MACHINE), (b.clone(), "b")]);
    let columns: Vec<&str> =
        RetentionInfo::TABLE.columns.iter().filter(|c| c.role == Role::Begin).map(|c| c.name).collect();
    let stubs = said(&format!("SELECT host, {} FROM retentioninfo", columns.join(", ")));
    assert_eq!(stubs.len(), 4);
    for line in stubs {
        let cells: Vec<&str> = line.split('|').collect();
        let stub = stub_of(&cells[1..]);
        assert_eq!(stub::signed(machines[cells[0]], &stub), stub::Signed::By(notary.verifying_key()));
        assert_eq!(stub::signed("another", &stub), stub::Signed::Wrong);
    }
    // Each batch has left two rows that had not ended, or what its host is: no manifest goes.
    let manifests = "SELECT batch FROM luarmproof WHERE manifest IS NULL ORDER BY batch";
    assert_eq!(said(manifests), [""; 0]);

    // A row that stayed can still end, and a doubled key is still found.
    let end = vec![(number(-7, 0), End::NetInfo(endpoint_end(noon(1))))];
    assert_eq!(alpha.append(&sealed(batch(11, rows(1), end))).unwrap(), []);
    let doubled = batch(12, vec![endpoint(number(-7, 1)).into()], Vec::new());
    assert_eq!(alpha.append(&sealed(doubled)).unwrap().len(), 1);
    assert_eq!(alpha.appended().ends, 1);
    half(0);
    let resume = Writer::open(url, MACHINE).unwrap().1;
    let open = resume.endpoints.len();
    assert!(open == 21 || open == 20, "{open}");

    // The next day: what was half done is completed, one day goes, and the row that has ended with it.
    let dropped = owner.retain_at(noon(1), keep(4)).unwrap();
    assert_eq!(dropped[0].before, Time(noon(-3).0 - DAY / 2));
    assert_eq!((dropped[0].host, dropped[0].table, dropped[0].rows), (1, "netinfo", 9));
    assert_eq!(said(count), ["1|61|40".to_owned(), format!("{b}|2|0")]);
    assert_eq!(Writer::open(url, MACHINE).unwrap().1.endpoints.len(), 21);
    assert_eq!(said(manifests), [""; 0]);
    // Again on the same day: nothing is left to drop.
    let again = owner.retain_at(Time(noon(1).0 + 1), keep(4)).unwrap();
    assert_eq!(again, []);
    assert_eq!(said(count), ["1|61|40".to_owned(), format!("{b}|2|0")]);
    assert_eq!(said(manifests), [""; 0]);
    // Later the rows that stayed of the first days have ended, all but those of batch 5.
    let late: Vec<(i64, End)> = (-9..=-3)
        .filter(|day| *day != -5)
        .flat_map(|day| [number(day, 0), number(day, 1)])
        .map(|key| (key, End::NetInfo(endpoint_end(noon(2)))))
        .collect();
    alpha.append(&sealed(batch(13, Vec::new(), late))).unwrap();
    assert_eq!(alpha.appended().unmatched, 1);
    let roots = said("SELECT count(*), count(root) FROM luarmproof WHERE host = 1");
    // With the next day they go, and the manifests of the batches that they were the last of. Batch 1 told what the host is, which stays.
    owner.retain_at(noon(2), keep(4)).unwrap();
    assert_eq!(said(manifests), ["2", "3", "4", "6", "7"]);
    assert_eq!(said("SELECT count(*), count(root) FROM luarmproof WHERE host = 1"), roots);
    // What is left verifies: every root that was kept is the one that was signed.
    let options = Options { keys: vec![notary.verifying_key()], threads: 2, ..Options::default() };
    let report = verify(&|| Ok(Evidence::open(url)?), &options, &Progress::default()).unwrap();
    // There is no server that could have signed what arrived.
    let is_wrong = |finding: &&Finding| finding.change != Change::ReceiptMissing && !finding.is_note;
    let alphas: Vec<_> = report.findings.iter().filter(|f| f.host == "alpha").filter(is_wrong).collect();
    assert!(alphas.is_empty(), "{alphas:?}");
}

/// A row of `retentioninfo` out of its columns as text.
fn stub_of(cells: &[&str]) -> RetentionInfo {
    let int = |n: usize| cells[n].parse().unwrap();
    RetentionInfo {
        retentionid: int(0),
        tablename: Word::Owned(cells[1].to_owned()),
        beforekey: int(2),
        beforetime: Time::parse(cells[3]).unwrap(),
        rowcount: int(4),
        keptcount: int(5),
        firstbatch: int(6),
        lastbatch: int(7),
        created: Time::parse(cells[8]).unwrap(),
        signer: Some(cells[9].to_owned()),
        signature: Some(cells[10].to_owned()),
        end: None,
    }
}
