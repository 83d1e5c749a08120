//! A spool that is opened and closed: what waits, and what is open.

use std::path::Path;

use luarm_schema::{Batch, End, Row};
use luarm_store::{Parcel, Spool, StoreError, StoreUrl, Writer};

use crate::fixture::*;

fn parcel(batch: &Batch, size: usize) -> Parcel {
    Parcel { id: batch.id, digest: vec![7; 32], length: 9, bytes: vec![batch.id as u8; size] }
}

fn put(spool: &mut Spool, batch: &Batch) {
    spool.put(batch, &parcel(batch, 1000)).unwrap();
}

fn waiting(spool: &Spool) -> Vec<i64> {
    let mut ids = Vec::new();
    while let Some(parcel) = spool.next(ids.last().copied().unwrap_or(0)).unwrap() {
        assert_eq!(parcel.bytes, vec![parcel.id as u8; 1000]);
        ids.push(parcel.id);
    }
    ids
}

/// Batches in which rows begin, last, and end: in the same batch and in later ones.
fn history() -> Vec<Batch> {
    let mut ended = endpoint(2);
    ended.end = Some(endpoint_end(at(3)));
    let end = |key| (key, End::NetInfo(endpoint_end(at(9))));
    vec![
        batch(
            1,
            vec![host(MACHINE, "alpha", 1), endpoint(1).into(), ended.into(), endpoint(3).into()],
            vec![],
        ),
        batch(2, vec![endpoint(4).into()], vec![end(1)]),
        batch(3, vec![], vec![end(3)]),
        batch(4, vec![endpoint(5).into()], vec![]),
    ]
}

#[test]
fn it_remembers_of_the_host_what_a_store_remembers() {
    let dir = tempfile::tempdir().unwrap();
    let (path, store) = (dir.path().join("spool.db"), dir.path().join("luarm.db"));
    for batch in history() {
        let (mut spool, _) = Spool::open(&path, 0).unwrap();
        put(&mut spool, &batch);
        let (mut writer, _) = Writer::open(&StoreUrl::Sqlite(store.clone()), MACHINE).unwrap();
        writer.append(&batch).unwrap();
        drop((spool, writer));
        let (_, spooled) = Spool::open(&path, 0).unwrap();
        let (_, stored) = Writer::open(&StoreUrl::Sqlite(store.clone()), MACHINE).unwrap();
        assert_eq!(spooled, stored);
    }
    let (_, resume) = Spool::open(&path, 0).unwrap();
    let open: Vec<i64> = resume.endpoints.iter().map(|e| e.endpointinfo).collect();
    assert_eq!((open, resume.last_batch.unwrap().0), (vec![4, 5], 4));
}

#[test]
fn what_is_acknowledged_is_gone_and_the_rest_waits() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("spool.db");
    let (mut spool, _) = Spool::open(&path, 0).unwrap();
    for batch in history() {
        put(&mut spool, &batch);
    }
    assert_eq!(waiting(&spool), [1, 2, 3, 4]);
    let full = spool.bytes();
    spool.acknowledge(2).unwrap();
    // An older receipt says nothing new.
    spool.acknowledge(1).unwrap();
    assert_eq!((waiting(&spool), spool.acknowledged(), spool.bytes()), (vec![3, 4], 2, full / 2));
    drop(spool);
    let (mut spool, _) = Spool::open(&path, 0).unwrap();
    assert_eq!((waiting(&spool), spool.acknowledged(), spool.bytes()), (vec![3, 4], 2, full / 2));
    spool.acknowledge(4).unwrap();
    assert_eq!((spool.bytes(), spool.oldest().unwrap(), spool.last()), (0, None, 4));
    drop(spool);
    let (spool, resume) = Spool::open(&path, 0).unwrap();
    assert_eq!((spool.last(), resume.last_batch.unwrap().0), (4, 4));
}

#[test]
fn numbers_have_no_gaps_and_a_new_spool_goes_on_after_the_old_one() {
    let dir = tempfile::tempdir().unwrap();
    let (mut spool, resume) = Spool::open(&dir.path().join("spool.db"), 41).unwrap();
    assert_eq!((spool.last(), spool.acknowledged(), resume.last_batch.unwrap().0), (41, 41, 41));
    for wrong in [1, 41, 43] {
        let batch = endpoints(wrong, [1]);
        let refused = spool.put(&batch, &parcel(&batch, 1));
        assert!(matches!(refused, Err(StoreError::Gap { last: 41, .. })));
    }
    put(&mut spool, &endpoints(42, [1]));
    assert_eq!(waiting(&spool), [42]);
}

#[test]
fn a_row_that_comes_twice_is_no_matter_for_it() {
    let dir = tempfile::tempdir().unwrap();
    let (mut spool, _) = Spool::open(&dir.path().join("spool.db"), 0).unwrap();
    put(&mut spool, &endpoints(1, [7]));
    put(&mut spool, &endpoints(2, [7]));
    assert_eq!(waiting(&spool), [1, 2]);
}

#[test]
fn a_store_is_no_spool_and_a_spool_no_store() {
    let dir = tempfile::tempdir().unwrap();
    let open = |path: &Path| Spool::open(path, 0).map(|_| ());
    let store = dir.path().join("luarm.db");
    drop(store_with(&store, Vec::<Row>::new()));
    assert!(matches!(open(&store), Err(StoreError::Foreign { .. })));
    let spool = dir.path().join("spool.db");
    open(&spool).unwrap();
    assert!(matches!(Writer::open(&url(&spool), MACHINE), Err(StoreError::Foreign { .. })));
    std::fs::write(dir.path().join("text"), "x".repeat(5000)).unwrap();
    assert!(matches!(open(&dir.path().join("text")), Err(StoreError::NotDatabase { .. })));
}

#[test]
fn space_is_given_back() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("spool.db");
    let (mut spool, _) = Spool::open(&path, 0).unwrap();
    for id in 1..=64 {
        let batch = endpoints(id, []);
        spool.put(&batch, &parcel(&batch, 1 << 20)).unwrap();
    }
    for id in 1..=64 {
        spool.acknowledge(id).unwrap();
    }
    drop(spool);
    let size = std::fs::metadata(&path).unwrap().len();
    assert!(size < 32 << 20, "{size} bytes");
}
