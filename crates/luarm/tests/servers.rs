//! The program on a server's database: it records there, and is asked there.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support;

use std::process::Command;

use luarm_testbed::{Mariadb, Postgres};
use support::{Launch, complaint, luarm};

fn output(arguments: &[&str]) -> String {
    let output = luarm(arguments);
    assert!(output.status.success(), "{arguments:?}: {}", complaint(&output));
    String::from_utf8(output.stdout).unwrap()
}

/// Records into the store, kills the recorder, records on, and asks everything that can be asked.
fn records_and_answers(url: &str) {
    let data = tempfile::tempdir().unwrap();
    let start = || Launch::on(data.path()).with(&["--sensor", "poll", "--store", url]).start();
    let sql = |statement: &str| output(&["sql", "--store", url, "--format", "csv", "-e", statement]);
    let count = |statement: &str| sql(statement).lines().nth(1).unwrap().parse::<u64>().unwrap();

    let recording = start();
    let mut child = Command::new("sleep").arg("1000").spawn().unwrap();
    let found = format!("SELECT count(*) FROM psinfo WHERE pid = {} AND destroyed IS NULL", child.id());
    recording.sync();
    assert_eq!(count(&found), 1);
    recording.kill();
    let recording = start();
    // The row goes on under its key.
    recording.sync();
    assert_eq!(count(&found), 1);
    child.kill().unwrap();
    child.wait().unwrap();
    recording.sync();
    assert_eq!(count(&found), 0);
    assert_eq!(
        count(&format!("SELECT count(*) FROM psinfo WHERE pid = {} AND destroyed IS NOT NULL", child.id())),
        1
    );
    assert_eq!(count("SELECT count(*) - max(batchid) FROM batchinfo"), 0);
    assert!(count("SELECT count(*) FROM coverageinfo WHERE state = 'gap'") > 0);

    // What nobody saw is said beneath an answer for people, whatever engine gives it.
    let question = ["sql", "--store", url, "-e", "SELECT count(*) FROM psinfo WHERE created > '2001-02-03'"];
    let answer = output(&question);
    assert!(answer.contains("\nCoverage: host ") && answer.contains(" unobserved 2 times, "), "{answer}");

    let name = sql("SELECT hostname FROM hostinfo").lines().nth(1).unwrap().to_owned();
    let status =
        output(&["status", "--data", data.path().to_str().unwrap(), "--store", url, "--format", "csv"]);
    for line in
        [",recorder,running,yes".to_owned(), format!("{name},host,system,"), ",rows,psinfo,".to_owned()]
    {
        assert!(status.contains(&line), "{line}: {status}");
    }
    let bytes = status.lines().find_map(|line| line.strip_prefix(",store,bytes,")).unwrap();
    assert!(bytes.parse::<u64>().unwrap() > 0);

    let tables = output(&[
        "sql",
        "--store",
        url,
        "--host",
        &name,
        "-e",
        "show tables; describe netinfo; show databases",
    ]);
    assert!(tables.contains(&format!("Tables_in_{name}")) && tables.contains("endpointinfo"), "{tables}");
    let mine = output(&[
        "sql",
        "--store",
        url,
        "--format",
        "csv",
        "-e",
        &format!("use {name}; SELECT count(*) FROM hostinfo"),
    ]);
    assert_eq!(
        mine,
        "count(*)\n1\n".replace("count(*)", if url.starts_with("mysql") { "count(*)" } else { "count" })
    );
    let question = format!("use {name}; SELECT count(*) FROM psinfo");
    let answer = output(&["sql", "--store", url, "-e", &question]);
    assert!(
        answer.contains(&format!("\nCoverage: host {name} unobserved 2"))
            && answer.contains("(recorder down)"),
        "{answer}"
    );
    assert!(status.contains(&format!("{name},sampled in the last day,process,0.")), "{status}");
    let refused = luarm(&["sql", "--store", url, "-e", "DELETE FROM hostinfo"]);
    assert!(
        !refused.status.success() && complaint(&refused).contains("the console reads only"),
        "{}",
        complaint(&refused)
    );
    assert!(recording.stop().success());
}

#[test]
fn mariadb_is_recorded_into_and_asked() {
    if let Some(mariadb) = Mariadb::start("mariadb_is_recorded_into_and_asked") {
        records_and_answers(&mariadb.url("root", "luarm"));
    }
}

#[test]
fn postgres_is_recorded_into_and_asked() {
    if let Some(postgres) = Postgres::start("postgres_is_recorded_into_and_asked") {
        records_and_answers(&postgres.url("luarm", "postgres"));
    }
}
