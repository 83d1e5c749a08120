//! Sleeps of the host and steps of its clock become rows of `coverageinfo`.

use luarm_recorder::Recorder;
use luarm_schema::{Time, tables::CoverageInfo};
use luarm_sensor::{BootNs, clock::Reading};

use crate::scene::*;

/// What the clocks show: CLOCK_REALTIME - CLOCK_BOOTTIME beyond what it was at first in microseconds, and how long the host has slept since then.
fn reading(at: BootNs, set: i64, slept: BootNs) -> Reading {
    // A constant that a time namespace would make.
    Reading { at, offset: BOOT + set, asleep_ns: slept as i64 - 7 * SECOND as i64 }
}

fn told(recorder: &mut Recorder, readings: &[Reading]) -> Vec<String> {
    let mut memory = Memory::default();
    readings.iter().for_each(|reading| recorder.set_clocks(*reading));
    memory.append(recorder.flush(readings.last().unwrap().at).unwrap());
    memory.coverage().into_iter().map(line).collect()
}

/// A row, in milliseconds since the host started by the clock of that time.
fn line(row: &CoverageInfo) -> String {
    let end = row.end.as_ref().unwrap();
    let ms = |time: Time| (time.0 - BOOT) / 1000;
    assert_eq!((&*row.class, &*row.sensor), ("all", "none"));
    let reason = row.reason.as_deref().unwrap();
    format!("{} {}..{} {}: {reason}", row.state, ms(row.created), ms(end.destroyed), end.ended)
}

#[test]
fn clocks_that_go_on_tell_nothing() {
    let readings: Vec<_> = (1..1000)
        .map(|n: i64| reading(n.unsigned_abs() * SECOND, n % 2 * 40_000, n.unsigned_abs() % 2 * 1000))
        .collect();
    assert_eq!(told(&mut recorder(), &readings), Vec::<String>::new());
}

#[test]
fn a_sleep_is_a_row() {
    let day = 86_400 * SECOND;
    let readings = [
        reading(10 * SECOND, 0, 0),
        reading(11 * SECOND, 0, 0),
        reading(12 * SECOND + day, 0, day),
        reading(13 * SECOND + day, 0, day),
        reading(15 * SECOND + day, 0, day + SECOND),
    ];
    assert_eq!(
        told(&mut recorder(), &readings),
        [
            "asleep 11000..86412000 awake: the host was suspended for 86400.000 s",
            "asleep 86413000..86415000 awake: the host was suspended for 1.000 s"
        ]
    );
}

#[test]
fn a_step_of_the_wall_clock_is_a_row() {
    let readings = [
        reading(10 * SECOND, 0, 0),
        reading(11 * SECOND, 3_600_000_000, 0),
        reading(12 * SECOND, 3_600_000_000, 0),
        reading(13 * SECOND, -250_000, 0),
    ];
    assert_eq!(
        told(&mut recorder(), &readings),
        [
            "step 11000..3611000 forward: the wall clock was set forward by 3600.000 s",
            "step 12750..3613000 back: the wall clock was set back by 3600.250 s"
        ]
    );
}

#[test]
fn many_small_steps_are_told_once_they_are_large() {
    let readings: Vec<_> = (1..=5).map(|n: i64| reading(n.unsigned_abs() * SECOND, n * 30_000, 0)).collect();
    assert_eq!(
        told(&mut recorder(), &readings),
        ["step 4000..4120 forward: the wall clock was set forward by 0.120 s"]
    );
}

#[test]
fn a_sleep_after_which_the_clock_was_set_is_both() {
    let slept = 100 * SECOND;
    let readings = [reading(10 * SECOND, 0, 0), reading(11 * SECOND + slept, 5_000_000, slept)];
    assert_eq!(
        told(&mut recorder(), &readings),
        [
            "asleep 10000..111000 awake: the host was suspended for 100.000 s",
            "step 111000..116000 forward: the wall clock was set forward by 5.000 s"
        ]
    );
}

#[test]
fn a_clock_that_was_set_back_while_nobody_recorded_is_a_row() {
    let mut memory = Memory::default();
    let mut first = recorder();
    memory.append(first.stop(1000 * SECOND));
    let mut second = start(memory.resume(), host(), 60 * SECOND);
    memory.append(second.stop(61 * SECOND));
    let lines: Vec<_> = memory.coverage().into_iter().map(line).collect();
    assert_eq!(
        lines,
        [
            "gap 60000..60000 start: the recorder was stopped",
            "step 60000..1000000 back: the wall clock was set back by 940.000 s or more while the recorder was not running"
        ]
    );
    // Numbers go on after all that is stored.
    let keys: Vec<_> = memory.coverage().into_iter().map(|row| row.coverageid).collect();
    assert!(keys.is_sorted());
}

/// Events that follow a step have the new time, and their rows are numbered after those before it.
#[test]
fn what_happens_after_a_step_has_the_new_time() {
    let mut memory = Memory::default();
    let mut recorder = recorder();
    recorder.observe(exec(10 * SECOND, image(10, 5 * SECOND, 1), "/bin/before"));
    recorder.set_clocks(reading(11 * SECOND, 0, 0));
    recorder.set_clocks(reading(12 * SECOND, -3_600_000_000, 0));
    recorder.observe(rename(13 * SECOND, image(10, 5 * SECOND, 1)));
    memory.append(recorder.stop(14 * SECOND));
    assert_eq!(memory.renameinfo()[0].created.0 - BOOT, 13_000_000 - 3_600_000_000);
    assert_eq!(memory.coverage().len(), 1);
}
