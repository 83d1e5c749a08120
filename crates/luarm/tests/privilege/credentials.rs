//! Credentials and capabilities.

use std::{
    fs,
    os::unix::{fs::PermissionsExt, process::CommandExt},
    process::Command,
};

use super::{EPERM, Scene, errors, finish, row, text};
use crate::support::NOBODY;

/// A set of capabilities of this process, as /proc says it.
fn capabilities(set: &str) -> String {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with(set)).unwrap();
    line.split_once('\t').unwrap().1.to_owned()
}

#[test]
fn changes_of_credentials_tell_capabilities_and_refusals() {
    let Some(scene) = Scene::set(&[]) else { return };
    let (effective, permitted) = (capabilities("CapEff:"), capabilities("CapPrm:"));
    let fewer = format!("{:016x}", u64::from_str_radix(&effective, 16).unwrap() & !(1 << 13));
    let none = "0000000000000000";

    // 13: CAP_NET_RAW. Dropped a second time, it is no change.
    let done = scene.act(0, "drop 13 , drop 13 , setresuid -1 65534 -1 , setresuid -1 0 -1 , setuid 65534 , setuid 0 , setresuid -1 0 -1 , grab");
    assert_eq!(errors(&done), [0, 0, 0, 0, 0, EPERM, EPERM, EPERM]);
    let rows = scene.rows(&done);
    let told: Vec<_> = rows
        .iter()
        .map(|row| {
            (
                (
                    text(row, "operation"),
                    row["result"].as_i64().unwrap(),
                    row["detail"].as_str().unwrap_or_default(),
                ),
                (row["oldeuid"].as_i64().unwrap(), row["euid"].as_i64().unwrap()),
                [text(row, "oldcapeff"), text(row, "capeff"), text(row, "capprm")],
            )
        })
        .collect();
    assert_eq!(
        told,
        [
            (("capset", 0, ""), (0, 0), [&*effective, &fewer, &permitted]),
            (("setresuid", 0, ""), (0, 65534), [&fewer, none, &permitted]),
            // To be root again makes all effective that is permitted.
            (("setresuid", 0, ""), (65534, 0), [none, &permitted, &permitted]),
            (("setuid", 0, ""), (0, 65534), [&permitted, none, none]),
            (("setuid", EPERM, "0"), (65534, 65534), [none, none, none]),
            (("setresuid", EPERM, "-1 0 -1"), (65534, 65534), [none, none, none]),
            (("capset", EPERM, ""), (65534, 65534), [none, none, none]),
        ]
    );

    let done = scene.act(0, "setgroups 4 6 3 , setgroups 0 0 0");
    let refused = scene.act(NOBODY, "setgroups 0 6 2");
    assert_eq!((errors(&done), errors(&refused)), (vec![0, 0], vec![EPERM]));
    assert_eq!(scene.told(&done), [row("setgroups", 0, "4 6 27", None), row("setgroups", 0, "none", None)]);
    assert_eq!(scene.told(&refused), [row("setgroups", EPERM, "0 6", None)]);

    // A set-user-id program of root's, run by nobody.
    let granted = scene.actor.with_file_name("granted");
    fs::copy(&scene.actor, &granted).unwrap();
    fs::set_permissions(&granted, fs::Permissions::from_mode(0o4755)).unwrap();
    let done = finish(Command::new(&granted).args(["setuid", "0"]).uid(NOBODY).gid(NOBODY));
    assert_eq!(errors(&done), [0]);
    scene.recording.sync();
    let rows = scene.recording.sql(&format!(
        "select * from privinfo where pid = {} and application = 'granted' order by privid",
        done.pid
    ));
    let told: Vec<_> = rows
        .iter()
        .map(|row| {
            (
                text(row, "operation"),
                row["uid"].as_i64().unwrap(),
                text(row, "oldcapeff"),
                text(row, "capeff"),
            )
        })
        .collect();
    assert_eq!(told, [("exec", 65534, none, &*permitted), ("setuid", 0, &permitted, &permitted)]);
    scene.end();
}
