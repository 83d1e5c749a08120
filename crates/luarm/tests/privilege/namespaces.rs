//! Namespaces.

use std::fs;

use super::{EPERM, Scene, errors, row, text};
use crate::support::NOBODY;

/// The namespace of a process, by its number.
fn namespace(pid: &str, kind: &str) -> String {
    let link = fs::read_link(format!("/proc/{pid}/ns/{kind}")).unwrap();
    link.to_str().unwrap().split(['[', ']']).nth(1).unwrap().to_owned()
}

#[test]
fn namespaces_made_and_entered_are_told_with_their_numbers() {
    let Some(scene) = Scene::set(&[]) else { return };
    let (uts, ipc, user) = (0x0400_0000, 0x0800_0000, 0x1000_0000);
    let other = scene.victim(0, 0);
    let pid = other.pid();
    let own = namespace(&pid, "uts");

    // 0x22000000: pid and cgroup.
    let done = scene.act(0, &format!(
        "unshare {} , setns /proc/{pid}/ns/uts 0 , pidfd_setns {pid} {} , unshare 0x200 , clone {} , clone 0",
        uts | ipc, uts | ipc, 0x2200_0000
    ));
    assert_eq!(errors(&done), [0; 6]);
    let numbers: Vec<&str> = done.acts[0].1.split(' ').collect();
    let told = scene.told(&done);
    let (first, last) = told.split_at(3);
    assert_eq!(
        first,
        [
            row("unshare", 0, &format!("uts {} ipc {}", numbers[0], numbers[1]), None),
            row("setns", 0, &format!("uts {own}"), None),
            row("setns", 0, &format!("uts {own} ipc {}", namespace(&pid, "ipc")), Some(&other)),
        ]
    );
    let [(operation, 0, kinds, Some(child))] = last else { panic!("{last:?}") };
    assert_eq!((operation.as_str(), child.to_string()), ("clone", done.acts[4].1.clone()));
    let words: Vec<&str> = kinds.split(' ').collect();
    assert_eq!((words.len(), words[0], words[2]), (4, "pid", "cgroup"), "{kinds}");
    let space = scene.recording.sql(&format!("select pidns, cgroupns from psinfo where pid = {child}"));
    assert_eq!(words[1], space[0]["pidns"].to_string());
    assert_eq!(words[3], space[0]["cgroupns"].to_string());

    let refused = scene.act(
        NOBODY,
        &format!("unshare {uts} , setns /proc/self/ns/uts 0 , pidfd_setns {pid} {ipc} , clone {ipc}"),
    );
    assert_eq!(errors(&refused), [EPERM; 4]);
    assert_eq!(
        scene.told(&refused),
        [
            row("unshare", EPERM, "uts", None),
            row("setns", EPERM, &format!("uts {own}"), None),
            row("setns", EPERM, "ipc", Some(&other)),
            row("clone", EPERM, "ipc", None),
        ]
    );
    // Whoever makes a user namespace has all capabilities there.
    let became = scene.act(NOBODY, &format!("unshare {user}"));
    if errors(&became) == [0] {
        let all = scene.rows(&became);
        assert_eq!(text(&all[0], "detail"), format!("user {}", became.acts[0].1.split(' ').nth(2).unwrap()));
        assert_eq!(
            (text(&all[0], "oldcapeff"), &text(&all[0], "capeff")[..7]),
            ("0000000000000000", "000001f")
        );
    }
    scene.end();
}
