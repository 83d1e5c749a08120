//! The watcher on made-up trees.

use std::{fs, io::Write as _};

use super::*;

/// A made-up tree whose files are replaced as tools do it.
struct Tree(tempfile::TempDir);

impl Tree {
    fn new() -> Self {
        let tree = Self(tempfile::tempdir().unwrap());
        fs::create_dir(tree.0.path().join("etc")).unwrap();
        tree
    }

    fn replace(&self, name: &str, content: &str) {
        let path = self.0.path().join("etc").join(name);
        fs::write(path.with_extension("new"), content).unwrap();
        fs::rename(path.with_extension("new"), path).unwrap();
    }
}

/// What was told, in short: `+` begins, `-` ends.
fn told(out: &mut Vec<Observation>) -> Vec<String> {
    let name = |condition: &Condition| match condition {
        Condition::User(user) => String::from_utf8_lossy(&user.name).into_owned(),
        Condition::Group(group) => String::from_utf8_lossy(&group.name).into_owned(),
        other => format!("{other:?}"),
    };
    let line = |observation| match observation {
        Observation::Condition { condition, .. } => format!("+{}", name(&condition)),
        Observation::ConditionEnd { condition, .. } => format!("-{}", name(&condition)),
        Observation::Complete(_) => "complete".to_owned(),
        Observation::Loss(loss) => format!("{} {}", loss.count, loss.cause),
        other => format!("{other:?}"),
    };
    let mut lines: Vec<String> = std::mem::take(out).into_iter().map(line).collect();
    lines.sort_unstable();
    lines
}

#[test]
fn only_what_changed_is_told() {
    let tree = Tree::new();
    tree.replace("passwd", "a:x:1:1:::\nb:x:2:2:::\nbroken\n");
    tree.replace("shadow", "a:!:1::::::\nb:*:1::::::\n");
    tree.replace("group", "g:x:1:a\n");
    let (mut watcher, mut out) = (Accounts::new(tree.0.path()), Vec::new());
    watcher.inventory(&mut out);
    assert_eq!(told(&mut out), ["+a", "+b", "+g", "1 malformed-line", "complete", "complete"]);
    watcher.changes(&mut out);
    assert!(out.is_empty());
    // The same again, another order, another file's time: nothing.
    tree.replace("passwd", "b:x:2:2:::\na:x:1:1:::\nbroken\n");
    watcher.changes(&mut out);
    assert!(told(&mut out).is_empty());
    tree.replace("shadow", "a:!:1::::::\nb:!:1::::::\n");
    tree.replace("group", "g:x:1:a,b\nh:x:2:\n");
    watcher.changes(&mut out);
    assert_eq!(told(&mut out), ["+b", "+g", "+h"]);
    tree.replace("passwd", "a:x:1:1:::\nbroken\nbroken\na:x:0:0:::\n");
    watcher.changes(&mut out);
    assert_eq!(told(&mut out), ["-b", "1 malformed-line", "1 repeated-name"]);
    fs::remove_file(tree.0.path().join("etc/passwd")).unwrap();
    watcher.changes(&mut out);
    assert!(told(&mut out).is_empty(), "it may come back at once");
}

#[test]
fn a_new_user_waits_for_its_line_in_the_shadow_file() {
    let tree = Tree::new();
    tree.replace("passwd", "a:x:1:1:::\n");
    tree.replace("shadow", "a:!:1::::::\n");
    let (mut watcher, mut out) = (Accounts::new(tree.0.path()), Vec::new());
    watcher.inventory(&mut out);
    out.clear();
    tree.replace("passwd", "a:x:1:1:::\nb:x:2:2:::\n");
    watcher.awaited = Some(Instant::now() + LOOK);
    watcher.changes(&mut out);
    assert!(out.is_empty() && watcher.patience() == Some(FOLLOWS));
    tree.replace("shadow", "a:!:1::::::\nb:!:1::::::\n");
    watcher.changes(&mut out);
    let Some(Observation::Condition { condition, .. }) = out.first() else { panic!("{out:?}") };
    assert!(matches!(&**condition, Condition::User(user) if user.password.is_some()), "{condition:?}");
    // One that never comes is not waited for.
    out.clear();
    tree.replace("passwd", "a:x:1:1:::\nb:x:2:2:::\nc:x:3:3:::\n");
    watcher.awaited = Instant::now().checked_sub(FOLLOWS);
    watcher.changes(&mut out);
    assert_eq!(told(&mut out), ["+c"]);
}

#[test]
fn what_changes_without_a_word_is_found_by_looking() {
    let tree = Tree::new();
    tree.replace("passwd", "a:*:1:1:::\n");
    let (mut watcher, mut out) = (Accounts::new(tree.0.path()), Vec::new());
    watcher.inventory(&mut out);
    out.clear();
    // Open for as long as this test: nobody closes it.
    let mut file = fs::OpenOptions::new().append(true).open(tree.0.path().join("etc/passwd")).unwrap();
    file.write_all(b"b:*:2:2:::\n").unwrap();
    let mut look = |watcher: &mut Accounts| {
        watcher.looked = Instant::now().checked_sub(LOOK).unwrap();
        watcher.changes(&mut out);
        told(&mut out)
    };
    assert!(look(&mut watcher).is_empty(), "it may be half written");
    assert_eq!(look(&mut watcher), ["+b"]);
    file.write_all(b"c:*:3:3:::\n").unwrap();
    assert!(look(&mut watcher).is_empty());
    file.write_all(b"d:*:4:4:::\n").unwrap();
    assert!(look(&mut watcher).is_empty(), "it goes on changing");
    assert_eq!(look(&mut watcher), ["+c", "+d"]);
}

#[test]
fn a_queue_that_ran_over_means_reading_again() {
    let tree = Tree::new();
    tree.replace("passwd", "a:*:1:1:::\n");
    let (mut watcher, mut out) = (Accounts::new(tree.0.path()), Vec::new());
    watcher.inventory(&mut out);
    out.clear();
    let limit = fs::read_to_string("/proc/sys/fs/inotify/max_queued_events").unwrap();
    let limit: usize = limit.trim().parse().unwrap();
    // Two names by turns: the kernel folds only repeats.
    for n in 0..=limit {
        tree.replace(["x", "y"][n % 2], "");
    }
    tree.replace("passwd", "b:*:2:2:::\n");
    watcher.changes(&mut out);
    assert_eq!(told(&mut out), ["+b", "-a"]);
    // A directory that was replaced is watched anew.
    fs::rename(tree.0.path().join("etc"), tree.0.path().join("old")).unwrap();
    fs::remove_dir_all(tree.0.path().join("old")).unwrap();
    fs::create_dir(tree.0.path().join("etc")).unwrap();
    watcher.changes(&mut out);
    tree.replace("passwd", "c:*:3:3:::\n");
    watcher.changes(&mut out);
    assert!(told(&mut out).contains(&"+c".to_owned()));
}
