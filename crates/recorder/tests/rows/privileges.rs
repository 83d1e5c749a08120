//! Acts of privilege: whose they are, what they changed, whom they were done to.

use luarm_schema::tables::PrivInfo;
use luarm_sensor::{Observation, observation::*};

use crate::scene::*;

const T: u64 = 50 * MS;
const SHELL: ImageId = ImageId { pid: 10, start: 10 * MS, execs: 1 };
const VICTIM: ImageId = ImageId { pid: 20, start: 20 * MS, execs: 1 };

fn allowed(effective: u64) -> Credentials {
    let capabilities = Some(Capabilities { inheritable: 0, permitted: 0x1ff_ffff_ffff, effective });
    Credentials { capabilities, ..ids(0) }
}

fn act(at: u64, change: impl FnOnce(&mut Privilege)) -> Observation {
    let Observation::Privilege(mut act) = privilege(at, "ptrace", SHELL, None) else { unreachable!() };
    change(&mut act);
    Observation::Privilege(act)
}

/// What was done, to whom, and how it ended.
fn line(row: &PrivInfo) -> String {
    format!(
        "{} {:?} {} of {} on {:?} {:?}",
        row.operation,
        row.detail.as_deref().unwrap_or_default(),
        row.result,
        row.username,
        row.targetpid,
        row.targetusername.as_deref().unwrap_or_default()
    )
}

#[test]
fn an_act_names_the_image_that_it_was_done_to() {
    let refused = act(T + MS, |act| {
        act.detail = b"ATTACH\n\xff".to_vec();
        act.result = 1;
        act.target = Some(Actor { euid: 0, comm: b"init".to_vec(), ..actor(VICTIM) });
    });
    // By now another program runs in the process that it was done to.
    let again = image(20, 20 * MS, 2);
    let late = privilege(T + 3 * MS, "signal", SHELL, Some(VICTIM));
    let memory = record(
        recorder(),
        [
            found(T, SHELL, None, "/bin/sh"),
            found(T, VICTIM, None, "/bin/victim"),
            refused,
            exec(T + 2 * MS, again, "/bin/other"),
            late,
        ],
    );
    let rows = memory.privinfo();
    assert_eq!(
        rows.iter().map(|row| line(row)).collect::<Vec<_>>(),
        [
            r#"ptrace "ATTACH\n\\xff" 1 of alice on Some(20) "root""#,
            r#"signal "" 0 of alice on Some(20) "mallory""#
        ]
    );
    for row in rows {
        assert_eq!((row.psentity, row.targetentity), (psentity(SHELL), Some(psentity(VICTIM))));
        assert_eq!((row.olduid, row.uid, row.oldcapeff.clone()), (1000, 1000, row.capeff.clone()));
    }
}

#[test]
fn a_target_of_which_nothing_was_heard_has_a_row_from_then_on() {
    let memory = record(recorder(), [privilege(T, "process_vm_writev", SHELL, Some(VICTIM))]);
    let told: Vec<_> =
        memory.psinfo().iter().map(|row| (row.psentity, row.application.clone(), row.euid)).collect();
    let expected =
        [(psentity(SHELL), "acting".to_owned(), 1000), (psentity(VICTIM), "acting".to_owned(), 1001)];
    assert_eq!(told, expected);
}

#[test]
fn a_child_in_namespaces_of_its_own_has_a_row_even_if_it_execs_at_once() {
    let (child, program) = (image(30, T, 0), image(30, T, 1));
    let memory = record(
        recorder(),
        [
            found(T - MS, SHELL, None, "/bin/sh"),
            fork(child, SHELL),
            privilege(T, "clone", SHELL, Some(child)),
            exec(T + MS, program, "/bin/ls"),
        ],
    );
    assert_eq!(memory.privinfo()[0].targetentity, Some(psentity(child)));
    assert_eq!(memory.psinfo().iter().filter(|row| row.pid == 30).count(), 2);
}

#[test]
fn capabilities_are_told_before_and_after() {
    let set = |at, credentials, operation| Observation::Credentials {
        at,
        actor: Actor { euid: 0, ..actor(SHELL) },
        operation,
        credentials,
    };
    let exec = |at, execs, credentials| {
        let Observation::Exec { mut task, program, .. } = exec(at, image(10, 10 * MS, execs), "/bin/sh")
        else {
            unreachable!()
        };
        task.credentials = credentials;
        Observation::Exec { at, task, program }
    };
    let memory = record(
        recorder(),
        [
            exec(T, 1, allowed(1)),
            set(T + MS, allowed(0), "capset"),
            set(T + 2 * MS, allowed(0), "capset"),
            exec(T + 3 * MS, 2, allowed(0x400)),
            exec(T + 4 * MS, 3, allowed(0x400)),
        ],
    );
    let told: Vec<_> = memory
        .privinfo()
        .iter()
        .map(|row| {
            let (old, new) = (row.oldcapeff.as_deref().unwrap(), row.capeff.as_deref().unwrap());
            assert_eq!(row.oldcapprm.as_deref(), Some("000001ffffffffff"));
            assert_eq!((row.olduid, row.uid, row.result), (0, 0, 0));
            format!("{} {old} {new}", row.operation)
        })
        .collect();
    let expected = ["capset 0000000000000001 0000000000000000", "exec 0000000000000000 0000000000000400"];
    assert_eq!(told, expected);
}

#[test]
fn entering_a_user_namespace_changes_what_the_process_has_and_a_refusal_does_not() {
    let enter = |at, result| {
        act(at, |act| {
            act.operation = "unshare";
            act.result = result;
            act.credentials = Credentials { capabilities: allowed(7).capabilities, ..ids(1000) };
        })
    };
    let memory = record(
        recorder(),
        [found(T, SHELL, None, "/bin/sh"), enter(T + MS, 28), enter(T + 2 * MS, 0), enter(T + 3 * MS, 0)],
    );
    let told: Vec<_> = memory
        .privinfo()
        .iter()
        .map(|row| (row.result, row.oldcapeff.clone().unwrap(), row.capeff.clone().unwrap()))
        .collect();
    let (none, seven) = ("0000000000000000".to_owned(), "0000000000000007".to_owned());
    assert_eq!(
        told,
        [(28, seven.clone(), seven.clone()), (0, none, seven.clone()), (0, seven.clone(), seven)]
    );
}
