//! A writer that is killed at any moment: every batch that it acknowledged is there, wholly and once.

use std::{
    io::{BufRead, BufReader, Write},
    path::PathBuf,
    process::{Command, Stdio},
};

use luarm_store::Writer;

use crate::fixture::*;

const STORE: &str = "LUARM_TEST_CRASH_STORE";
const ROWS: i64 = 50;

/// The process that is killed: appends until then, and says each batch that was acknowledged.
#[test]
#[ignore = "is the child of killed_writers_keep_what_they_acknowledged"]
fn writer_that_is_killed() {
    let Some(path) = std::env::var_os(STORE).map(PathBuf::from) else {
        return;
    };
    let (mut writer, resume) = Writer::open(&url(&path), MACHINE).unwrap();
    let mut id = match resume.last_batch {
        Some((last, _)) => last,
        None => {
            writer.append(&batch(1, vec![host(MACHINE, "alpha", 1)], Vec::new())).unwrap();
            1
        }
    };
    loop {
        id += 1;
        writer.append(&endpoints(id, id * ROWS..(id + 1) * ROWS)).unwrap();
        let mut out = std::io::stdout();
        writeln!(out, "\nacknowledged {id}").and_then(|()| out.flush()).unwrap();
    }
}

#[test]
fn killed_writers_keep_what_they_acknowledged() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("luarm.db");
    let mut acknowledged = 0;
    for round in 0..12 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["crash::writer_that_is_killed", "--exact", "--ignored", "--nocapture"])
            .env(STORE, &path)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut seen = 0;
        // Killed after so many acknowledgements, that is, somewhere in the batch that follows.
        while seen < 5 + round * 7 {
            let line = lines.next().unwrap().unwrap();
            if let Some(id) = line.strip_prefix("acknowledged ") {
                acknowledged = id.parse().unwrap();
                seen += 1;
            }
        }
        child.kill().unwrap();
        child.wait().unwrap();
        for line in lines.map_while(Result::ok) {
            if let Some(id) = line.strip_prefix("acknowledged ") {
                acknowledged = id.parse().unwrap_or(acknowledged);
            }
        }

        let (writer, resume) = Writer::open(&url(&path), MACHINE).unwrap();
        let (last, _) = resume.last_batch.unwrap();
        assert!(
            last == acknowledged || last == acknowledged + 1,
            "acknowledged {acknowledged}, stored {last}"
        );
        drop(writer);
        let counts = ask_file(
            &path,
            "SELECT (SELECT count(*) FROM batchinfo), (SELECT max(batchid) FROM batchinfo), (SELECT count(*) FROM netinfo), \
             (SELECT count(DISTINCT endpointinfo) FROM netinfo), \
             (SELECT count(*) FROM (SELECT batch FROM netinfo GROUP BY batch HAVING count(*) <> 50))",
        );
        let rows = (last - 1) * ROWS;
        assert_eq!(counts, [format!("{last}|{last}|{rows}|{rows}|0")]);
        assert_eq!(ask_file(&path, "PRAGMA integrity_check"), ["ok"]);
    }
}
