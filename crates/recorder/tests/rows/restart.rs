//! A recorder that starts again goes on where the store says the last one left off.

use luarm_schema::{End, Row, tables::*};
use luarm_sensor::{Observation, observation::*};

use luarm_recorder::Worth;

use crate::scene::*;

const DAEMON: ImageId = ImageId { pid: 10, start: 123_456_789, execs: 1 };
const OTHER: ImageId = ImageId { pid: 11, start: 200_000_001, execs: 2 };
const T: u64 = SECOND;

fn server() -> Endpoint {
    Endpoint { direction: Direction::Listen, remote: None, ..connection(5, T, actor(DAEMON)) }
}

/// What a first run stored: two processes, a listener and a connection.
fn first_run(stop: bool) -> Memory {
    let mut memory = Memory::default();
    let mut recorder = recorder();
    for observation in [
        coverage(Watch::Watched),
        found(MS, DAEMON, None, "/sbin/daemon"),
        exec(T, OTHER, "/bin/other"),
        begins(server()),
        begins(connection(6, T, actor(OTHER))),
        Observation::Reached(2 * T),
    ] {
        recorder.observe(observation);
    }
    memory.append(if stop { recorder.stop(2 * T) } else { recorder.flush(2 * T).unwrap() });
    memory
}

fn open(memory: &Memory) -> (Vec<i64>, Vec<i64>) {
    let resume = memory.resume();
    (
        resume.processes.iter().map(|open| open.psentity).collect(),
        resume.endpoints.iter().map(|open| open.endpointinfo).collect(),
    )
}

#[test]
fn what_lasts_keeps_its_rows() {
    let mut memory = first_run(false);
    let before = open(&memory);
    let mut recorder = start(memory.resume(), host(), 60 * SECOND);
    for observation in [
        found(60 * SECOND, DAEMON, None, "/sbin/daemon"),
        found(60 * SECOND, OTHER, Some(DAEMON), "/bin/other"),
        Observation::Complete(Inventory::Processes),
        begins(Endpoint { origin: Origin::Found, at: 60 * SECOND, ..server() }),
        begins(Endpoint { origin: Origin::Found, at: 60 * SECOND, ..connection(6, 0, actor(OTHER)) }),
        Observation::Complete(Inventory::Sockets),
    ] {
        recorder.observe(observation);
    }
    memory.append(recorder.flush(61 * SECOND).unwrap());
    assert_eq!(open(&memory), before);
    recorder.observe(exit(62 * SECOND, OTHER, 0));
    recorder.observe(ends(62 * SECOND, connection(6, T, actor(OTHER)), EndpointEnd::default()));
    memory.append(recorder.stop(63 * SECOND));
    assert_eq!(open(&memory), (vec![before.0[0]], vec![before.1[0]]));
    assert_eq!(memory.hostinfo().len(), 1);
    memory.check_references();
}

#[test]
fn what_is_gone_ended_unseen() {
    let mut memory = first_run(false);
    let mut recorder = start(memory.resume(), host(), 60 * SECOND);
    let reused = image(OTHER.pid, 50 * SECOND, 1);
    recorder.observe(found(60 * SECOND, reused, None, "/bin/new"));
    recorder.observe(Observation::Complete(Inventory::Processes));
    recorder.observe(Observation::Complete(Inventory::Sockets));
    memory.append(recorder.stop(61 * SECOND));
    assert_eq!(
        lines(&memory),
        [
            r#"10.1 of - found "/sbin/daemon" @123456 unseen@60000000"#,
            r#"11.2 of - exec "/bin/other" @1000000 unseen@60000000"#,
            r#"11.1 of - found "/bin/new" @50000000 lives"#,
        ]
    );
    assert!(memory.netinfo().iter().all(|row| row.end.as_ref().is_some_and(|end| end.ended == "unseen")));
}

#[test]
fn an_event_before_the_inventory_takes_up_the_row() {
    let mut memory = first_run(false);
    let mut recorder = start(memory.resume(), host(), 60 * SECOND);
    recorder.observe(rename(60 * SECOND, DAEMON));
    recorder.observe(exec(60 * SECOND, ImageId { execs: 3, ..OTHER }, "/bin/third"));
    recorder.observe(fork(image(12, 60 * SECOND, 0), DAEMON));
    recorder.observe(exit(61 * SECOND, image(12, 60 * SECOND, 0), 0));
    memory.append(recorder.stop(62 * SECOND));
    assert_eq!(
        lines(&memory),
        [
            r#"10.1 of - found "/sbin/daemon" @123456 lives"#,
            r#"11.2 of - exec "/bin/other" @1000000 exec@60000000"#,
            r#"11.3 of - exec "/bin/third" @60000000 lives"#,
            r#"12.0 of 10 fork "" @60000000 exit 0@61000000"#,
        ]
    );
    memory.check_references();
}

#[test]
fn the_polling_sensor_knows_starts_to_a_tick_and_finds_the_rows() {
    let mut memory = first_run(false);
    let before = open(&memory).0;
    let tick = |image: ImageId| ImageId { start: image.start / 10_000_000 * 10_000_000, execs: 0, ..image };
    let mut recorder = start(memory.resume(), host(), 60 * SECOND);
    recorder.observe(found(60 * SECOND, tick(DAEMON), None, "/sbin/daemon"));
    recorder.observe(found(60 * SECOND, tick(OTHER), None, "/bin/other"));
    recorder.observe(rename(61 * SECOND, tick(OTHER)));
    recorder.observe(Observation::Complete(Inventory::Processes));
    memory.append(recorder.stop(62 * SECOND));
    assert_eq!(open(&memory).0, before);
    assert_eq!(memory.renameinfo()[0].psentity, before[1]);
}

#[test]
fn the_exec_count_survives_when_it_is_full() {
    let mut memory = Memory::default();
    let mut recorder = recorder();
    recorder.observe(exec(5 * SECOND, image(10, T, 80), "/bin/again"));
    memory.append(recorder.stop(6 * SECOND));
    let before = open(&memory).0;
    let mut recorder = start(memory.resume(), host(), 60 * SECOND);
    recorder.observe(found(60 * SECOND, image(10, T, 80), None, "/bin/again"));
    recorder.observe(Observation::Complete(Inventory::Processes));
    memory.append(recorder.stop(62 * SECOND));
    assert_eq!(open(&memory).0, before);
}

#[test]
fn a_new_boot_ends_everything() {
    let mut memory = first_run(true);
    let mut host = host();
    host.boot_id = "second boot".into();
    // The wall clock says that this boot began before the last sign of the one before; what matters is the boot id.
    let mut recorder = start(memory.resume(), host, 5 * SECOND);
    recorder.observe(found(5 * SECOND, DAEMON, None, "/sbin/daemon"));
    memory.append(recorder.stop(6 * SECOND));
    let ended: Vec<_> =
        memory.psinfo().iter().map(|row| row.end.as_ref().map(|end| end.ended.to_string())).collect();
    assert_eq!(ended, [Some("boot".into()), None, Some("boot".into())]);
    assert!(memory.netinfo().iter().all(|row| row.end.as_ref().is_some_and(|end| end.ended == "boot")));
    let [first, second] = memory.hostinfo()[..] else { panic!() };
    assert_eq!(first.end, Some(HostInfoEnd { destroyed: wall(2 * T) }));
    assert!(second.end.is_none() && second.bootentity == first.bootentity + 1);
}

fn coverage(watch: Watch) -> Observation {
    Observation::Coverage(Coverage {
        class: "process",
        watch,
        sensor: "ebpf",
        hook: "sched_process_fork".into(),
        reason: None,
    })
}

#[test]
fn a_gap_is_a_row() {
    for (stop, reason) in [(true, "the recorder was stopped"), (false, "the recorder was not running")] {
        let mut memory = first_run(stop);
        let classes = memory.coverage().len();
        assert_eq!(classes, 1);
        let mut recorder = start(memory.resume(), host(), 60 * SECOND);
        recorder.observe(coverage(Watch::Watched));
        memory.append(recorder.stop(61 * SECOND));
        let gap = memory.coverage().into_iter().find(|row| row.class == "all").unwrap();
        assert_eq!((&*gap.state, &*gap.sensor, gap.reason.as_deref()), ("gap", "none", Some(reason)));
        let end = gap.end.as_ref().unwrap();
        assert_eq!((gap.created, end.destroyed, &*end.ended), (wall(2 * T), wall(60 * SECOND), "start"));
        let ends: Vec<_> =
            memory.coverage().iter().map(|row| row.end.as_ref().unwrap().ended.to_string()).collect();
        assert_eq!(ends.iter().filter(|end| *end == "killed").count(), if stop { 0 } else { classes });
        assert_eq!(
            ends.iter().filter(|end| *end == "stop").count(),
            if stop { 2 * classes } else { classes }
        );
    }
}

#[test]
fn coverage_changes_when_it_changes() {
    let memory = record(
        recorder(),
        [
            coverage(Watch::Watched),
            coverage(Watch::Watched),
            coverage(Watch::Sampled),
            coverage(Watch::Watched),
        ],
    );
    let states: Vec<_> = memory
        .coverage()
        .into_iter()
        .filter(|row| row.class == "process")
        .map(|row| row.state.to_string())
        .collect();
    assert_eq!(states, ["watched", "sampled", "watched"]);
}

#[test]
fn an_idle_recorder_says_once_a_minute_that_it_lives() {
    let mut recorder = recorder();
    assert!(recorder.flush(SECOND).is_some());
    assert!(recorder.flush(60 * SECOND).is_none());
    let heartbeat = recorder.flush(61 * SECOND).unwrap();
    assert_eq!((heartbeat.rows.len(), heartbeat.ends.len(), heartbeat.id), (1, 0, 2));
    assert!(recorder.flush(62 * SECOND).is_none());
}

#[test]
fn losses_are_rows() {
    let mut recorder = recorder();
    recorder.observe(Observation::Loss(Loss {
        class: "process",
        cause: "ring-full",
        count: 5,
        from: T,
        until: 2 * T,
    }));
    recorder.lose("netinfo", "store-failed", 7, wall(3 * T), wall(4 * T));
    recorder.lose("netinfo", "store-failed", 0, wall(3 * T), wall(4 * T));
    let memory = record(recorder, []);
    let rows: Vec<_> =
        memory.lossinfo().iter().map(|row| format!("{} {} {}", row.class, row.cause, row.count)).collect();
    assert_eq!(rows, ["process ring-full 5", "netinfo store-failed 7"]);
    assert_eq!((memory.lossinfo()[0].created, memory.lossinfo()[0].until), (wall(T), wall(2 * T)));
}

#[test]
fn rows_that_are_given_up_are_counted_and_those_that_last_are_kept() {
    let mut recorder = recorder();
    for observation in [
        exec(T, DAEMON, "/sbin/daemon"),
        exec(T, OTHER, "/bin/other"),
        exit(T, OTHER, 0),
        rename(T, DAEMON),
        begins(server()),
    ] {
        recorder.observe(observation);
    }
    let bytes = recorder.pending_bytes();
    assert_eq!(recorder.shed(Worth::All, "store-failed"), 2);
    assert!(recorder.pending_bytes() < bytes);
    recorder.observe(exit(2 * T, DAEMON, 0));
    let batch = recorder.stop(3 * T);
    let lost: Vec<_> = batch
        .rows
        .iter()
        .filter_map(|row| if let Row::LossInfo(row) = row { Some((&*row.class, row.count)) } else { None })
        .collect();
    assert_eq!(lost, [("psinfo", 1), ("renameinfo", 1)]);
    assert!(batch.ends.iter().all(|(_, end)| !matches!(end, End::PsInfo(_))), "the row was still here");
}
