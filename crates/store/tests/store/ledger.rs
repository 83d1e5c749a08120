//! Many hosts in one store, by several writers at once.

use luarm_store::{HostIdentity, Ledger, StoreError};

use crate::fixture::*;

fn machine(n: u32) -> String {
    format!("{n:032x}")
}

fn of(machine: &str) -> HostIdentity {
    HostIdentity::enrolled(machine, machine)
}

#[test]
fn hosts_have_their_own_numbers_and_rows() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("luarm.db");
    let mut ledger = Ledger::open(&url(&path)).unwrap();
    for n in 0..5 {
        assert_eq!(ledger.last_batch(&of(&machine(n))).unwrap(), 0);
        let rows = vec![host(&machine(n), &format!("host{n}"), 1), endpoint(7).into()];
        ledger.append(&of(&machine(n)), &batch(1, rows, Vec::new())).unwrap();
    }
    // The same batch again is acknowledged, and not stored again; another one under its number is not.
    let rows = vec![host(&machine(3), "host3", 1), endpoint(7).into()];
    ledger.append(&of(&machine(3)), &batch(1, rows, Vec::new())).unwrap();
    let other = batch(1, vec![host(&machine(3), "host3", 1)], Vec::new());
    assert!(matches!(ledger.append(&of(&machine(3)), &other), Err(StoreError::Conflict { id: 1 })));
    let gap = ledger.append(&of(&machine(3)), &endpoints(3, [9]));
    assert!(matches!(gap, Err(StoreError::Gap { last: 1, got: 3 })));
    assert_eq!(ledger.last_batch(&of(&machine(3))).unwrap(), 1);
    let counts = "SELECT count(*), count(DISTINCT host) FROM netinfo";
    assert_eq!(ask_file(&path, counts), ["5|5"]);
}

#[test]
fn writers_at_once_keep_every_ledger_whole() {
    const HOSTS: u32 = 6;
    const BATCHES: i64 = 30;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("luarm.db");
    Ledger::open(&url(&path)).unwrap();
    // Two writers for each host: both send everything, and each batch is stored once.
    let threads: Vec<_> = (0..2 * HOSTS)
        .map(|n| {
            let (url, machine) = (url(&path), machine(n % HOSTS));
            std::thread::spawn(move || {
                let mut ledger = Ledger::open(&url).unwrap();
                for id in 1..=BATCHES {
                    let first = (id == 1).then(|| host(&machine, &machine, 1));
                    let rows = first.into_iter().chain([endpoint(id).into()]).collect();
                    let batch = batch(id, rows, Vec::new());
                    while let Err(error) = ledger.append(&of(&machine), &batch) {
                        assert!(error.is_transient(), "{error}");
                    }
                }
            })
        })
        .collect();
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    let whole = "SELECT count(*), sum(n), min(first), max(last) FROM (SELECT count(*) AS n, min(batchid) AS first, max(batchid) AS last \
                 FROM batchinfo GROUP BY host)";
    assert_eq!(ask_file(&path, whole), [format!("{HOSTS}|{}|1|{BATCHES}", i64::from(HOSTS) * BATCHES)]);
    assert_eq!(ask_file(&path, "SELECT count(*) FROM netinfo"), [(i64::from(HOSTS) * BATCHES).to_string()]);
}
