//! What an answer cannot know is said beneath it, and nothing is where nothing is unknown.

use std::{
    io,
    path::Path,
    sync::{Arc, Mutex},
};

use luarm_hunt::{Console, Format, Options, observed};
use luarm_schema::{
    Batch, Row, Time,
    tables::{BatchInfo, CoverageInfo, CoverageInfoEnd, LossInfo},
};
use luarm_store::{Reader, StoreUrl, Writer};

use crate::fixture::{self, answers};

const QUESTION: &str = "select count(*) from netinfo";

/// What is written, to be read while its writer keeps it.
#[derive(Clone, Default)]
struct Remarks(Arc<Mutex<Vec<u8>>>);

impl io::Write for Remarks {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A store with what hosts told of themselves.
struct Store {
    directory: tempfile::TempDir,
    number: i64,
}

/// A row of `coverageinfo`: class, state, from, until and how it ended, why.
type Told<'a> = (&'a str, &'a str, &'a str, Option<(&'a str, &'a str)>, &'a str);

fn time(text: &str) -> Time {
    Time::parse(text).unwrap()
}

impl Store {
    fn new() -> Self {
        Store { directory: tempfile::tempdir().unwrap(), number: 0 }
    }

    fn url(&self) -> StoreUrl {
        let path: &Path = &self.directory.path().join("luarm.db");
        StoreUrl::parse(&format!("sqlite:{}", path.display())).unwrap()
    }

    /// A host of that name tells this; its last batch was made then, or a moment ago.
    fn host(
        mut self,
        name: &str,
        told: &[Told<'_>],
        lost: &[(&str, &str, i64, &str)],
        last: Option<&str>,
    ) -> Self {
        self.number += 1;
        let machine = format!("{:032x}", self.number);
        let made = last.map_or_else(Time::now, time);
        let (mut writer, _) = Writer::open(&self.url(), &machine).unwrap();
        let host = luarm_schema::tables::HostInfo {
            machineid: machine,
            hostname: name.to_owned(),
            ..fixture::host()
        };
        let mut rows: Vec<Row> = vec![host.into()];
        for (n, (class, state, from, end, reason)) in told.iter().enumerate() {
            let row = CoverageInfo {
                coverageid: n as i64 + 1,
                class: (*class).to_owned().into(),
                state: (*state).to_owned().into(),
                sensor: "ebpf".into(),
                hook: None,
                reason: (!reason.is_empty()).then(|| (*reason).to_owned()),
                created: time(from),
                end: end.map(|(until, ended)| CoverageInfoEnd {
                    destroyed: time(until),
                    ended: ended.to_owned().into(),
                }),
            };
            rows.push(row.into());
        }
        for (n, (class, cause, count, at)) in lost.iter().enumerate() {
            let row = LossInfo {
                lossid: n as i64 + 1,
                class: (*class).to_owned().into(),
                cause: (*cause).to_owned().into(),
                count: *count,
                note: None,
                created: time(at),
                until: time(at),
                end: None,
            };
            rows.push(row.into());
        }
        let ledger = BatchInfo {
            batchid: 1,
            run: 1,
            rowcount: rows.len() as i64,
            endcount: 0,
            firstevent: made,
            lastevent: made,
            created: made,
            publickey: None,
            nextkey: None,
            digest: None,
            signature: None,
            end: None,
        };
        rows.push(ledger.into());
        assert_eq!(writer.append(&Batch { id: 1, rows, ..Batch::default() }).unwrap(), []);
        self
    }

    /// The answer, without the time that it took, and the remarks.
    fn ask(&self, format: Format, question: &str) -> (String, String) {
        let remarks = Remarks::default();
        let options = Options { format, terminal: false };
        let console = Console::new(Reader::open(&self.url()).unwrap(), options);
        let answer = answers(&mut console.with_coverage(remarks.clone()), question).unwrap();
        let remarks = String::from_utf8(remarks.0.lock().unwrap().clone()).unwrap();
        (answer, remarks)
    }

    /// What is said of an answer: the same in each format, and for programs beside the answer, which is what it would be without.
    fn said(&self, question: &str) -> String {
        let mut said = Vec::new();
        for (_, format) in Format::ALL {
            let options = Options { format, terminal: false };
            let plain =
                answers(&mut Console::new(Reader::open(&self.url()).unwrap(), options), question).unwrap();
            let (answer, remarks) = self.ask(format, question);
            let beneath = answer.strip_prefix(&plain).unwrap_or_else(|| panic!("{answer} is not {plain}"));
            let people = matches!(format, Format::Table | Format::Vertical);
            assert!(
                if people { remarks.is_empty() } else { beneath.is_empty() },
                "{format}: {answer}\n{remarks}"
            );
            said.push(format!("{beneath}{remarks}"));
        }
        said.dedup();
        let [one] = &said[..] else { panic!("not the same in each format: {said:?}") };
        let Some(line) = one.strip_suffix('\n') else {
            assert_eq!(one, "");
            return String::new();
        };
        let parts = line.strip_prefix("Coverage: ").unwrap();
        parts.strip_suffix(". See coverageinfo and lossinfo.").unwrap_or(parts).to_owned()
    }
}

/// The classes that fill `netinfo`, all told of in one way.
fn network<'a>(
    state: &'a str,
    from: &'a str,
    end: Option<(&'a str, &'a str)>,
    why: &'a str,
) -> Vec<Told<'a>> {
    ["tcp", "tcp-accept", "tcp-denied", "udp"].map(|class| (class, state, from, end, why)).to_vec()
}

const BEGAN: &str = "2026-03-01 09:00:00";
const STOPPED: &str = "2026-03-01 10:00:00";
const BACK: &str = "2026-03-01 10:04:12.25";

/// Two runs of a recorder, the first of which ended so.
fn interrupted(ended: &'static str) -> Vec<Told<'static>> {
    let mut told = network("watched", BEGAN, Some((STOPPED, ended)), "");
    told.push((
        "all",
        "gap",
        STOPPED,
        Some(("2026-03-01 10:04:11", "start")),
        "the recorder was not running",
    ));
    told.extend(network("watched", BACK, None, ""));
    told
}

#[test]
fn nothing_is_said_of_a_span_that_is_whole() {
    let mut told = network("watched", BEGAN, None, "");
    // Reported anew, told of a moment later, and another table's.
    told.extend(network("watched", "2026-03-01 09:00:02", Some((STOPPED, "stop")), "some limits"));
    told.push(("file", "unwatched", BEGAN, None, "no files"));
    let store = Store::new().host("www1", &told, &[("file", "ring-full", 5, STOPPED)], None);
    for question in
        [QUESTION, "select * from netinfo where pid = 1", "select * from coverageinfo", "select 1"]
    {
        assert_eq!(store.said(question), "", "{question}");
    }
    assert_eq!(store.said("select count(*) as n from fileinfo").split(';').count(), 3);
}

#[test]
fn a_recorder_that_was_down_is_told_of_if_the_question_spans_it() {
    for (ended, why) in [("stop", "recorder stopped"), ("killed", "recorder down")] {
        let store = Store::new().host("www1", &interrupted(ended), &[], None);
        let gap = format!("host www1 unobserved 2026-03-01 10:00:00–10:04:12 ({why})");
        assert_eq!(store.said(QUESTION), gap);
        assert_eq!(
            store.said(
                "select pid from netinfo where cyear = 2026 and cmonth = 3 and cday = 1 and chour = 10"
            ),
            gap
        );
        assert_eq!(store.said("select pid from netinfo where created >= '2026-03-01 10:04:12.25'"), "");
        assert_eq!(store.said("select pid from netinfo where created between '2026-03-01 09:10:00' and '2026-03-01 09:50:00'"), "");
        assert_eq!(
            store.said("select pid from netinfo where created >= '2026-03-01 10:03:00' and created < '2026-03-01 10:04:00'"),
            format!("host www1 unobserved 2026-03-01 10:03:00–10:04:00 ({why})")
        );
        // What came before the recorder is no gap, unless somebody asks about it.
        assert_eq!(
            store.said("select pid from netinfo where cyear = 2025"),
            "host www1 unobserved 2025-01-01 00:00:00–2026-01-01 00:00:00 (before its first recording)"
        );
    }
}

#[test]
fn several_gaps_are_one_line_that_names_the_longest() {
    let mut told = interrupted("stop");
    told.truncate(5);
    told.extend(network("watched", BACK, Some(("2026-03-02 00:00:00", "killed")), ""));
    told.extend(network("watched", "2026-03-02 01:00:00", Some(("2026-03-03 00:00:00.1", "killed")), ""));
    told.extend(network("watched", "2026-03-03 00:00:00.4", None, ""));
    let store = Store::new().host("www1", &told, &[], None);
    assert_eq!(
        store.said(QUESTION),
        "host www1 unobserved 3 times, 1:04:12 in all, the longest 2026-03-02 00:00:00–01:00:00 (recorder down)"
    );
    assert_eq!(
        store.said("select pid from netinfo where created > '2026-03-02 12:00:00'"),
        "host www1 unobserved 2026-03-03 00:00:00.100–00:00:00.400 (recorder down)"
    );
}

#[test]
fn the_end_of_a_recording_is_the_beginning_of_a_gap() {
    let told = network("watched", BEGAN, Some((STOPPED, "stop")), "");
    let store = Store::new().host("www1", &told, &[], Some(STOPPED));
    assert_eq!(store.said(QUESTION), "host www1 unobserved since 2026-03-01 10:00:00 (recorder stopped)");
    assert_eq!(store.said("select pid from netinfo where created < '2026-03-01 09:59:00'"), "");
    // Without a word: it may have been killed, or what it recorded is on its way.
    let told = network("watched", BEGAN, None, "");
    let store = Store::new().host("www1", &told, &[], Some("2026-03-01 11:00:00"));
    assert_eq!(store.said(QUESTION), "host www1 unobserved since 2026-03-01 11:00:00 (nothing stored since)");
}

#[test]
fn losses_are_summed_and_the_most_named() {
    let lost = [
        ("tcp", "ring-full", 1000, STOPPED),
        ("tcp", "ring-full", 204, BACK),
        ("udp", "table-full", 1, BACK),
        ("netinfo", "spool-full", 12, BACK),
        ("all", "recursion", 3, BACK),
        ("process", "ring-full", 7, BACK),
    ];
    let store = Store::new().host("www1", &network("watched", BEGAN, None, ""), &lost, None);
    assert_eq!(
        store.said(QUESTION),
        "1,204 events of class tcp lost (ring-full); 12 rows of netinfo lost (spool-full); 3 events of any class lost (recursion); \
         1 more of the kind"
    );
    let narrow = "select pid from netinfo where created < '2026-03-01 10:02:00'";
    assert_eq!(store.said(narrow), "1,000 events of class tcp lost (ring-full)");
    assert_eq!(store.said("select pid from netinfo where created > '2026-03-02'"), "");
}

#[test]
fn classes_that_were_not_watched_are_told_with_the_reason() {
    let mut told = network("sampled", BEGAN, None, "what lives shorter than a round is not seen");
    let refused = "the kernel refused on_exec_exit: EPERM\n\x1b[2J";
    told.push(("exec-denied", "watched", BEGAN, Some((STOPPED, "stop")), ""));
    told.push(("exec-denied", "unwatched", STOPPED, None, refused));
    told.push(("file", "unwatched", BEGAN, None, "polling sees no files"));
    told.push(("io-uring", "unwatched", BEGAN, None, "polling sees no files"));
    let store = Store::new().host("www1", &told, &[], None);
    assert_eq!(
        store.said(QUESTION),
        "classes tcp, tcp-accept, tcp-denied, udp of host www1 only sampled (what lives shorter than a round is not seen)"
    );
    assert_eq!(
        store.said("select pid from execinfo"),
        "class exec-denied of host www1 unwatched since 2026-03-01 10:00:00 (the kernel refused on_exec_exit: EPERM\\n\\x1b[2J)"
    );
    assert_eq!(store.said("select pid from execinfo where created < '2026-03-01 10:00:00'"), "");
    assert_eq!(
        store.said("select pid from fileinfo"),
        "classes file, io-uring of host www1 unwatched (polling sees no files)"
    );
    // A class that the recorder did not know has no row.
    assert_eq!(
        store.said("select pid from renameinfo"),
        "class rename of host www1 unwatched (not watched by the luarm of that time)"
    );
}

#[test]
fn sleeps_and_steps_of_the_clock_are_told() {
    let mut told = network("watched", BEGAN, None, "");
    told.push(("all", "asleep", STOPPED, Some((BACK, "awake")), "the host was suspended for 251.200 s"));
    told.push((
        "all",
        "step",
        "2026-03-02 10:00:00",
        Some(("2026-03-02 11:00:00", "forward")),
        "the wall clock was set forward by 3600.000 s",
    ));
    told.push((
        "all",
        "step",
        "2026-03-03 10:00:00",
        Some(("2026-03-03 11:00:00", "back")),
        "the wall clock was set back by 3600.000 s",
    ));
    let store = Store::new().host("www1", &told, &[], None);
    assert_eq!(
        store.said(QUESTION),
        "host www1 asleep 2026-03-01 10:00:00–10:04:12; \
         host www1: the wall clock was set forward by 3600.000 s at 2026-03-02 10:00:00; \
         host www1: the wall clock was set back by 3600.000 s at 2026-03-03 11:00:00"
    );
    assert_eq!(store.said("select pid from netinfo where created > '2026-03-04'"), "");
}

#[test]
fn of_many_hosts_the_worst_is_named_and_use_asks_about_one() {
    let whole = network("watched", BEGAN, None, "");
    let store = Store::new()
        .host("good", &whole, &[], None)
        .host("www1", &interrupted("killed"), &[("tcp", "ring-full", 2, BACK)], None)
        .host("www2", &network("watched", BEGAN, Some((STOPPED, "stop")), ""), &[], None)
        .host("silent", &[], &[], None);
    let said = store.said(QUESTION);
    assert!(
        said.starts_with(
            "host www2 unobserved since 2026-03-01 10:00:00 (recorder stopped), and 1 other host; "
        ),
        "{said}"
    );
    assert!(
        said.ends_with(
            "2 events of class tcp lost (ring-full); not known of host silent: nothing in coverageinfo"
        ),
        "{said}"
    );
    assert_eq!(store.said(&format!("use good; {QUESTION}")), "");
    assert_eq!(
        store.said(&format!("use www1; {QUESTION}")),
        "host www1 unobserved 2026-03-01 10:00:00–10:04:12 (recorder down); 2 events of class tcp lost (ring-full)"
    );
}

#[test]
fn the_share_that_was_observed_is_known_of_each_class_and_host() {
    let before = |seconds: i64| Time(Time::now().0 - seconds * 1_000_000).to_string();
    let (began, stopped, back, asleep, awake) =
        (before(400_000), before(300_000), before(200_000), before(100_000), before(50_000));
    let told = [
        ("tcp", "watched", &*began, Some((&*stopped, "killed")), ""),
        ("tcp", "watched", &*back, None, ""),
        ("udp", "sampled", &*began, None, ""),
        ("file", "unwatched", &*began, None, ""),
        ("all", "asleep", &*asleep, Some((&*awake, "awake")), ""),
    ];
    let store = Store::new().host("www1", &told, &[], None);
    let mut reader: Box<dyn luarm_store::Source> = Reader::open(&store.url()).unwrap().into();
    let observed = observed(&mut *reader).unwrap();
    let near = |share: f64, wanted: f64| (share - wanted).abs() < 0.001;
    let of = |class: &str| observed.iter().find(|one| one.class == class).unwrap();
    // 400,000 s, of which it slept 50,000 and was not recorded 100,000.
    assert!(near(of("tcp").life.0, 250.0 / 350.0), "{observed:?}");
    assert!(of("tcp").life.0 < 0.72 && of("tcp").life.1 == 0.0);
    assert_eq!(of("tcp").day, (1.0, 0.0));
    assert_eq!((of("udp").life, of("udp").day), ((0.0, 1.0), (0.0, 1.0)));
    assert_eq!((of("file").life, of("file").day), ((0.0, 0.0), (0.0, 0.0)));
    assert_eq!((observed.len(), observed[0].host), (3, 1));
}
