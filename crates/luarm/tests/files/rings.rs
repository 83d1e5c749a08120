//! Through io_uring: the same as by system calls, row by row.

use std::{
    collections::HashMap,
    fs,
    net::TcpListener,
    os::unix::{fs::PermissionsExt, process::CommandExt},
    path::Path,
    process::{Command, Stdio},
};

use super::{Scene, number, text, told};
use crate::support::{NOBODY, Row, has_ebpf, programs, skip};

/// Every operation that there is a request for, each of them once at the least.
const ACTS: &str = "\
open f 0101 0640
write - 5
fsetxattr - user.a x
ftruncate - 3
close -
open f 0
close -
open2 f 02 0
write - 7
close -
open f 01001 0
close -
setxattr f user.b y
link f g
symlink f s
rename g h
mkdir d 0750
mkdir d 0750
unlink h
unlink s
unlink f
rmdir d
unlink none
open none 0
rename none other";

/// What `nobody` may not do.
const REFUSED: &str = "\
open secret 0
open secret 01
open2 secret 02
open new 0101 0600
unlink secret
mkdir new 0700
rename secret other
symlink secret new
link secret new
setxattr secret user.a x
rmdir full";

/// One after the other: in the process's own calls, by worker threads, by a thread of the kernel that polls, and when the process asks for them.
const WAYS: [&str; 4] = ["ring", "async", "sqpoll", "defer"];

/// Whether rings can be made here. Says so where not.
fn has_rings() -> bool {
    // io_uring_setup(8, parameters) has the same number on every architecture.
    let script = "my $p = \"\\0\" x 120; exit(syscall(425, 8, $p) < 0)";
    if !Command::new("perl").args(["-e", script]).status().unwrap().success() {
        skip("this kernel gives no rings");
        return false;
    }
    true
}

/// The program, where other users reach it.
fn ring(scene: &Scene) -> std::path::PathBuf {
    let directory = scene.work.parent().unwrap();
    fs::set_permissions(directory, fs::Permissions::from_mode(0o755)).unwrap();
    programs::ring_program(directory)
}

/// Runs a script in a directory, as a user, and gives what the program was told.
fn run(program: &Path, directory: &Path, user: u32, mode: &str, script: &str) -> String {
    let mut command = Command::new(program);
    let output = command
        .args([mode, script])
        .current_dir(directory)
        .uid(user)
        .gid(user)
        .stderr(Stdio::inherit())
        .output()
        .unwrap();
    assert!(output.status.success(), "{mode}: {}", output.status);
    String::from_utf8(output.stdout).unwrap()
}

/// What a row says, but for when, by which process and in which directory it was done.
fn facts(row: &Row, directory: &Path) -> Vec<String> {
    assert_eq!(text(row, "location"), directory.display().to_string());
    let place = format!("{}/", directory.display());
    let columns = [
        "operation",
        "access",
        "filename",
        "target",
        "detail",
        "size",
        "sizeafter",
        "modified",
        "position",
        "opens",
        "result",
        "filemode",
        "fileowner",
        "filestate",
        "newmode",
        "ended",
        "pathorigin",
        "application",
        "username",
        "uid",
        "session",
        "mntns",
    ];
    let mut facts: Vec<String> =
        columns.iter().map(|column| format!("{column} {}", row[*column]).replace(&place, "")).collect();
    // A ring takes a descriptor itself.
    facts.push(format!("has a descriptor: {}", row["fd"].is_number()));
    facts
}

/// Does the same in every way, each in a directory of its own, and compares the rows with those of the system calls.
fn compare(user: u32, ways: &[&str], script: &str, prepare: impl Fn(&Path)) -> Vec<Vec<String>> {
    let scene = Scene::start();
    let program = ring(&scene);
    let mut all = Vec::new();
    for mode in ["call"].iter().chain(ways) {
        let directory = scene.work.join(mode);
        fs::create_dir(&directory).unwrap();
        prepare(&directory);
        let before = scene.below(&directory).len();
        let told = run(&program, &directory, user, mode, script);
        let rows = scene.below(&directory).split_off(before);
        for row in &rows {
            assert_eq!(row["via"].as_str(), (*mode != "call").then_some("io_uring"), "{row:?}");
        }
        let facts: Vec<_> = rows.iter().map(|row| facts(row, &directory)).collect();
        all.push((*mode, told, facts));
    }
    let (_, _, wanted) = &all[0];
    for (mode, told, facts) in &all {
        assert_eq!(facts, wanted, "{mode}, which was told:\n{told}");
    }
    // And nothing is told of anywhere else; other programs of this machine may use rings as well.
    let count = scene.recording.count(&format!(
        "select count(*) from fileinfo where via = 'io_uring' and pid in (select pid from fileinfo where location like '{}%')",
        scene.work.display()
    ));
    assert_eq!(usize::try_from(count).unwrap(), ways.len() * wanted.len());
    let losses =
        scene.recording.sql("select class, cause, count from lossinfo where class not like '%-digest'");
    assert!(losses.is_empty(), "{losses:?}");
    all.swap_remove(0).2
}

/// The first column of these facts, and the one of that name.
fn told_of(facts: &[Vec<String>], column: &str) -> Vec<String> {
    let value = |facts: &[String], column: &str| {
        let found = facts.iter().find_map(|fact| fact.strip_prefix(column)?.strip_prefix(' '));
        found.unwrap().trim_matches('"').to_owned()
    };
    facts.iter().map(|facts| format!("{} {}", value(facts, "operation"), value(facts, column))).collect()
}

#[test]
fn each_operation_is_told_as_when_it_is_a_system_call() {
    if !has_ebpf() || !has_rings() {
        return;
    }
    let told = told_of(&compare(0, &WAYS, ACTS, |_| {}), "filename");
    let wanted = [
        "create f",
        "xattr f",
        "truncate f",
        "open f",
        "open f",
        "truncate f",
        "xattr f",
        "link f",
        "symlink s",
        "rename g",
        "mkdir d",
        "unlink h",
        "unlink s",
        "unlink f",
        "rmdir d",
    ];
    assert_eq!(told, wanted);
}

#[test]
fn each_refusal_is_told_as_when_it_is_a_system_call() {
    if !has_ebpf() || !has_rings() {
        return;
    }
    let facts = compare(NOBODY, &WAYS, REFUSED, |directory| {
        fs::write(directory.join("secret"), "s").unwrap();
        fs::set_permissions(directory.join("secret"), fs::Permissions::from_mode(0o600)).unwrap();
        fs::create_dir(directory.join("full")).unwrap();
    });
    assert_eq!(facts.len(), REFUSED.lines().count());
    assert!(told_of(&facts, "username").iter().all(|told| told.ends_with(" nobody")), "{facts:?}");
    assert!(
        told_of(&facts, "result").iter().all(|told| told.ends_with(" 13") || told.ends_with(" 1")),
        "{facts:?}"
    );
}

#[test]
fn what_is_linked_and_what_finds_no_room_for_its_completion_is_told_the_same() {
    if !has_ebpf() || !has_rings() {
        return;
    }
    // The last one fails: whatever is linked to a failure is not done at all.
    let script = "open b 0101 0640\nmkdir e 0700\nrename b c\nrmdir e\nunlink c\nmkdir nowhere/d 0700";
    let told = told_of(&compare(0, &["chain", "overflow"], script, |_| {}), "filename");
    assert_eq!(told, ["create b", "mkdir e", "rename b", "rmdir e", "unlink c"]);
}

#[test]
fn what_asks_for_no_completion_is_told_without_its_result() {
    if !has_ebpf() || !has_rings() {
        return;
    }
    let scene = Scene::start();
    let script = "open b 0101 0640\nmkdir e 0700\nrename b c\nrmdir e\nunlink c";
    assert_eq!(run(&ring(&scene), &scene.work, 0, "silent", script), "");
    let rows = scene.rows();
    assert_eq!(
        told(&rows),
        [("open", "b"), ("mkdir", "e"), ("rename", "b"), ("rmdir", "e"), ("unlink", "c")]
    );
    assert!(rows.iter().all(|row| row["result"].is_null() && row["via"] == "io_uring"), "{rows:?}");
    assert_eq!((text(&rows[0], "access"), text(&rows[0], "ended")), ("w", "done"));
}

#[test]
fn a_request_with_lent_rights_is_told_of_whose_rights_it_had() {
    if !has_ebpf() || !has_rings() {
        return;
    }
    let scene = Scene::start();
    let script = "mkdir d 0700\nopen f 0101 0600\nclose -\nunlink f\nrmdir d";
    let told_it = run(&ring(&scene), &scene.work, 0, "lend", script);
    assert!(told_it.lines().all(|line| !line.contains('-')), "{told_it}");
    let rows = scene.rows();
    assert_eq!(told(&rows), [("mkdir", "d"), ("create", "f"), ("unlink", "f"), ("rmdir", "d")]);
    assert!(rows.iter().all(|row| row["username"] == "root" && row["uid"] == 0), "{rows:?}");
}

#[test]
fn a_file_that_the_ring_alone_has_is_told_by_its_name() {
    if !has_ebpf() || !has_rings() {
        return;
    }
    let scene = Scene::start();
    let program = ring(&scene);
    fs::write(scene.work.join("f"), "x").unwrap();
    // The ring has no table of files: the kernel says no, and not that it may not.
    assert_eq!(run(&program, &scene.work, 0, "ring", "direct f 0"), "direct -6\n");
    assert_eq!(run(&program, &scene.work, 0, "table", "direct f 0\ndirect none 0"), "direct 0\ndirect -2\n");
    let rows: Vec<_> = scene.rows().into_iter().filter(|row| row["via"] == "io_uring").collect();
    assert_eq!(told(&rows), [("open", "f")]);
    assert_eq!(
        (text(&rows[0], "access"), number(&rows[0], "result"), &rows[0]["fd"].is_null()),
        ("r", 0, &true)
    );
}

#[test]
fn a_descriptor_that_is_another_files_by_now_hides_no_open() {
    if !has_ebpf() || !has_rings() {
        return;
    }
    let scene = Scene::start();
    let program = ring(&scene);
    for name in ["secret", "other"] {
        fs::write(scene.work.join(name), "x").unwrap();
    }
    let before = scene.rows().len();
    // In one batch: the number is free again, and taken again, before the process is told of any of it.
    let told_it = run(&program, &scene.work, 0, "batch", "open secret 0\nclose +\nopen other 0\nclose +");
    assert!(told_it.lines().all(|line| !line.contains('-')), "{told_it}");
    let rows = scene.rows().split_off(before);
    assert_eq!(told(&rows), [("open", "secret"), ("open", "other")]);
    let closed: Vec<_> = rows.iter().map(|row| (text(row, "ended"), number(row, "opens"))).collect();
    assert_eq!(closed, [("close", 1), ("close", 1)]);
    // And by system calls, before it asks for what its worker has done. What it opens instead is nothing that is told of by itself.
    for other in ["other", "/etc/ld.so.cache"] {
        let before = scene.rows().len();
        run(&program, &scene.work, 0, "swap", &format!("open secret 0\nopen {other} 0"));
        let rows = scene.rows().split_off(before);
        let secret: Vec<_> = rows.iter().filter(|row| row["filename"] == "secret").collect();
        assert_eq!(secret.len(), 1, "{rows:?}");
        assert_eq!((text(secret[0], "access"), number(secret[0], "result")), ("r", 0));
    }
}

#[test]
fn who_accepts_through_a_ring_has_the_connection() {
    if !has_ebpf() || !has_rings() {
        return;
    }
    let scene = Scene::start();
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let child = run(&ring(&scene), &scene.work, 0, "accept", &port.to_string());
    scene.recording.sync();
    let query =
        format!("select pid from netinfo where direction = 'in' and transport = 'tcp' and destport = {port}");
    let rows = scene.recording.sql(&query);
    assert_eq!(rows.len(), 1, "{rows:?}");
    assert_eq!(number(&rows[0], "pid"), child.trim().parse::<i64>().unwrap());
}

#[test]
fn a_connection_that_fails_before_it_begins_is_told_through_a_ring_too() {
    if !has_ebpf() || !has_rings() {
        return;
    }
    let scene = Scene::start();
    let failure = run(&ring(&scene), &scene.work, 0, "connect", "7");
    scene.recording.sync();
    let query = "select result from netinfo where application = 'ring' and destip = '255.255.255.255' and destport = 7";
    let rows = scene.recording.sql(query);
    assert_eq!(rows.len(), 1, "{rows:?}");
    assert_eq!(-number(&rows[0], "result"), failure.trim().parse::<i64>().unwrap());
}

const PROCESSES: usize = 4;
const ROUNDS: usize = 1000;

#[test]
fn twenty_thousand_operations_are_twenty_thousand_rows() {
    if !has_ebpf() || !has_rings() {
        return;
    }
    let scene = Scene::start();
    let program = programs::ring_program(scene.work.parent().unwrap());
    let children: Vec<_> = (0..PROCESSES)
        .map(|_| {
            Command::new(&program)
                .args(["storm", &ROUNDS.to_string()])
                .current_dir(&scene.work)
                .spawn()
                .unwrap()
        })
        .collect();
    let pids: Vec<i64> = children
        .into_iter()
        .map(|mut child| {
            assert!(child.wait().unwrap().success());
            i64::from(child.id())
        })
        .collect();
    let rows = scene.rows();
    let mut found = HashMap::new();
    for row in &rows {
        assert_eq!((row["via"].as_str(), number(row, "result")), (Some("io_uring"), 0), "{row:?}");
        let key = (number(row, "pid"), text(row, "operation").to_owned(), text(row, "filename").to_owned());
        assert!(found.insert(key, row).is_none(), "twice: {row:?}");
    }
    assert_eq!(found.len(), PROCESSES * ROUNDS * 5);
    for pid in pids {
        for round in 0..ROUNDS {
            let one = |operation: &str, name: &str| {
                let key = (pid, operation.to_owned(), name.to_owned());
                *found.get(&key).unwrap_or_else(|| panic!("no row for {key:?}"))
            };
            let (file, directory) = (format!("f{pid}-{round}"), format!("d{pid}-{round}"));
            let made = one("create", &file);
            let size = i64::try_from(round % 60).unwrap();
            let facts = ["sizeafter", "position", "modified"].map(|column| number(made, column));
            assert_eq!(
                (facts, text(made, "ended")),
                ([size, size, i64::from(size > 0)], "close"),
                "{made:?}"
            );
            let target = scene.work.join(format!("{file}.new"));
            assert_eq!(text(one("rename", &file), "target"), target.to_str().unwrap());
            one("unlink", &format!("{file}.new"));
            assert_eq!(number(one("mkdir", &directory), "newmode"), i64::try_from(round % 512).unwrap());
            one("rmdir", &directory);
        }
    }
    let losses =
        scene.recording.sql("select class, cause, count from lossinfo where class not like '%-digest'");
    assert!(losses.is_empty(), "{losses:?}");
}
