//! One row per process image, whatever is lost, late, or said twice.

use luarm_sensor::{Observation, observation::*};

use crate::scene::*;

const SHELL: ImageId = ImageId { pid: 10, start: 1_000_000, execs: 1 };
const T: u64 = 50 * MS;

fn shell() -> Observation {
    found(5 * MS, SHELL, None, "/bin/sh")
}

fn check(observations: impl IntoIterator<Item = Observation>, expected: &[&str]) {
    let memory = record(recorder(), std::iter::once(shell()).chain(observations));
    let mut lines = lines(&memory);
    lines.retain(|line| line != r#"10.1 of - found "/bin/sh" @1000 lives"#);
    assert_eq!(lines, expected);
}

fn child(execs: u32) -> ImageId {
    image(20, T, execs)
}

#[test]
fn fork_and_exec_are_one_row() {
    check(
        [fork(child(0), SHELL), exec(T + MS, child(1), "/bin/ls"), exit(T + 9 * MS, child(1), 3 << 8)],
        &[r#"20.1 of 10 exec "/bin/ls" @50000 exit 3@59000"#],
    );
}

#[test]
fn fork_without_exec_is_a_copy_of_its_creator() {
    check(
        [fork(child(0), SHELL), exit(T + 9 * MS, child(0), 11)],
        &[r#"20.0 of 10 fork "/bin/sh" @50000 exit signal 11@59000"#],
    );
}

#[test]
fn exec_after_exec_is_a_row_each_with_one_creator() {
    check(
        [
            fork(child(0), SHELL),
            exec(T + MS, child(1), "/bin/env"),
            exec(T + 2 * MS, child(2), "/bin/ls"),
            exit(T + 3 * MS, child(2), 0),
        ],
        &[
            r#"20.1 of 10 exec "/bin/env" @50000 exec@52000"#,
            r#"20.2 of 10 exec "/bin/ls" @52000 exit 0@53000"#,
        ],
    );
}

#[test]
fn a_fork_that_acts_before_its_exec_has_its_own_row() {
    let rows = [
        r#"20.0 of 10 fork "/bin/sh" @50000 exec@52000"#,
        r#"20.1 of 10 exec "/bin/ls" @52000 exit 0@53000"#,
    ];
    let acts = [
        rename(T + MS, child(0)),
        begins(connection(7, T + MS, actor(child(0)))),
        Observation::ExecDenied {
            at: T + MS,
            actor: actor(child(0)),
            path: b"/x".to_vec(),
            arguments: Arguments::default(),
            errno: 13,
        },
        Observation::Credentials {
            at: T + MS,
            actor: actor(child(0)),
            operation: "setuid",
            credentials: ids(7),
        },
    ];
    for act in acts {
        let execs = exec(T + 2 * MS, child(1), "/bin/ls");
        let execs = match (&act, execs) {
            // An exec keeps credentials.
            (Observation::Credentials { .. }, Observation::Exec { at, mut task, program }) => {
                task.credentials = ids(7);
                Observation::Exec { at, task, program }
            }
            (_, execs) => execs,
        };
        check([fork(child(0), SHELL), act, execs, exit(T + 3 * MS, child(1), 0)], &rows);
    }
}

#[test]
fn a_fork_that_forks_has_its_own_row() {
    let grandchild = image(30, T + MS, 0);
    check(
        [
            fork(child(0), SHELL),
            fork(grandchild, child(0)),
            exec(T + 2 * MS, image(30, T + MS, 1), "/bin/id"),
            exit(T + 3 * MS, image(30, T + MS, 1), 0),
            exit(T + 4 * MS, child(0), 0),
        ],
        &[
            r#"20.0 of 10 fork "/bin/sh" @50000 exit 0@54000"#,
            r#"30.1 of 20 exec "/bin/id" @51000 exit 0@53000"#,
        ],
    );
}

#[test]
fn a_fork_waits_a_second_of_the_sensors_time() {
    let mut recorder = recorder();
    recorder.observe(shell());
    recorder.flush(T);
    recorder.observe(fork(child(0), SHELL));
    recorder.observe(Observation::Reached(T + 100 * MS));
    assert!(recorder.unsettled(T + 1) && !recorder.unsettled(T));
    // We are late, the sensor is later: the exec may be on its way.
    assert!(recorder.flush(T + 2 * SECOND).is_none());
    recorder.observe(Observation::Reached(T + SECOND));
    let batch = recorder.flush(T + 2 * SECOND).unwrap();
    assert_eq!(batch.rows.len(), 2);
    assert!(!recorder.unsettled(T + 1));
}

#[test]
fn a_batch_says_only_what_is_in_it() {
    let mut recorder = recorder();
    recorder.observe(shell());
    recorder.observe(fork(child(0), SHELL));
    recorder.observe(Observation::Reached(T + 100 * MS));
    let batch = recorder.flush(T + 200 * MS).unwrap();
    let Some(luarm_schema::Row::BatchInfo(ledger)) = batch.rows.last() else { panic!() };
    assert_eq!((ledger.lastevent, ledger.firstevent), (wall(T), wall(T)));
}

#[test]
fn after_its_own_row_an_exec_begins_another() {
    let mut recorder = recorder();
    let mut memory = Memory::default();
    recorder.observe(shell());
    recorder.observe(fork(child(0), SHELL));
    memory.append(recorder.flush(T + SECOND).unwrap());
    recorder.observe(exec(T + 2 * SECOND, child(1), "/bin/ls"));
    memory.append(recorder.flush(T + 3 * SECOND).unwrap());
    assert_eq!(
        lines(&memory)[1..],
        [r#"20.0 of 10 fork "/bin/sh" @50000 exec@2050000"#, r#"20.1 of 10 exec "/bin/ls" @2050000 lives"#]
    );
}

#[test]
fn a_lost_fork_spoils_nothing() {
    check(
        [exec(T + MS, child(1), "/bin/ls"), exit(T + 2 * MS, child(1), 0)],
        &[r#"20.1 of - exec "/bin/ls" @50000 exit 0@52000"#],
    );
}

#[test]
fn a_lost_exec_is_noticed_by_what_follows() {
    check(
        [fork(child(0), SHELL), rename(T + MS, child(1)), exit(T + 2 * MS, child(1), 0)],
        &[r#"20.1 of 10 found "" @50000 exit 0@52000"#],
    );
    check(
        [exec(T, child(1), "/bin/ls"), exit(T + 2 * MS, child(3), 0)],
        &[r#"20.1 of - exec "/bin/ls" @50000 exec@52000"#, r#"20.3 of - found "" @52000 exit 0@52000"#],
    );
}

#[test]
fn a_lost_exit_is_noticed_when_the_pid_is_reused() {
    let again = image(20, T + SECOND, 0);
    check(
        [exec(T, child(1), "/bin/ls"), fork(again, SHELL), exit(T + 2 * SECOND, again, 0)],
        &[
            r#"20.1 of - exec "/bin/ls" @50000 unseen@1050000"#,
            r#"20.0 of 10 fork "/bin/sh" @1050000 exit 0@2050000"#,
        ],
    );
}

#[test]
fn a_reused_pid_takes_no_act_of_the_other() {
    let again = image(20, T + SECOND, 1);
    let memory = record(
        recorder(),
        [
            shell(),
            exec(T, child(1), "/bin/ls"),
            exec(T + SECOND, again, "/bin/id"),
            rename(T + 2 * SECOND, child(1)),
            rename(T + 2 * SECOND, again),
        ],
    );
    let whose: Vec<i64> = memory.renameinfo().iter().map(|row| row.psentity).collect();
    assert_eq!(whose, [psentity(child(1)), psentity(again)]);
}

#[test]
fn the_exit_of_an_unknown_process_is_a_row() {
    check(
        [exit(T + MS, child(2), 9), exit(T + 2 * MS, child(2), 9)],
        &[r#"20.2 of - found "" @50000 exit signal 9@51000"#],
    );
}

#[test]
fn events_out_of_order_give_the_same_row() {
    let whole = r#"20.1 of 10 exec "/bin/ls" @50000 exit 0@52000"#;
    let events = || [fork(child(0), SHELL), exec(T + MS, child(1), "/bin/ls"), exit(T + 2 * MS, child(1), 0)];
    for order in [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 1, 0], [2, 0, 1]] {
        let mut events: Vec<_> = events().into_iter().zip(order).collect();
        events.sort_by_key(|(_, place)| *place);
        check(events.into_iter().map(|(event, _)| event), &[whole]);
    }
}

#[test]
fn what_comes_after_the_exit_finds_the_row() {
    let connects = connection(7, T + MS, actor(child(1)));
    check(
        [
            exec(T, child(1), "/bin/ls"),
            exit(T + 2 * MS, child(1), 0),
            begins(connects.clone()),
            ends(T + 3 * MS, connects, EndpointEnd::default()),
            exit(T + 4 * MS, child(1), 9),
            fork(child(0), SHELL),
        ],
        &[r#"20.1 of 10 exec "/bin/ls" @50000 exit 0@52000"#],
    );
}

#[test]
fn the_exit_of_a_thread_that_led_does_not_end_the_process() {
    check(
        [
            exec(T, child(1), "/bin/java"),
            exit(T + MS, child(1), 0),
            exec(T + 2 * MS, child(2), "/bin/ls"),
            exit(T + 3 * MS, child(2), 0),
        ],
        &[
            r#"20.1 of - exec "/bin/java" @50000 exit 0@51000"#,
            r#"20.2 of - exec "/bin/ls" @52000 exit 0@53000"#,
        ],
    );
}

#[test]
fn a_hundred_execs_are_a_hundred_rows() {
    let all = (1..=100).map(|execs| exec(T + u64::from(execs) * MS, child(execs), "/bin/again"));
    let memory = record(recorder(), all);
    assert_eq!(memory.psinfo().len(), 100);
    assert!(memory.psinfo().windows(2).all(|pair| pair[0].created < pair[1].created));
}

#[test]
fn accounts_are_percentages_of_the_processs_life_and_the_hosts_memory() {
    let usage = Usage { user: SECOND, system: SECOND / 2, maxrss: 1 << 29, rchar: 5, ..Usage::default() };
    let ended = Observation::Exit { at: T + 4 * SECOND, image: child(1), status: None, usage: Some(usage) };
    let memory = record(recorder(), [exec(T + MS, child(1), "/bin/ls"), ended]);
    let end = memory.psinfo()[0].end.clone().unwrap();
    assert_eq!((end.usercpu, end.systemcpu), (Some(1_000_000), Some(500_000)));
    assert_eq!((end.pcpu, end.pmem, end.bytesread), (Some(37.5), Some(50.0), Some(5)));
    assert_eq!((end.exitcode, end.exitsignal), (None, None));
}

#[test]
fn credentials_that_change_are_rows_once() {
    let set = |at, new| Observation::Credentials {
        at,
        actor: Actor { euid: new, ..actor(child(1)) },
        operation: "setresuid",
        credentials: ids(new),
    };
    let mut privileged = task(child(2), None);
    privileged.credentials.euid = 0;
    let sudo = Observation::Exec { at: T + 4 * MS, task: privileged, program: program("/bin/su", &[]) };
    let memory = record(
        recorder(),
        [exec(T, child(1), "/bin/sh"), set(T + MS, 1000), set(T + 2 * MS, 1001), set(T + 3 * MS, 1001), sudo],
    );
    let rows: Vec<_> = memory
        .privinfo()
        .iter()
        .map(|row| {
            format!(
                "{} {}->{} {}->{} {}",
                row.operation, row.olduid, row.uid, row.oldeuid, row.euid, row.username
            )
        })
        .collect();
    assert_eq!(rows, ["setresuid 1000->1001 1000->1001 mallory", "exec 1001->1000 1001->0 root"]);
    assert_eq!(memory.privinfo()[1].psentity, psentity(child(2)));
}

#[test]
fn a_new_name_is_a_row_and_the_name_of_what_is_forked_later() {
    let memory = record(
        recorder(),
        [
            exec(T, child(1), "/usr/bin/perl"),
            rename(T + MS, child(1)),
            fork(image(30, T + 2 * MS, 0), child(1)),
        ],
    );
    let row = memory.renameinfo()[0];
    assert_eq!((row.application.as_str(), row.oldapplication.as_str()), ("acting", "before"));
    assert_eq!(memory.psinfo()[0].application, "comm");
    assert_eq!(memory.psinfo()[1].command, "/usr/bin/perl");
}

#[test]
fn hostile_strings_are_kept_whole() {
    let hostile = b"'); DROP TABLE psinfo; --\n\xff\\x00";
    let mut task = task(child(1), None);
    task.comm = hostile.to_vec();
    task.cgroup = Some(b"/a\nb".to_vec());
    let mut program = program("", &[]);
    program.path = hostile.to_vec();
    program.arguments.bytes = [&hostile[..], b"\0\0", &[b'x'; 2 << 20]].concat();
    program.arguments.length = 9 << 20;
    let memory = record(recorder(), [Observation::Exec { at: T, task, program }]);
    let row = memory.psinfo()[0];
    for text in [&row.command, &row.application] {
        assert_eq!(luarm_schema::escape::unescape(text), hostile);
    }
    let argv = luarm_schema::escape::unescape_list(row.argv.as_deref().unwrap());
    assert_eq!((argv.len(), &argv[0][..], argv[1].len(), argv[2].len()), (3, &hostile[..], 0, 2 << 20));
    assert_eq!((row.argc, row.argvlength), (3, Some(9 << 20)));
}

#[test]
fn what_differs_from_the_host_is_shown() {
    let mut task = task(child(1), None);
    task.namespaces.net = 99;
    task.cgroup = Some(format!("/docker/{}", "a".repeat(64)).into());
    let mut program = program("/x", &[]);
    program.file = Some(ImageFile { memfd: true, deleted: true, ..ImageFile::default() });
    let memory = record(recorder(), [Observation::Exec { at: T, task, program }]);
    let row = memory.psinfo()[0];
    assert_eq!((row.netns, row.mntns, row.container.clone()), (Some(99), None, Some("a".repeat(64))));
    assert_eq!((row.imagestate.as_deref(), row.argv.as_deref(), row.argc), (Some("memfd"), None, 0));
}

#[test]
fn a_later_inventory_ends_what_it_does_not_meet() {
    let complete = || Observation::Complete(Inventory::Processes);
    check(
        [
            complete(),
            exec(T, child(1), "/bin/lost"),
            exec(T, image(30, T, 1), "/bin/kept"),
            found(SECOND, SHELL, None, "/bin/sh"),
            fork(image(40, SECOND + MS, 0), SHELL),
            found(SECOND + 2 * MS, image(30, T, 1), None, "/bin/kept"),
            complete(),
        ],
        &[
            r#"20.1 of - exec "/bin/lost" @50000 unseen@1000000"#,
            r#"30.1 of - exec "/bin/kept" @50000 lives"#,
            r#"40.0 of 10 fork "/bin/sh" @1001000 lives"#,
        ],
    );
}
