//! Many hosts in one store, by several writers at once.

use std::fs;

use luarm_chain::{KeyFile, Notary, Sealer, SigningKey, link::Flaw};
use luarm_schema::Batch;
use luarm_store::{HostIdentity, Intake, Ledger, StoreError, Stored};
use rusqlite::Connection;

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

/// Commits in the write-ahead log: frames that say how large the database is then (sqlite.org/fileformat2.html, "The Write-Ahead Log").
fn commits(path: &std::path::Path) -> usize {
    let log = fs::read(path.with_extension("db-wal")).unwrap();
    let number = |at: usize| u32::from_be_bytes(log[at..at + 4].try_into().unwrap());
    let frame = 24 + number(8) as usize;
    // Frames of an older round of the log have another salt.
    let current = |at: &usize| log[at + 8..at + 16] == log[16..24];
    (32..=log.len() - frame).step_by(frame).take_while(current).filter(|at| number(at + 4) > 0).count()
}

fn all(ledger: &mut Ledger, batches: &[(&HostIdentity, &Batch)]) -> Vec<Result<Stored, StoreError>> {
    let mut done: Vec<_> = batches.iter().map(|_| None).collect();
    ledger.append_all(batches, |place, stored| assert!(done[place].replace(stored).is_none()));
    done.into_iter().map(Option::unwrap).collect()
}

#[test]
fn batches_that_are_stored_together_share_a_commit_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("luarm.db");
    let mut ledger = Ledger::open(&url(&path)).unwrap();
    let [a, b, c, d] = [0, 1, 2, 3].map(|n| of(&machine(n)));
    let first = |of: &HostIdentity, key: i64| {
        batch(1, vec![host(&of.machine_id, &of.machine_id, 1), endpoint(key).into()], Vec::new())
    };
    ledger.append(&a, &first(&a, 7)).unwrap();
    let before = commits(&path);
    let (unsigned, impostor) = (Batch { id: 3, ..Batch::default() }, first(&d, 1));
    let (again, other, next, third) =
        (first(&a, 7), endpoints(1, [8]), endpoints(2, [9]), endpoints(3, [10]));
    let (fresh, gap, last) = (first(&b, 7), endpoints(2, [11]), endpoints(2, [12, 13]));
    let batches = [
        (&a, &again),
        (&a, &other),
        (&a, &unsigned),
        (&b, &fresh),
        (&a, &next),
        (&c, &gap),
        (&c, &impostor),
        (&a, &third),
        (&b, &last),
    ];
    let done = all(&mut ledger, &batches);
    assert_eq!(commits(&path), before + 1);
    let wrong: Vec<String> =
        done.iter().map(|done| done.as_ref().map_or_else(ToString::to_string, |_| String::new())).collect();
    let conflict = StoreError::Conflict { id: 1 }.to_string();
    let unsigned = StoreError::Unsigned { id: 3 }.to_string();
    let gap = StoreError::Gap { last: 0, got: 2 }.to_string();
    let impostor =
        StoreError::Impostor { id: 1, known: c.machine_id.clone(), given: d.machine_id }.to_string();
    assert_eq!(wrong, ["", &conflict, &unsigned, "", "", &gap, &impostor, "", ""]);
    let rows = "SELECT host, count(*), group_concat(endpointinfo) FROM (SELECT host, endpointinfo FROM netinfo ORDER BY 1, 2) GROUP BY host";
    assert_eq!(ask_file(&path, rows), ["1|3|7,9,10", "2|3|7,12,13"]);
    assert_eq!(ask_file(&path, "SELECT host, max(batchid) FROM batchinfo GROUP BY host"), ["1|3", "2|2"]);
    assert_eq!([&a, &b, &c].map(|of| ledger.last_batch(of).unwrap()), [3, 2, 0]);
}

#[test]
fn a_batch_that_breaks_the_transaction_takes_no_other_with_it() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("luarm.db");
    let mut ledger = Ledger::open(&url(&path)).unwrap();
    let hosts = [0, 1, 2].map(|n| of(&machine(n)));
    // Nobody has this table any more, and only one of them needs it.
    Connection::open(&path).unwrap().execute_batch("DROP TABLE netinfo_stored").unwrap();
    let batches = [0, 1, 2].map(|n| {
        let rows =
            vec![host(&machine(n), &machine(n), 1)].into_iter().chain((n == 1).then(|| endpoint(7).into()));
        batch(1, rows.collect(), Vec::new())
    });
    let pairs: Vec<_> = hosts.iter().zip(&batches).collect();
    let done = all(&mut ledger, &pairs);
    assert!(done[0].is_ok() && done[2].is_ok(), "{done:?}");
    assert!(done[1].as_ref().unwrap_err().to_string().contains("netinfo"), "{done:?}");
    assert_eq!(hosts.map(|of| ledger.last_batch(&of).unwrap()), [1, 0, 1]);
    let machines = [machine(0), machine(2)];
    assert_eq!(ask_file(&path, "SELECT machineid FROM hostinfo ORDER BY host"), machines);
}

#[test]
fn many_threads_deliver_through_one_intake() {
    const HOSTS: u32 = 8;
    const BATCHES: i64 = 40;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("luarm.db");
    let notary = Notary::new(SigningKey::from_bytes(&[3; 32]));
    let intake = Intake::open(&url(&path), &notary).unwrap();
    std::thread::scope(|scope| {
        for n in 0..HOSTS {
            let (intake, notary) = (&intake, &notary);
            scope.spawn(move || {
                let (machine, keys) = (machine(n), tempfile::tempdir().unwrap());
                let key = KeyFile::open(&keys.path().join("key")).unwrap();
                let mut sealer = Sealer::open(key, &machine, 0, None).unwrap().0;
                for id in 1..=BATCHES {
                    let first = (id == 1).then(|| host(&machine, &machine, 1));
                    let rows = first.into_iter().chain([endpoint(id).into()]).collect();
                    let mut batch = batch(id, rows, Vec::new());
                    sealer.seal(&mut batch).unwrap();
                    // One that was changed on its way, and one that comes too early, between the others.
                    let mut changed = batch.clone();
                    changed.manifest.push(0);
                    let flaw = intake.append(&of(&machine), changed).unwrap_err();
                    assert!(matches!(flaw, StoreError::Flaw { flaw: Flaw::Digest, .. }), "{flaw}");
                    let gap = intake.append(&of(&machine), endpoints(id + 1, [99])).unwrap_err();
                    assert!(
                        matches!(gap, StoreError::Gap { last, got } if (last, got) == (id - 1, id + 1)),
                        "{gap}"
                    );
                    let digest = digest(&batch);
                    let (receipt, refusals) = intake.append(&of(&machine), batch).unwrap().receipt.unwrap();
                    assert!(receipt.is_by(&notary.key(), (&machine, id, &digest), &refusals));
                    assert_eq!(intake.last_batch(&of(&machine)).unwrap(), id);
                }
            });
        }
    });
    drop(intake);
    // The file is whole, without what stood beside it.
    assert!(!path.with_extension("db-wal").exists());
    let whole = "SELECT count(*), sum(n), min(first), max(last) FROM (SELECT count(*) AS n, min(batchid) AS first, max(batchid) AS last \
                 FROM batchinfo GROUP BY host)";
    assert_eq!(ask_file(&path, whole), [format!("{HOSTS}|{}|1|{BATCHES}", i64::from(HOSTS) * BATCHES)]);
    assert_eq!(ask_file(&path, "SELECT count(*) FROM netinfo"), [(i64::from(HOSTS) * BATCHES).to_string()]);
}

fn digest(batch: &Batch) -> [u8; 32] {
    let Some(luarm_schema::Row::BatchInfo(info)) = batch.rows.last() else { panic!("no batchinfo row") };
    luarm_chain::decode(info.digest.as_deref().unwrap()).unwrap()
}
