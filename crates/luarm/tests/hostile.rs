//! What programs do to mislead whoever reads the record: names and arguments of every kind, no arguments at all, images without a file.

#![expect(clippy::unwrap_used, reason = "a step that fails fails the test")]

mod support;

use std::{
    ffi::OsStr,
    fs,
    os::unix::{
        ffi::OsStrExt,
        fs::PermissionsExt,
        process::{CommandExt, ExitStatusExt},
    },
    path::Path,
    process::Command,
};

use luarm_schema::escape;
use support::{Launch, Recording, Row, has_ebpf, programs};

fn start(dir: &Path) -> Recording {
    Launch::on(&dir.join("data")).start()
}

/// The one row of a process's last image.
fn last_image(recording: &Recording, pid: u32) -> Row {
    recording.sync();
    let rows = recording.sql(&format!("select * from psinfo where pid = {pid} and created > (select max(created) from hostinfo) order by psentity"));
    rows.last().unwrap_or_else(|| panic!("no row for {pid}")).clone()
}

fn text<'a>(row: &'a Row, column: &str) -> &'a str {
    row[column].as_str().unwrap_or_else(|| panic!("{column} of {row:?}"))
}

fn run(command: &mut Command) -> u32 {
    let mut child = command.spawn().unwrap();
    let status = child.wait().unwrap();
    assert_eq!((status.code(), status.signal()), (Some(0), None));
    child.id()
}

#[test]
fn any_bytes_in_names_and_arguments_come_back_as_they_were() {
    if !has_ebpf() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let quit = programs::exit_program(dir.path());
    let recording = start(dir.path());
    let every_byte: Vec<u8> = (1..=255).collect();
    let arguments: Vec<&[u8]> = vec![
        b"0",
        b"'); DROP TABLE psinfo; --",
        b"\"double\" 'single' `back` \\x41 \\",
        b"two\nlines\r\n\ttab",
        b"\x1b[2J\x1b]0;title\x07",
        b"\xff\xfe invalid \xc3\x28",
        b"",
        "\u{202e}right to left \u{1f427}".as_bytes(),
        &every_byte,
    ];
    // The name of the program is hostile as well, and with it the task's name.
    let name = OsStr::from_bytes(b"a'b\n\xff\"; --");
    let program = dir.path().join(name);
    fs::copy(&quit, &program).unwrap();
    let pid = run(Command::new(&program)
        .arg0(OsStr::from_bytes(b"-\n'zero'"))
        .args(arguments.iter().map(|a| OsStr::from_bytes(a))));

    let row = last_image(&recording, pid);
    let mut expected: Vec<Vec<u8>> = vec![b"-\n'zero'".to_vec()];
    expected.extend(arguments.iter().map(|a| a.to_vec()));
    assert_eq!(escape::unescape_list(text(&row, "argv")), expected);
    assert_eq!(row["argc"].as_i64(), Some(expected.len() as i64));
    assert!(row["argvlength"].is_null());
    assert_eq!(escape::unescape(text(&row, "command")), program.as_os_str().as_bytes());
    assert_eq!(escape::unescape(text(&row, "application")), name.as_bytes());

    // Nothing of it reaches the terminal of whoever reads, and nothing else was disturbed.
    let table = recording.ask(
        "sql",
        &["-e", &format!("select application, argv from psinfo where psentity = {}", row["psentity"])],
    );
    assert!(table.status.success());
    assert!(
        !table.stdout.iter().any(|b| *b != b'\n' && b.is_ascii_control()),
        "a control character in the table"
    );
    assert!(recording.count("select count(*) from psinfo") > 0);
    assert_eq!(recording.sql("select * from lossinfo where class not like '%-digest'"), Vec::<Row>::new());
    assert!(recording.stop().success());
}

#[test]
fn arguments_are_whole_up_to_128_kib_and_marked_when_cut() {
    if !has_ebpf() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let quit = programs::exit_program(dir.path());
    let recording = start(dir.path());

    let whole: Vec<String> = (0..10).map(|n| format!("{n}").repeat(13_000)).collect();
    let row = last_image(&recording, run(Command::new(&quit).arg("0").args(&whole)));
    let mut expected = vec![quit.to_str().unwrap().to_owned(), "0".to_owned()];
    expected.extend(whole);
    assert!(text(&row, "argv") == expected.join("\n"));
    assert!(row["argvlength"].is_null());

    // 2 MiB, and a hundred thousand.
    let shell = |script: &str| {
        last_image(&recording, run(Command::new("sh").args(["-c", script, "sh", quit.to_str().unwrap()])))
    };
    let row = shell("ulimit -s 65536; exec \"$1\" 0 $(seq -f '%0104857g' 1 20)");
    let total = quit.as_os_str().len() + 1 + 2 + 20 * 104_858;
    assert_eq!(row["argvlength"].as_i64(), Some(total as i64));
    assert!(text(&row, "argv").len() >= 128 << 10);
    assert!(text(&row, "argv").starts_with(&format!("{}\n0\n00000", quit.display())));

    let row = shell("ulimit -s 65536; exec \"$1\" 0 $(seq 100000 199999)");
    let total = quit.as_os_str().len() + 1 + 2 + 100_000 * 7;
    assert_eq!(row["argvlength"].as_i64(), Some(total as i64));
    assert!(text(&row, "argv").len() >= 128 << 10);
    assert!(recording.stop().success());
}

#[test]
fn an_image_is_named_even_without_arguments_or_a_file() {
    if !has_ebpf() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let quit = programs::exit_program(dir.path());
    let recording = start(dir.path());
    let path = quit.to_str().unwrap();

    // No argument vector at all (the kernel puts an empty argv[0] in its place since Linux 5.18).
    let pid = run(Command::new("perl").args(["-e", "my $p = $ARGV[0]; syscall 59, $p, 0, 0; die $!", path]));
    let row = last_image(&recording, pid);
    assert_eq!(
        (text(&row, "command"), row["argc"].as_i64(), text(&row, "argv"), text(&row, "arguments")),
        (path, Some(1), "", "")
    );

    // Removed before it runs.
    let copy = dir.path().join("gone");
    fs::copy(&quit, &copy).unwrap();
    let script = "$^F = 255; open my $f, '<', $ARGV[0]; unlink $ARGV[0]; exec {'/proc/self/fd/'.fileno $f} 'quit', '0' or die $!";
    let row = last_image(&recording, run(Command::new("perl").args(["-e", script, copy.to_str().unwrap()])));
    assert_eq!((text(&row, "command"), text(&row, "imagestate")), (copy.to_str().unwrap(), "deleted"));

    // Never had a file.
    let script = "my $n = \"a'b\"; my $fd = syscall 319, $n, 0; open my $o, '>&=', $fd; open my $i, '<', $ARGV[0]; binmode $_ for $o, $i;
        local $/; print {$o} <$i>; $o->flush; exec {\"/proc/self/fd/$fd\"} 'quit', '0' or die $!";
    let row = last_image(&recording, run(Command::new("perl").args(["-MIO::Handle", "-e", script, path])));
    assert_eq!((text(&row, "command"), text(&row, "imagestate")), ("/memfd:a'b", "memfd"));

    // A script whose interpreter line is as long as the kernel takes.
    let file = dir.path().join("script");
    let option = "0".repeat(250 - path.len());
    fs::write(&file, format!("#!{path} {option}\n")).unwrap();
    fs::set_permissions(&file, PermissionsExt::from_mode(0o755)).unwrap();
    let row = last_image(&recording, run(Command::new(&file).arg("argument")));
    assert_eq!((text(&row, "command"), text(&row, "script")), (path, file.to_str().unwrap()));
    assert_eq!(text(&row, "arguments"), format!("{option} {} argument", file.display()));
    assert!(recording.stop().success());
}

#[test]
fn a_deep_directory_is_told_whole_or_marked() {
    if !has_ebpf() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().canonicalize().unwrap();
    let quit = programs::exit_program(dir.path());
    let recording = start(dir.path());
    // Nobody can name a directory beyond PATH_MAX, but anybody can go there step by step.
    let go = |name: &str, depth: usize| {
        let script = "mkdir \"$1\"; cd \"$1\"; for i in $(seq $2); do mkdir $3 && cd -P ./$3 || exit 1; done; exec \"$4\" 0";
        let arguments = [
            name,
            &depth.to_string(),
            &"d".repeat(if depth > 100 { 4 } else { 250 }),
            quit.to_str().unwrap(),
        ];
        run(Command::new("sh").args(["-c", script, "sh"]).args(arguments).current_dir(&root))
    };
    let row = last_image(&recording, go("many", 300));
    assert_eq!(text(&row, "cwd"), format!("{}/many{}", root.display(), "/dddd".repeat(300)));
    let row = last_image(&recording, go("long", 20));
    let cwd = text(&row, "cwd");
    assert!(
        cwd.starts_with("/.../ddd") && cwd.ends_with(&format!("/{}", "d".repeat(250))) && cwd.len() > 3500,
        "{cwd}"
    );
    assert!(recording.stop().success());
}

#[test]
fn a_refused_execution_is_a_row_of_its_own() {
    if !has_ebpf() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    fs::set_permissions(dir.path(), PermissionsExt::from_mode(0o755)).unwrap();
    let recording = start(dir.path());
    let file = dir.path().join("not-for-you");
    fs::write(&file, "#!/bin/sh\n").unwrap();
    fs::set_permissions(&file, PermissionsExt::from_mode(0o700)).unwrap();
    let script = "exec { $ARGV[0] } 'disguise', 'one', \"t'wo\"; exit 0";
    let pid = run(Command::new("/usr/bin/perl")
        .args(["-e", script, file.to_str().unwrap()])
        .uid(support::NOBODY)
        .gid(support::NOBODY)
        .current_dir("/"));
    recording.sync();
    let rows = recording.sql(&format!(
        "select e.command, e.arguments, e.argv, e.result, e.username, e.application, p.arguments as by from execinfo e \
         join psinfo p on p.host = e.host and p.psentity = e.psentity where e.pid = {pid}"
    ));
    assert_eq!(rows.len(), 1, "{rows:?}");
    let row = &rows[0];
    assert_eq!((text(row, "command"), text(row, "argv")), (file.to_str().unwrap(), "disguise\none\nt'wo"));
    assert_eq!(
        (row["result"].as_i64(), text(row, "username"), text(row, "application")),
        (Some(13), "nobody", "perl")
    );
    assert!(text(row, "by").contains("not-for-you"));
    assert!(recording.stop().success());
}

#[test]
fn a_change_of_user_keeps_both_sides() {
    if !has_ebpf() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let recording = start(dir.path());
    let script = "use POSIX; POSIX::setgid(65534); POSIX::setuid(65534); $0 = 'crond'; exec '/bin/true'";
    let pid = run(Command::new("perl").args(["-e", script]));
    recording.sync();
    let rows = recording.sql(&format!(
        "select operation, olduid, uid, oldgid, gid, username from privinfo where pid = {pid} order by privid"
    ));
    let told: Vec<_> = rows
        .iter()
        .map(|r| (text(r, "operation"), r["olduid"].as_i64(), r["uid"].as_i64(), r["gid"].as_i64()))
        .collect();
    assert_eq!(
        told,
        [("setgid", Some(0), Some(0), Some(65534)), ("setuid", Some(0), Some(65534), Some(65534))]
    );
    let rows = recording
        .sql(&format!("select application, oldapplication, username from renameinfo where pid = {pid}"));
    assert_eq!(
        (
            rows.len(),
            text(&rows[0], "application"),
            text(&rows[0], "oldapplication"),
            text(&rows[0], "username")
        ),
        (1, "crond", "perl", "nobody")
    );
    let rows =
        recording.sql(&format!("select username, ended from psinfo where pid = {pid} order by psentity"));
    let told: Vec<_> = rows.iter().map(|r| (text(r, "username"), text(r, "ended"))).collect();
    assert_eq!(told, [("root", "exec"), ("nobody", "exit")]);
    assert!(recording.stop().success());
}
