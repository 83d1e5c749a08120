//! A server that hangs, and one whose disk is full: the writer says so, goes on afterwards, and nothing is lost or doubled.

use std::{
    fs,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicI64, AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

use luarm_store::{HostIdentity, Reader, StoreError, StoreUrl, Trouble, Writer};
use luarm_testbed::{Mariadb, Postgres};

use crate::{
    fixture::*,
    full_disk::{fill, on_small_disk},
    servers::parsed,
};

const ROWS: i64 = 200;

fn opened(url: &StoreUrl) -> Writer {
    let (mut writer, _) = Writer::open_for(url, &HostIdentity::own(MACHINE, "alpha")).unwrap();
    if writer.last_batch().unwrap() == 0 {
        writer.append(&batch(1, vec![host(MACHINE, "alpha", 1)], Vec::new())).unwrap();
    }
    writer
}

fn numbered(id: i64) -> luarm_schema::Batch {
    endpoints(id, id * ROWS..(id + 1) * ROWS)
}

/// Batches 2 to `last` are there, once each.
fn whole(url: &StoreUrl, last: i64) {
    let mut reader = Reader::open(url).unwrap();
    let counts = "SELECT (SELECT count(*) FROM batchinfo), (SELECT max(batchid) FROM batchinfo), (SELECT count(*) FROM netinfo), \
                  (SELECT count(DISTINCT endpointinfo) FROM netinfo)";
    let rows = (last - 1) * ROWS;
    assert_eq!(ask(&mut reader, counts).unwrap(), [format!("{last}|{last}|{rows}|{rows}")]);
}

#[test]
fn mariadb_hangs() {
    if let Some(mariadb) = Mariadb::start("mariadb_hangs") {
        let url = format!("{}&timeout=2", mariadb.url("root", "luarm"));
        hangs(&parsed(&url), &|| mariadb.suspend(), &|| mariadb.resume());
    }
}

#[test]
fn postgres_hangs() {
    if let Some(postgres) = Postgres::start("postgres_hangs") {
        let url = format!("{}?timeout=2", postgres.url("luarm", "postgres"));
        hangs(&parsed(&url), &|| postgres.suspend(), &|| postgres.resume());
    }
}

fn hangs(url: &StoreUrl, suspend: &dyn Fn(), resume: &dyn Fn()) {
    // Between two batches.
    let mut writer = opened(url);
    writer.append(&numbered(2)).unwrap();
    suspend();
    let error = writer.append(&numbered(3)).unwrap_err();
    resume();
    assert!(matches!(error, StoreError::Database { trouble: Trouble::Lost, .. }), "{error}");
    assert!(error.is_transient() && error.to_string().contains("within 2 s"), "{error}");

    // Anywhere within one.
    let (stored, failed) = (Arc::new(AtomicI64::new(2)), Arc::new(AtomicU64::new(0)));
    let last = 300;
    let appending = {
        let (stored, failed) = (Arc::clone(&stored), Arc::clone(&failed));
        thread::spawn(move || {
            for id in 3..=last {
                while let Err(error) = writer.append(&numbered(id)) {
                    assert!(error.is_transient(), "{error}");
                    failed.fetch_add(1, Ordering::SeqCst);
                    thread::sleep(Duration::from_millis(20));
                }
                stored.store(id, Ordering::SeqCst);
            }
        })
    };
    for round in 1..=4 {
        while stored.load(Ordering::SeqCst) < round * 20 {
            assert!(!appending.is_finished(), "the writer gave up");
            thread::sleep(Duration::from_millis(1));
        }
        let before = failed.load(Ordering::SeqCst);
        suspend();
        while failed.load(Ordering::SeqCst) == before {
            assert!(!appending.is_finished(), "the writer did not notice, or gave up");
            thread::sleep(Duration::from_millis(10));
        }
        resume();
    }
    appending.join().unwrap();
    whole(url, last);
}

/// The server's own directory lies in /tmp, which is small here.
fn on_small_tmp(test: &str, run: impl FnOnce() + Send) {
    if is_root(test) {
        on_small_disk(Path::new("/tmp"), c"size=256m,mode=1777", run);
    }
}

#[test]
fn mariadb_on_a_full_disk() {
    on_small_tmp("mariadb_on_a_full_disk", || {
        if let Some(mut mariadb) = Mariadb::start("mariadb_on_a_full_disk") {
            let url = format!("{}&timeout=10", mariadb.url("root", "luarm"));
            full(&parsed(&url), &mut || {
                if !mariadb.is_running() {
                    mariadb.run(&[]);
                }
            });
        }
    });
}

#[test]
fn postgres_on_a_full_disk() {
    on_small_tmp("postgres_on_a_full_disk", || {
        if let Some(mut postgres) = Postgres::start("postgres_on_a_full_disk") {
            let url = format!("{}?timeout=10", postgres.url("luarm", "postgres"));
            full(&parsed(&url), &mut || {
                if !postgres.is_running() {
                    postgres.run(&[]);
                }
            });
        }
    });
}

/// `revive` starts the server again if it has ended.
fn full(url: &StoreUrl, revive: &mut dyn FnMut()) {
    let ballast = Path::new("/tmp/ballast");
    let mut writer = opened(url);
    let mut id = 2;
    let mut kinds = Vec::new();
    for _ in 0..3 {
        fill(ballast);
        // What the server has set aside already may still fit.
        let error = loop {
            match writer.append(&numbered(id)) {
                Ok(_) => id += 1,
                Err(error) => break error,
            }
        };
        assert!(error.is_transient(), "{error}");
        let StoreError::Database { trouble, .. } = error else {
            panic!("{error}");
        };
        kinds.push(trouble);
        fs::remove_file(ballast).unwrap();
        loop {
            // Somebody who looks after the server has made room, and starts it if it did not survive.
            revive();
            match writer.append(&numbered(id)) {
                Ok(_) => break,
                Err(error) => assert!(error.is_transient(), "{error}"),
            }
            thread::sleep(Duration::from_millis(100));
        }
        whole(url, id);
        id += 1;
    }
    // A server whose own log has no room ends; one whose tables have none says so.
    assert!(kinds.iter().all(|kind| matches!(kind, Trouble::Full | Trouble::Lost)), "{kinds:?}");
    println!("{kinds:?}");
}
