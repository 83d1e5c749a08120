//! Which name an endpoint gets, and whose answers count.

use std::net::SocketAddr;

use luarm_sensor::{Observation, observation::*};

use crate::scene::*;

const ALICE: ImageId = ImageId { pid: 10, start: 1_000_001, execs: 1 };
const HERS: ImageId = ImageId { pid: 11, start: 2_000_001, execs: 1 };
const MALLORY: ImageId = ImageId { pid: 12, start: 3_000_001, execs: 1 };
const RESOLVED: ImageId = ImageId { pid: 13, start: 4_000_001, execs: 1 };
const NAME: &[u8] = b"\x04dana\x09basefreak\x02nl\0";
const T: u64 = SECOND;

fn who(image: ImageId) -> Actor {
    let euid = [1000, 1000, 1001, 99][(image.pid - 10) as usize];
    Actor { euid, ..actor(image) }
}

fn question(id: u16, name: &[u8]) -> Vec<u8> {
    [&id.to_be_bytes(), &b"\x01\0\0\x01\0\0\0\0\0\0"[..], name, b"\0\x01\0\x01"].concat()
}

/// An answer about `name`: an alias `x.` + name, if so wished, and one address.
fn answer(id: u16, name: &[u8], alias: bool, address: [u8; 4]) -> Vec<u8> {
    let count = 1 + u8::from(alias);
    let head =
        [&id.to_be_bytes()[..], &[0x81, 0x80, 0, 1, 0, count, 0, 0, 0, 0], name, b"\0\x01\0\x01"].concat();
    let cname: &[u8] = b"\xc0\x0c\0\x05\0\x01\0\0\0\x09\0\x04\x01x\xc0\x0c";
    let owner = if alias { [&b"\x01x"[..], &[0xc0, 12]].concat() } else { vec![0xc0, 12] };
    let a = [&owner[..], b"\0\x01\0\x01\0\0\0\x3c\0\x04", &address].concat();
    [head, if alias { cname.to_vec() } else { Vec::new() }, a].concat()
}

fn udp(at: u64, by: ImageId, sent: bool, payload: Vec<u8>) -> Observation {
    Observation::Dns(Box::new(Dns {
        at,
        transport: Transport::Udp,
        sequence: 0,
        socket: u64::from(by.pid),
        sent,
        server: address("192.0.2.53:53"),
        actor: Some(who(by)),
        netns: host().namespaces.net,
        length: payload.len() as u32,
        payload,
    }))
}

const BOT: [u8; 4] = [79, 125, 109, 171];

fn asks(at: u64, by: ImageId, name: &[u8]) -> [Observation; 2] {
    [udp(at, by, true, question(7, name)), udp(at + MS, by, false, answer(7, name, false, BOT))]
}

fn connects(by: ImageId) -> Observation {
    begins(Endpoint { netns: host().namespaces.net, ..connection(u64::from(by.pid) + 100, 2 * T, who(by)) })
}

fn processes() -> Vec<Observation> {
    [ALICE, HERS, MALLORY, RESOLVED].map(|image| exec(5 * MS, image, "/bin/x")).into()
}

fn run(observations: impl IntoIterator<Item = Observation>) -> Memory {
    record(recorder(), processes().into_iter().chain(observations))
}

/// The name of the first endpoint's target.
fn fqdn(memory: &Memory) -> Option<&str> {
    memory.netinfo()[0].destfqdn.as_ref().map(|name| name.0.as_str())
}

#[test]
fn the_name_is_the_one_that_was_asked_for() {
    let mixed = b"\x04DaNa\x09baseFREAK\x02nL\0";
    let memory = run([
        udp(T, ALICE, true, question(7, mixed)),
        udp(T + MS, ALICE, false, answer(7, NAME, true, BOT)),
        udp(T + MS, ALICE, false, answer(7, NAME, true, BOT)),
        connects(ALICE),
    ]);
    assert_eq!(fqdn(&memory), Some("dana.basefreak.nl"));
    let [fact] = memory.nameinfo()[..] else { panic!("one row for each fact") };
    assert_eq!(
        (fact.name.0.as_str(), fact.address.as_str(), fact.ttl),
        ("dana.basefreak.nl", "79.125.109.171", Some(60))
    );
    assert_eq!(fact.chain.as_deref(), Some("x.dana.basefreak.nl"));
    assert_eq!((&*fact.origin, fact.server.as_deref()), ("dns", Some("192.0.2.53")));
    assert_eq!(
        (fact.psentity, fact.pid, fact.username.as_deref()),
        (Some(psentity(ALICE)), Some(10), Some("alice"))
    );
    assert_eq!((fact.application.as_deref(), fact.netns), (Some("acting"), None));
}

#[test]
fn answers_count_for_the_asker_its_user_and_everyone_when_a_resolver_asked() {
    for (asker, user, counts) in [
        (ALICE, ALICE, true),
        (ALICE, HERS, true),
        (MALLORY, ALICE, false),
        (ALICE, MALLORY, false),
        (RESOLVED, ALICE, true),
        (ALICE, RESOLVED, false),
    ] {
        let memory = run(asks(T, asker, NAME).into_iter().chain([connects(user)]));
        assert_eq!(fqdn(&memory).is_some(), counts, "{asker:?} asked, {user:?} connects");
        assert_eq!(memory.nameinfo().len(), 1);
    }
}

#[test]
fn the_closest_asker_counts_and_then_the_latest() {
    let other = b"\x05other\0";
    let memory = run([asks(T, ALICE, NAME), asks(T + 9 * MS, HERS, other)]
        .into_iter()
        .flatten()
        .chain([connects(ALICE)]));
    assert_eq!(fqdn(&memory), Some("dana.basefreak.nl"));
    let memory = run([asks(T, HERS, NAME), asks(T + 9 * MS, HERS, other)]
        .into_iter()
        .flatten()
        .chain([connects(ALICE)]));
    assert_eq!(fqdn(&memory), Some("other"));
}

#[test]
fn nobody_crowds_out_the_names_of_others() {
    let flood = (0..100u8).flat_map(|n| asks(T + MS, MALLORY, &[3, b'f', b'0' + n / 10, b'0' + n % 10, 0]));
    let memory = run(asks(T, ALICE, NAME).into_iter().chain(flood).chain([connects(ALICE)]));
    assert_eq!(fqdn(&memory), Some("dana.basefreak.nl"));
}

#[test]
fn an_answer_that_nobody_asked_for_is_ignored() {
    let good = || udp(T, ALICE, true, question(7, NAME));
    let forged = [
        vec![udp(T, ALICE, false, answer(7, NAME, false, BOT))],
        vec![good(), udp(T, ALICE, false, answer(8, NAME, false, BOT))],
        vec![good(), udp(T, HERS, false, answer(7, NAME, false, BOT))],
        vec![good(), udp(T, ALICE, false, answer(7, b"\x05other\0", false, BOT))],
        vec![good(), udp(T + 31 * SECOND, ALICE, false, answer(7, NAME, false, BOT))],
    ];
    for observations in forged {
        let mut recorder = recorder();
        processes().into_iter().chain(observations).for_each(|o| recorder.observe(o));
        assert_eq!(recorder.stats().unasked, 1);
        let memory = record(recorder, [connects(ALICE)]);
        assert!(memory.nameinfo().is_empty() && fqdn(&memory).is_none() && memory.lossinfo().is_empty());
    }
}

#[test]
fn only_what_the_aliases_lead_to_counts() {
    // The address belongs to another name than the one that was asked for.
    let mut stray = answer(7, NAME, false, BOT);
    let owner = stray.len() - 16;
    stray.splice(owner..owner + 2, *b"\x05other\0");
    let memory = run([udp(T, ALICE, true, question(7, NAME)), udp(T, ALICE, false, stray), connects(ALICE)]);
    assert!(memory.nameinfo().is_empty() && fqdn(&memory).is_none());
    // Aliases that lead in a ring end.
    let ring = b"\0\x07\x81\x80\0\x01\0\x02\0\0\0\0\x01a\0\0\x01\0\x01\xc0\x0c\0\x05\0\x01\0\0\0\x01\0\x03\x01b\0\x01b\0\0\x05\0\x01\0\0\0\x01\0\x03\x01a\0";
    let memory = run([udp(T, ALICE, true, question(7, b"\x01a\0")), udp(T, ALICE, false, ring.to_vec())]);
    assert!(memory.nameinfo().is_empty() && memory.lossinfo().is_empty());
}

#[test]
fn malformed_messages_are_counted_as_lost() {
    let memory = run((0..5).map(|n| udp(T, ALICE, false, vec![0xff; n])));
    let rows: Vec<_> =
        memory.lossinfo().iter().map(|row| format!("{} {} {}", row.class, row.cause, row.count)).collect();
    assert_eq!(rows, ["names malformed 5"]);
}

#[test]
fn another_network_has_other_names() {
    let elsewhere = |observation| match observation {
        Observation::Dns(dns) => Observation::Dns(Box::new(Dns { netns: 77, ..*dns })),
        other => other,
    };
    let memory = run(asks(T, ALICE, NAME).map(elsewhere).into_iter().chain([connects(ALICE)]));
    assert_eq!((fqdn(&memory), memory.nameinfo()[0].netns), (None, Some(77)));
}

#[test]
fn messages_over_tcp_are_put_together() {
    let piece = |sent, sequence, payload: &[u8]| {
        Observation::Dns(Box::new(Dns {
            at: T,
            transport: Transport::Tcp,
            sequence,
            socket: 5,
            sent,
            server: address("192.0.2.53:53"),
            actor: Some(who(ALICE)),
            netns: 0,
            length: payload.len() as u32,
            payload: payload.to_vec(),
        }))
    };
    let framed = |message: Vec<u8>| [&(message.len() as u16).to_be_bytes()[..], &message].concat();
    let (asked, told) = (framed(question(7, NAME)), framed(answer(7, NAME, true, BOT)));
    let start = u32::MAX - 10;
    let memory = run([
        piece(true, 0, &asked[..2]),
        piece(true, 2, &asked[2..]),
        piece(false, start, &told[..9]),
        piece(false, start.wrapping_add(30), &told[30..]),
        piece(false, start, &told[..9]),
        piece(false, start.wrapping_add(9), &told[9..30]),
        connects(ALICE),
    ]);
    assert_eq!(fqdn(&memory), Some("dana.basefreak.nl"));
}

#[test]
fn an_asker_has_a_row_though_it_execs_before_the_answer() {
    let child = image(20, T, 0);
    let [asks, answered] = asks(T, ALICE, NAME).map(|observation| match observation {
        Observation::Dns(dns) => Observation::Dns(Box::new(Dns { actor: Some(actor(child)), ..*dns })),
        other => other,
    });
    let memory =
        run([fork(child, ALICE), asks, exec(T + MS, ImageId { execs: 1, ..child }, "/bin/nc"), answered]);
    assert_eq!(memory.nameinfo()[0].psentity, Some(psentity(child)));
}

#[test]
fn the_hosts_file_names_what_dns_does_not() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "79.125.109.171 Bot.example bot\n10.0.0.1 penguin\n").unwrap();
    let start = |resume| {
        luarm_recorder::Recorder::new(luarm_recorder::Setup {
            resume,
            host: host(),
            run: wall(MS),
            version: "0.1.0",
            users: Box::new(Passwd),
            clock_offset: BOOT,
            hosts_file: Some(file.path().to_owned()),
            own: None,
        })
    };
    let memory = record(start(luarm_schema::Resume::default()), [connects(ALICE)]);
    assert_eq!(fqdn(&memory), Some("bot.example"));
    assert_eq!(memory.netinfo()[0].sourcefqdn.as_ref().map(|name| &*name.0), Some("penguin"));
    let facts: Vec<_> = memory
        .nameinfo()
        .iter()
        .map(|row| format!("{} {} {}", row.origin, row.address, row.name.0))
        .collect();
    assert_eq!(
        facts,
        ["hosts 79.125.109.171 bot.example", "hosts 79.125.109.171 bot", "hosts 10.0.0.1 penguin"]
    );
    let memory = record(
        start(luarm_schema::Resume::default()),
        asks(T, ALICE, NAME).into_iter().chain([connects(ALICE)]),
    );
    assert_eq!(fqdn(&memory), Some("dana.basefreak.nl"));
    let mapped: SocketAddr = address("[::ffff:79.125.109.171]:6667");
    let inside = begins(Endpoint { remote: Some(mapped), netns: 77, ..connection(1, T, who(ALICE)) });
    assert_eq!(fqdn(&record(start(luarm_schema::Resume::default()), [inside])), None);
}
