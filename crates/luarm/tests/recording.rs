//! The life of a recorder, with each sensor that can be started here.

#![expect(clippy::unwrap_used, reason = "a step that fails fails the test")]

mod support;

use std::{
    fs,
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::Path,
};

use support::{Launch, NOBODY, Recording, complaint, is_root, luarm, sensors, skip, sleeper::Sleeper};

fn polling(data: &Path) -> Recording {
    watching(data, "poll")
}

fn watching(data: &Path, sensor: &str) -> Recording {
    Launch::on(data).with(&["--sensor", sensor]).start()
}

fn found(recording: &Recording, marker: &str) -> i64 {
    recording.count(&format!("select count(*) from psinfo where arguments like '%{marker}'"))
}

#[test]
fn what_was_there_and_what_comes_is_recorded_once() {
    for sensor in sensors() {
        let data = tempfile::tempdir().unwrap();
        let before = Sleeper::start("was-there-before");
        let recording = watching(data.path(), sensor);
        let line = recording.wait_for("luarm: recording");
        assert!(line.contains(" into sqlite:") && line.contains("ask it: "), "{line}");
        assert_eq!(found(&recording, "was-there-before"), 1);
        let after = Sleeper::start("came-after");
        recording.sync();
        assert_eq!(found(&recording, "came-after"), 1);
        let pid = i64::from(after.0.id());
        let row =
            &recording.sql("select pid, ppid, destroyed from psinfo where arguments like '%came-after'")[0];
        assert_eq!((row["pid"].as_i64(), row["ppid"].as_i64()), (Some(pid), Some(std::process::id().into())));
        assert!(row["destroyed"].is_null());
        drop(before);
        drop(after);
        recording.sync();
        assert_eq!(
            recording.count(
                "select count(*) from psinfo where arguments like '%came-after' and destroyed is not null"
            ),
            1
        );
        assert!(recording.stop().success());
    }
}

#[test]
fn sigterm_stores_everything_and_closes_its_coverage() {
    for sensor in sensors() {
        let data = tempfile::tempdir().unwrap();
        let recording = watching(data.path(), sensor);
        let sleeper = Sleeper::start("just-before-the-end");
        recording.signal(rustix::process::Signal::INT);
        let mut recording = recording;
        assert!(recording.wait().success(), "{}", recording.said());
        assert_eq!(found(&recording, "just-before-the-end"), 1);
        let open = "select count(*) from coverageinfo where destroyed is null";
        assert_eq!(recording.count(open), 0);
        assert!(recording.count("select count(*) from coverageinfo where ended = 'stop'") > 0);
        assert!(!data.path().join("luarm.sock").exists());
        drop(sleeper);
    }
}

#[test]
fn a_second_recorder_is_refused_and_told_the_first() {
    let data = tempfile::tempdir().unwrap();
    let recording = polling(data.path());
    let second = luarm(&["run", "--data", data.path().to_str().unwrap(), "--sensor", "poll"]);
    assert_eq!(second.status.code(), Some(1));
    let said = complaint(&second);
    assert!(said.contains(&format!("another recorder (pid {})", recording.pid())), "{said}");
    recording.sync();
    assert!(recording.stop().success());
}

#[test]
fn killed_it_goes_on_where_it_was_and_the_gap_is_a_row() {
    for sensor in sensors() {
        let data = tempfile::tempdir().unwrap();
        let sleeper = Sleeper::start("lives-through-it");
        let recording = watching(data.path(), sensor);
        let zombie = Sleeper::start("ended-and-not-waited-for");
        recording.sync();
        let zombie = zombie.leave();
        recording.sync();
        recording.kill();
        let meanwhile = Sleeper::start("while-nobody-looked");
        let recording = watching(data.path(), sensor);
        assert_eq!(
            found(&recording, "lives-through-it"),
            1,
            "{:?}",
            recording.sql("select * from psinfo where arguments like '%lives-through-it'")
        );
        assert_eq!(found(&recording, "while-nobody-looked"), 1);
        assert_eq!(found(&recording, "ended-and-not-waited-for"), 1);
        drop(zombie);
        assert!(recording.count("select count(*) from coverageinfo where ended = 'killed'") > 0);
        assert_eq!(recording.count("select count(*) from coverageinfo where state = 'gap'"), 1);
        let gaps = "select count(*) from batchinfo b where batchid > 1 and not exists (select 1 from batchinfo p where p.batchid = b.batchid - 1)";
        assert_eq!(recording.count(gaps), 0);
        assert!(recording.stop().success());
        drop(sleeper);
        drop(meanwhile);
    }
}

#[test]
fn its_files_are_for_its_user_only() {
    let parent = tempfile::tempdir().unwrap();
    let data = parent.path().join("data");
    let recording = polling(&data);
    assert_eq!(fs::metadata(&data).unwrap().mode() & 0o7777, 0o700);
    for entry in fs::read_dir(&data).unwrap() {
        let entry = entry.unwrap();
        assert_eq!(entry.metadata().unwrap().mode() & 0o077, 0, "{:?}", entry.path());
    }
    assert!(recording.stop().success());
}

#[test]
fn an_ordinary_user_records_by_polling() {
    if !is_root() {
        return skip("needs root, to become nobody");
    }
    let data = tempfile::tempdir().unwrap();
    let recording = Launch::on(data.path()).by_user(NOBODY).start();
    let line = recording.wait_for("luarm: recording");
    assert!(line.contains("with polling"), "{line}");
    let sleeper = Sleeper::start("seen-by-nobody");
    recording.sync();
    assert_eq!(found(&recording, "seen-by-nobody"), 1);
    let events = "select count(*) from coverageinfo where state = 'watched' and class in ('process', 'tcp', 'udp', 'names')";
    assert_eq!(recording.count(events), 0);
    let reason =
        "select count(*) from coverageinfo where class = 'users' and reason like '%cannot read /etc/shadow%'";
    assert_eq!(recording.count(reason), 1);
    assert!(
        recording.count("select count(*) from userinfo where username = 'nobody' and locked is null") == 1
    );
    drop(sleeper);
    assert!(recording.stop().success());
}

#[test]
fn only_root_and_its_own_user_may_ask() {
    if !is_root() {
        return skip("needs root, to become nobody");
    }
    let data = tempfile::tempdir().unwrap();
    let recording = polling(data.path());
    // The stranger gets the directory and the right to connect, so that only the recorder's own check is left.
    fs::set_permissions(data.path().join("luarm.sock"), fs::Permissions::from_mode(0o666)).unwrap();
    let output = Launch::on(data.path()).by_user(NOBODY).ask("sync", &[]);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        complaint(&output).contains("only root and the recorder's own user may ask"),
        "{}",
        complaint(&output)
    );
    recording.sync();
    assert!(recording.stop().success());
}

#[test]
fn status_knows_the_store_and_the_running_recorder() {
    let data = tempfile::tempdir().unwrap();
    let recording = polling(data.path());
    recording.sync();
    let items = |output: &std::process::Output| -> Vec<(String, String, serde_json::Value)> {
        assert!(output.status.success(), "{}", complaint(output));
        let text = std::str::from_utf8(&output.stdout).unwrap();
        let rows = text.lines().map(|line| serde_json::from_str::<support::Row>(line).unwrap());
        rows.map(|row| {
            let word = |column: &str| row[column].as_str().unwrap().to_owned();
            (word("about"), word("item"), row["value"].clone())
        })
        .collect()
    };
    let status = items(&recording.ask("status", &["--format", "jsonl"]));
    let value = |about: &str, item: &str| {
        let found = status.iter().find(|(a, i, _)| a == about && i == item);
        found.map(|(_, _, value)| value.clone()).unwrap_or_else(|| panic!("no {about} {item} in {status:?}"))
    };
    assert_eq!(value("recorder", "pid"), recording.pid());
    assert_eq!(value("recorder", "lost rows"), 0);
    assert!(value("rows", "psinfo").as_i64().unwrap() > 0);
    assert!(value("store", "bytes").as_i64().unwrap() > 0);
    let open = recording.count("select count(*) from coverageinfo where destroyed is null");
    assert_eq!(status.iter().filter(|(about, ..)| about == "coverage").count() as i64, open);
    for format in ["table", "vertical", "csv", "json"] {
        assert!(recording.ask("status", &["--format", format]).status.success());
    }
    let data = data.path().to_owned();
    assert!(recording.stop().success());
    let output = luarm(&["status", "--data", data.to_str().unwrap(), "--format", "jsonl"]);
    let status = items(&output);
    assert!(status.contains(&("recorder".into(), "running".into(), "no".into())), "{status:?}");
}

#[test]
fn without_bpf_it_polls_and_says_why() {
    if !is_root() {
        return skip("needs root, to drop capabilities");
    }
    let data = tempfile::tempdir().unwrap();
    let denied = "-bpf,-perfmon,-sys_admin,-net_admin";
    let without_bpf = ["setpriv", "--bounding-set", denied, "--inh-caps", denied];
    let recording = Launch::on(data.path()).under(&without_bpf).start();
    assert!(recording.wait_for("luarm: recording").contains("with polling"));
    recording.wait_for("eBPF cannot be used here: ");
    assert!(recording.stop().success());
    let mut refused = Launch::on(data.path()).with(&["--sensor", "ebpf"]).under(&without_bpf).spawn();
    assert_eq!(refused.wait().code(), Some(1));
    refused.wait_for("luarm: eBPF cannot be used here");
}
