//! Answers stream: how long they are does not show in anybody's memory, and who does not take them holds up nobody.

use std::{
    io::{BufRead, BufReader},
    process::Stdio,
};

use crate::scene::{each, peak};

const ROWS: u64 = 1_000_000;

#[test]
fn a_million_rows_need_no_more_memory_than_few() {
    each("a_million_rows_need_no_more_memory_than_few", &[], |scene| {
        let question = |rows: u64| {
            format!(
                "select a.pid, b.destfqdn, a.application from netinfo a cross join netinfo b limit {rows}"
            )
        };
        let few = scene.far("sql", &["--format", "csv", "-e", &question(50_000)]);
        assert_eq!(few.stdout.iter().filter(|&&b| b == b'\n').count(), 50_001);
        let before = peak(scene.server.pid());
        let many = question(ROWS);
        let ask = || {
            let mut child = scene
                .command("sql", &["--format", "csv", "-e", &many])
                .stdout(Stdio::piped())
                .spawn()
                .unwrap();
            let lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
            (child, lines)
        };
        let (mut child, lines) = ask();
        let (mut count, mut first, mut last) = (0, 0, 0);
        for line in lines {
            count += 1;
            assert!(count == 1 || line.ends_with(",crond"), "{line}");
            match count {
                100_000 => first = peak(child.id()),
                900_000 => last = peak(child.id()),
                _ => {}
            }
        }
        assert!(child.wait().unwrap().success());
        assert_eq!(count, ROWS + 1);
        let grown = peak(scene.server.pid()).saturating_sub(before);
        assert!(grown < 64 << 20, "the server grew by {grown} bytes");
        assert!(
            last.saturating_sub(first) < 64 << 20,
            "the console grew by {} bytes",
            last.saturating_sub(first)
        );

        // One that takes the beginning and then nothing: the others are answered, the server does not gather what is not taken.
        let (mut child, mut lines) = ask();
        assert!(lines.next().is_some());
        for _ in 0..3 {
            assert!(scene.far("sql", &["-e", "select count(*) from netinfo"]).status.success());
        }
        let grown = peak(scene.server.pid()).saturating_sub(before);
        assert!(grown < 64 << 20, "the server grew by {grown} bytes");
        child.kill().unwrap();
        child.wait().unwrap();
        scene.server.wait_for("then the analyst ended it");
    });
}
