//! Questions to the store, and what is aimed at the recorder itself.

use std::collections::HashSet;

use luarm_recorder::{Answered, Asker, Place, Protected, Question, Role};
use luarm_sensor::{BootNs, Observation, observation::*};

use crate::scene::*;

const T: BootNs = 50 * MS;
const OWN: ImageId = ImageId { pid: 7, start: 7 * MS, execs: 1 };
const SHELL: ImageId = ImageId { pid: 10, start: 10 * MS, execs: 1 };

fn question(at: BootNs, pid: u32, start: BootNs, statement: &str) -> Question {
    let asker = Asker { pid, start: Some(start), uid: 1000, auid: Some(1001), ..Asker::default() };
    let (statement, bytes) = (statement.to_owned(), statement.len() as u64);
    Question { at, asker, kind: "sql".into(), limitedto: None, statement, bytes, sha256: None }
}

fn answered(at: BootNs) -> Answered {
    Answered { at, ended: "answered".into(), rows: Some(3), error: None }
}

#[test]
fn a_question_is_that_of_the_image_that_asks() {
    let mut recorder = recorder();
    recorder.observe(found(T, SHELL, None, "/usr/bin/luarm"));
    // To a tick, as /proc has it; and a process that had the number before.
    recorder.asked(1, &question(T + MS, 10, 10 * MS, "select '\\x00' -- \u{e4}"));
    recorder.asked(2, &question(T + MS, 10, 30 * MS, "select 2"));
    recorder.answered(1, answered(T + 2 * MS));
    // One that nobody told of, and one twice.
    recorder.answered(9, answered(T + 2 * MS));
    recorder.answered(1, answered(T + 9 * MS));
    let mut memory = Memory::default();
    memory.append(recorder.flush(T + 3 * MS).unwrap());
    memory.check_references();
    let rows = memory.queryinfo();
    assert_eq!(rows[0].psentity, Some(psentity(SHELL)));
    assert_eq!((&*rows[0].username, rows[0].loginname.as_deref()), ("alice", Some("mallory")));
    assert_eq!(rows[0].statement, "select '\\x5cx00' -- \u{e4}");
    let end = rows[0].end.as_ref().unwrap();
    assert_eq!((end.destroyed, &*end.ended, end.answerrows), (wall(T + 2 * MS), "answered", Some(3)));
    assert_eq!((rows[1].psentity, rows[1].end.is_none()), (None, true));

    // A run that is killed leaves it to the next one, one that is stopped does not.
    let resume = memory.resume();
    assert_eq!(resume.queries.len(), 1);
    let mut next = start(resume, host(), 100 * SECOND);
    next.asked(1, &question(100 * SECOND, 10, 10 * MS, "select 3"));
    memory.append(next.stop(101 * SECOND));
    let ended: Vec<_> = memory.queryinfo().iter().map(|row| row.end.clone().unwrap().ended).collect();
    assert_eq!(ended, ["answered", "killed", "stop"]);
    assert_eq!(memory.resume().queries, [0; 0]);
}

fn protected() -> luarm_recorder::Recorder {
    let mut recorder = recorder();
    let place = |path: &[u8], role, begins, file| Place { path: path.to_vec(), begins, role, file };
    recorder.protect(Protected {
        process: OWN.pid,
        places: vec![
            place(b"/var/lib/luarm", Role::Data, false, None),
            place(b"/etc/systemd/system/luarm", Role::Configuration, true, None),
            place(b"/usr/bin/luarm", Role::Program, false, Some((8, 99))),
        ],
    });
    recorder
}

fn aimed(at: BootNs, operation: &'static str, by: ImageId, detail: &[u8], result: i32) -> Observation {
    let Observation::Privilege(mut act) = privilege(at, operation, by, Some(OWN)) else { unreachable!() };
    (act.detail, act.result) = (detail.to_vec(), result);
    Observation::Privilege(act)
}

#[test]
fn what_is_aimed_at_the_recorder_is_told_with_its_evidence() {
    let bystander = ImageId { pid: 8, start: 8 * MS, execs: 1 };
    let memory = record(
        protected(),
        [
            found(T, OWN, None, "/usr/bin/luarm"),
            found(T, SHELL, None, "/bin/sh"),
            found(T, bystander, None, "/bin/other"),
            aimed(T + MS, "signal", SHELL, b"SIGKILL", 1),
            aimed(T + 2 * MS, "signal", SHELL, b"SIGSTOP", 0),
            aimed(T + 3 * MS, "ptrace", SHELL, b"ATTACH", 0),
            // The recorder's own, and what is aimed at somebody else.
            aimed(T + 4 * MS, "signal", OWN, b"SIGTERM", 0),
            privilege(T + 5 * MS, "ptrace", SHELL, Some(bystander)),
        ],
    );
    let rows = memory.alertinfo();
    let told: Vec<_> = rows.iter().map(|row| (&*row.kind, &*row.severity, &*row.summary)).collect();
    assert_eq!(
        told,
        [
            ("signal", "notice", "SIGKILL to the recorder was refused"),
            ("signal", "critical", "SIGSTOP was sent to the recorder"),
            ("trace", "critical", "ptrace (ATTACH) reached into the recorder"),
        ]
    );
    let evidence: Vec<_> = memory.privinfo().iter().take(3).map(|row| Some(row.privid)).collect();
    assert_eq!(rows.iter().map(|row| row.rowkey).collect::<Vec<_>>(), evidence);
    for row in rows {
        assert_eq!((row.tablename.as_deref(), row.psentity), (Some("privinfo"), Some(psentity(SHELL))));
    }
}

#[test]
fn a_flood_is_told_once_a_minute_for_each_image_and_nothing_grows() {
    let mut recorder = protected();
    recorder.observe(found(T, OWN, None, "/usr/bin/luarm"));
    for n in 0..5000 {
        recorder.observe(aimed(T + n, "signal", SHELL, b"SIGCONT", 0));
    }
    recorder.observe(aimed(T + 61 * SECOND, "signal", SHELL, b"SIGCONT", 0));
    for n in 0..5000 {
        let other = ImageId { pid: 100 + n, start: 62 * SECOND + u64::from(n) * 1000, execs: 1 };
        recorder.observe(aimed(70 * SECOND, "signal", other, b"SIGKILL", 1));
    }
    let mut memory = Memory::default();
    while let Some(batch) = recorder.part() {
        memory.append(batch);
    }
    memory.append(recorder.stop(80 * SECOND));
    assert_eq!(memory.privinfo().len(), 10_001);
    let alerts = memory.alertinfo();
    assert_eq!(alerts.len(), 2 + 5000);
    let keys: HashSet<_> = memory.privinfo().iter().map(|row| Some(row.privid)).collect();
    assert!(alerts.iter().all(|row| keys.contains(&row.rowkey)));
}
