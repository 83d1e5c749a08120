//! Loss is data: what the kernel could not hand over is counted there, and stored; and nobody can blind the recorder with bulk.

#![expect(clippy::unwrap_used, reason = "a step that fails fails the test")]

mod support;

use std::process::Command;

use rustix::process::Signal;
use support::{Launch, has_ebpf, programs};

#[test]
fn what_the_ring_could_not_take_is_counted_and_stored() {
    const RUNS: i64 = 1000;
    if !has_ebpf() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let quit = programs::exit_program(dir.path());
    let recording = Launch::on(&dir.path().join("data")).with(&["--ring", "64KiB"]).start();
    recording.sync();
    // While the recorder stands still, a ring of 64 KiB cannot hold what happens.
    recording.signal(Signal::STOP);
    for n in 0..RUNS {
        assert!(Command::new(&quit).args(["0", &format!("lossy-{n}")]).status().unwrap().success());
    }
    recording.signal(Signal::CONT);
    // The ring is full until the recorder has emptied it.
    recording.sync();
    assert!(Command::new(&quit).args(["0", "after-the-loss"]).status().unwrap().success());
    recording.sync();

    let lost = recording.sql("select class, cause, count, created, until from lossinfo where class = 'process' and cause = 'ring-full'");
    let count: i64 = lost.iter().map(|row| row["count"].as_i64().unwrap()).sum();
    let told = recording.count("select count(*) from psinfo where arguments like '0 lossy-%'");
    // Each run is a fork, an exec and an exit.
    assert!(told < RUNS && count >= RUNS - told, "{told} told, {count} lost");
    assert!(lost.iter().all(|row| row["created"].as_str() < row["until"].as_str()), "{lost:?}");
    // Whoever is there is whole: nothing is tied to the wrong process, and what was lost spoils nothing that follows.
    assert_eq!(recording.count("select count(*) from psinfo where arguments like '0 lossy-%' and (command not like '%/quit' or application <> 'quit')"), 0);
    let after = recording.sql("select exitcode, ended from psinfo where arguments = '0 after-the-loss'");
    assert_eq!(
        (after.len(), after[0]["exitcode"].as_i64(), after[0]["ended"].as_str()),
        (1, Some(0), Some("exit"))
    );
    assert_eq!(
        recording.count(
            "select count(*) from (select host, psentity from psinfo group by 1, 2 having count(*) > 1)"
        ),
        0
    );
    assert!(recording.stop().success());
}

#[test]
fn a_flood_of_long_arguments_costs_only_arguments() {
    const RUNS: usize = 300;
    if !has_ebpf() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let quit = programs::exit_program(dir.path());
    let recording = Launch::on(&dir.path().join("data")).start();
    recording.sync();
    let long = "a".repeat(120_000);
    recording.signal(Signal::STOP);
    for n in 0..RUNS {
        assert!(Command::new(&quit).args(["0", &format!("flood-{n}"), &long]).status().unwrap().success());
    }
    recording.signal(Signal::CONT);
    recording.sync();
    // 36 MB went by while nobody read: every program is told of all the same, and those whose arguments were cut say so.
    let rows = recording.sql(
        "select argvlength, length(argv) as kept, exitcode from psinfo where arguments like '0 flood-%'",
    );
    assert_eq!(rows.len(), RUNS);
    assert!(rows.iter().all(|row| row["exitcode"] == 0));
    let (cut, whole): (Vec<_>, Vec<_>) = rows.iter().partition(|row| row["argvlength"].is_i64());
    assert!(!cut.is_empty() && !whole.is_empty());
    assert!(
        cut.iter()
            .all(|row| row["argvlength"].as_i64() > Some(120_000) && row["kept"].as_i64() >= Some(2000)),
        "{:?}",
        cut[0]
    );
    assert!(whole.iter().all(|row| row["kept"].as_i64() > Some(120_000)));
    assert!(
        recording.count("select sum(count) from lossinfo where class = 'arguments' and cause = 'ring-full'")
            > 0
    );
    assert_eq!(
        recording
            .count("select count(*) from lossinfo where class <> 'arguments' and class not like '%-digest'"),
        0
    );
    assert!(recording.stop().success());
}
