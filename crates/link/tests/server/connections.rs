//! Connections that are many, slow or silent, while others work.

use std::{sync::Arc, time::Duration};

use luarm_link::{
    packed,
    proto::{Hello, parcel::What},
};
use tokio::{io::AsyncWriteExt, net::TcpStream};

use crate::scene::*;

/// Raises the limit of open files, for both ends of many connections are in this process.
fn raise_descriptors() -> u64 {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum }).unwrap();
    limit.maximum.unwrap_or(u64::MAX)
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_idle_connections_keep_nobody_out() {
    let many = if raise_descriptors() > 25_000 { 10_000 } else { 400 };
    let scene = Scene::new();
    let host = scene.join("penguin");
    let (mut stream, _) = scene.stream(&host).await;
    stream.deliver(&batch(&host, 1, 1)).await.unwrap();
    let mut idle = Vec::new();
    for n in 0..many {
        let Ok(mut connection) = TcpStream::connect(scene.address).await else { continue };
        if n % 2 == 0 {
            // A handshake that never goes on.
            let _ = connection.write_all(&[0x16, 3, 1, 2, 0]).await;
        }
        idle.push(connection);
    }
    assert_eq!(stream.deliver(&batch(&host, 2, 1)).await.unwrap(), 2);
    // Newcomers get in, too: to deliver and to join.
    let (mut stream, stored) = scene.stream(&host).await;
    assert_eq!(stored, 2);
    assert_eq!(stream.deliver(&batch(&host, 3, 1)).await.unwrap(), 3);
    let late = scene.stranger("late");
    let (token, url) = (scene.token(None), scene.url());
    let joined = tokio::task::spawn_blocking(move || {
        luarm_link::agent::join(&url, &token, &late.data, (&late.name, &late.machine_id))
            .map_err(|e| e.to_string())
    });
    joined.await.unwrap().unwrap();
    if many == 10_000 {
        assert!(scene.refused("handshake-crowd") > 0);
    }
    drop(idle);
}

#[tokio::test(flavor = "multi_thread")]
async fn strangers_that_stay_keep_no_stranger_out() {
    let scene = Scene::new();
    let mut idle = Vec::new();
    for _ in 0..200 {
        idle.push(handshake(scene.address, scene.tls(None)).await.unwrap());
    }
    let (host, token, url) = (scene.stranger("penguin"), scene.token(None), scene.url());
    let joined = tokio::task::spawn_blocking(move || {
        luarm_link::agent::join(&url, &token, &host.data, (&host.name, &host.machine_id))
            .map_err(|e| e.to_string())
    });
    joined.await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn one_host_opens_few_connections_and_takes_none_from_others() {
    let scene = Scene::new();
    let (greedy, other) = (scene.join("greedy"), scene.join("other"));
    let (mut bystander, _) = scene.stream(&other).await;
    let mut idle = Vec::new();
    for _ in 0..100 {
        idle.push(handshake(scene.address, scene.tls(Some(&greedy.data))).await.unwrap());
    }
    assert_eq!(bystander.deliver(&batch(&other, 1, 1)).await.unwrap(), 1);
    let (mut stream, _) = scene.stream(&greedy).await;
    assert_eq!(stream.deliver(&batch(&greedy, 1, 1)).await.unwrap(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_does_not_read_its_receipts_holds_up_nobody() {
    let scene = Scene::new();
    let (slow, other) = (scene.join("slow"), scene.join("other"));
    let stream = Stream::open(scene.client(&slow).await).await.unwrap();
    let stream = Arc::new(stream);
    stream.say(What::Hello(Hello::default())).await;
    // Sends the same batch as long as somebody takes it, and never reads.
    let flooding = Arc::clone(&stream);
    let parcel = packed::pack(&slow.seals.seal(&batch(&slow, 1, 100))).unwrap();
    let flood = tokio::spawn(async move {
        for _ in 0..100_000 {
            flooding.send(&parcel).await;
        }
    });
    let (mut bystander, _) = scene.stream(&other).await;
    for id in 1..=50 {
        assert_eq!(bystander.deliver(&batch(&other, id, 10)).await.unwrap(), id);
    }
    flood.abort();
    tokio::time::timeout(Duration::from_secs(1), flood).await.ok();
    assert_eq!((scene.batches(&slow), scene.batches(&other)), (1, 50));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_stops_says_so_and_finishes() {
    let mut scene = Scene::new();
    let host = scene.join("penguin");
    let (mut stream, _) = scene.stream(&host).await;
    stream.deliver(&batch(&host, 1, 1)).await.unwrap();
    let server = scene.server.take().unwrap();
    let stopping = tokio::task::spawn_blocking(move || server.stop());
    let status = stream.receipt().await.unwrap_err();
    assert_eq!(status.code(), tonic::Code::Unavailable, "{status}");
    stopping.await.unwrap();
    assert_eq!(scene.batches(&host), 1);
}
