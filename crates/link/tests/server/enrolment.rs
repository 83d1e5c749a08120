//! Who gets a certificate, and whose is worth something.

use std::{fs, os::unix::fs::PermissionsExt, time::Duration};

use luarm_link::{
    agent,
    authority::Authority,
    proto::{JoinRequest, RenewRequest},
    server,
    token::Token,
};
use tonic::Code;

use crate::scene::*;

#[tokio::test(flavor = "multi_thread")]
async fn a_token_is_good_once() {
    let scene = Scene::new();
    let token = scene.token(None);
    scene.join_with(&scene.stranger("first"), &token).unwrap();
    let error = scene.join_with(&scene.stranger("second"), &token).unwrap_err();
    assert!(error.contains("was used before"), "{error}");
    // Whose answer got lost asks again with the same key.
    let third = scene.stranger("third");
    let token = scene.token(None);
    scene.join_with(&third, &token).unwrap();
    let mut client = connect(scene.address, scene.tls(None)).await.unwrap();
    let request = JoinRequest {
        token: token.to_string(),
        request: request(&rcgen::KeyPair::generate().unwrap()),
        name: "third".to_owned(),
        machine_id: third.machine_id.clone(),
        analyst: false,
    };
    let status = client.enrolment.join(request).await.unwrap_err();
    assert_eq!(status.code(), Code::PermissionDenied, "{status}");
    assert_eq!(scene.refused("token-used"), 2);
}

fn request(key: &rcgen::KeyPair) -> Vec<u8> {
    rcgen::CertificateParams::default().serialize_request(key).unwrap().der().to_vec()
}

#[test]
fn an_expired_token_or_one_that_nobody_made_is_refused() {
    let scene = Scene::new();
    let host = scene.stranger("late");
    let short =
        server::make_token(&scene.data(), Some(&scene.store()), None, Duration::from_micros(1)).unwrap();
    let error = scene.join_with(&host, &short).unwrap_err();
    assert!(error.contains("token expired at"), "{error}");
    let authority = Authority::load(&scene.data()).unwrap().fingerprint();
    let error = scene.join_with(&host, &Token::new(authority).unwrap()).unwrap_err();
    assert!(error.contains("not known here"), "{error}");
    // The right public part with another secret.
    let (good, bad) = (scene.token(None).to_string(), Token::new(authority).unwrap().to_string());
    let mut parts: Vec<&str> = good.split('.').collect();
    parts[2] = bad.split('.').nth(2).unwrap();
    let error = scene.join_with(&host, &parts.join(".").parse().unwrap()).unwrap_err();
    assert!(error.contains("not known here"), "{error}");
    assert!(!host.data.join("agent/agent.json").exists());
}

#[test]
fn a_server_of_another_authority_gets_no_token_to_see() {
    let (scene, other) = (Scene::new(), Scene::new());
    let host = scene.stranger("penguin");
    let error = agent::join(&other.url(), &scene.token(None), &host.data, ("penguin", &host.machine_id));
    let error = error.unwrap_err().to_string();
    assert!(error.contains("not the server that made the token"), "{error}");
    // It was not used up.
    assert_eq!(other.refused("token-unknown"), 0);
}

#[test]
fn a_token_made_before_the_store_was_known_is_found() {
    let scene = Scene::new();
    let token = server::make_token(&scene.data(), None, None, HOUR).unwrap();
    scene.join_with(&scene.stranger("penguin"), &token).unwrap();
    assert!(scene.join_with(&scene.stranger("other"), &token).is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn hostile_names_are_refused_and_touch_nothing() {
    let scene = Scene::new();
    let host = scene.join("penguin");
    scene.stream(&host).await.0.deliver(&batch(&host, 1, 1)).await.unwrap();
    let long = "x".repeat(255);
    let mut client = connect(scene.address, scene.tls(None)).await.unwrap();
    for name in
        ["", "../../etc/passwd", "a'; DROP TABLE hostinfo; --", "päng", "\u{202e}x", "a\0b", "a\nb", &long]
    {
        let request = JoinRequest {
            token: scene.token(None).to_string(),
            request: request(&rcgen::KeyPair::generate().unwrap()),
            name: name.to_owned(),
            machine_id: "0".repeat(32),
            analyst: false,
        };
        let status = client.enrolment.join(request).await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument, "{name:?}: {status}");
    }
    for machine_id in ["", "' OR 1=1 --", "../../x", &long] {
        let request = JoinRequest {
            token: scene.token(None).to_string(),
            request: request(&rcgen::KeyPair::generate().unwrap()),
            name: "x".to_owned(),
            machine_id: machine_id.to_owned(),
            analyst: false,
        };
        assert_eq!(client.enrolment.join(request).await.unwrap_err().code(), Code::InvalidArgument);
    }
    for csr in [vec![], vec![0x30; 100], vec![0xff; 60 << 10]] {
        let (token, name) = (scene.token(None).to_string(), "x".to_owned());
        let request = JoinRequest { token, request: csr, name, machine_id: "0".repeat(32), analyst: false };
        assert_eq!(client.enrolment.join(request).await.unwrap_err().code(), Code::InvalidArgument);
    }
    // Nor does a stranger get a large message in.
    let (token, name) = (scene.token(None).to_string(), "x".to_owned());
    let request =
        JoinRequest { token, request: vec![0xff; 1 << 20], name, machine_id: "0".repeat(32), analyst: false };
    assert_eq!(client.enrolment.join(request).await.unwrap_err().code(), Code::OutOfRange);
    assert_eq!(scene.batches(&host), 1);
}

#[test]
fn nobody_joins_as_a_host_that_is_there() {
    let scene = Scene::new();
    let penguin = scene.join("penguin");
    // Its name for another machine, its machine under another name, and both.
    let mut impostor = scene.stranger("impostor");
    impostor.name = "penguin".to_owned();
    let error = scene.join_with(&impostor, &scene.token(None)).unwrap_err();
    assert!(error.contains("another machine is known as penguin"), "{error}");
    let mut impostor = scene.stranger("impostor2");
    impostor.machine_id.clone_from(&penguin.machine_id);
    let error = scene.join_with(&impostor, &scene.token(None)).unwrap_err();
    assert!(error.contains("known as penguin"), "{error}");
    impostor.name = "penguin".to_owned();
    for _ in 0..2 {
        let error = scene.join_with(&impostor, &scene.token(None)).unwrap_err();
        assert!(error.contains("token made for it"), "{error}");
    }
    // Not even once it is revoked; but with a token that says so.
    server::revoke(&scene.store(), "penguin").unwrap().unwrap();
    assert!(scene.join_with(&impostor, &scene.token(None)).is_err());
    scene.join_with(&impostor, &scene.token(Some("penguin"))).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_for_a_host_replaces_its_certificate_and_goes_on_after_its_last_batch() {
    let scene = Scene::new();
    let host = scene.join("penguin");
    let (mut old, _) = scene.stream(&host).await;
    old.deliver(&batch(&host, 1, 1)).await.unwrap();
    let again = Host { name: "whatever".to_owned(), ..scene.moved(&host, "again") };
    let facts = scene.join_with(&again, &scene.token(Some("penguin"))).unwrap();
    assert_eq!((facts.after, facts.name.as_str()), (1, "penguin"));
    let status = old.deliver(&batch(&host, 2, 1)).await.unwrap_err();
    assert!(matches!(status.code(), Code::PermissionDenied), "{status}");
    let (mut new, stored) = scene.stream(&again).await;
    assert_eq!(stored, 1);
    assert_eq!(new.deliver(&batch(&host, 2, 1)).await.unwrap(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revocation_holds_at_once_on_open_connections_too() {
    let scene = Scene::new();
    let (host, silent, other) = (scene.join("penguin"), scene.join("silent"), scene.join("other"));
    let (mut stream, _) = scene.stream(&host).await;
    let (mut idle, _) = scene.stream(&silent).await;
    let (mut bystander, _) = scene.stream(&other).await;
    stream.deliver(&batch(&host, 1, 1)).await.unwrap();
    assert_eq!(server::revoke(&scene.store(), "nobody").unwrap().unwrap_err().len(), 3);
    for name in ["penguin", &silent.machine_id] {
        assert_eq!(server::revoke(&scene.store(), name).unwrap(), Ok(1));
    }
    let status = stream.deliver(&batch(&host, 2, 1)).await.unwrap_err();
    assert_eq!(status.code(), Code::PermissionDenied, "{status}");
    // One that says nothing is told without being asked.
    assert_eq!(idle.receipt().await.unwrap_err().code(), Code::PermissionDenied);
    for host in [&host, &silent] {
        let mut client = scene.client(host).await;
        let status = client
            .enrolment
            .renew(RenewRequest { request: request(&rcgen::KeyPair::generate().unwrap()) })
            .await;
        assert_eq!(status.unwrap_err().code(), Code::PermissionDenied);
        assert!(Stream::open(client).await.is_err());
    }
    assert_eq!(bystander.deliver(&batch(&other, 1, 1)).await.unwrap(), 1);
    assert_eq!(scene.batches(&host), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_expired_certificate_is_worth_nothing_not_even_on_an_open_connection() {
    let scene = Scene::with_certificates_for(Duration::from_secs(3));
    let host = scene.join("penguin");
    let (mut stream, _) = scene.stream(&host).await;
    // The server looks while nothing comes.
    let status = loop {
        if let Err(status) = stream.receipt().await {
            break status;
        }
    };
    assert!(status.message().contains("has expired"), "{status}");
    // And the handshake fails.
    let refused = match connect(scene.address, scene.tls(Some(&host.data))).await {
        Ok(client) => Stream::open(client).await.is_err(),
        Err(_) => true,
    };
    assert!(refused);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_certificate_one_can_only_join() {
    let scene = Scene::new();
    let mut client = connect(scene.address, scene.tls(None)).await.unwrap();
    let renew = RenewRequest { request: request(&rcgen::KeyPair::generate().unwrap()) };
    assert_eq!(client.enrolment.renew(renew).await.unwrap_err().code(), Code::Unauthenticated);
    let Err(status) = Stream::open(client).await else { panic!("a stream without a certificate") };
    assert_eq!(status.code(), Code::Unauthenticated);
    assert_eq!(scene.refused("no-certificate"), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_of_another_authority_is_refused() {
    let (scene, other) = (Scene::new(), Scene::new());
    let (host, stranger) = (scene.join("penguin"), other.join("penguin"));
    let opened = match connect(scene.address, scene.tls(Some(&stranger.data))).await {
        Ok(client) => Stream::open(client).await.is_ok(),
        Err(_) => false,
    };
    assert!(!opened);
    // One that our authority signed, but that the store does not know.
    let key = rcgen::KeyPair::generate().unwrap();
    let signed = Authority::load(&scene.data())
        .unwrap()
        .sign(&request(&key), ("penguin", &host.machine_id), HOUR)
        .unwrap();
    let forged = scene.path("forged");
    fs::create_dir_all(forged.join("agent")).unwrap();
    let pem = rcgen_pem(&signed.certificate) + &key.serialize_pem();
    fs::write(forged.join("agent/agent.pem"), pem).unwrap();
    let client = connect(scene.address, scene.tls(Some(&forged))).await.unwrap();
    let Err(status) = Stream::open(client).await else { panic!("a stream with a certificate of nobody") };
    assert_eq!(status.code(), Code::PermissionDenied);
    assert_eq!(scene.refused("unknown"), 1);
}

fn rcgen_pem(der: &[u8]) -> String {
    use base64::{Engine, engine::general_purpose::STANDARD};
    format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", STANDARD.encode(der))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_gets_another_certificate_for_itself_and_no_other() {
    let scene = Scene::new();
    let host = scene.join("penguin");
    let mut client = scene.client(&host).await;
    // A request that asks for another name, for an authority and for a server's rights.
    let mut params = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    params.distinguished_name.push(rcgen::DnType::CommonName, "other");
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    params.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ServerAuth];
    let key = rcgen::KeyPair::generate().unwrap();
    let request = params.serialize_request(&key).unwrap().der().to_vec();
    let renewed = client.enrolment.renew(RenewRequest { request }).await.unwrap().into_inner();
    let next = scene.path("next");
    fs::create_dir_all(next.join("agent")).unwrap();
    let pem = rcgen_pem(&renewed.certificate) + &key.serialize_pem();
    fs::write(next.join("agent/agent.pem"), pem).unwrap();
    let renewed_host = Host { data: next, ..scene.moved(&host, "next") };
    let (mut stream, _) = scene.stream(&renewed_host).await;
    assert_eq!(stream.deliver(&batch(&host, 1, 1)).await.unwrap(), 1);
    let text = String::from_utf8_lossy(&renewed.certificate).into_owned();
    assert!(text.contains("penguin") && !text.contains("localhost") && !text.contains("other"));
}

#[test]
fn keys_are_for_their_owner_and_never_leave_their_host() {
    let scene = Scene::new();
    let host = scene.join("penguin");
    for (directory, secrets) in [(scene.data().join("server"), 1), (host.data.join("agent"), 1)] {
        let mut keys = 0;
        for entry in fs::read_dir(directory).unwrap() {
            let entry = entry.unwrap();
            assert_eq!(entry.metadata().unwrap().permissions().mode() & 0o077, 0, "{:?}", entry.path());
            keys +=
                usize::from(fs::read_to_string(entry.path()).is_ok_and(|text| text.contains("PRIVATE KEY")));
        }
        assert_eq!(keys, secrets);
    }
    // The store has digests alone.
    let token = scene.token(None).to_string();
    let store = fs::read(scene.path("store.db")).unwrap();
    let log = fs::read(scene.path("store.db-wal")).unwrap_or_default();
    let secret = token.split('.').nth(2).unwrap();
    for bytes in [store, log] {
        assert!(!bytes.windows(secret.len()).any(|window| window == secret.as_bytes()));
    }
}
