//! Analysts: what they are answered, and what they and those who are none are refused.

use std::{io, path::Path, thread, time::Duration};

use luarm_link::{
    analyst::{self, Remote},
    proto::{Listing, Question, Synced, answer::What as Said, parcel::What as Message, question::What},
    server::{self, Answering},
};
use luarm_store::{Cell, QueryError, Reader, RowSink, Scope, Source};
use tonic::{Code, Status};

use crate::scene::*;

/// Counts for ever.
const ENDLESS: &str =
    "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n";
/// Gives rows for ever.
const ROWS: &str = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT i, 'row' FROM n";

#[derive(Default, Debug, PartialEq)]
struct Answer(Vec<String>);

impl RowSink for Answer {
    fn columns(&mut self, names: &[String]) -> io::Result<()> {
        self.0.push(names.join("|"));
        Ok(())
    }

    fn row(&mut self, cells: &[Cell<'_>]) -> io::Result<()> {
        self.0.push(format!("{cells:?}"));
        Ok(())
    }
}

fn asked(source: &mut dyn Source, sql: &str) -> Result<(u64, Answer), String> {
    let mut answer = Answer::default();
    let rows = source.query(sql, &mut answer).map_err(|error| error.to_string())?;
    Ok((rows, answer))
}

fn remote(scene: &Scene, data: &Path) -> Remote {
    Remote::open(Some(scene.url()), data).unwrap()
}

/// A scene with two hosts that delivered.
async fn delivered() -> (Scene, Host, Host) {
    let scene = Scene::new();
    let hosts = ["penguin", "puffin"].map(|name| scene.join(name));
    for host in &hosts {
        scene.stream(host).await.0.deliver(&batch(host, 1, 5)).await.unwrap();
    }
    let [one, other] = hosts;
    (scene, one, other)
}

fn question(sql: &str) -> Question {
    Question { what: Some(What::Sql(sql.to_owned())), ..Question::default() }
}

/// What is said to a question that is refused before it is answered.
async fn refusal(mut client: Client, question: Question) -> Status {
    client.inquiry.ask(question).await.err().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_answers_as_the_store_does() {
    let (scene, penguin, _) = delivered().await;
    let data = scene.analyst("anna");
    beside(|| {
        let mut far = remote(&scene, &data);
        let mut near = Reader::open(&scene.store()).unwrap();
        let both = |far: &mut Remote, near: &mut Reader| {
            for sql in [
                "SELECT * FROM renameinfo ORDER BY host, renameid",
                "SELECT hostname, machineid FROM hostinfo WHERE 1 = 0",
                "SELECT 1 AS n, -9223372036854775808 AS least, 2.5 AS x, 1e999 AS infinite, NULL AS missing, '' AS empty, 'ä\u{1f427}' AS text, \
                 x'00ff' AS bytes, zeroblob(100000) AS many",
                "SELECT count(*) FROM renameinfo",
                "",
                "-- nothing",
                // What is wrong with them is said in the same words.
                "SELECT nothing FROM renameinfo",
                "SELECT 1; SELECT 2",
                "DELETE FROM renameinfo",
                "SELECT hash FROM luarm_token",
            ] {
                assert_eq!(asked(far, sql), asked(near, sql), "{sql}");
            }
            assert_eq!(far.hosts().unwrap(), near.hosts().unwrap());
        };
        both(&mut far, &mut near);
        assert_eq!(far.use_host("penguin").unwrap(), near.use_host("penguin").unwrap());
        both(&mut far, &mut near);
        assert_eq!(asked(&mut far, "SELECT count(*) FROM renameinfo").unwrap().1.0[1], "[Integer(5)]");
        assert_eq!(far.use_host(&penguin.machine_id).unwrap().name, "penguin");
        let [said, meant] =
            [far.use_host("nobody"), near.use_host("nobody")].map(|r| r.unwrap_err().to_string());
        assert_eq!(said, meant);
        far.use_all().unwrap();
        near.use_all().unwrap();
        both(&mut far, &mut near);
        // Each question through the server is a row itself.
        let but_questions = |mut counts: Vec<(&'static str, i64)>| {
            counts.retain(|(table, _)| *table != "queryinfo");
            counts
        };
        assert_eq!(but_questions(far.row_counts().unwrap()), but_questions(near.row_counts().unwrap()));
        let (said, meant) = (far.size().unwrap(), near.size());
        assert!(said > 0 && said.abs_diff(meant) < 1 << 20, "{said} {meant}");
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn an_interrupt_ends_the_query_and_nothing_else() {
    let (scene, ..) = delivered().await;
    let data = scene.analyst("anna");
    beside(|| {
        let mut far = remote(&scene, &data);
        let interrupt = far.interrupter();
        // One that comes too early or too late is for nobody.
        interrupt();
        assert!(asked(&mut far, "SELECT 1").is_ok());
        for sql in [ENDLESS, ROWS] {
            let interrupter = far.interrupter();
            let ending = thread::spawn(move || {
                thread::sleep(Duration::from_millis(300));
                interrupter();
            });
            let error = far.query(sql, &mut io_sink()).unwrap_err();
            assert!(matches!(error, QueryError::Interrupted), "{error}");
            ending.join().unwrap();
            assert!(asked(&mut far, "SELECT 1").is_ok());
        }
    });
}

/// Takes rows and keeps none.
fn io_sink() -> impl RowSink {
    struct Nothing;

    impl RowSink for Nothing {
        fn columns(&mut self, _: &[String]) -> io::Result<()> {
            Ok(())
        }

        fn row(&mut self, _: &[Cell<'_>]) -> io::Result<()> {
            Ok(())
        }
    }

    Nothing
}

#[tokio::test(flavor = "multi_thread")]
async fn limits_end_a_query_and_say_which() {
    let answering = Answering { time: Duration::from_secs(2), rows: 1000, ..Answering::default() };
    let scene = Scene::with(24 * HOUR, answering);
    let host = scene.join("penguin");
    scene.stream(&host).await.0.deliver(&batch(&host, 1, 5)).await.unwrap();
    let data = scene.analyst("anna");
    beside(|| {
        let mut far = remote(&scene, &data);
        let error = asked(&mut far, ENDLESS).unwrap_err();
        assert!(error.contains("longer than 2 s"), "{error}");
        let error = asked(&mut far, ROWS).unwrap_err();
        assert!(error.contains("more than 1000 rows"), "{error}");
        assert_eq!(asked(&mut far, &format!("{ROWS} LIMIT 1000")).unwrap().0, 1000);
        // A value that is too long for SQLite's limit, and a row that is too long for ours.
        for sql in ["SELECT zeroblob(20000000)", "SELECT zeroblob(5000000), zeroblob(5000000)"] {
            assert!(asked(&mut far, sql).is_err(), "{sql}");
        }
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn an_analyst_has_few_questions_at_a_time_and_takes_no_place_of_others() {
    let scene = Scene::with(24 * HOUR, Answering { at_once: 2, ..Answering::default() });
    let host = scene.join("penguin");
    scene.stream(&host).await.0.deliver(&batch(&host, 1, 5)).await.unwrap();
    let (data, other) = (scene.analyst("anna"), scene.analyst("otto"));
    beside(|| {
        let mut far = remote(&scene, &data);
        let busy = |data: &Path| {
            let mut far = remote(&scene, data);
            let interrupt = far.interrupter();
            // The question that looks whether there is room may have taken it.
            let refused =
                |error: &QueryError| error.to_string().contains("questions of anna are being answered");
            let ask = move || loop {
                match far.query(ENDLESS, &mut io_sink()).map(drop) {
                    Err(error) if refused(&error) => {}
                    answer => return answer,
                }
            };
            (thread::spawn(ask), interrupt)
        };
        let busy: Vec<_> = (0..2).map(|_| busy(&data)).collect();
        let error = loop {
            if let Err(error) = asked(&mut far, "SELECT 1") {
                break error;
            }
            assert!(busy.iter().all(|(asking, _)| !asking.is_finished()));
        };
        assert!(error.contains("2 questions of anna are being answered"), "{error}");
        assert!(asked(&mut remote(&scene, &other), "SELECT 1").is_ok());
        for (asking, interrupt) in busy {
            // Until it is heard: the other one may have taken the place that the first was refused.
            while !asking.is_finished() {
                interrupt();
                thread::sleep(Duration::from_millis(20));
            }
            assert!(asking.join().unwrap().is_err());
        }
        // There is room again, once the engine has ended them.
        while let Err(error) = asked(&mut far, "SELECT 1") {
            assert!(error.contains("questions of anna"), "{error}");
        }
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_asks_nothing_and_an_analyst_delivers_nothing() {
    let (scene, penguin, _) = delivered().await;
    let data = scene.analyst("anna");
    let before = scene.count("SELECT count(*) FROM batchinfo");
    for what in [
        What::Sql("SELECT 1".to_owned()),
        What::Hosts(Listing {}),
        What::Use("penguin".to_owned()),
        What::Counts(Listing {}),
        What::Size(Listing {}),
    ] {
        let question = Question { what: Some(what), ..Question::default() };
        let status = refusal(scene.client(&penguin).await, question.clone()).await;
        assert_eq!(status.code(), Code::PermissionDenied, "{status}");
        let stranger = connect(scene.address, scene.tls(None)).await.unwrap();
        assert_eq!(refusal(stranger, question).await.code(), Code::Unauthenticated);
    }
    assert_eq!((scene.refused("no-analyst"), scene.refused("no-certificate")), (5, 5));
    let client = connect(scene.address, scene.tls(Some(&data))).await.unwrap();
    let Err(status) = Stream::open(client).await else { panic!("an analyst delivers") };
    assert_eq!((status.code(), scene.refused("analyst")), (Code::PermissionDenied, 1), "{status}");
    assert_eq!(scene.count("SELECT count(*) FROM batchinfo"), before);
    // Not with a name that a host has, either, nor does it make a host.
    assert_eq!(scene.count("SELECT count(*) FROM hostinfo"), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_is_for_a_host_or_for_an_analyst() {
    let scene = Scene::new();
    let (url, store) = (scene.url(), scene.store());
    beside(|| {
        let make =
            |name: &str| server::make_analyst_token(&scene.data(), Some(&store), (name, &Scope::All), HOUR);
        let host = scene.stranger("penguin");
        let token = make("anna").unwrap();
        let error = scene.join_with(&host, &token).unwrap_err();
        assert!(error.contains("for an analyst, not for a host"), "{error}");
        let error = analyst::join(&url, &scene.token(None), &scene.path("x")).unwrap_err().to_string();
        assert!(error.contains("for a host, not for an analyst"), "{error}");
        // Neither was used up by it.
        let facts = analyst::join(&url, &token, &scene.path("anna")).unwrap();
        assert_eq!(
            (facts.name.as_str(), analyst::facts(&scene.path("anna")).unwrap().name.as_str()),
            ("anna", "anna")
        );
        assert!(analyst::join(&url, &token, &scene.path("again")).is_err());
        // A host of the same name is another.
        scene.join("anna");
        assert_eq!(server::revoke(&store, "anna").unwrap(), Ok(1));
        assert!(asked(&mut remote(&scene, &scene.path("anna")), "SELECT 1").is_ok());
        for name in ["", "a b", "analyst:x", "../x", &"x".repeat(49)] {
            assert!(make(name).is_err(), "{name}");
        }
        // SQLite has no accounts that would keep him to some hosts.
        let some = Scope::Hosts(vec!["penguin".to_owned()]);
        let made = server::make_analyst_token(&scene.data(), Some(&store), ("otto", &some), HOUR);
        assert!(made.unwrap_err().to_string().contains("cannot keep an analyst"));
        let token = server::make_analyst_token(&scene.data(), None, ("otto", &some), HOUR).unwrap();
        analyst::join(&url, &token, &scene.path("otto")).unwrap();
        let error = asked(&mut remote(&scene, &scene.path("otto")), "SELECT 1").unwrap_err();
        assert!(error.contains("may see penguin only"), "{error}");
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_analyst_is_cut_in_the_middle_of_an_answer() {
    let (scene, ..) = delivered().await;
    let (data, other) = (scene.analyst("anna"), scene.analyst("otto"));
    beside(|| {
        let asking = [ENDLESS, ROWS].map(|sql| {
            let mut far = remote(&scene, &data);
            thread::spawn(move || far.query(sql, &mut io_sink()).unwrap_err().to_string())
        });
        let mut bystander = remote(&scene, &other);
        let store = scene.store();
        assert_eq!(
            server::revoke_analyst(&store, "nobody").unwrap(),
            Err(vec!["anna".to_owned(), "otto".to_owned()])
        );
        assert_eq!(server::revoke_analyst(&store, "anna").unwrap(), Ok(1));
        for asking in asking {
            let error = asking.join().unwrap();
            assert!(error.contains("was revoked"), "{error}");
        }
        let error = asked(&mut remote(&scene, &data), "SELECT 1").unwrap_err();
        assert!(error.contains("was revoked"), "{error}");
        assert!(asked(&mut bystander, "SELECT 1").is_ok());
        // With a new token he is back; the old certificate is not.
        let token =
            server::make_analyst_token(&scene.data(), Some(&store), ("anna", &Scope::All), HOUR).unwrap();
        analyst::join(&scene.url(), &token, &scene.path("new")).unwrap();
        assert!(asked(&mut remote(&scene, &scene.path("new")), "SELECT 1").is_ok());
        assert!(asked(&mut remote(&scene, &data), "SELECT 1").is_err());
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_question_is_refused_and_disturbs_nobody() {
    use tonic::codegen::http::uri::PathAndQuery;
    let (scene, ..) = delivered().await;
    let data = scene.analyst("anna");
    let client = || async { connect(scene.address, scene.tls(Some(&data))).await.unwrap() };
    // Too long for a message, and just short enough.
    for (length, code) in [(2 << 20, Code::OutOfRange), (64 << 20, Code::OutOfRange)] {
        let status = refusal(client().await, question(&"x".repeat(length))).await;
        assert_eq!(status.code(), code, "{status}");
    }
    let fitting = format!("SELECT '{}'", "x".repeat((1 << 20) + 100));
    for question in [
        question(&fitting),
        question(&"(".repeat(100_000)),
        Question { what: None, ..Question::default() },
        Question { host: "x".repeat(1 << 20), ..question("SELECT 1") },
        Question { what: Some(What::Use("\u{202e}'; --".to_owned())), ..Question::default() },
    ] {
        let mut answers = client().await.inquiry.ask(question).await.unwrap().into_inner();
        let mut failure = None;
        while let Ok(Some(answer)) = answers.message().await {
            if let Some(Said::Failure(said)) = answer.what {
                failure = Some(said);
            }
        }
        assert!(failure.is_some(), "a question is answered that is none");
    }
    // Bytes that are no message.
    for bytes in [vec![0xff; 100], vec![0x0a, 0xff, 0xff, 0xff, 0xff, 0x7f], vec![]] {
        let tls = scene.tls(Some(&data));
        let address = scene.address;
        let connector = tower::service_fn(move |_: tonic::transport::Uri| {
            let tls = tls.clone();
            async move { Ok::<_, io::Error>(hyper_util::rt::TokioIo::new(handshake(address, tls).await?)) }
        });
        let endpoint = tonic::transport::Endpoint::from_static("http://server");
        let mut grpc = tonic::client::Grpc::new(endpoint.connect_with_connector(connector).await.unwrap());
        grpc.ready().await.unwrap();
        let path = PathAndQuery::from_static("/luarm.link.v1.Inquiry/Ask");
        let empty = bytes.is_empty();
        let answer = grpc.server_streaming(tonic::Request::new(bytes), path, Raw).await;
        // Nothing at all is a question of no kind.
        assert_eq!(answer.is_ok(), empty);
    }
    beside(|| assert!(asked(&mut remote(&scene, &data), "SELECT 1").is_ok()));
}

/// Sends bytes as they are.
struct Raw;

impl tonic::codec::Codec for Raw {
    type Encode = Vec<u8>;
    type Decode = luarm_link::proto::Answer;
    type Encoder = Self;
    type Decoder = tonic_prost::ProstDecoder<luarm_link::proto::Answer>;

    fn encoder(&mut self) -> Self {
        Raw
    }

    fn decoder(&mut self) -> Self::Decoder {
        use tonic_prost::ProstCodec;
        let mut codec = ProstCodec::<luarm_link::proto::Answer, luarm_link::proto::Answer>::default();
        tonic::codec::Codec::decoder(&mut codec)
    }
}

impl tonic::codec::Encoder for Raw {
    type Item = Vec<u8>;
    type Error = Status;

    fn encode(&mut self, item: Vec<u8>, out: &mut tonic::codec::EncodeBuf<'_>) -> Result<(), Status> {
        prost::bytes::BufMut::put_slice(out, &item);
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_in_the_second_half_of_its_life_is_replaced_and_an_expired_one_says_so() {
    let scene = Scene::with_certificates_for(Duration::from_secs(6));
    let host = scene.join("penguin");
    scene.stream(&host).await.0.deliver(&batch(&host, 1, 1)).await.unwrap();
    let data = scene.analyst("anna");
    beside(|| {
        let first = analyst::facts(&data).unwrap();
        // Each opening looks; the certificate is due after four seconds.
        let renewed = loop {
            assert!(asked(&mut remote(&scene, &data), "SELECT 1").is_ok());
            let facts = analyst::facts(&data).unwrap();
            if facts != first {
                break facts;
            }
        };
        assert!(renewed.expires > first.expires && renewed.name == "anna");
        let error = loop {
            thread::sleep(Duration::from_millis(500));
            // The host's would be of no use here.
            if luarm_schema::Time::now().0 > renewed.expires {
                break Remote::open(Some(scene.url()), &data).unwrap_err().to_string();
            }
        };
        assert!(error.contains("expired at") && error.contains("--analyst anna"), "{error}");
        assert!(
            Remote::open(None, &scene.path("nowhere"))
                .unwrap_err()
                .to_string()
                .contains("no analyst has joined")
        );
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sync_waits_for_the_word_of_the_host_that_was_asked() {
    let (scene, penguin, puffin) = delivered().await;
    let data = scene.analyst("anna");
    // Words that nobody asked for are for nobody, and one before the hello ends the stream.
    let mut early = Stream::open(scene.client(&puffin).await).await.unwrap();
    early.say(Message::Synced(Synced { number: 1 })).await;
    assert_eq!(early.receipt().await.unwrap_err().code(), Code::InvalidArgument);
    let (mut stream, _) = scene.stream(&penguin).await;
    for number in [0, 1, u64::MAX] {
        stream.say(Message::Synced(Synced { number })).await;
    }
    let mut far = beside(|| remote(&scene, &data));
    let asking = tokio::task::spawn_blocking(move || {
        let answers = [None, Some("penguin")].map(|host| far.sync(host, PATIENCE));
        (far, answers.map(|answer| answer.map_err(|error| error.to_string())))
    });
    for number in 1..=2 {
        let receipt = stream.receipt().await.unwrap();
        assert_eq!((receipt.stored, receipt.sync), (1, number));
        stream.say(Message::Synced(Synced { number: number + 7 })).await;
        stream.say(Message::Synced(Synced { number })).await;
    }
    let (mut far, answers) = asking.await.unwrap();
    assert_eq!(answers, [Ok(vec!["penguin".to_owned()]), Ok(vec!["penguin".to_owned()])]);
    // Nobody delivers, or the one that does goes while it is waited for.
    assert!(beside(|| far.sync(Some("puffin"), PATIENCE).is_err()));
    let asking = tokio::task::spawn_blocking(move || far.sync(None, PATIENCE).map_err(|e| e.to_string()));
    assert_eq!(stream.receipt().await.unwrap().sync, 3);
    drop(stream);
    assert!(asking.await.unwrap().unwrap_err().contains("the connection to penguin ended"));
}
