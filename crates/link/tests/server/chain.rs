//! Batches that do not go on with their host's chain.

use std::sync::Arc;

use luarm_chain::{Chain, KeyFile, Manifest, Sealer, SigningKey, encode, link::Flaw};
use luarm_link::packed;
use luarm_schema::{Batch, Row, tables::BatchInfo};
use tonic::Code;

use crate::{scene::*, seals::Seals};

fn info(batch: &mut Batch) -> &mut BatchInfo {
    let Some(Row::BatchInfo(info)) = batch.rows.last_mut() else { panic!("no batchinfo row") };
    info
}

/// Sends the batch as it is; gives the server's status.
async fn refused(scene: &Scene, host: &Host, batch: &Batch) -> tonic::Status {
    let (mut stream, stored) = scene.stream(host).await;
    stream.send(&packed::pack(batch).unwrap()).await;
    let status = stream.receipt().await.unwrap_err();
    let (_, after) = scene.stream(host).await;
    assert_eq!(stored, after, "{status}");
    status
}

/// How a batch is made wrong.
type Change = fn(&mut Batch);

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_sealed_or_sealed_wrongly_is_refused_and_counted() {
    let scene = Scene::new();
    let host = scene.join("penguin");
    let first = batch(&host, 1, 3);
    let status = refused(&scene, &host, &first).await;
    assert!(
        status.code() == Code::InvalidArgument && status.message().contains("it is not sealed"),
        "{status}"
    );
    let sealed = host.seals.seal(&first);
    let changes: [(&str, Change); 6] = [
        ("digest", |batch| batch.rows[1] = rename(7)),
        ("digest", |batch| info(batch).created.0 += 1),
        ("digest", |batch| info(batch).digest = Some(encode(&[1; 32]))),
        ("unsealed", |batch| info(batch).digest = Some("no base64!".to_owned())),
        ("signature", |batch| info(batch).signature = Some(encode(&[1; 64]))),
        ("unsealed", |batch| info(batch).signature = None),
    ];
    let mut counts = std::collections::BTreeMap::from([("unsealed", 1)]);
    for (kind, change) in changes {
        let mut wrong = sealed.clone();
        change(&mut wrong);
        let status = refused(&scene, &host, &wrong).await;
        assert_eq!(status.code(), Code::InvalidArgument, "{status}");
        *counts.entry(kind).or_insert(0) += 1;
        assert_eq!(scene.refused(kind), counts[kind], "{status}");
    }
    assert_eq!(scene.batches(&host), 0);
    let (mut stream, _) = scene.stream(&host).await;
    assert_eq!(stream.deliver(&first).await.unwrap(), 1);
    assert_eq!(stream.deliver(&batch(&host, 2, 1)).await.unwrap(), 2);
    assert_eq!(scene.count("SELECT count(*) FROM luarmproof WHERE receipt IS NOT NULL"), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_lost_its_key_is_taken_in_and_counted() {
    let scene = Scene::new();
    let mut host = scene.join("penguin");
    let (mut stream, _) = scene.stream(&host).await;
    for id in 1..=3 {
        stream.deliver(&batch(&host, id, 1)).await.unwrap();
    }
    let monitor = scene.server.as_ref().unwrap().monitor().unwrap();
    assert_eq!(monitor.vitals().restarts, 0);
    host.seals = Arc::new(Seals::new(&host.machine_id, &scene.path("lost")));
    let (mut stream, _) = scene.stream(&host).await;
    assert_eq!(stream.deliver(&batch(&host, 4, 1)).await.unwrap(), 4);
    assert_eq!(monitor.vitals().restarts, 1);
    // Without the key that batch 3 named, and without naming another, nothing goes on.
    let mut other = batch(&host, 5, 1);
    let manifest = Manifest::of(&other).root();
    let key = SigningKey::from_bytes(&[5; 32]);
    let next = info(&mut other);
    next.nextkey = Some(encode(key.verifying_key().as_bytes()));
    let digest = luarm_chain::link::digest(&host.machine_id, &[0; 32], &manifest, next);
    next.digest = Some(encode(&digest));
    next.signature = Some(encode(&[0; 64]));
    let status = refused(&scene, &host, &other).await;
    assert!(status.message().contains(&Flaw::Digest.to_string()), "{status}");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_takes_all_that_an_agent_has_cannot_deliver_the_past() {
    const TAKEN: i64 = 6;
    let scene = Scene::new();
    let host = scene.join("penguin");
    let (mut stream, _) = scene.stream(&host).await;
    for id in 1..=TAKEN {
        stream.deliver(&batch(&host, id, 2)).await.unwrap();
    }
    // The whole directory: certificate, keys.
    let stolen = scene.path("stolen");
    let copied = std::process::Command::new("cp").arg("-a").args([&host.data, &stolen]).status().unwrap();
    assert!(copied.success());
    let thief = || Host {
        name: host.name.clone(),
        machine_id: host.machine_id.clone(),
        data: stolen.clone(),
        seals: Arc::new(Seals::new(&host.machine_id, &stolen)),
    };
    let before = scene.count("SELECT sum(renameid) FROM renameinfo");
    for id in 1..=TAKEN {
        // With whichever key is in the file, and with one of his own.
        for known in [id - 1, TAKEN - 1, TAKEN] {
            let mut forged = batch(&host, id, 1);
            let file = KeyFile::open(&stolen.join("chain.key")).unwrap();
            let (mut sealer, _) = Sealer::open(file, &host.machine_id, known, None).unwrap();
            sealer.seal(&mut forged).unwrap();
            let (mut stream, stored) = scene.stream(&thief()).await;
            assert_eq!(stored, TAKEN);
            stream.send(&packed::pack(&forged).unwrap()).await;
            let status = stream.receipt().await.unwrap_err();
            assert_eq!(status.code(), Code::AlreadyExists, "{status}");
        }
    }
    assert_eq!(scene.count("SELECT sum(renameid) FROM renameinfo"), before);
    // The host itself goes on, and nothing shows.
    let (mut stream, _) = scene.stream(&host).await;
    assert_eq!(stream.deliver(&batch(&host, TAKEN + 1, 1)).await.unwrap(), TAKEN + 1);
    assert_eq!(scene.server.as_ref().unwrap().monitor().unwrap().vitals().restarts, 0);

    // A server whose store was restored from before: what was sealed goes on there; the thief's is refused, or seen.
    let restored = Scene::new();
    let again = restored.join(&host.name);
    let (mut stream, _) = restored.stream(&again).await;
    for id in 1..=4 {
        if id == 4 {
            let mut forged = batch(&host, id, 1);
            let file = KeyFile::open(&stolen.join("chain.key")).unwrap();
            let (mut sealer, chain) = Sealer::open(file, &host.machine_id, TAKEN, None).unwrap();
            assert_eq!(chain, Chain::Continued);
            sealer.seal(&mut forged).unwrap();
            let status = refused(&restored, &again, &forged).await;
            assert!(status.message().contains(&Flaw::Digest.to_string()), "{status}");
            stream = restored.stream(&again).await.0;
        }
        let sealed = host.seals.seal(&batch(&host, id, 2));
        stream.send(&packed::pack(&sealed).unwrap()).await;
        assert_eq!(stream.receipt().await.unwrap().stored, id);
    }
    let monitor = restored.server.as_ref().unwrap().monitor().unwrap();
    assert_eq!(monitor.vitals().restarts, 0);
    let mut last = host.seals.seal(&batch(&host, 4, 2));
    let file = KeyFile::open(&stolen.join("chain.key")).unwrap();
    let (mut sealer, chain) =
        Sealer::open(file, &host.machine_id, 4, info(&mut last).digest.as_deref()).unwrap();
    assert_eq!(chain, Chain::Restarted);
    let mut forged = batch(&host, 5, 1);
    sealer.seal(&mut forged).unwrap();
    stream.send(&packed::pack(&forged).unwrap()).await;
    assert_eq!(stream.receipt().await.unwrap().stored, 5);
    assert_eq!(monitor.vitals().restarts, 1);
}
