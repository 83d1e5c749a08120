//! A compromised agent: a valid certificate in the hands of somebody who tries every call that there is.

use luarm_link::packed;
use luarm_schema::{Batch, End, Row, tables::BatchInfoEnd};
use tonic::Code;

use crate::scene::*;

/// Everything that is stored of a host, as text.
fn history(scene: &Scene, host: &Host) -> (i64, i64, i64) {
    let of = format!("host = (SELECT host FROM hostinfo WHERE machineid = '{}')", host.machine_id);
    let rows = scene.count(&format!("SELECT count(*) FROM renameinfo WHERE {of}"));
    let open = scene.count(&format!("SELECT count(*) FROM hostinfo WHERE destroyed IS NULL AND {of}"));
    let keys = scene.count(&format!("SELECT coalesce(sum(renameid), 0) FROM renameinfo WHERE {of}"));
    (rows, open, keys)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_compromised_agent_touches_nothing_of_another_host_and_rewrites_nothing_of_its_own() {
    let scene = Scene::new();
    let (victim, intruder) = (scene.join("victim"), scene.join("intruder"));
    let (mut stream, _) = scene.stream(&victim).await;
    stream.deliver(&batch(&victim, 1, 10)).await.unwrap();
    let (mut stream, _) = scene.stream(&intruder).await;
    stream.deliver(&batch(&intruder, 1, 10)).await.unwrap();
    let before = (history(&scene, &victim), history(&scene, &intruder));

    // To be the victim: by its machine id, its name, or both, in the first batch or a later one.
    for (machine_id, name) in [
        (&victim.machine_id, &victim.name),
        (&victim.machine_id, &intruder.name),
        (&intruder.machine_id, &victim.name),
    ] {
        let (mut stream, _) = scene.stream(&intruder).await;
        let status =
            stream.deliver(&closed(2, vec![hostinfo(machine_id, name), rename(1)])).await.unwrap_err();
        assert_eq!(status.code(), Code::PermissionDenied, "{status}");
    }
    // To rewrite its own: other rows under a number that is stored.
    for id in [1, 0, -1, i64::MIN] {
        let (mut stream, _) = scene.stream(&intruder).await;
        let mut other = closed(id, vec![hostinfo(&intruder.machine_id, &intruder.name), rename(99)]);
        if let Some(Row::BatchInfo(entry)) = other.rows.last_mut() {
            entry.run = 7;
        }
        let status = stream.deliver(&other).await.unwrap_err();
        assert!(matches!(status.code(), Code::AlreadyExists | Code::InvalidArgument), "{status}");
    }
    // To leap ahead, so that the numbers run out.
    for id in [3, i64::MAX] {
        let (mut stream, _) = scene.stream(&intruder).await;
        let status = stream.deliver(&closed(id, vec![])).await.unwrap_err();
        assert_eq!(status.code(), Code::OutOfRange, "{status}");
    }
    assert_eq!((history(&scene, &victim), history(&scene, &intruder)), before);

    // Sound by itself: rows under keys that it has used, ends of rows that have none. The rows stay as they were, and the sender learns it.
    let (mut stream, _) = scene.stream(&intruder).await;
    let mut again = closed(2, vec![rename(1000), rename(1001), rename(5)]);
    again.ends.push((1, End::BatchInfo(BatchInfoEnd {})));
    if let Some(Row::BatchInfo(entry)) = again.rows.last_mut() {
        entry.endcount = 1;
    }
    let status = stream.deliver(&again).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument, "{status}");
    let (mut stream, _) = scene.stream(&intruder).await;
    let known = intruder.seals.seal(&closed(2, vec![rename(1000), rename(1001), rename(5)]));
    stream.send(&packed::pack(&known).unwrap()).await;
    let receipt = stream.receipt().await.unwrap();
    assert_eq!((receipt.stored, receipt.refused[0].count), (2, 2));
    let after = history(&scene, &intruder);
    assert_eq!((after.0, after.2), (before.1.0 + 1, before.1.2 + 5));
    assert_eq!(history(&scene, &victim), before.0);

    // The victim goes on.
    let (mut stream, stored) = scene.stream(&victim).await;
    assert_eq!(stored, 1);
    assert_eq!(stream.deliver(&batch(&victim, 2, 1)).await.unwrap(), 2);
    assert_eq!(
        stream
            .deliver(&Batch { rows: batch(&victim, 3, 0).rows, id: 3, ends: vec![], ..Batch::default() })
            .await
            .unwrap(),
        3
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn there_is_no_other_call() {
    use tonic::codegen::http::uri::PathAndQuery;
    let scene = Scene::new();
    let host = scene.join("penguin");
    let definition = include_str!("../../proto/link.proto");
    let calls: Vec<&str> =
        definition.lines().filter_map(|line| line.trim().strip_prefix("rpc ")?.split('(').next()).collect();
    // Each of them is tried by a test here: a new one has to be, too.
    assert_eq!(calls, ["Join", "Renew", "Deliver", "Ask"]);
    let tls = scene.tls(Some(&host.data));
    let address = scene.address;
    let connector = tower::service_fn(move |_: tonic::transport::Uri| {
        let tls = tls.clone();
        async move {
            let stream = handshake(address, tls).await?;
            Ok::<_, std::io::Error>(hyper_util::rt::TokioIo::new(stream))
        }
    });
    let channel = tonic::transport::Endpoint::from_static("http://server")
        .connect_with_connector(connector)
        .await
        .unwrap();
    for path in [
        "/luarm.link.v1.Delivery/Query",
        "/luarm.link.v1.Delivery/Delete",
        "/luarm.link.v1.Delivery/",
        "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
        "/../../etc/passwd",
    ] {
        let mut grpc = tonic::client::Grpc::new(channel.clone());
        grpc.ready().await.unwrap();
        let codec = tonic_prost::ProstCodec::<(), ()>::default();
        let answer = grpc.unary(tonic::Request::new(()), PathAndQuery::from_static(path), codec).await;
        assert_eq!(answer.unwrap_err().code(), Code::Unimplemented, "{path}");
    }
}
