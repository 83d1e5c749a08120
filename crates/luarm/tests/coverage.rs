//! What an answer cannot know is said beneath it, through every door: with real recorders that are stopped, killed and blinded.

#![expect(clippy::unwrap_used, reason = "a step that fails fails the test")]

mod support;

use std::{
    path::Path,
    process::{Command, Output},
};

use rustix::process::Signal;
use support::{
    Launch, Recording, complaint,
    guest::{Kernel, Machine},
    has_ebpf, link, luarm, programs, sensors,
};

const MARK: &str = "Coverage: ";

/// What is written on standard output, and the line about coverage, wherever it has to stand in this format.
fn parts(output: &Output, format: &str) -> (String, String) {
    let (mut answer, said) = (String::from_utf8(output.stdout.clone()).unwrap(), complaint(output));
    assert!(output.status.success(), "{said}");
    if !matches!(format, "table" | "vertical") {
        assert!(!answer.contains(MARK), "{answer}");
        return (answer, said);
    }
    assert_eq!(said, "");
    let line = answer.find(MARK).map(|at| answer.split_off(at)).unwrap_or_default();
    (answer, line)
}

/// What is said of an answer: one line at the most, the same in each format.
fn said(ask: impl Fn(&[&str]) -> Output, question: &str) -> String {
    let mut lines = Vec::new();
    for format in ["table", "vertical", "csv", "json", "jsonl"] {
        let (answer, line) = parts(&ask(&["--format", format, "-e", question]), format);
        assert!(!answer.is_empty() || format == "jsonl", "no answer to {question}");
        lines.push(line);
    }
    // How much was lost may grow from one question to the next, and nothing else.
    lines.dedup();
    assert_eq!(lines.len(), 1, "{lines:?}");
    let line = lines.remove(0);
    assert!(line.is_empty() || line.starts_with(MARK) && line.find('\n') == Some(line.len() - 1), "{line:?}");
    line
}

fn near(recording: &Recording, question: &str) -> String {
    said(|arguments| recording.ask("sql", arguments), question)
}

/// The last instant that the host's recorder has told how something is watched, as text.
fn watched_since(recording: &Recording) -> String {
    let rows =
        recording.sql("select max(created) as at from coverageinfo where class in ('process', 'arguments')");
    rows[0]["at"].as_str().unwrap().to_owned()
}

#[test]
fn a_recorder_that_was_down_is_told_of_under_answers_that_span_it() {
    const QUESTION: &str = "select count(*) as n from psinfo";
    for sensor in sensors() {
        let directory = tempfile::tempdir().unwrap();
        let recording = Launch::on(directory.path()).with(&["--sensor", sensor]).start();
        recording.sync();
        let whole = near(&recording, QUESTION);
        let lost =
            recording.count("select count(*) from lossinfo where class in ('process', 'arguments', 'all')");
        match sensor {
            "poll" => assert!(
                whole.contains("class process of host ") && whole.contains(" only sampled ("),
                "{whole}"
            ),
            _ => assert!(lost > 0 || whole.is_empty(), "{whole}"),
        }
        assert!(!whole.contains("unobserved"), "{whole}");

        let data = recording.data().to_owned();
        assert!(recording.stop().success());
        let stopped = said(
            |arguments| luarm(&[&["sql", "--data", data.to_str().unwrap()], arguments].concat()),
            QUESTION,
        );
        assert!(
            stopped.contains(" unobserved since ") && stopped.contains(" (recorder stopped)"),
            "{stopped}"
        );

        let recording = Launch::on(directory.path()).with(&["--sensor", sensor]).start();
        recording.sync();
        let once = near(&recording, QUESTION);
        assert!(once.contains(" unobserved 2") && once.contains(" (recorder stopped)"), "{once}");

        recording.kill();
        let recording = Launch::on(directory.path()).with(&["--sensor", sensor]).start();
        recording.sync();
        let twice = near(&recording, QUESTION);
        assert!(twice.contains(" unobserved 2 times, ") && twice.contains(", the longest "), "{twice}");
        // The store itself says the same.
        let store = format!("sqlite:{}", data.join("luarm.db").display());
        let by_store = said(|arguments| luarm(&[&["sql", "--store", &store], arguments].concat()), QUESTION);
        assert_eq!(by_store, twice);

        // A question about the time since then does not span it, one about the time of it alone does.
        let since = watched_since(&recording);
        let after = near(&recording, &format!("{QUESTION} where created >= '{since}'"));
        assert!(!after.contains("unobserved"), "{after}");
        let gap = &recording.sql("select created, destroyed from coverageinfo where class = 'all' and state = 'gap' order by coverageid desc limit 1")[0];
        let (from, until) = (gap["created"].as_str().unwrap(), gap["destroyed"].as_str().unwrap());
        let within = near(&recording, &format!("{QUESTION} where created between '{from}' and '{until}'"));
        assert!(within.contains(" unobserved ") && within.contains(" (recorder down)"), "{within}");

        // The share that was observed says so as well.
        let status = recording.ask("status", &["--format", "jsonl"]);
        let status = String::from_utf8(status.stdout).unwrap();
        let rows: Vec<support::Row> =
            status.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let state = if sensor == "poll" { "sampled" } else { "observed" };
        for about in [state.to_owned(), format!("{state} in the last day")] {
            let share = |row: &&support::Row| row["about"] == *about && row["item"] == "process";
            let share = rows.iter().find(share).unwrap()["value"].as_f64().unwrap();
            assert!(share > 0.0 && share < 1.0, "{about} {share}");
        }
        let classes = recording.count("select count(distinct class) from coverageinfo where class <> 'all'");
        assert_eq!(rows.iter().filter(|row| row["about"] == "observed").count() as i64, classes);
        assert!(recording.stop().success());
    }
}

#[test]
fn what_is_not_watched_is_told_to_whoever_asks_for_it() {
    let directory = tempfile::tempdir().unwrap();
    let recording = Launch::on(directory.path()).with(&["--sensor", "poll"]).start();
    recording.sync();
    let files = near(&recording, "select count(*) as n from fileinfo");
    assert!(
        files.contains("classes file, io-uring of host ")
            && files.contains(" unwatched (polling sees no files)"),
        "{files}"
    );
    let joined =
        near(&recording, "select count(*) as n from psinfo p join nameinfo n on n.psentity = p.psentity");
    assert!(joined.contains("class names of host ") && joined.contains("class process of host "), "{joined}");
    assert_eq!(near(&recording, "select count(*) as n from coverageinfo"), "");
    assert_eq!(near(&recording, "select 1 as n"), "");
    // Nor does anything stand beneath what is no answer about events.
    assert_eq!(near(&recording, "show databases"), "");
    assert!(recording.stop().success());
}

#[test]
fn what_the_kernel_could_not_hand_over_is_told() {
    const RUNS: usize = 1000;
    if !has_ebpf() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let quit = programs::exit_program(directory.path());
    let recording = Launch::on(&directory.path().join("data")).with(&["--ring", "64KiB"]).start();
    recording.sync();
    recording.signal(Signal::STOP);
    for n in 0..RUNS {
        assert!(Command::new(&quit).args(["0", &n.to_string()]).status().unwrap().success());
    }
    recording.signal(Signal::CONT);
    recording.sync();
    recording.sync();
    // With so small a ring, losses go on: what is told lies between what was known before and after.
    let known = || {
        recording.count(
            "select coalesce(sum(count), 0) from lossinfo where class = 'process' and cause = 'ring-full'",
        )
    };
    let before = known();
    let output = recording.ask("sql", &["-e", "select count(*) from psinfo"]);
    let (_, line) = parts(&output, "table");
    let after = known();
    let told = line.find(" of class process lost (ring-full)").map(|end| &line[..end]);
    let told = told.and_then(|before| before.strip_suffix(" events")?.rsplit(' ').next());
    let told: i64 = told.unwrap_or_else(|| panic!("{line}")).replace(',', "").parse().unwrap();
    assert!(before > 0 && (before..=after).contains(&told), "{before} {told} {after}");
    let elsewhere = recording.ask("sql", &["-e", "select count(*) from mountinfo"]);
    assert!(!parts(&elsewhere, "table").1.contains("class process"), "{elsewhere:?}");
    assert!(recording.stop().success());
}

#[test]
fn an_analyst_is_told_through_the_server() {
    const QUESTION: &str = "select count(*) as n from netinfo";
    let directory = tempfile::tempdir().unwrap();
    let site = link::Site::new(directory.path());
    let _server = site.serve(&[]);
    let agent = site.agent("penguin", &["--sensor", "poll"]);
    let analyst = join(directory.path(), &site);
    let far = |question: &str| {
        said(|arguments| luarm(&[&["sql", "--data", analyst.as_str()], arguments].concat()), question)
    };
    agent.sync();
    let whole = far(QUESTION);
    assert!(whole.contains("of host penguin only sampled (") && !whole.contains("unobserved"), "{whole}");
    agent.kill();
    let agent = Launch::agent(&directory.path().join("penguin")).with(&["--sensor", "poll"]).start();
    agent.sync();
    for question in [QUESTION, "use penguin; select count(*) as n from netinfo"] {
        let gap = far(question);
        assert!(gap.contains("host penguin unobserved 2") && gap.contains(" (recorder down); "), "{gap}");
    }
    assert!(agent.stop().success());
}

/// An analyst joins; gives his data directory.
fn join(directory: &Path, site: &link::Site) -> String {
    let token = site.token(&["--analyst", "anna"]);
    let data = directory.join("anna").to_str().unwrap().to_owned();
    let output = luarm(&["enroll", "join", &site.url(), "--token", &token, "--data", &data]);
    assert!(output.status.success(), "{}", complaint(&output));
    data
}

/// In a guest, whose clock and sleep are nobody's else.
#[test]
fn a_sleep_of_the_host_and_steps_of_its_clock_are_told() {
    const QUESTION: &str = "select count(*) as n from psinfo where application = 'nothing'";
    let Some(kernel) = Kernel::fetched("stock") else { return };
    let machine = Machine { kernel: &kernel, modules: &["tcp_diag", "udp_diag"], files: &[], arguments: &[] };
    let mut guest = machine.boot();
    guest.record("--sensor poll --log warn");
    let rows = |guest: &mut support::guest::Guest| {
        let told = "select state, created, destroyed, ended, reason from coverageinfo where state in ('step', 'asleep') order by coverageid";
        guest.sql(told)
    };
    let wait = |guest: &mut support::guest::Guest, wanted: usize| {
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(120);
        loop {
            let rows = rows(guest);
            if rows.len() >= wanted {
                return rows;
            }
            assert!(std::time::Instant::now() < deadline, "{rows:?}");
        }
    };
    assert!(rows(&mut guest).is_empty());

    guest.sh("date -s \"@$(($(date +%s) + 7200))\"");
    let told = wait(&mut guest, 1);
    assert_eq!((told[0]["state"].as_str(), told[0]["ended"].as_str()), (Some("step"), Some("forward")));
    let reason = told[0]["reason"].as_str().unwrap();
    assert!(
        reason.starts_with("the wall clock was set forward by 7") || reason.contains(" by 6"),
        "{reason}"
    );

    guest.sh("date -s \"@$(($(date +%s) - 3600))\"");
    let told = wait(&mut guest, 2);
    assert_eq!((told[1]["state"].as_str(), told[1]["ended"].as_str()), (Some("step"), Some("back")));
    let line = guest.sh(&format!("luarm sql -e \"{QUESTION}\""));
    let line = line.lines().find(|line| line.starts_with(MARK)).unwrap();
    assert!(
        line.contains("the wall clock was set forward by ")
            && line.contains("the wall clock was set back by "),
        "{line}"
    );

    // Its memory stays, until somebody presses its button. What is said to it meanwhile could be lost.
    guest.send("echo deep >/sys/power/mem_sleep; echo mem >/sys/power/state");
    guest.qmp_event("SUSPEND");
    // Its clock that goes on meanwhile counts seconds.
    std::thread::sleep(std::time::Duration::from_secs(3));
    guest.qmp("system_wakeup", &serde_json::json!({}));
    guest.qmp_event("WAKEUP");
    let (status, said) = guest.answered();
    assert_eq!(status, 0, "{said}");
    let told = wait(&mut guest, 3);
    let asleep = told.iter().find(|row| row["state"] == "asleep").unwrap_or_else(|| panic!("{told:?}"));
    assert_eq!(asleep["ended"].as_str(), Some("awake"));
    assert!(asleep["created"].as_str() < asleep["destroyed"].as_str(), "{asleep:?}");
    let line = guest.sh(&format!("luarm sql -e \"{QUESTION}\""));
    assert!(line.contains(" asleep "), "{line}");
}
