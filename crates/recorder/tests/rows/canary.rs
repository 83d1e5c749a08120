//! The canary: what is marked as its own, and what comes of its rounds.

use luarm_recorder::{
    Recorder, Setup,
    canary::{Report, Verdict},
};
use luarm_schema::{Resume, Row, Time, tables::CanaryInfo};
use luarm_sensor::{Observation, observation::*};

use crate::scene::*;

const T: u64 = 50 * MS;
const RECORDER: ImageId = ImageId { pid: 10, start: 10 * MS, execs: 1 };
const SHELL: ImageId = ImageId { pid: 20, start: 20 * MS, execs: 1 };

fn recorder() -> Recorder {
    let mut recorder = Recorder::new(Setup {
        resume: Resume::default(),
        host: host(),
        run: Time(BOOT),
        version: "0.1.0",
        users: Box::new(Passwd),
        clock_offset: BOOT,
        hosts_file: None,
        own: Some(RECORDER.pid),
    });
    recorder.observe(found(T, RECORDER, None, "/usr/bin/luarm"));
    recorder.observe(found(T, SHELL, None, "/bin/sh"));
    for (class, watch) in
        [("process", Watch::Watched), ("rename", Watch::Watched), ("ptrace", Watch::Unwatched)]
    {
        recorder.observe(Observation::Coverage(Coverage {
            class,
            watch,
            sensor: "ebpf",
            hook: String::new(),
            reason: None,
        }));
    }
    recorder
}

/// A process of that creator, which runs the recorder's program, renames itself if it is to, and exits.
fn run(recorder: &mut Recorder, at: u64, pid: u32, creator: ImageId, renames: bool) {
    let child = image(pid, at, 0);
    recorder.observe(fork(child, creator));
    let child = image(pid, at, 1);
    recorder.observe(exec(at + MS, child, "/usr/bin/luarm"));
    let copy = image(pid + 1, at + 2 * MS, 0);
    recorder.observe(fork(copy, child));
    recorder.observe(exit(at + 3 * MS, copy, 0));
    if renames {
        recorder.observe(rename(at + 4 * MS, child));
    }
    recorder.observe(exit(at + 5 * MS, child, 0));
}

/// What the canary of that pid says, which began then.
fn report(pid: u32, at: u64) -> Report {
    let done = ["exec", "fork", "exit", "prctl", "ptrace"].map(str::to_owned).to_vec();
    Report { pid, began: wall(at), done, ..Report::default() }
}

/// A round from its start to its verdict.
fn round(
    recorder: &mut Recorder,
    memory: &mut Memory,
    at: u64,
    renames: bool,
    change: impl FnOnce(&mut Report),
) -> Verdict {
    let pid = 100 + (at / SECOND) as u32;
    run(recorder, at, pid, RECORDER, renames);
    memory.append(recorder.flush(at + 100 * MS).unwrap());
    let mut report = report(pid, at);
    change(&mut report);
    recorder.judge(&report)
}

fn outcomes(memory: &Memory) -> Vec<&CanaryInfo> {
    let rows = memory.rows.values();
    rows.filter_map(|row| if let Row::CanaryInfo(row) = row { Some(&**row) } else { None }).collect()
}

/// The intervals of a class: state, seconds of begin and end, and why.
fn intervals(memory: &Memory, class: &str) -> Vec<String> {
    let seconds = |time: Time| (time.0 - BOOT) / 1_000_000;
    let rows = memory.coverage().into_iter().filter(|row| row.class == class);
    rows.map(|row| {
        let end = row.end.as_ref().unwrap();
        let reason = row.reason.as_deref().unwrap_or_default();
        format!("{} {}-{} {} {reason}", row.state, seconds(row.created), seconds(end.destroyed), end.ended)
    })
    .collect()
}

#[test]
fn what_the_recorder_runs_is_marked_and_what_comes_of_it_with_it_and_nothing_else() {
    let mut recorder = recorder();
    let mut memory = Memory::default();
    let verdict = round(&mut recorder, &mut memory, SECOND, true, |_| {});
    assert_eq!((verdict.missing, verdict.trouble), (vec![], None));
    let classes: Vec<_> = verdict.seen.iter().map(|(class, _)| *class).collect();
    assert_eq!(classes, ["process", "rename"], "what is not watched is not expected");
    // The same program by somebody else, with the same name.
    run(&mut recorder, 2 * SECOND, 300, SHELL, true);
    memory.append(recorder.stop(3 * SECOND));
    memory.check_references();

    let outcomes = outcomes(&memory);
    let marks: Vec<_> = memory.psinfo().iter().filter_map(|row| Some((row.pid, row.canary?))).collect();
    assert_eq!(marks, [(101, outcomes[0].round), (102, outcomes[0].round)]);
    let told: Vec<_> = outcomes.iter().map(|row| (&*row.class, row.seen, row.acts, row.latency)).collect();
    // From the exec at 1 ms, and the change of name at 4 ms, to the batch at 100 ms.
    assert_eq!(told, [("process", Some(1), 3, Some(100_000)), ("rename", Some(1), 1, Some(96_000))]);
}

#[test]
fn what_does_not_come_back_is_a_gap_since_it_did_and_until_it_does_again() {
    let mut recorder = recorder();
    let mut memory = Memory::default();
    round(&mut recorder, &mut memory, 10 * SECOND, true, |_| {});
    let lost = |report: &mut Report| {
        let loss = |class: &str| (class.to_owned(), format!("lost meanwhile: {class} ring-full 7"));
        report.lost = vec![loss("rename"), loss("file"), loss("psinfo")];
    };
    // Once is no proof: the next round, which follows at once, shows it.
    let verdict = round(&mut recorder, &mut memory, 20 * SECOND, false, lost);
    assert_eq!((verdict.missing, verdict.lost, verdict.doubted), (vec![], vec![], true));
    let verdict = round(&mut recorder, &mut memory, 21 * SECOND, false, lost);
    let reason = "the canary did not come back: prctl; lost meanwhile: rename ring-full 7; lost meanwhile: psinfo ring-full 7";
    assert_eq!(verdict.missing, [("rename", reason.to_owned())]);
    assert_eq!((verdict.lost, verdict.doubted), (vec!["rename"], false));
    // Still not: nothing new is said, and nothing new is a row.
    let verdict = round(&mut recorder, &mut memory, 30 * SECOND, false, |_| {});
    assert_eq!((verdict.missing.len(), verdict.lost), (1, vec![]));
    let verdict = round(&mut recorder, &mut memory, 40 * SECOND, true, |_| {});
    assert_eq!((verdict.missing, verdict.regained), (vec![], vec!["rename"]));
    memory.append(recorder.stop(50 * SECOND));

    assert_eq!(
        intervals(&memory, "rename"),
        [
            "watched 0-10 canary ".to_owned(),
            format!("gap 10-40 canary {reason}"),
            "watched 40-50 stop ".to_owned()
        ]
    );
    assert_eq!(intervals(&memory, "process"), ["watched 0-50 stop "]);
    let seen: Vec<_> =
        outcomes(&memory).iter().filter(|row| row.class == "rename").map(|row| row.seen).collect();
    assert_eq!(seen, [Some(1), Some(0), Some(0), Some(0), Some(1)]);
}

#[test]
fn what_did_not_come_back_once_is_a_row_and_no_gap() {
    let mut recorder = recorder();
    let mut memory = Memory::default();
    round(&mut recorder, &mut memory, 10 * SECOND, false, |_| {});
    let verdict = round(&mut recorder, &mut memory, 11 * SECOND, true, |_| {});
    assert_eq!((verdict.missing, verdict.regained, verdict.doubted), (vec![], vec![], false));
    // And once more, later.
    let verdict = round(&mut recorder, &mut memory, 20 * SECOND, false, |_| {});
    assert_eq!((verdict.missing, verdict.doubted), (vec![], true));
    memory.append(recorder.stop(30 * SECOND));
    assert_eq!(intervals(&memory, "rename"), ["watched 0-30 stop "]);
    let seen: Vec<_> =
        outcomes(&memory).iter().filter(|row| row.class == "rename").map(|row| row.seen).collect();
    assert_eq!(seen, [Some(0), Some(1), Some(0)]);
}

#[test]
fn an_act_that_was_not_done_again_is_still_missing() {
    let mut recorder = recorder();
    let mut memory = Memory::default();
    // The copy comes, the report speaks of something that left no row.
    for at in [10, 11] {
        round(&mut recorder, &mut memory, at * SECOND, false, |report| {
            report.done.retain(|name| name == "prctl");
        });
    }
    let verdict = round(&mut recorder, &mut memory, 20 * SECOND, true, |report| {
        report.done.retain(|name| name != "prctl");
    });
    assert_eq!((verdict.missing.len(), verdict.regained), (0, vec![]));
    memory.append(recorder.stop(30 * SECOND));
    assert_eq!(
        intervals(&memory, "rename"),
        ["watched 0-0 canary ", "gap 0-30 stop the canary did not come back: prctl"]
    );
}

#[test]
fn a_round_that_failed_proves_nothing_against_a_class() {
    let mut recorder = recorder();
    let mut memory = Memory::default();
    let verdict = round(&mut recorder, &mut memory, SECOND, false, |report| {
        report.trouble = Some("its process was killed".to_owned());
    });
    assert_eq!((verdict.missing.len(), verdict.trouble.as_deref()), (0, Some("its process was killed")));
    // A report about another process than the one that was seen: all of it is missing.
    let verdict = round(&mut recorder, &mut memory, 2 * SECOND, true, |report| report.pid = 999);
    assert!(verdict.doubted && verdict.lost.is_empty());
    let verdict = round(&mut recorder, &mut memory, 3 * SECOND, true, |report| report.pid = 999);
    assert_eq!(verdict.lost, ["process", "rename"]);
    memory.append(recorder.stop(4 * SECOND));
    let told: Vec<_> =
        outcomes(&memory).iter().map(|row| (row.class.to_string(), row.seen, row.reason.clone())).collect();
    let killed = Some("its process was killed".to_owned());
    assert_eq!(told[0], ("process".to_owned(), Some(1), None), "what came did come");
    assert_eq!(told[1], ("rename".to_owned(), None, killed));
    assert_eq!(told[2].1, Some(0));
}
