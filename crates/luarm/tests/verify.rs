//! `luarm verify` on what a recorder has stored: exit codes, findings, and heads that are kept elsewhere.

#![expect(clippy::unwrap_used, reason = "a step that fails fails the test")]

mod support;

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use rusqlite::Connection;
use serde_json::Value;
use support::{Launch, complaint, luarm};

/// A store that a recorder has filled, and where heads are kept.
struct Recorded {
    dir: tempfile::TempDir,
}

impl Recorded {
    /// Records a moment, and a moment after a restart.
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path().join("data");
        for _ in 0..2 {
            let recording = Launch::on(&data).with(&["--sensor", "poll"]).start();
            assert!(Command::new("true").status().unwrap().success());
            recording.sync();
            assert!(recording.stop().success());
        }
        Recorded { dir }
    }

    fn data(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    fn heads(&self) -> PathBuf {
        self.dir.path().join("heads")
    }

    fn database(&self) -> Connection {
        Connection::open(self.data().join("luarm.db")).unwrap()
    }

    fn number(&self, sql: &str) -> i64 {
        self.database().query_row(sql, [], |row| row.get(0)).unwrap()
    }

    fn verify(&self, arguments: &[&str]) -> Output {
        let data = self.data();
        luarm(&[&["verify", "--data", data.to_str().unwrap()], arguments].concat())
    }

    /// What is found, with the exit code.
    fn found(&self, arguments: &[&str]) -> (i32, Vec<Value>) {
        let output = self.verify(&[&["--format", "json"], arguments].concat());
        let code = output.status.code().unwrap();
        let found: Vec<Value> =
            serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{e}: {}", complaint(&output)));
        (code, found)
    }
}

fn copy(from: &Path, to: &Path) {
    assert!(Command::new("cp").arg("-a").arg(from).arg(to).status().unwrap().success());
}

#[test]
fn what_a_recorder_stores_is_intact_and_a_change_is_named() {
    let recorded = Recorded::new();
    let output = recorded.verify(&[]);
    let said = String::from_utf8(output.stdout.clone()).unwrap();
    assert_eq!(output.status.code(), Some(0), "{said}{}", complaint(&output));
    let batches = recorded.number("SELECT count(*) FROM batchinfo");
    assert!(said.contains(&format!("{batches} batches")) && said.ends_with("intact\n"), "{said}");
    assert!(said.contains(&format!("{batches} signatures, 0 receipts")), "{said}");

    let (code, found) = recorded.found(&[]);
    assert_eq!((code, found), (0, Vec::new()));
    let key = recorded.number("SELECT min(psentity) FROM psinfo");
    let batch = recorded.number(&format!("SELECT batch FROM psinfo WHERE psentity = {key}"));
    let changed = format!("UPDATE psinfo_stored SET username = 'somebody' WHERE psentity = {key}");
    recorded.database().execute_batch(&changed).unwrap();
    let (code, found) = recorded.found(&[]);
    assert_eq!((code, found.len()), (1, 1), "{found:?}");
    assert_eq!(found[0]["tablename"], "psinfo");
    assert_eq!(found[0]["rowkey"], key);
    assert_eq!(found[0]["batch"], batch);
    assert_eq!(found[0]["finding"], "row-changed");
    assert_eq!(found[0]["broken"], 1);
    let table = recorded.verify(&[]);
    assert_eq!(table.status.code(), Some(1));
    assert!(String::from_utf8(table.stdout).unwrap().ends_with("NOT INTACT: 1 finding\n"));
}

#[test]
fn a_history_that_is_cut_or_another_shows_by_its_heads() {
    let recorded = Recorded::new();
    let heads = recorded.heads();
    let heads = heads.to_str().unwrap();
    assert_eq!(recorded.verify(&["--export", heads]).status.code(), Some(0));
    let files: Vec<PathBuf> = fs::read_dir(heads).unwrap().map(|entry| entry.unwrap().path()).collect();
    let [head] = &files[..] else { panic!("{files:?}") };
    let text = fs::read_to_string(head).unwrap();
    assert!(text.lines().count() < 20 && text.lines().all(|line| line.len() < 120), "{text}");

    // What was recorded since goes on from it.
    let recording = Launch::on(&recorded.data()).with(&["--sensor", "poll"]).start();
    recording.sync();
    assert!(recording.stop().success());
    assert_eq!(recorded.found(&["--against", heads]), (0, Vec::new()));

    // The last batches are gone, and what the data directory knows with them.
    copy(&recorded.data(), &recorded.dir.path().join("whole"));
    let last = serde_json::from_str::<Value>(&text).unwrap()["batch"].as_i64().unwrap();
    let database = recorded.database();
    for table in luarm_schema::TABLES {
        let mut sql = format!("DELETE FROM {}_stored WHERE batch >= {last};", table.name);
        if table.is_interval() {
            let ends: Vec<String> = table.ends().map(|column| format!("{} = NULL", column.name)).collect();
            sql += &format!(
                "UPDATE {}_stored SET {}, dbatch = NULL WHERE dbatch >= {last};",
                table.name,
                ends.join(", ")
            );
        }
        database.execute_batch(&sql).unwrap();
    }
    database.execute_batch(&format!("DELETE FROM luarmproof WHERE batch >= {last}")).unwrap();
    drop(database);
    let kept = recorded.data().join("heads");
    let (code, found) = recorded.found(&[]);
    assert_eq!(code, 1);
    assert!(found.iter().any(|f| f["finding"] == "tail-cut" && f["batch"] == last), "{found:?}");
    fs::remove_dir_all(kept).unwrap();
    assert_eq!(recorded.found(&[]), (0, Vec::new()));
    let (code, found) = recorded.found(&["--against", heads]);
    assert_eq!((code, found.len()), (1, 1), "{found:?}");
    assert_eq!((&found[0]["finding"], &found[0]["batch"]), (&"tail-cut".into(), &last.into()));

    // Another history altogether, by another key.
    let other = Recorded::new();
    let (code, found) = other.found(&["--against", heads]);
    assert_eq!(code, 1);
    assert!(
        found.iter().any(|f| f["finding"] == "history-rewritten" || f["finding"] == "tail-cut"),
        "{found:?}"
    );
}

#[test]
fn an_answer_is_proven_without_the_store() {
    let recorded = Recorded::new();
    let (data, file) = (recorded.data(), recorded.dir.path().join("answer.json"));
    let (data, path) = (data.to_str().unwrap(), file.to_str().unwrap());
    let ask = |sql: &str| luarm(&["sql", "--data", data, "--format", "csv", "--prove", path, "-e", sql]);
    let refused = ask("SELECT username FROM psinfo");
    assert_eq!(refused.status.code(), Some(1));
    assert!(complaint(&refused).contains("select the key of a table as well"), "{}", complaint(&refused));
    let sql = "SELECT psentity, username, pid, command, created, destroyed, pid + 1 AS more FROM psinfo ORDER BY psentity";
    let output = ask(sql);
    assert!(output.status.success(), "{}", complaint(&output));
    let rows = recorded.number("SELECT count(*) FROM psinfo");
    assert_eq!(String::from_utf8(output.stdout).unwrap().lines().count() as i64, rows + 1);

    // The store is not needed any more, the host's first key is.
    let shown = String::from_utf8(recorded.verify(&[]).stdout).unwrap();
    let key = shown.lines().find_map(|line| line.trim().strip_prefix("first key of the host: ")).unwrap();
    let moved = recorded.dir.path().join("elsewhere");
    fs::rename(recorded.data(), moved).unwrap();
    let check = |arguments: &[&str]| {
        let output = luarm(&[&["verify", path], arguments].concat());
        let said = String::from_utf8(output.stdout.clone()).unwrap() + &complaint(&output);
        (output.status.code().unwrap(), said)
    };
    let (code, said) = check(&[]);
    assert!(code == 2 && said.contains(&format!("if it is {key}")), "{said}");
    let (code, said) = check(&["--host-key", key]);
    assert!(code == 0 && said.ends_with("proven\n"), "{said}");
    assert!(said.contains(&format!("{rows} of {rows} rows of the answer")), "{said}");
    assert!(said.contains("not proven, because reckoned: more"), "{said}");
    assert!(said.contains("process was"), "{said}");
    let other = "A".repeat(43);
    assert!([1, 2].contains(&check(&["--host-key", &other]).0));

    // Whatever is changed in the file shows.
    let whole = fs::read_to_string(&file).unwrap();
    let json: Value = serde_json::from_str(&whole).unwrap();
    let mut places = Vec::new();
    leaves(&json, &mut Vec::new(), &mut places);
    let told = ["statement", "asked", "span", "format", "name"];
    places.retain(|place| !place.iter().any(|step| told.contains(&step.as_str())));
    // Nothing rests on what a host that no server has signed for has no receipts in, nor on the column that is reckoned.
    places.retain(|place| !(place[0] == "answer" && place[2] == "6"));
    let step = (places.len() / 150).max(1);
    assert!(places.len() > 150, "{}", places.len());
    for place in places.iter().step_by(step) {
        let mut changed = json.clone();
        let mut at = &mut changed;
        for step in place {
            at = match at {
                Value::Array(all) => &mut all[step.parse::<usize>().unwrap()],
                Value::Object(all) => all.get_mut(step).unwrap(),
                _ => unreachable!(),
            };
        }
        *at = match &*at {
            Value::Number(n) => (n.as_i64().unwrap() + 1).into(),
            Value::String(text) if text.starts_with('A') => format!("B{}", &text[1..]).into(),
            Value::String(text) => format!("A{}", text.get(1..).unwrap_or_default()).into(),
            _ => "1".into(),
        };
        fs::write(&file, changed.to_string()).unwrap();
        let (code, said) = check(&["--host-key", key]);
        assert!(code == 1 || code == 2, "{place:?}: {said}");
    }
}

/// The places of all values in it.
fn leaves(json: &Value, at: &mut Vec<String>, places: &mut Vec<Vec<String>>) {
    let mut into = |step: String, value: &Value| {
        at.push(step);
        leaves(value, at, places);
        at.pop();
    };
    match json {
        Value::Array(all) => all.iter().enumerate().for_each(|(n, value)| into(n.to_string(), value)),
        Value::Object(all) => all.iter().for_each(|(name, value)| into(name.clone(), value)),
        _ => places.push(at.clone()),
    }
}

#[test]
fn what_cannot_be_checked_is_said_with_exit_code_2() {
    let dir = tempfile::tempdir().unwrap();
    let nowhere = dir.path().join("nowhere");
    let unchecked = |arguments: &[&str], wanted: &str| {
        let output = luarm(&[&["verify"], arguments].concat());
        let said = complaint(&output);
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(said.contains(wanted) && said.trim_end().lines().count() == 1, "{said}");
    };
    unchecked(&["--data", nowhere.to_str().unwrap()], "does not exist");
    let heads = dir.path().join("heads");
    fs::create_dir(&heads).unwrap();
    let (data, against) = (nowhere.to_str().unwrap(), heads.to_str().unwrap());
    unchecked(&["--data", data, "--against", against], "no heads");
    fs::write(heads.join("a.json"), "{}").unwrap();
    unchecked(&["--data", data, "--against", against], "cannot use the head");
    let key = dir.path().join("key");
    fs::write(&key, "none").unwrap();
    unchecked(&["--data", data, "--server-key", key.to_str().unwrap()], "no public key of a server");
    unchecked(&["--data", data, "--server-key", data], "cannot read the server's public key");
}
