//! The canary: its rows come back, marked; nobody passes for it; and what the sensor does not see any more is missed.

#![expect(clippy::unwrap_used, reason = "a step that fails fails the test")]

mod killed;
#[path = "../support/mod.rs"]
mod support;

use std::{
    collections::BTreeSet,
    thread,
    time::{Duration, Instant},
};

use support::{Launch, Recording, has_ebpf, link::Site, luarm};

/// Of the classes of the eBPF sensor those in which there is nothing to do again and again: what was there at the start, and digests.
const UNTESTED: [&str; 3] = ["inventory", "image-digest", "file-digest"];
/// Images that the recorder had run.
const MARKED: &str = "select psentity from psinfo where canary is not null";

fn words(recording: &Recording, query: &str) -> BTreeSet<String> {
    let rows = recording.sql(query).into_iter();
    rows.map(|row| row.values().next().unwrap().as_str().unwrap().to_owned()).collect()
}

fn start(dir: &tempfile::TempDir, arguments: &[&str]) -> Recording {
    Launch::on(&dir.path().join("data")).with(&["--canary", "1s"]).with(arguments).start()
}

#[test]
fn its_rows_come_back_marked_and_lead_to_it() {
    if !has_ebpf() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let recording = start(&dir, &["--sensor", "ebpf"]);
    recording.wait_for_row("select count(*) > 1 as n from canaryinfo where class = 'file'");
    recording.sync();

    let watched = words(
        &recording,
        "select class from coverageinfo where state = 'watched' and sensor = 'ebpf' and destroyed is null",
    );
    // The kernel that runs the test may have been built without modules: then there is nothing to be refused.
    let impossible = words(
        &recording,
        "select class from canaryinfo where seen is null and reason like '%not implemented%'",
    );
    let untested: BTreeSet<String> = UNTESTED.iter().map(ToString::to_string).chain(impossible).collect();
    let expected: BTreeSet<String> = watched.difference(&untested).cloned().collect();
    assert!(expected.len() > 10, "{expected:?}");
    assert_eq!(words(&recording, "select distinct class from canaryinfo where seen = 1"), expected);
    assert_eq!(recording.sql("select class, reason from canaryinfo where seen = 0"), []);
    assert_eq!(recording.sql("select * from coverageinfo where state = 'gap' and class <> 'all'"), []);
    assert_eq!(
        words(&recording, "select reason from coverageinfo where class = 'canary'"),
        ["each 1 s".to_owned()].into()
    );
    assert_eq!(
        recording.count("select count(*) from canaryinfo where seen = 1 and (latency <= 0 or latency is null or storedlatency < latency)"),
        0
    );

    // One process for each round, and what it forks; the first round does everything.
    let own = recording.pid();
    let childs = format!("select count(*) from psinfo where ppid = {own} and origin = 'exec'");
    let first = "select min(round) from canaryinfo";
    // In one question: rounds go on.
    let (of_rounds, rounds) = (
        format!("({childs} and canary in (select round from canaryinfo))"),
        "(select count(distinct round) from canaryinfo)",
    );
    assert_eq!(recording.count(&format!("select {of_rounds} - {rounds} as difference")), 0);
    assert_eq!(recording.count(&format!("{childs} and canary is null")), 0);
    let of = |table: &str, what: &str| {
        let joined = format!("{table} as t join psinfo as p on p.psentity = t.psentity");
        recording.count(&format!("select count(*) from {joined} where p.canary = ({first}) and {what}"))
    };
    assert_eq!(of("fileinfo", "t.operation = 'create' and t.filename = 'canary'"), 1);
    assert_eq!(of("renameinfo", "t.application = 'luarm-canary'"), 1);
    assert_eq!(of("execinfo", "t.result = 13"), 2);
    assert_eq!(of("netinfo", "t.transport = 'tcp' and t.direction = 'in'"), 1);
    assert_eq!(of("nameinfo", "t.name like 'canary-%.luarm.invalid' and t.address = '192.0.2.53'"), 1);
    assert!(of("privinfo", "t.result = 1") > 10);
    // It becomes nobody, and nothing leaves the host.
    assert_eq!(
        of("privinfo", "t.operation = 'setresuid' and t.olduid = 0 and t.uid = 65534 and t.suid = 65534"),
        1
    );
    let abroad = format!(
        "select count(*) from netinfo where psentity in ({MARKED}) and destip not in ('', '::1', '255.255.255.255') and destip not like '127.%'"
    );
    assert_eq!(recording.count(&abroad), 0);
    assert!(recording.stop().success());
    let lost = "select * from lossinfo where class not like '%-digest'";
    assert_eq!(support::sql(&dir.path().join("data"), lost), []);
}

/// What its thread keeps, and what its process is given before it becomes nobody: to become nobody, and the port of name servers.
#[test]
fn it_may_do_what_it_is_for_and_nothing_else() {
    if !has_ebpf() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let recording = start(&dir, &["--sensor", "ebpf"]);
    recording.wait_for_row("select count(*) from canaryinfo");
    let tasks = std::fs::read_dir(format!("/proc/{}/task", recording.pid())).unwrap();
    let canary = tasks.filter_map(|task| std::fs::read_to_string(task.unwrap().path().join("status")).ok());
    let canary: Vec<String> = canary.filter(|status| status.starts_with("Name:\tcanary\n")).collect();
    assert_eq!(canary.len(), 1);
    // CAP_SETGID, CAP_SETUID, CAP_NET_BIND_SERVICE.
    let kept = format!("{:016x}", 1 << 6 | 1 << 7 | 1 << 10);
    for set in ["CapPrm", "CapEff", "CapBnd"] {
        assert!(canary[0].contains(&format!("{set}:\t{kept}\n")), "{}", canary[0]);
    }
    assert!(canary[0].contains("NoNewPrivs:\t1\n"));
    recording.sync();
    // What it did before it became nobody it did with no more, and afterwards with nothing.
    let first = "(select min(round) from canaryinfo)";
    let capabilities = format!(
        "select distinct oldcapprm, capprm from privinfo join psinfo using (psentity) where canary = {first} and origin = 'exec' and operation = 'setresuid'"
    );
    let rows = recording.sql(&capabilities);
    assert_eq!(rows.len(), 1);
    assert_eq!([&rows[0]["oldcapprm"], &rows[0]["capprm"]], [kept.as_str(), &"0".repeat(16)]);
}

#[test]
fn whoever_does_the_same_is_not_taken_for_it() {
    if !has_ebpf() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let recording = start(&dir, &["--sensor", "ebpf"]);
    recording.wait_for_row("select count(*) from canaryinfo");
    // The same program, under the same name, with the same words.
    let output = luarm(&["canary", "0"]);
    assert!(output.status.success());
    assert!(String::from_utf8(output.stdout).unwrap().contains("did setresuid\n"));
    recording.sync();
    let own = std::process::id();
    let imitation = format!("select psentity from psinfo where ppid = {own} and arguments = 'canary 0'");
    assert_eq!(recording.count(&format!("select count(*) from ({imitation}) as i")), 1);
    assert_eq!(
        recording.count(&format!("select count(*) from psinfo where canary is not null and (psentity in ({imitation}) or ppsentity in ({imitation}))")),
        0
    );
    // What it did is recorded as anybody's.
    assert_eq!(
        recording.count(&format!(
            "select count(*) from renameinfo where application = 'luarm-canary' and psentity in ({imitation})"
        )),
        1
    );
}

#[test]
fn switched_off_it_says_so_and_does_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let recording =
        Launch::on(&dir.path().join("data")).with(&["--sensor", "poll", "--canary", "off"]).start();
    recording.sync();
    let told = recording.sql("select state, sensor, reason from coverageinfo where class = 'canary'");
    assert_eq!(told.len(), 1);
    assert_eq!(
        ["state", "sensor", "reason"].map(|column| told[0][column].as_str().unwrap()),
        ["unwatched", "none", "switched off (--canary off)"]
    );
    assert_eq!(recording.count("select count(*) from canaryinfo"), 0);
    assert_eq!(recording.count("select count(*) from psinfo where canary is not null"), 0);
}

#[test]
fn a_sensor_that_looks_at_times_is_given_the_time() {
    let dir = tempfile::tempdir().unwrap();
    let recording = start(&dir, &["--sensor", "poll"]);
    recording.wait_for_row("select count(*) > 1 as n from canaryinfo where class = 'udp'");
    let told = recording.sql("select class, min(seen) as seen from canaryinfo where seen is not null group by class order by class");
    let told: Vec<_> =
        told.iter().map(|row| (row["class"].as_str().unwrap(), row["seen"].as_i64().unwrap())).collect();
    assert_eq!(told, [("process", 1), ("tcp", 1), ("udp", 1)]);
    assert_eq!(
        recording.count(&format!(
            "select count(distinct transport) from netinfo where direction = 'out' and psentity in ({MARKED})"
        )),
        2
    );
}

#[test]
fn an_agents_canary_says_when_its_server_had_it() {
    let dir = tempfile::tempdir().unwrap();
    let site = Site::new(dir.path());
    let _server = site.serve(&[]);
    let agent = site.agent("penguin", &["--sensor", "poll", "--canary", "1s"]);
    let deadline = Instant::now() + Duration::from_secs(90);
    let told =
        "select count(*) from canaryinfo where class = 'process' and seen = 1 and storedlatency >= latency";
    while site.count(told) == 0 {
        assert!(Instant::now() < deadline, "{:?}\n{}", site.sql("select * from canaryinfo"), agent.said());
        thread::sleep(Duration::from_millis(100));
    }
    let marked = "select count(*) from psinfo join canaryinfo on round = canary where origin = 'poll'";
    assert!(site.count(marked) > 0);
}
