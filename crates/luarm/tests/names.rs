//! Names of operations on files: those of the kernel, whatever the process's words were and whatever they became meanwhile; and the words, where a kernel
//! does not let its own be had.

#![expect(clippy::unwrap_used, reason = "a step that fails fails the test")]

mod support;

use std::process::Command;

use support::{
    Launch, Row,
    guest::{Guest, Kernel, Machine},
    has_ebpf, programs,
};

/// What `naming each` does, below its directory `D`: operation, name, other name, text or how long it is.
const EACH: [&str; 19] = [
    "mkdir D/d - -",
    "mknod D/d/p - -",
    "symlink D/s - short",
    "symlink D/t - 2999",
    "link D/f D/d/l -",
    "rename D/d/l D/m -",
    "chmod D/m - -",
    "chown D/m - -",
    "xattr D/m - trusted.mark",
    "xattr D/m - trusted.mark",
    "truncate D/m - -",
    "utimes D/m - -",
    "chmod D/m - -",
    "chown D/m - -",
    "xattr D/m - trusted.other",
    "truncate D/m - -",
    "utimes D/m - -",
    "unlink D/d/p - -",
    "rmdir D/d - -",
];

/// A component of a long path; stands as `C` in answers, which come from the guest over a slow line.
fn component() -> String {
    "c".repeat(200)
}

/// What is to be asked for of the operations below a directory.
fn query(directory: &str) -> String {
    let component = component();
    format!(
        "select operation || ' ' || location || '/' || filename || ' ' || coalesce(target, '-') || ' ' || coalesce(detail, '-') as line, * from (select operation, replace(location, '{component}', 'C') as location, replace(filename, '{component}', 'C') as filename, replace(target, '{component}', 'C') as target, case when length(detail) > 99 then length(detail) else detail end as detail, pathorigin, seenpath, inode, result from fileinfo where location || '/' like '{directory}/%' and operation not in ('create', 'open', 'exec-map') order by fileaccessid)"
    )
}

fn text<'a>(row: &'a Row, column: &str) -> &'a str {
    row[column].as_str().unwrap_or_else(|| panic!("{column} of {row:?}"))
}

#[track_caller]
fn expect_each(rows: &[Row], directory: &str) {
    let told: Vec<_> = rows.iter().map(|row| text(row, "line").replace(directory, "D")).collect();
    assert_eq!(told, EACH, "{directory}");
}

#[track_caller]
fn expect_kernels(rows: &[Row]) {
    let words: Vec<_> = rows.iter().filter(|row| row["pathorigin"] != "kernel").collect();
    assert!(words.is_empty(), "{words:?}");
    let made = ["mkdir", "mknod", "symlink"];
    let unknown: Vec<_> =
        rows.iter().filter(|row| row["inode"].is_null() != made.contains(&text(row, "operation"))).collect();
    assert!(unknown.is_empty(), "{unknown:?}");
}

/// By which words the program is told of its directory, and where that is.
const WAYS: [(&str, &str, &str); 6] = [
    ("old", "/tmp/w/plain", "/tmp/w/plain"),
    ("at", "/tmp/w/plain/../at/.", "/tmp/w/at"),
    ("descriptor", "/tmp/w/descriptor", "/tmp/w/descriptor"),
    ("old", "/tmp/w/link", "/tmp/w/real"),
    ("at", "/tmp/w/bound", "/tmp/w/bound"),
    ("descriptor", "/tmp/w/link/bound", "/tmp/w/real/bound"),
];

fn every_way(guest: &mut Guest) {
    guest.sh("mkdir -p /tmp/w && cd /tmp/w && mkdir plain at descriptor real real/bound under below bound && ln -s real link && mount --bind under bound && mount --bind below real/bound");
    for (way, words, directory) in WAYS {
        guest.sh(&format!("naming each {way} {words}"));
        let mut rows = guest.sql(&query(directory));
        // Where the next way leads.
        rows.retain(|row| row["filename"] != "bound");
        expect_each(&rows, directory);
        expect_kernels(&rows);
        assert!(rows.iter().all(|row| row["seenpath"].is_null()), "{rows:?}");
    }
    guest.sh("umount /tmp/w/link/bound");
    let mounts = guest.sql("select operation || ' ' || location || '/' || filename as line, pathorigin from fileinfo where operation in ('mount', 'umount') and location like '/tmp/w%' order by fileaccessid");
    let told: Vec<_> = mounts.iter().map(|row| (text(row, "line"), text(row, "pathorigin"))).collect();
    let wanted = ["mount /tmp/w/bound", "mount /tmp/w/real/bound", "umount /tmp/w/real/bound"];
    assert_eq!(told, wanted.map(|line| (line, "kernel")));
}

fn behind_another_root(guest: &mut Guest) {
    guest.sh(
        "mkdir -p /tmp/jail/inside && cp /bin/naming /tmp/jail/ && chroot /tmp/jail /naming each at /inside",
    );
    let rows = guest.sql(&query("/tmp/jail/inside"));
    expect_each(&rows, "/tmp/jail/inside");
    expect_kernels(&rows);
    for row in &rows {
        let line = text(row, "line").split(' ').nth(1).unwrap();
        assert_eq!(text(row, "seenpath"), line.strip_prefix("/tmp/jail").unwrap());
    }
}

/// Where a path takes more than the short place that the kernel's programs have for it.
fn deep_down(guest: &mut Guest) {
    guest.sh("c=$(printf '%200s' '' | tr ' ' c); d=/tmp/deep; for i in 1 2 3 4 5 6 7 8 9; do d=$d/$c; done; mkdir -p $d && naming each old $d");
    let mut rows = guest.sql(&query("/tmp/deep"));
    rows.retain(|row| row["filename"] != "C");
    expect_each(&rows, &format!("/tmp/deep{}", "/C".repeat(9)));
    expect_kernels(&rows);
}

/// Compares what is told with what the program found out, which says what really happened.
fn race(guest: &mut Guest, how: &str, times: usize) {
    let directory = format!("/tmp/{how}");
    let done = guest.sh(&format!("mkdir {directory} && naming {how} {directory} {times}"));
    let rows = guest.sql(&query(&directory));
    let told: Vec<String> = rows
        .iter()
        .map(|row| {
            let other = row["target"].as_str().and_then(|target| target.rsplit('/').next());
            let words = [Some(text(row, "operation")), Some(text(row, "filename")), other];
            words.into_iter().flatten().collect::<Vec<_>>().join(" ")
        })
        // The directories that rmdir is about are there in both letters.
        .filter(|line| {
            line.strip_prefix("mkdir ").is_none_or(|name| name[1..].parse::<u32>().unwrap() % 12 != 11)
        })
        .collect();
    let done: Vec<&str> = done.lines().collect();
    assert_eq!(told, done, "{how}");
    assert!(done.len() >= times);
    let words: Vec<_> = rows.iter().filter(|row| row["pathorigin"] != "kernel").collect();
    assert!(words.is_empty(), "{words:?}");
}

/// What is found and then refused has the kernel's name; what is refused on the way there has none but the words, and no name of a call before.
fn refusals(guest: &mut Guest) {
    guest.sh("mkdir /tmp/refused && chmod 755 /tmp/refused && naming refused /tmp/refused");
    let rows = guest.sql(&query("/tmp/refused"));
    let told: Vec<_> = rows
        .iter()
        .filter(|row| row["result"] != 0)
        .map(|row| {
            let (line, origin) = (text(row, "line"), text(row, "pathorigin"));
            (line.trim_end_matches(" -"), row["result"].as_i64().unwrap(), origin)
        })
        .collect();
    let (eperm, eacces) = (1, 13);
    let wanted = [
        ("unlink /tmp/refused/a0/kept", eacces, "kernel"),
        ("chmod /tmp/refused/a0/kept", eperm, "kernel"),
        ("rmdir /tmp/refused/a0/full/shut/x", eacces, "resolved"),
    ];
    assert_eq!(told, wanted);
}

#[test]
fn names_are_the_kernels_own_where_programs_can_stand_at_its_functions() {
    let Some(kernel) = Kernel::fetched("stock") else { return };
    let dir = tempfile::tempdir().unwrap();
    let program = programs::naming_program(dir.path());
    // Two processors, so that one changes names while the other uses them.
    let machine = Machine {
        kernel: &kernel,
        modules: &["tcp_diag", "udp_diag"],
        files: &[(&program, "/bin/naming")],
        arguments: &["-smp", "2"],
    };
    let mut guest = machine.boot();
    guest.record("--sensor ebpf --log warn");
    let rung = guest.sql("select state, hook, reason from coverageinfo where class = 'file'");
    assert_eq!(rung[0]["state"], "watched", "{rung:?}");
    assert!(text(&rung[0], "reason").contains("names are the kernel's own"), "{rung:?}");
    for function in ["security_path_rename", "security_inode_setxattr", "notify_change"] {
        assert!(text(&rung[0], "hook").contains(&format!("fentry/{function}")), "{rung:?}");
    }
    every_way(&mut guest);
    behind_another_root(&mut guest);
    deep_down(&mut guest);
    refusals(&mut guest);
    race(&mut guest, "race", 25);
    race(&mut guest, "descriptors", 100);
    // What others did to files that are digested may be gone by the time it is read.
    let losses = guest.sql("select * from lossinfo where class not like '%-digest'");
    assert!(losses.is_empty(), "{losses:?}");
}

#[test]
fn it_is_said_whose_names_they_are() {
    if !has_ebpf() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let program = programs::naming_program(dir.path());
    let work = dir.path().canonicalize().unwrap().join("work");
    std::fs::create_dir(&work).unwrap();
    let recording = Launch::on(&dir.path().join("data")).start();
    assert!(Command::new(program).args(["each", "at"]).arg(&work).status().unwrap().success());
    recording.sync();
    let directory = work.display().to_string();
    let rows = recording.sql(&query(&directory));
    expect_each(&rows, &directory);
    let rung = recording.sql("select reason from coverageinfo where class = 'file' and state = 'watched'");
    let reason = text(&rung[0], "reason");
    if reason.contains("names are the kernel's own") {
        return expect_kernels(&rows);
    }
    assert!(reason.contains("names are the process's words (this kernel "), "{reason}");
    // Of what was named by its descriptor the kernel has the file at hand.
    let origins: Vec<_> = rows.iter().map(|row| text(row, "pathorigin")).collect();
    assert!(origins[..12].iter().chain(&origins[17..]).all(|origin| *origin != "kernel"), "{rows:?}");
    assert!(origins[12..17].iter().all(|origin| *origin == "kernel"), "{rows:?}");
    assert!(recording.stop().success());
}
