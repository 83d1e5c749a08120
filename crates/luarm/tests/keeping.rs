//! Keeping rows for a time in a SQLite store: by the recorder itself, and by the command.

#![expect(clippy::unwrap_used, reason = "a step that fails fails the test")]

mod support;

use std::{path::Path, process::Command};

use luarm_chain::{KeyFile, Sealer};
use luarm_schema::{
    Batch, Row, Time, first_number,
    tables::{BatchInfo, RenameInfo},
};
use luarm_store::{StoreUrl, Writer};
use rusqlite::Connection;
use support::{Launch, complaint, count, luarm, sql};

const DAY: i64 = 86_400_000_000;
/// Batches of old rows, and how many rows each has.
const BATCHES: i64 = 12;
const EACH: i64 = 1000;

/// A data directory with what a recorder saw forty days ago.
struct Old {
    dir: tempfile::TempDir,
}

impl Old {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path().join("data");
        let recording = Launch::on(&data).with(&["--sensor", "poll"]).start();
        recording.sync();
        assert!(recording.stop().success());
        let old = Old { dir };
        old.fill();
        old
    }

    fn data(&self) -> std::path::PathBuf {
        self.dir.path().join("data")
    }

    /// Goes on with the recorder's own chain.
    fn fill(&self) {
        let data = self.data();
        let machine = sql(&data, "SELECT machineid FROM hostinfo LIMIT 1")[0]["machineid"].clone();
        let machine = machine.as_str().unwrap();
        let url = StoreUrl::Sqlite(data.join("luarm.db"));
        let (mut writer, resume) = Writer::open(&url, machine).unwrap();
        let (last, _) = resume.last_batch.unwrap();
        let key = KeyFile::open(&data.join("chain.key")).unwrap();
        let (mut sealer, _) = Sealer::open(key, machine, last, resume.digest.as_deref()).unwrap();
        let created = Time(Time::now().0 - 40 * DAY);
        for n in 0..BATCHES {
            let rename = |row: i64| RenameInfo {
                renameid: first_number(created) + n * EACH + row,
                psentity: 1,
                username: "nobody".into(),
                loginname: None,
                pid: 7371,
                application: "crond".to_owned(),
                oldapplication: "perl".to_owned(),
                auid: None,
                session: None,
                created,
                end: None,
            };
            let (id, now) = (last + 1 + n, Time::now());
            let info = BatchInfo {
                batchid: id,
                run: 1,
                rowcount: EACH,
                endcount: 0,
                firstevent: created,
                lastevent: now,
                created: now,
                publickey: None,
                nextkey: None,
                digest: None,
                signature: None,
                end: None,
            };
            let rows: Vec<Row> = (0..EACH).map(|row| rename(row).into()).collect();
            let rows = rows.into_iter().chain([Row::BatchInfo(Box::new(info))]).collect();
            let mut batch = Batch { id, rows, ends: Vec::new(), ..Batch::default() };
            sealer.seal(&mut batch).unwrap();
            assert_eq!(writer.append(&batch).unwrap(), []);
        }
    }

    fn left(&self) -> i64 {
        count(&self.data(), "SELECT count(*) FROM renameinfo WHERE psentity = 1")
    }

    fn dropped(&self) -> i64 {
        count(&self.data(), DROPPED)
    }

    #[track_caller]
    fn is_intact(&self) {
        let (code, said) = verified(&self.data());
        assert!(code == 0 && said.ends_with("intact\n"), "{said}");
    }
}

const DROPPED: &str = "SELECT coalesce(sum(rowcount), 0) FROM retentioninfo WHERE tablename = 'renameinfo'";

fn verified(data: &Path) -> (i32, String) {
    let output = luarm(&["verify", "--data", data.to_str().unwrap()]);
    let said = String::from_utf8(output.stdout.clone()).unwrap() + &complaint(&output);
    (output.status.code().unwrap(), said)
}

#[test]
fn a_recorder_keeps_its_rows_for_a_time_and_records_meanwhile() {
    let old = Old::new();
    let all = BATCHES * EACH;
    assert_eq!((old.left(), old.dropped()), (all, 0));
    old.is_intact();

    // Killed after the first step: what is gone is recorded.
    let keeping = ["--sensor", "poll", "--keep", "30d"];
    let recording = Launch::on(&old.data()).with(&keeping).start();
    recording.wait_for_row("SELECT count(*) FROM retentioninfo");
    recording.kill();
    let (left, dropped) = (old.left(), old.dropped());
    assert!(dropped > 0 && left + dropped == all, "{left} left, {dropped} dropped");
    old.is_intact();

    // The next one goes on from there, while it records.
    let recording = Launch::on(&old.data()).with(&keeping).start();
    recording.sync();
    let before = recording.count("SELECT count(*) FROM psinfo");
    let mut child = Command::new("sleep").arg("1000").spawn().unwrap();
    recording.sync();
    let seen = format!("SELECT count(*) FROM psinfo WHERE pid = {} AND destroyed IS NULL", child.id());
    assert_eq!(recording.count(&seen), 1);
    recording.wait_for_row(&format!("SELECT ({DROPPED}) = {all} AS done"));
    assert!(recording.count("SELECT count(*) FROM psinfo") > before);
    child.kill().unwrap();
    child.wait().unwrap();
    recording.sync();
    assert!(recording.stop().success());
    assert_eq!((old.left(), old.dropped()), (0, all));
    old.is_intact();

    // The row that says so is signed by this recorder.
    let database = Connection::open(old.data().join("luarm.db")).unwrap();
    let change = |by: i64| {
        let sql = format!("UPDATE retentioninfo_stored SET rowcount = rowcount + {by}");
        database.execute_batch(&sql).unwrap();
    };
    change(1);
    let (code, said) = verified(&old.data());
    assert!(code == 1 && said.contains("retention-unsigned"), "{said}");
    change(-1);
    old.is_intact();
    std::fs::rename(old.data().join("retention.key"), old.dir.path().join("retention.key")).unwrap();
    std::fs::write(old.data().join("retention.pub"), "A".repeat(43) + "\n").unwrap();
    assert_ne!(verified(&old.data()).0, 0);
}

#[test]
fn the_command_drops_rows_of_a_recorder_that_runs() {
    let old = Old::new();
    let data = old.data();
    let recording = Launch::on(&data).with(&["--sensor", "poll"]).start();
    let retain = |arguments: &[&str]| {
        let place = ["server", "retain", "--data", data.to_str().unwrap(), "--format", "csv"];
        let output = luarm(&[&place, arguments].concat());
        assert!(output.status.success(), "{}", complaint(&output));
        String::from_utf8(output.stdout).unwrap()
    };
    let all = BATCHES * EACH;
    let told = |said: &str| -> Vec<String> {
        let line = said.lines().find(|line| line.contains(",renameinfo,")).unwrap();
        line.split(',').skip(3).map(str::to_owned).collect()
    };
    assert_eq!(told(&retain(&["--keep", "30d", "--dry-run"])), [all.to_string(), "0".to_owned()]);
    assert_eq!(old.left(), all);
    assert_eq!(told(&retain(&["--keep", "30d"])), [all.to_string(), "0".to_owned()]);
    assert_eq!((old.left(), old.dropped()), (0, all));
    assert_eq!(retain(&["--keep", "30d"]).lines().count(), 1);
    recording.sync();
    assert!(recording.stop().success());
    old.is_intact();
}

#[test]
fn keeping_rows_for_a_time_is_refused_where_it_cannot_be_done() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().to_str().unwrap();
    let refused = |arguments: &[&str], code: i32, wanted: &str| {
        let output = luarm(arguments);
        let said = complaint(&output);
        assert_eq!(output.status.code(), Some(code), "{said}");
        assert!(said.contains(wanted) && said.trim_end().lines().count() == 1, "{said}");
    };
    let store = ["--store", "mysql://nobody@127.0.0.1:1/none"];
    refused(
        &[&["run", "--data", data, "--keep", "90d"], &store[..]].concat(),
        2,
        "--keep is for a SQLite store",
    );
    refused(&["server", "retain", "--data", data, "--keep", "90d"], 1, "does not exist");
    refused(&["server", "retain", "--data", data], 2, "--keep 90d");
    assert!(!Path::new(data).join("luarm.db").exists());
}
