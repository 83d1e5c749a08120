//! The decoder of DNS messages against a corpus of sound and hostile ones, against another decoder, and against any bytes.
//!
//! `LUARM_RENEW=1 cargo test -p luarm-recorder --test dns` writes the corpus, which is also where the fuzz target starts.

use std::{collections::BTreeSet, fs, path::PathBuf};

use luarm_recorder::dns::{Data, Malformed, decode};
use proptest::prelude::*;
use simple_dns::{CLASS, Name, Packet, PacketFlag, Question, ResourceRecord, rdata::RData};

fn header(id: u16, flags: u16, questions: u16, answers: u16) -> Vec<u8> {
    [id, flags, questions, answers, 0, 0].iter().flat_map(|n| n.to_be_bytes()).collect()
}

fn name(text: &str) -> Vec<u8> {
    let labels = text.split('.').filter(|label| !label.is_empty());
    labels.flat_map(|l| [&[l.len() as u8], l.as_bytes()].concat()).chain([0]).collect()
}

fn question(text: &str, qtype: u16) -> Vec<u8> {
    [name(text), qtype.to_be_bytes().to_vec(), vec![0, 1]].concat()
}

fn record(owner: &[u8], kind: u16, class: u16, rdata: &[u8]) -> Vec<u8> {
    let fixed: Vec<u8> =
        [kind, class, 0, 60, rdata.len() as u16].iter().flat_map(|n| n.to_be_bytes()).collect();
    [owner, &fixed, rdata].concat()
}

/// The question's name, from any record.
const ASKED: &[u8] = &[0xc0, 12];
const A: &[u8] = &[79, 125, 109, 171];

fn answer(count: u16, question: Vec<u8>, records: &[Vec<u8>]) -> Vec<u8> {
    [header(7, 0x8180, 1, count), question, records.concat()].concat()
}

/// An answer about the root, by the name that the last of so many pointers leads to, each of which leads to the one before.
fn chained(count: u16) -> Vec<u8> {
    let pointers = (0..count).flat_map(|n| (0xc000 | if n == 0 { 23 } else { 22 + 2 * n }).to_be_bytes());
    let text = record(&[0], 16, 1, &[0].into_iter().chain(pointers).collect::<Vec<u8>>());
    let last = (0xc000 | (22 + 2 * count)).to_be_bytes();
    [header(7, 0x8180, 0, 2), text, record(&last, 1, 1, A)].concat()
}

/// Each message of the corpus: its file, its bytes, and what is to come of it.
fn corpus() -> Vec<(&'static str, Vec<u8>, Result<String, Malformed>)> {
    let asked = || question("dana.basefreak.nl", 1);
    let a = || record(ASKED, 1, 1, A);
    let ok = |text: &str| Ok(text.to_owned());
    let long = vec![[&[63][..], &[b'x'; 63]].concat(); 4].concat();
    vec![
        ("question", [header(7, 0x0100, 1, 0), asked()].concat(), ok("? dana.basefreak.nl 1")),
        (
            "answer-a",
            answer(1, asked(), &[a()]),
            ok("! dana.basefreak.nl 1; dana.basefreak.nl 60 79.125.109.171"),
        ),
        (
            "answer-aaaa",
            answer(
                1,
                question("a.nl", 28),
                &[record(ASKED, 28, 1, &[0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1])],
            ),
            ok("! a.nl 28; a.nl 60 2001:db8::1"),
        ),
        (
            "answer-cname",
            answer(
                2,
                question("www.a.nl", 1),
                &[record(ASKED, 5, 1, &[1, b'b', 0xc0, 16]), record(&[0xc0, 38], 1, 1, A)],
            ),
            ok("! www.a.nl 1; www.a.nl 60 = b.a.nl; b.a.nl 60 79.125.109.171"),
        ),
        (
            "answer-mixed-case",
            answer(1, question("uNDErnet.IRC.justedge.NET", 1), &[a()]),
            ok("! undernet.irc.justedge.net 1; undernet.irc.justedge.net 60 79.125.109.171"),
        ),
        (
            "answer-unusual-bytes",
            answer(1, [&[6, b'a', b'.', b' ', b'\\', 0xff, 0][..], &[0, 0, 1, 0, 1]].concat(), &[a()]),
            ok("! a\\046\\032\\092\\255\\000 1; a\\046\\032\\092\\255\\000 60 79.125.109.171"),
        ),
        (
            "answer-other-records",
            answer(3, asked(), &[record(ASKED, 16, 1, b"\x03txt"), record(ASKED, 1, 3, A), a()]),
            ok("! dana.basefreak.nl 1; dana.basefreak.nl 60 79.125.109.171"),
        ),
        ("answer-root", answer(1, question("", 1), &[a()]), ok("!  1;  60 79.125.109.171")),
        ("nothing", header(7, 0x8180, 0, 0), ok("!")),
        ("not-a-query", [header(7, 0xa800, 1, 0), vec![0xff; 9]].concat(), ok("!")),
        ("empty", vec![], Err(Malformed::Short)),
        ("header-cut", header(7, 0x8180, 1, 1)[..11].to_vec(), Err(Malformed::Short)),
        ("question-cut", answer(1, asked()[..9].to_vec(), &[]), Err(Malformed::Short)),
        ("answer-cut", answer(2, asked(), &[a(), a()[..9].to_vec()]), Err(Malformed::Short)),
        ("answers-missing", answer(0xffff, asked(), &[a()]), Err(Malformed::Short)),
        ("rdata-beyond-the-end", answer(1, asked(), &[a()[..13].to_vec()]), Err(Malformed::Short)),
        ("pointer-to-itself", answer(1, asked(), &[record(&[0xc0, 35], 1, 1, A)]), Err(Malformed::Name)),
        ("pointer-forward", answer(1, asked(), &[record(&[0xc0, 60], 1, 1, A)]), Err(Malformed::Name)),
        (
            "pointers-in-a-ring",
            answer(1, asked(), &[record(&[1, b'a', 0xc0, 35], 1, 1, A)]),
            Err(Malformed::Name),
        ),
        (
            "pointer-in-question",
            [header(7, 0x0100, 1, 0), vec![0xc0, 12, 0, 1, 0, 1]].concat(),
            Err(Malformed::Name),
        ),
        ("pointers-in-a-row", chained(100), ok("!;  60 79.125.109.171")),
        ("pointers-without-end", chained(200), Err(Malformed::Name)),
        ("name-too-long", answer(0, [&long[..], &[0, 0, 1, 0, 1]].concat(), &[]), Err(Malformed::Name)),
        ("label-of-unknown-kind", answer(0, vec![0x41, b'a', 0, 0, 1, 0, 1], &[]), Err(Malformed::Name)),
        (
            "address-of-three-bytes",
            answer(1, asked(), &[record(ASKED, 1, 1, &A[..3])]),
            Err(Malformed::Address),
        ),
        (
            "alias-beyond-its-record",
            answer(1, asked(), &[record(ASKED, 5, 1, &[9, b'a', 0])]),
            Err(Malformed::Short),
        ),
        (
            "aliases-in-a-ring",
            answer(
                2,
                question("a", 1),
                &[record(ASKED, 5, 1, &name("b")), record(&name("b"), 5, 1, &name("a"))],
            ),
            ok("! a 1; a 60 = b; b 60 = a"),
        ),
    ]
}

fn show(bytes: &[u8], cut: bool) -> Result<String, Malformed> {
    let message = decode(bytes, cut)?;
    let mut text = String::from(if message.response { "!" } else { "?" });
    if let Some(question) = message.question {
        text += &format!(" {} {}", question.name, question.qtype);
    }
    for record in message.records {
        text += &match record.data {
            Data::Address(address) => format!("; {} {} {address}", record.owner, record.ttl),
            Data::Alias(alias) => format!("; {} {} = {alias}", record.owner, record.ttl),
        };
    }
    Ok(text)
}

fn folder() -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "tests", "corpus", "dns"].iter().collect()
}

#[test]
fn the_corpus_decodes_as_it_should() {
    let mut files = BTreeSet::new();
    for (name, bytes, expected) in corpus() {
        let path = folder().join(name).with_extension("bin");
        if std::env::var_os("LUARM_RENEW").is_some() {
            fs::write(&path, &bytes).unwrap();
        }
        assert_eq!(fs::read(&path).unwrap(), bytes, "{name} is stale");
        assert_eq!(show(&bytes, false), expected, "{name}");
        files.insert(path);
    }
    let there: BTreeSet<_> = fs::read_dir(folder()).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert_eq!(there, files);
}

#[test]
fn a_cut_message_gives_what_is_before_the_cut() {
    let (_, bytes, _) = corpus().into_iter().find(|(name, ..)| *name == "answer-cname").unwrap();
    assert_eq!(show(&bytes[..bytes.len() - 1], true).unwrap(), "! www.a.nl 1; www.a.nl 60 = b.a.nl");
    for cut in 0..bytes.len() {
        assert_eq!(show(&bytes[..cut], false), Err(Malformed::Short), "{cut}");
    }
}

#[test]
fn more_records_than_are_kept_are_counted() {
    let a = record(ASKED, 1, 1, A);
    let message = decode(&answer(600, question("a", 1), &vec![a; 600]), false).unwrap();
    assert_eq!((message.records.len(), message.more), (512, 88));
}

fn labels() -> impl Strategy<Value = String> {
    prop::collection::vec("[a-z0-9_-]{1,20}", 1..5).prop_map(|labels| labels.join("."))
}

proptest! {
    #[test]
    fn any_bytes_are_taken(bytes in prop::collection::vec(any::<u8>(), 0..300), cut: bool) {
        let _ = decode(&bytes, cut);
    }

    #[test]
    fn any_change_to_the_corpus_is_taken(
        which in any::<prop::sample::Index>(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        cut: bool,
    ) {
        let corpus = corpus();
        let mut bytes = corpus[which.index(corpus.len())].1.clone();
        for (at, byte) in changes {
            if !bytes.is_empty() {
                let at = at.index(bytes.len());
                bytes[at] = byte;
            }
        }
        let message = decode(&bytes, cut);
        // What both this decoder and another one take, whole and of class IN, they read the same. The other one takes more: pointers that lead forward,
        // addresses and names of any length. What it has to take is tried below.
        if message.is_ok()
            && let Ok(packet) = Packet::parse(&bytes)
            && packet.opcode() == simple_dns::OPCODE::StandardQuery
            && packet.questions.len() < 2
        {
            compare(&packet, message)?;
        }
    }

    #[test]
    fn what_another_encoder_writes_is_read(
        id: u16,
        asked in labels(),
        aliases in prop::collection::vec(labels(), 0..4),
        addresses in prop::collection::vec(any::<[u8; 16]>(), 0..5),
        compressed: bool,
    ) {
        let mut packet = Packet::new_reply(id);
        let qname = Name::new(&asked).unwrap();
        packet.questions.push(Question::new(qname, simple_dns::TYPE::A.into(), CLASS::IN.into(), false));
        let mut owner = &asked;
        for alias in &aliases {
            let data = RData::CNAME(simple_dns::rdata::CNAME(Name::new(alias).unwrap()));
            packet.answers.push(ResourceRecord::new(Name::new(owner).unwrap(), CLASS::IN, 9, data));
            owner = alias;
        }
        for bytes in &addresses {
            let data = RData::AAAA(simple_dns::rdata::AAAA { address: u128::from_be_bytes(*bytes) });
            packet.answers.push(ResourceRecord::new(Name::new(owner).unwrap(), CLASS::IN, 9, data));
        }
        let bytes = if compressed { packet.build_bytes_vec_compressed() } else { packet.build_bytes_vec() }.unwrap();
        compare(&packet, decode(&bytes, false))?;
    }
}

/// A name as RFC 4343 has it written: in small letters, with numbers for what is no letter, digit or sign, and for a dot within a label.
fn written(name: &Name<'_>) -> String {
    let byte = |byte: &u8| match byte {
        b'.' | b'\\' => format!("\\{byte:03}"),
        b'!'..=b'~' => char::from(byte.to_ascii_lowercase()).to_string(),
        _ => format!("\\{byte:03}"),
    };
    let label = |label: &simple_dns::Label<'_>| label.as_ref().iter().map(byte).collect::<String>();
    name.get_labels().iter().map(label).collect::<Vec<_>>().join(".")
}

fn compare(
    packet: &Packet<'_>,
    message: Result<luarm_recorder::dns::Message, Malformed>,
) -> Result<(), TestCaseError> {
    let message = message.map_err(|error| TestCaseError::fail(format!("{error}: {packet:?}")))?;
    prop_assert_eq!(message.id, packet.id());
    prop_assert_eq!(message.response, packet.has_flags(PacketFlag::RESPONSE));
    prop_assert_eq!(message.question.is_some(), !packet.questions.is_empty());
    let matters = |r: &&ResourceRecord<'_>| {
        r.class == CLASS::IN
            && !r.cache_flush
            && matches!(r.rdata, RData::A(_) | RData::AAAA(_) | RData::CNAME(_))
    };
    let others: Vec<_> = packet.answers.iter().filter(matters).collect();
    prop_assert_eq!(message.records.len(), others.len());
    for (record, other) in message.records.iter().zip(others) {
        prop_assert_eq!(record.ttl, other.ttl);
        match (&record.data, &other.rdata) {
            (Data::Address(std::net::IpAddr::V4(a)), RData::A(b)) => prop_assert_eq!(a.to_bits(), b.address),
            (Data::Address(std::net::IpAddr::V6(a)), RData::AAAA(b)) => {
                prop_assert_eq!(a.to_bits(), b.address);
            }
            (Data::Alias(a), RData::CNAME(b)) => prop_assert_eq!(a, &written(&b.0)),
            other => prop_assert!(false, "{:?}", other),
        }
    }
    Ok(())
}
