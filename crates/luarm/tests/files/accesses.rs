//! From open to close.

use std::{
    fs::{self, File},
    io::{Read, Seek, SeekFrom, Write},
    os::{fd::AsRawFd, unix::process::CommandExt},
    process::Command,
};

use super::{Scene, number, text, told};
use crate::support::{NOBODY, has_ebpf};

#[test]
fn an_access_lasts_until_the_last_descriptor_is_closed() {
    if !has_ebpf() {
        return;
    }
    let scene = Scene::start();
    let mut file = File::create(scene.work.join("f")).unwrap();
    file.write_all(b"0123456789").unwrap();
    let again = file.try_clone().unwrap();
    drop(file);
    let rows = scene.rows();
    assert_eq!(told(&rows), [("create", "f")]);
    assert!(rows[0]["destroyed"].is_null(), "{rows:?}");
    drop(again);
    let rows = scene.rows();
    assert_eq!(text(&rows[0], "ended"), "close");
    let facts = ["size", "sizeafter", "modified", "position", "opens"].map(|column| number(&rows[0], column));
    assert_eq!(facts, [0, 10, 1, 10, 1]);
}

#[test]
fn reading_leaves_the_position_and_no_change() {
    if !has_ebpf() {
        return;
    }
    let scene = Scene::start();
    fs::write(scene.work.join("f"), vec![7; 100_000]).unwrap();
    let mut file = File::open(scene.work.join("f")).unwrap();
    file.read_exact(&mut [0; 4097]).unwrap();
    drop(file);
    let mut file = File::options().read(true).write(true).open(scene.work.join("f")).unwrap();
    file.seek(SeekFrom::Start(500)).unwrap();
    drop(file);
    let rows = scene.rows();
    let facts: Vec<_> = rows
        .iter()
        .map(|row| {
            (text(row, "access"), number(row, "size"), number(row, "modified"), number(row, "position"))
        })
        .collect();
    assert_eq!(facts, [("w", 0, 1, 100_000), ("r", 100_000, 0, 4097), ("rw", 100_000, 0, 500)]);
}

#[test]
fn repeats_are_one_row_with_their_count() {
    if !has_ebpf() {
        return;
    }
    let scene = Scene::start();
    fs::write(scene.work.join("f"), "x").unwrap();
    for _ in 0..1000 {
        drop(File::open(scene.work.join("f")).unwrap());
    }
    let both = (File::open(scene.work.join("f")).unwrap(), File::open(scene.work.join("f")).unwrap());
    drop(both);
    let rows = scene.rows();
    let reads: Vec<_> = rows.iter().filter(|row| row["access"] == "r").collect();
    // A loaded machine may take longer than a second between two of them: then they are several rows, and nothing is missing.
    let opens: i64 = reads.iter().map(|row| number(row, "opens")).sum();
    assert_eq!(opens, 1002);
    assert!(reads.len() < 100, "{} rows", reads.len());
    assert!(reads.iter().all(|row| row["ended"] == "close"), "{reads:?}");
    // What comes after it was asked for is told as well.
    drop(File::open(scene.work.join("f")).unwrap());
    let after: i64 =
        scene.rows().iter().filter(|row| row["access"] == "r").map(|row| number(row, "opens")).sum();
    assert_eq!(after, 1003);
}

#[test]
fn what_is_open_ends_with_its_process_or_at_its_exec() {
    if !has_ebpf() {
        return;
    }
    let scene = Scene::start();
    let run = |script: &str| {
        assert!(
            Command::new("perl").current_dir(&scene.work).args(["-e", script]).status().unwrap().success()
        );
    };
    run("open(F, '>', 'left-open'); syswrite(F, 'abc'); require POSIX; POSIX::_exit(0)");
    run("use Fcntl; open(F, '>', 'close-on-exec'); exec('true')");
    run("use Fcntl; $^F = 100; open(F, '>', 'kept-over-exec'); exec('true')");
    run(
        "open(F, '>', 'replaced'); syswrite(F, 'ab'); open(G, '<', '/dev/null'); require POSIX; POSIX::dup2(fileno(G), fileno(F)); sleep 2",
    );
    let rows = scene.rows();
    let of = |name: &str| rows.iter().find(|row| row["filename"] == name).unwrap();
    assert_eq!((text(of("left-open"), "ended"), number(of("left-open"), "sizeafter")), ("exit", 3));
    assert_eq!(text(of("close-on-exec"), "ended"), "exec");
    assert_eq!(text(of("kept-over-exec"), "ended"), "exit");
    assert_eq!((text(of("replaced"), "ended"), number(of("replaced"), "sizeafter")), ("close", 2));
}

#[test]
fn libraries_are_left_out_and_what_pries_is_not() {
    if !has_ebpf() {
        return;
    }
    let scene = Scene::start();
    let mut sleeper = Command::new("sleep").arg("600").uid(NOBODY).spawn().unwrap();
    let pid = sleeper.id();
    fs::read(format!("/proc/{pid}/environ")).unwrap();
    fs::read_dir(format!("/proc/{pid}/fd")).unwrap().for_each(drop);
    fs::read(format!("/proc/{pid}/stat")).unwrap();
    fs::read("/proc/self/environ").unwrap();
    fs::write("/proc/self/comm", "filed").unwrap();
    sleeper.kill().unwrap();
    sleeper.wait().unwrap();
    let copy = scene.work.join("library.so");
    fs::copy("/lib/x86_64-linux-gnu/libc.so.6", &copy).unwrap();
    let mut loader = Command::new("true").env("LD_PRELOAD", &copy).spawn().unwrap();
    assert!(loader.wait().unwrap().success());
    scene.recording.sync();
    let own = std::process::id();
    let pried = scene.recording.sql(&format!(
        "select filename from fileinfo where pid = {own} and location = '/proc/{pid}' order by fileaccessid"
    ));
    let names: Vec<_> = pried.iter().map(|row| text(row, "filename")).collect();
    assert_eq!(names, ["environ", "fd"]);
    let written =
        format!("select count(*) from fileinfo where pid = {own} and filename = 'comm' and access = 'w'");
    assert_eq!(scene.recording.count(&written), 1);
    // The loader reads the one that nobody else has, and the C library, which everybody has.
    let loaded = scene.recording.sql(&format!(
        "select distinct location, operation from fileinfo where pid = {} and access = 'r' order by operation",
        loader.id()
    ));
    let place = scene.work.display().to_string();
    let loaded: Vec<_> = loaded.iter().map(|row| (text(row, "location"), text(row, "operation"))).collect();
    assert_eq!(loaded, [(&*place, "exec-map"), (&*place, "open")]);
    let policy = "select count(*) from coverageinfo where class = 'file' and state = 'watched' and reason like '%reads below /usr/lib%'";
    assert_eq!(scene.recording.count(policy), 1);
}

#[test]
fn who_makes_a_ring_is_told_and_is_no_cause_to_warn() {
    if !has_ebpf() {
        return;
    }
    let scene = Scene::start();
    // io_uring_setup(8, parameters) has the same number on every architecture.
    let mut child = Command::new("perl")
        .args(["-e", "my $p = \"\\0\" x 120; exit(syscall(425, 8, $p) < 0)"])
        .spawn()
        .unwrap();
    let allowed = child.wait().unwrap().success();
    scene.recording.sync();
    let rows = scene.recording.sql(&format!(
        "select detail, result from privinfo where operation = 'io_uring_setup' and pid = {}",
        child.id()
    ));
    assert_eq!(rows.len(), 1, "{rows:?}");
    assert_eq!((text(&rows[0], "detail"), number(&rows[0], "result") == 0), ("8 entries", allowed));
    assert!(!scene.recording.said().contains("uses io_uring"), "{}", scene.recording.said());
    let limits = "select count(*) from coverageinfo where class = 'io-uring' and state = 'watched' and reason like '%asked for no completion%'";
    assert_eq!(scene.recording.count(limits), 1);
}

#[test]
fn a_descriptor_that_was_passed_on_is_told_with_the_file_that_it_is() {
    if !has_ebpf() {
        return;
    }
    let scene = Scene::start();
    let file = File::create(scene.work.join("passed")).unwrap();
    let way = format!("/proc/self/fd/{}", file.as_raw_fd());
    drop(File::open(&way).unwrap());
    fs::remove_file(scene.work.join("passed")).unwrap();
    drop(File::open(&way).unwrap());
    drop(file);
    scene.recording.sync();
    let rows = scene.rows();
    let reads: Vec<_> = rows.iter().filter(|row| row["access"] == "r").collect();
    assert!(reads.iter().all(|row| row["filename"] == "passed"), "{rows:?}");
    let opens: i64 = reads.iter().map(|row| number(row, "opens")).sum();
    assert_eq!(opens, 2);
}
