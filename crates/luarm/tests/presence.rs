//! Silence is an alarm: who said goodbye is told from who fell silent without a word, by status, figures and the server's log.

#![expect(clippy::unwrap_used, reason = "a step that fails fails the test")]

mod support;

use luarm_testbed::{Mariadb, Postgres};
use support::{
    Launch,
    http::{self, Samples},
    link::Site,
    luarm,
};

/// What `luarm status` tells of a host under `host`.
fn told(place: &[&str], host: &str, item: &str) -> Option<String> {
    let output = luarm(&[&["status", "--format", "csv"], place].concat());
    assert!(output.status.success(), "{}", support::complaint(&output));
    let text = String::from_utf8(output.stdout).unwrap();
    let begins = format!("{host},host,{item},");
    text.lines().find_map(|line| line.strip_prefix(begins.as_str())).map(str::to_owned)
}

fn falls_silent_and_comes_back(store: impl Fn(&std::path::Path) -> Option<String>) {
    let directory = tempfile::tempdir().unwrap();
    let site = match store(directory.path()) {
        Some(store) => Site::into_store(directory.path(), store),
        None => Site::new(directory.path()),
    };
    let server = site.serve(&["--overdue", "3s", "--metrics", "127.0.0.1:0"]);
    let served = http::address(&server.wait_for("metrics and health are served at"));
    let store = site.store();
    let state = |overdue: &str| told(&["--store", &store, "--overdue", overdue], "penguin", "state");
    let figure = |name: &'static str, wanted: f64| {
        let is = |samples: &Samples| samples.get(name).is_some_and(|family| family[""] == wanted);
        http::wait_for(|| http::samples(&served), is, |samples| format!("{name}: {samples:?}"));
    };
    let agent = site.agent("penguin", &["--sensor", "poll"]);
    agent.sync();
    assert_eq!(state("1h").as_deref(), Some("live"));
    let seen = told(&["--store", &store], "penguin", "last seen").unwrap();
    let data = agent.data().to_owned();

    // Without a word.
    agent.kill();
    server.wait_for("penguin is overdue: nothing came from it for");
    figure("luarm_server_hosts_overdue", 1.0);
    assert_eq!(state("1s").as_deref(), Some("overdue"));
    assert!(told(&["--store", &store], "penguin", "last seen").unwrap() >= seen);
    let silent = http::samples(&served)["luarm_server_host_silent_seconds"]["host=\"penguin\""];
    assert!(silent >= 3.0, "{silent}");

    let agent = Launch::agent(&data).with(&["--sensor", "poll"]).start();
    server.wait_for("penguin is back, after");
    agent.sync();
    figure("luarm_server_hosts_overdue", 0.0);
    assert_eq!(state("1h").as_deref(), Some("live"));

    // With a word: it is not overdue, however long ago that was.
    assert!(agent.stop().success());
    server.wait_for("penguin has said goodbye");
    figure("luarm_server_hosts_stopped", 1.0);
    figure("luarm_server_hosts_overdue", 0.0);
    assert_eq!(state("1s").as_deref(), Some("stopped"));
    let said = server.said();
    let (_, after) = said.split_once("penguin has said goodbye").unwrap();
    assert!(!after.contains("penguin is overdue"), "{said}");
    assert!(server.stop().success());
}

#[test]
fn a_killed_host_is_overdue_and_a_stopped_one_is_not() {
    falls_silent_and_comes_back(|_| None);
}

#[test]
fn a_killed_host_is_overdue_and_a_stopped_one_is_not_on_mariadb() {
    let name = "a_killed_host_is_overdue_and_a_stopped_one_is_not_on_mariadb";
    let Some(mariadb) = Mariadb::start(name) else { return };
    falls_silent_and_comes_back(|_| Some(mariadb.url("root", "audit")));
}

#[test]
fn a_killed_host_is_overdue_and_a_stopped_one_is_not_on_postgres() {
    let name = "a_killed_host_is_overdue_and_a_stopped_one_is_not_on_postgres";
    let Some(postgres) = Postgres::start(name) else { return };
    postgres.ask("postgres", "CREATE DATABASE audit");
    falls_silent_and_comes_back(|_| Some(postgres.url("luarm", "audit")));
}

#[test]
fn a_recorder_of_its_own_host_is_live_then_stopped_and_overdue_when_killed() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().to_str().unwrap();
    let recording = Launch::on(directory.path()).with(&["--sensor", "poll"]).start();
    recording.sync();
    let host =
        recording.sql("SELECT hostname FROM hostinfo LIMIT 1")[0]["hostname"].as_str().unwrap().to_owned();
    let state = |overdue: &str| told(&["--data", data, "--overdue", overdue], &host, "state");
    assert_eq!(state("1h").as_deref(), Some("live"));
    assert!(recording.stop().success());
    assert_eq!(state("1h").as_deref(), Some("stopped"));
    let recording = Launch::on(directory.path()).with(&["--sensor", "poll"]).start();
    recording.sync();
    assert_eq!(state("1h").as_deref(), Some("live"));
    recording.kill();
    assert_eq!(state("1h").as_deref(), Some("live"));
    http::wait_for(|| state("1s"), |state| state.as_deref() == Some("overdue"), |state| format!("{state:?}"));
}
