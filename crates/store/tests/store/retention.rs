//! Rows are kept for a time; those that have not ended stay, and what was dropped is recorded.

use std::time::Duration;

use luarm_schema::{End, Row, Time, first_number, tables::RenameInfo};
use luarm_store::{Dropped, HostIdentity, Owner, Reader, StoreError, StoreUrl, Writer};
use luarm_testbed::{Galera, Mariadb, Postgres};

use crate::{fixture::*, servers::parsed};

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
fn files_are_not_divided() {
    let dir = tempfile::tempdir().unwrap();
    let error = Owner::open(&url(&dir.path().join("x.db"))).unwrap_err();
    assert!(matches!(error, StoreError::OnlyServers { .. }), "{error}");
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
    let (mut alpha, _) = Writer::open_for(url, &HostIdentity::own(MACHINE, "alpha")).unwrap();
    alpha.append(&batch(1, [vec![host(MACHINE, "alpha", 1)], rows(-9)].concat(), Vec::new())).unwrap();
    for day in -8..=0 {
        alpha.append(&batch(day + 10, rows(day), Vec::new())).unwrap();
    }
    let (mut beta, _) = Writer::open_for(url, &HostIdentity::own("b", "beta")).unwrap();
    beta.append(&batch(1, [vec![host("b", "beta", 1)], rows(-5)].concat(), Vec::new())).unwrap();
    assert_eq!(parts(), ["latest"]);
    // Where several nodes give numbers, not every number is given.
    let b = ask(&mut Reader::open(url).unwrap(), "SELECT max(host) FROM luarmhost").unwrap()[0].clone();

    let mut owner = Owner::open(url).unwrap();
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

    // A row that stayed can still end, and a doubled key is still found.
    let end = vec![(number(-7, 0), End::NetInfo(endpoint_end(noon(1))))];
    assert_eq!(alpha.append(&batch(11, rows(1), end)).unwrap(), []);
    assert_eq!(alpha.append(&batch(12, vec![endpoint(number(-7, 1)).into()], Vec::new())).unwrap().len(), 1);
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
    // Again on the same day: nothing is left to drop.
    let again = owner.retain_at(Time(noon(1).0 + 1), keep(4)).unwrap();
    assert_eq!(again, []);
    assert_eq!(said(count), ["1|61|40".to_owned(), format!("{b}|2|0")]);
}
