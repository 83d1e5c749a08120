//! Batches as they should not come.

use luarm_link::{
    packed,
    proto::{Hello, parcel::What},
};
use luarm_schema::{Batch, End, Row, Time, tables::HostInfoEnd};
use luarm_store::Parcel;
use tonic::Code;

use crate::scene::*;

#[tokio::test(flavor = "multi_thread")]
async fn batches_are_stored_once_and_in_order() {
    let scene = Scene::new();
    let host = scene.join("penguin");
    let (mut stream, stored) = scene.stream(&host).await;
    assert_eq!(stored, 0);
    for id in 1..=3 {
        assert_eq!(stream.deliver(&batch(&host, id, 10)).await.unwrap(), id);
    }
    // Once more, as after a lost receipt: acknowledged, and not stored again.
    assert_eq!(stream.deliver(&batch(&host, 2, 10)).await.unwrap(), 2);
    let (mut stream, stored) = scene.stream(&host).await;
    assert_eq!(stored, 3);
    assert_eq!(stream.deliver(&batch(&host, 4, 10)).await.unwrap(), 4);
    assert_eq!((scene.batches(&host), scene.count("SELECT count(*) FROM renameinfo")), (4, 40));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gap_is_refused_with_the_number_that_is_expected() {
    let scene = Scene::new();
    let host = scene.join("penguin");
    let (mut stream, _) = scene.stream(&host).await;
    stream.deliver(&batch(&host, 1, 1)).await.unwrap();
    let status = stream.deliver(&batch(&host, 3, 1)).await.unwrap_err();
    assert_eq!(
        (status.code(), status.metadata().get("luarm-next").unwrap().to_str().unwrap()),
        (Code::OutOfRange, "2")
    );
    assert_eq!((scene.batches(&host), scene.refused("gap")), (1, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_stored_is_not_replaced() {
    let scene = Scene::new();
    let host = scene.join("penguin");
    let (mut stream, _) = scene.stream(&host).await;
    stream.deliver(&batch(&host, 1, 1)).await.unwrap();
    let mut other = batch(&host, 1, 5);
    if let Some(Row::BatchInfo(entry)) = other.rows.last_mut() {
        entry.run = 2;
    }
    let status = stream.deliver(&other).await.unwrap_err();
    assert_eq!(status.code(), Code::AlreadyExists, "{status}");
    assert_eq!(scene.count("SELECT count(*) FROM renameinfo"), 1);
}

/// Says hello and sends something that is refused; gives the status. The next stream finds everything as it was.
async fn refused(scene: &Scene, host: &Host, parcel: &Parcel) -> tonic::Status {
    let (mut stream, stored) = scene.stream(host).await;
    stream.send(parcel).await;
    let status = stream.receipt().await.unwrap_err();
    let (_, after) = scene.stream(host).await;
    assert_eq!(stored, after, "{status}");
    status
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_cut_changed_or_of_another_version_is_refused_with_a_reason() {
    let scene = Scene::new();
    let host = scene.join("penguin");
    let sound = packed::pack(&host.seals.seal(&batch(&host, 1, 100))).unwrap();
    let change = |change: &dyn Fn(&mut Parcel)| {
        let mut parcel = sound.clone();
        change(&mut parcel);
        parcel
    };
    let rebuilt = |bytes: &[u8]| {
        use sha2::Digest;
        Parcel {
            id: 1,
            digest: sha2::Sha256::digest(bytes).to_vec(),
            length: bytes.len() as u32,
            bytes: zstd::bulk::compress(bytes, 1).unwrap(),
        }
    };
    let bytes = luarm_schema::wire::encode(&batch(&host, 1, 100));
    let newer = [&[99], &bytes[1..]].concat();
    let unknown = String::from_utf8_lossy(&bytes[..300]).replace("renameinfo", "rumourinfo").into_bytes();
    assert_ne!(unknown, &bytes[..300]);
    for (parcel, code, words) in [
        (change(&|p| p.digest[3] ^= 1), Code::InvalidArgument, "digest"),
        (change(&|p| p.digest.clear()), Code::InvalidArgument, "digest"),
        (change(&|p| p.bytes.truncate(40)), Code::InvalidArgument, "unpacked"),
        (change(&|p| p.bytes.clear()), Code::InvalidArgument, "unpacked"),
        (change(&|p| p.id = 2), Code::InvalidArgument, "came as batch 2"),
        (change(&|p| p.length = 7), Code::InvalidArgument, "unpacked"),
        (change(&|p| p.length = u32::MAX), Code::ResourceExhausted, "4294967295"),
        (rebuilt(&bytes[..bytes.len() - 9]), Code::InvalidArgument, "cut"),
        (rebuilt(&[&bytes[..], b"more"].concat()), Code::InvalidArgument, "follow"),
        (rebuilt(&newer), Code::FailedPrecondition, "version 99"),
        (rebuilt(&[&unknown, &bytes[300..]].concat()), Code::FailedPrecondition, "rumourinfo"),
    ] {
        let status = refused(&scene, &host, &parcel).await;
        assert!(status.code() == code && status.message().contains(words), "{status}, wanted {words:?}");
    }
    assert_eq!(scene.batches(&host), 0);
    let (mut stream, _) = scene.stream(&host).await;
    stream.send(&sound).await;
    assert_eq!(stream.receipt().await.unwrap().stored, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn neither_a_bomb_nor_a_message_of_a_gigabyte_is_taken() {
    let scene = Scene::new();
    let host = scene.join("penguin");
    let bomb = zstd::bulk::compress(&vec![0; 1 << 30], 1).unwrap();
    for length in [1 << 20, 32 << 20, 1 << 30] {
        let parcel = Parcel { id: 1, digest: vec![0; 32], length, bytes: bomb.clone() };
        refused(&scene, &host, &parcel).await;
    }
    let huge = Parcel { id: 1, digest: vec![0; 32], length: 1 << 30, bytes: vec![0; 1 << 30] };
    let status = refused(&scene, &host, &huge).await;
    assert!(matches!(status.code(), Code::ResourceExhausted | Code::Unknown | Code::Cancelled), "{status}");
    drop(huge);
    assert!(scene.refused("too-large") >= 2);
    let (mut stream, _) = scene.stream(&host).await;
    assert_eq!(stream.deliver(&batch(&host, 1, 1)).await.unwrap(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_has_its_own_entry_in_the_ledger_and_no_other() {
    let scene = Scene::new();
    let host = scene.join("penguin");
    let entry = |batch: Batch| batch.rows.into_iter().next_back().unwrap();
    let mut miscounted = batch(&host, 1, 3);
    miscounted.rows.remove(1);
    let mut unsigned = batch(&host, 1, 3);
    unsigned.rows.pop();
    let mut ending = batch(&host, 1, 3);
    ending.ends.push((1, End::HostInfo(HostInfoEnd { destroyed: Time(0) })));
    for wrong in [
        miscounted,
        unsigned,
        ending,
        // A second entry, with which the host would leap over numbers.
        closed(1, vec![hostinfo(&host.machine_id, &host.name), entry(batch(&host, 1000, 0))]),
        // Without what the host is, its rows would belong to nobody.
        closed(1, vec![rename(1)]),
        Batch { id: 1, ..Batch::default() },
    ] {
        let status = refused(&scene, &host, &packed::pack(&wrong).unwrap()).await;
        assert_eq!(status.code(), Code::InvalidArgument, "{status}");
    }
    assert_eq!(scene.count("SELECT count(*) FROM batchinfo"), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn hello_comes_first_and_once() {
    let scene = Scene::new();
    let host = scene.join("penguin");
    let mut stream = Stream::open(scene.client(&host).await).await.unwrap();
    let status = stream.deliver(&batch(&host, 1, 1)).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
    let (mut stream, _) = scene.stream(&host).await;
    stream.say(What::Hello(Hello::default())).await;
    assert_eq!(stream.receipt().await.unwrap_err().code(), Code::InvalidArgument);
    assert_eq!(scene.batches(&host), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_newest_stream_of_a_host_is_its_stream() {
    let scene = Scene::new();
    let (penguin, other) = (scene.join("penguin"), scene.join("other"));
    let (mut first, _) = scene.stream(&penguin).await;
    let (mut bystander, _) = scene.stream(&other).await;
    let (mut second, _) = scene.stream(&penguin).await;
    assert_eq!(first.receipt().await.unwrap_err().code(), Code::Aborted);
    assert_eq!(second.deliver(&batch(&penguin, 1, 1)).await.unwrap(), 1);
    assert_eq!(bystander.deliver(&batch(&other, 1, 1)).await.unwrap(), 1);
}
