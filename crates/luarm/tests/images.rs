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
    // Once known, it is in the row of every further run.
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
