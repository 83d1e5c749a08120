//! Users and groups over time.

use luarm_schema::Resume;
use luarm_sensor::{
    Observation,
    condition::{Condition, ConditionKind, Group, Password, PasswordKind, User},
    observation::{Inventory, Origin},
};

use crate::scene::*;

fn user(name: &str, uid: u32) -> User {
    User { name: name.into(), uid, gid: uid, home: format!("/home/{name}").into(), ..User::default() }
}

fn set(at: u64, condition: Condition, origin: Origin) -> Observation {
    Observation::Condition { at, condition: Box::new(condition), origin }
}

fn complete() -> [Observation; 2] {
    [ConditionKind::User, ConditionKind::Group].map(|kind| Observation::Complete(Inventory::Conditions(kind)))
}

fn users(memory: &Memory) -> Vec<String> {
    let end = |row: &luarm_schema::tables::UserInfo| {
        row.end.as_ref().map_or("holds".to_owned(), |end| {
            format!("{}@{}", end.ended, (end.destroyed.0 - BOOT) / 1_000_000)
        })
    };
    let line = |row: &luarm_schema::tables::UserInfo| {
        format!("{} {} {} {} {}", row.username, row.uid, row.shell, row.origin, end(row))
    };
    memory.userinfo().into_iter().map(line).collect()
}

#[test]
fn a_changed_user_is_another_row() {
    let mut alice = user("alice", 1000);
    let before = Condition::User(alice.clone());
    alice.shell = b"/bin/\xff".into();
    alice.password = Some(Password { kind: PasswordKind::Set, locked: true });
    alice.changed = Some(0);
    alice.expires = Some(u32::MAX);
    let memory = record(
        recorder(),
        [
            set(SECOND, before.clone(), Origin::Found),
            set(2 * SECOND, before, Origin::Event),
            set(3 * SECOND, Condition::User(alice), Origin::Event),
            Observation::ConditionEnd {
                at: 4 * SECOND,
                condition: Box::new(Condition::User(user("alice", 0))),
            },
        ],
    );
    assert_eq!(users(&memory), ["alice 1000  found changed@3", "alice 1000 /bin/\\xff event event@4"]);
    let row = memory.userinfo()[1];
    assert_eq!((row.password.as_deref(), row.locked.as_deref()), (Some("set"), Some("yes")));
    assert_eq!(row.passwordchanged.unwrap().to_string(), "1970-01-01 00:00:00.000000");
    assert!(row.expires.unwrap() <= luarm_schema::Time::LAST);
}

#[test]
fn a_restart_goes_on_with_what_holds_and_tells_what_changed_meanwhile() {
    let group = |members: &str| {
        Condition::Group(Group { name: b"team".to_vec(), gid: 7, members: members.as_bytes().to_vec() })
    };
    let mut memory = Memory::default();
    let mut first = recorder();
    for name in [("same", 1), ("other", 2), ("gone", 3)] {
        first.observe(set(SECOND, Condition::User(user(name.0, name.1)), Origin::Found));
    }
    first.observe(set(SECOND, group("same,other,"), Origin::Found));
    memory.append(first.flush(2 * SECOND).unwrap());
    let mut second = start(memory.resume(), host(), 60 * SECOND);
    for name in [("same", 1), ("other", 20), ("new", 4)] {
        second.observe(set(60 * SECOND, Condition::User(user(name.0, name.1)), Origin::Found));
    }
    second.observe(set(60 * SECOND, group(",same,,other"), Origin::Found));
    complete().into_iter().for_each(|observation| second.observe(observation));
    memory.append(second.stop(61 * SECOND));
    assert_eq!(
        users(&memory),
        [
            "same 1  found holds",
            "other 2  found unseen@60",
            "gone 3  found unseen@60",
            "other 20  found holds",
            "new 4  found holds"
        ]
    );
    let groups: Vec<_> =
        memory.groupinfo().into_iter().map(|row| (&*row.members, row.end.is_none())).collect();
    assert_eq!(groups, [("same,other", true)]);
}

#[test]
fn a_user_of_another_source_lasts_until_a_file_has_it() {
    let remote = User { remote: true, ..user("carol", 5000) };
    let mut memory = Memory::default();
    let mut first = start(Resume::default(), host(), 0);
    first.observe(set(SECOND, Condition::User(remote.clone()), Origin::Event));
    memory.append(first.flush(2 * SECOND).unwrap());
    let mut second = start(memory.resume(), host(), 60 * SECOND);
    complete().into_iter().for_each(|observation| second.observe(observation));
    second.observe(set(61 * SECOND, Condition::User(remote.clone()), Origin::Event));
    memory.append(second.flush(62 * SECOND).unwrap());
    assert_eq!(users(&memory), ["carol 5000  nss holds"]);
    second.observe(set(63 * SECOND, Condition::User(user("carol", 5000)), Origin::Event));
    second.observe(set(64 * SECOND, Condition::User(remote), Origin::Event));
    memory.append(second.stop(65 * SECOND));
    assert_eq!(users(&memory), ["carol 5000  nss changed@63", "carol 5000  event holds"]);
}

#[test]
fn accounts_of_an_earlier_boot_end_with_it() {
    let mut memory = Memory::default();
    let mut first = recorder();
    first.observe(set(SECOND, Condition::User(user("alice", 1000)), Origin::Found));
    memory.append(first.stop(2 * SECOND));
    let mut other = host();
    other.boot_id = "second boot".into();
    let mut second = start(memory.resume(), other, 60 * SECOND);
    second.observe(set(60 * SECOND, Condition::User(user("alice", 1000)), Origin::Found));
    memory.append(second.stop(61 * SECOND));
    let rows = users(&memory);
    assert!(rows.len() == 2 && rows[0].contains("boot@") && rows[1].ends_with("holds"), "{rows:?}");
}
