//! Who asks on the host itself is recorded by the recorder whose store is asked, with what the kernel says of him.

#![expect(clippy::unwrap_used, reason = "a step that fails fails the test")]

mod support;

use std::{
    path::Path,
    process::{Child, Command, Output, Stdio},
};

use support::{Launch, Recording, Row, complaint, program, sensors};

/// A console on that data directory.
fn console(data: &Path, verb: &str, arguments: &[&str]) -> Child {
    let mut command = Command::new(program());
    command.arg(verb).arg("--data").arg(data).args(arguments).stdin(Stdio::null());
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

/// The process id of a console that has ended, and what it said.
fn asked(data: &Path, verb: &str, arguments: &[&str]) -> (u32, Output) {
    let child = console(data, verb, arguments);
    (child.id(), child.wait_with_output().unwrap())
}

fn question(recording: &Recording, like: &str) -> Row {
    recording.sync();
    let rows = recording.sql(&format!(
        "SELECT q.*, p.command, p.pid AS imagepid FROM queryinfo q LEFT JOIN psinfo p USING (host, psentity) \
         WHERE q.statement LIKE '{like}' AND q.statement NOT LIKE '%queryinfo%'"
    ));
    assert_eq!(rows.len(), 1, "{like}: {rows:?}");
    rows.into_iter().next().unwrap()
}

fn text<'r>(row: &'r Row, name: &str) -> &'r str {
    row[name].as_str().unwrap_or_else(|| panic!("{name} in {row:?}"))
}

#[test]
fn each_question_is_a_row_with_who_asked() {
    for sensor in sensors() {
        let directory = tempfile::tempdir().unwrap();
        let data = directory.path();
        let recording = Launch::on(data).with(&["--sensor", sensor]).start();
        recording.sync();

        let (pid, output) =
            asked(data, "sql", &["-e", "select 'it''s \u{e4}' as whole, pid from psinfo limit 3"]);
        assert!(output.status.success() && complaint(&output).is_empty(), "{}", complaint(&output));
        let row = question(&recording, "select ''it''''s%");
        assert_eq!((text(&row, "door"), text(&row, "kind")), ("data", "sql"));
        assert_eq!(text(&row, "statement"), "select 'it''s \u{e4}' as whole, pid from psinfo limit 3");
        assert_eq!((text(&row, "ended"), row["answerrows"].as_i64()), ("answered", Some(3)));
        let own = rustix::process::geteuid().as_raw();
        assert_eq!((row["uid"].as_u64(), row["pid"].as_u64()), (Some(own.into()), Some(pid.into())));
        assert_eq!(text(&row, "application"), "luarm");
        assert!(row["batch"].as_i64() > Some(0) && row["dbatch"].as_i64() > Some(0), "{row:?}");
        // The polling sensor may not have met a process that short.
        if sensor == "ebpf" {
            assert_eq!(text(&row, "command"), program().to_str().unwrap());
            assert_eq!(row["imagepid"].as_u64(), Some(pid.into()));
        }

        let host = recording.sql("SELECT hostname FROM hostinfo LIMIT 1")[0]["hostname"]
            .as_str()
            .unwrap()
            .to_owned();
        let (_, output) = asked(data, "sql", &["--host", &host, "-e", "select nosuch from psinfo"]);
        assert!(!output.status.success());
        let row = question(&recording, "select nosuch%");
        assert_eq!((text(&row, "ended"), text(&row, "limitedto")), ("failed", host.as_str()));
        assert!(text(&row, "error").contains("nosuch"), "{row:?}");

        let (_, output) = asked(data, "status", &[]);
        assert!(output.status.success() && complaint(&output).is_empty(), "{}", complaint(&output));
        assert_eq!(text(&question(&recording, "luarm status"), "kind"), "status");

        // One who goes away without a word, while others ask how the recorder is.
        let endless = "select count(*) from psinfo a, psinfo b, psinfo c, psinfo d, psinfo e where a.pid + b.pid + c.pid + d.pid = 7";
        let mut child = console(data, "sql", &["-e", endless]);
        let open = "SELECT count(*) FROM queryinfo WHERE destroyed IS NULL AND statement LIKE '%psinfo e where%' AND statement NOT LIKE '%queryinfo%'";
        support::http::wait_for(|| recording.count(open), |n| *n == 1, |n| format!("{n} open"));
        child.kill().unwrap();
        child.wait().unwrap();
        let row = question(&recording, "%psinfo e where%");
        assert_eq!(text(&row, "ended"), "gone");
        assert!(recording.stop().success());
    }
}

#[test]
fn a_question_that_a_killed_recorder_left_open_is_ended_by_the_next() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path();
    let recording = Launch::on(data).with(&["--sensor", "poll"]).start();
    recording.sync();
    let endless = "select count(*) from psinfo a, psinfo b, psinfo c, psinfo d, psinfo e where a.pid + b.pid + c.pid + d.pid = 7";
    let mut child = console(data, "sql", &["-e", endless]);
    let open = "SELECT count(*) FROM queryinfo WHERE destroyed IS NULL AND statement LIKE '%psinfo e where%' AND statement NOT LIKE '%queryinfo%'";
    support::http::wait_for(|| recording.count(open), |n| *n == 1, |n| format!("{n} open"));
    recording.kill();
    child.kill().unwrap();
    child.wait().unwrap();

    // Nobody takes it down now: it is answered, and that is said.
    let (_, output) = asked(data, "sql", &["--format", "csv", "-e", "select 5 as five"]);
    assert_eq!(String::from_utf8(output.stdout.clone()).unwrap().trim(), "five\n5");
    let said = complaint(&output);
    assert!(said.contains("what is asked is not recorded in queryinfo: no recorder is running"), "{said}");
    assert_eq!(said.lines().count(), 1, "{said}");

    let recording = Launch::on(data).with(&["--sensor", "poll"]).start();
    let row = question(&recording, "%psinfo e where%");
    assert_eq!(text(&row, "ended"), "killed");
    assert!(recording.stop().success());
}

#[test]
fn a_recorder_takes_no_questions_to_another_store_nor_from_others() {
    let directory = tempfile::tempdir().unwrap();
    let (one, two) = (directory.path().join("one"), directory.path().join("two"));
    let other = Launch::on(&two).with(&["--sensor", "poll"]).start();
    other.sync();
    let recording = Launch::on(&one).with(&["--sensor", "poll"]).start();
    recording.sync();
    let store = format!("sqlite:{}", two.join("luarm.db").display());
    let (_, output) = asked(&one, "sql", &["--store", &store, "-e", "select 1 as one"]);
    assert!(output.status.success());
    assert!(complaint(&output).contains("this recorder writes"), "{}", complaint(&output));
    recording.sync();
    assert_eq!(recording.count("SELECT count(*) FROM queryinfo WHERE statement = 'select 1 as one'"), 0);
    // The same file by another path is the same store.
    let crooked = format!("sqlite:{}", one.join("../one/luarm.db").display());
    let (_, output) = asked(&one, "sql", &["--store", &crooked, "-e", "select 2 as two"]);
    assert!(output.status.success() && complaint(&output).is_empty(), "{}", complaint(&output));
    question(&recording, "select 2 as two");
}

#[test]
fn a_server_takes_down_what_is_asked_of_its_store_on_its_machine() {
    let directory = tempfile::tempdir().unwrap();
    let site = support::link::Site::new(directory.path());
    let server = site.serve(&[]);
    let (data, store) = (site.data(), site.store());
    let (pid, output) = asked(&data, "sql", &["--store", &store, "-e", "select 3 as three"]);
    assert!(output.status.success() && complaint(&output).is_empty(), "{}", complaint(&output));
    let (_, output) = asked(&data, "sql", &["--store", &store, "-e", "select nosuch"]);
    assert!(!output.status.success());
    // Without what the console asks beside, of coverage.
    let own = "statement NOT LIKE '%coverageinfo%'";
    let rows = site.sql(&format!("SELECT * FROM queryinfo WHERE {own} ORDER BY queryid"));
    let told: Vec<_> = rows
        .iter()
        .map(|row| {
            assert!(text(row, "door") == "data" && row["batch"].as_i64() > Some(0), "{row:?}");
            assert_eq!(row["uid"].as_u64(), Some(rustix::process::geteuid().as_raw().into()));
            (text(row, "statement"), text(row, "ended"), row["answerrows"].as_i64())
        })
        .collect();
    assert_eq!(told, [("select 3 as three", "answered", Some(1)), ("select nosuch", "failed", Some(0))]);
    assert_eq!(rows[0]["pid"].as_u64(), Some(pid.into()));
    // They are in batches of the server's own, whichever host they are about.
    let agent = site.agent("penguin", &["--sensor", "poll"]);
    agent.sync();
    let (_, output) =
        asked(&data, "sql", &["--store", &store, "--host", "penguin", "-e", "select 5 as five"]);
    assert!(output.status.success() && complaint(&output).is_empty(), "{}", complaint(&output));
    assert_eq!(
        site.count(&format!("SELECT count(*) FROM queryinfo WHERE batch > 0 AND {own} AND host NOT IN (SELECT host FROM hostinfo)"
        )),
        3
    );
    assert!(agent.stop().success());
    let verified = || support::luarm(&["verify", "--store", &store]);
    let output = verified();
    assert!(output.status.success(), "{}{}", String::from_utf8_lossy(&output.stdout), complaint(&output));
    assert!(server.stop().success());
    // What somebody made of one of them later is found.
    let file = store.strip_prefix("sqlite:").unwrap();
    let changed = rusqlite::Connection::open(file).unwrap();
    let sql = "UPDATE queryinfo_stored SET statement = 'select nothing' WHERE statement = 'select 5 as five'";
    assert_eq!(changed.execute(sql, []).unwrap(), 1);
    drop(changed);
    let output = verified();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.code() == Some(1) && said.contains("queryinfo"), "{said}{}", complaint(&output));
    let (_, output) = asked(&data, "sql", &["--store", &store, "-e", "select 4 as four"]);
    assert!(output.status.success() && complaint(&output).contains("not recorded"), "{}", complaint(&output));
}
