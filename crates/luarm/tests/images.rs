//! Images that run, by their contents.

#![expect(clippy::unwrap_used, reason = "a step that fails fails the test")]

mod support;

use std::{
    fs::{self, OpenOptions},
    io::Write,
    path::Path,
    process::Command,
};

use support::{Launch, Recording, has_ebpf, programs};

fn sha256sum(path: &Path) -> String {
    let output = Command::new("sha256sum").arg(path).output().unwrap();
    String::from_utf8(output.stdout).unwrap().split(' ').next().unwrap().to_owned()
}

/// Runs the program, and gives its pid.
fn run(program: &Path) -> u32 {
    let mut child = Command::new(program).spawn().unwrap();
    assert!(child.wait().unwrap().success());
    child.id()
}

/// Waits until as many contents of the program were digested, and gives their digests in order.
fn digests(recording: &Recording, program: &Path, wanted: usize) -> Vec<String> {
    loop {
        recording.sync();
        let query =
            format!("select sha256 from imageinfo where command = '{}' order by imageid", program.display());
        let rows = recording.sql(&query);
        if rows.len() >= wanted {
            return rows.iter().map(|row| row["sha256"].as_str().unwrap().to_owned()).collect();
        }
        std::thread::yield_now();
    }
}

#[test]
fn each_content_that_ran_has_its_digest() {
    if !has_ebpf() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let recording = Launch::on(&dir.path().join("data")).start();
    let program = programs::exit_program(&dir.path().canonicalize().unwrap());
    let first = sha256sum(&program);
    run(&program);
    assert_eq!(digests(&recording, &program, 1), std::slice::from_ref(&first));
    let pid = run(&program);
    recording.sync();
    let of =
        |pid| recording.sql(&format!("select imagesha256 from psinfo where pid = {pid} and origin = 'exec'"));
    assert_eq!(of(pid)[0]["imagesha256"], *first);
    // Another content under the same name and inode is another image.
    OpenOptions::new().append(true).open(&program).unwrap().write_all(b"tail").unwrap();
    let second = sha256sum(&program);
    assert_ne!(first, second);
    run(&program);
    assert_eq!(digests(&recording, &program, 2), [first.clone(), second.clone()]);
    let pid = run(&program);
    recording.sync();
    assert_eq!(of(pid)[0]["imagesha256"], *second);
    // And so is another file under that name.
    fs::remove_file(&program).unwrap();
    programs::exit_program(&dir.path().canonicalize().unwrap());
    run(&program);
    assert_eq!(digests(&recording, &program, 3), [first.clone(), second, first]);
}

#[test]
fn the_first_run_of_an_image_has_its_digest() {
    if !has_ebpf() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let recording = Launch::on(&dir.path().join("data")).start();
    let program = programs::exit_program(&dir.path().canonicalize().unwrap());
    // The row has it; where reading took longer than the second that a row waits, `imageinfo` has it, and shows when.
    let told = |pid| {
        let of = format!(
            "from psinfo p join imageinfo i using (imagedev, imageinode) where p.pid = {pid} and p.origin = 'exec'"
        );
        let late = "julianday(i.created) - julianday(p.created) > 1.0 / 86400";
        recording.wait_for_row(&format!("select count(*) {of} and (p.imagesha256 = i.sha256 or {late})"));
        let row = &recording.sql(&format!("select i.sha256 {of}"))[0];
        row["sha256"].as_str().map(str::to_owned)
    };
    // One by one, each told of as soon as it has run;
    let versions: Vec<_> = (0..20)
        .map(|n| {
            let copy = program.with_extension(n.to_string());
            let contents = [&fs::read(&program).unwrap()[..], format!("version {n}").as_bytes()].concat();
            // By another process: nobody else must hold it open for writing when it is run.
            let mut cp = Command::new("cp")
                .args(["/dev/stdin", copy.to_str().unwrap()])
                .stdin(std::process::Stdio::piped())
                .spawn()
                .unwrap();
            cp.stdin.take().unwrap().write_all(&contents).unwrap();
            assert!(cp.wait().unwrap().success());
            let mode: fs::Permissions = std::os::unix::fs::PermissionsExt::from_mode(0o755);
            fs::set_permissions(&copy, mode).unwrap();
            copy
        })
        .collect();
    for copy in &versions[..10] {
        let pid = run(copy);
        recording.sync();
        assert_eq!(told(pid), Some(sha256sum(copy)));
    }
    // and all of them at once.
    let pids: Vec<_> = versions[10..].iter().map(|copy| run(copy)).collect();
    recording.sync();
    for (copy, pid) in versions[10..].iter().zip(pids) {
        assert_eq!(told(pid), Some(sha256sum(copy)));
    }
    // A program that is gone when it is to be read keeps nobody waiting for long, and is counted.
    for copy in &versions {
        let script = format!("cp {0} {0}.gone; {0}.gone; rm {0}.gone", copy.display());
        assert!(Command::new("sh").args(["-ec", &script]).status().unwrap().success());
    }
    recording.sync();
    let runs = format!(
        "select count(*) from psinfo where origin = 'exec' and command like '{}%.gone'",
        dir.path().display()
    );
    assert_eq!(recording.count(&runs), 20);
    let without = recording.count(&format!("{runs} and imagesha256 is null"));
    let counted =
        "select coalesce(sum(count), 0) from lossinfo where class = 'image-digest' and cause = 'gone'";
    while recording.count(counted) < without {
        recording.sync();
    }
}

#[test]
fn an_image_without_end_is_not_read() {
    if !has_ebpf() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let recording = Launch::on(&dir.path().join("data")).with(&["--digest-limit", "64MiB"]).start();
    let program = programs::exit_program(&dir.path().canonicalize().unwrap());
    let script = format!("truncate -s 1T {0}; {0}", program.display());
    assert!(Command::new("sh").args(["-ec", &script]).status().unwrap().success());
    recording.sync();
    let counted =
        "select coalesce(sum(count), 0) from lossinfo where class = 'image-digest' and cause = 'too-large'";
    while recording.count(counted) == 0 {
        recording.sync();
    }
    let limit = "select count(*) from coverageinfo where class = 'image-digest' and reason like '%larger than 67108864 bytes%'";
    assert_eq!(recording.count(limit), 1);
}
