//! Paths made to mislead: links upon links, names and directories as long as they can be, directories that move, a pipe on which everybody waits.

use std::{
    collections::HashMap,
    ffi::OsStr,
    fs,
    io::{BufRead, BufReader, Read},
    os::unix::{
        ffi::OsStrExt,
        fs::{PermissionsExt, symlink},
        process::CommandExt,
    },
    process::{Child, Command, Stdio},
};

use luarm_schema::escape;
use rustix::{
    fs::{CWD, FileType, Mode, mknodat},
    io::Errno,
};

use super::{Scene, number, text, told};
use crate::support::{NOBODY, Row, has_ebpf};

/// Starts a perl script in the scene's directory.
fn perl(scene: &Scene, script: &str, arguments: &[&str]) -> Child {
    let mut perl = Command::new("perl");
    perl.current_dir(&scene.work).args(["-e", script, "--"]).args(arguments);
    perl.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap()
}

/// What a script wrote until its end, which must be success.
fn output_of(mut child: Child) -> String {
    let mut output = String::new();
    child.stdout.take().unwrap().read_to_string(&mut output).unwrap();
    assert!(child.wait().unwrap().success(), "{output}");
    output
}

fn of_process(scene: &Scene, pid: u32) -> Vec<Row> {
    scene.recording.sync();
    scene.recording.sql(&format!(
        "select * from fileinfo where pid = {pid} and (location like '{}%' or location like '/.../%') order by fileaccessid",
        scene.work.display()
    ))
}

#[test]
fn forty_links_lead_to_the_file_and_forty_one_to_nothing() {
    if !has_ebpf() {
        return;
    }
    let scene = Scene::start();
    let at = |name: &str| scene.work.join(name);
    fs::write(at("end"), "x").unwrap();
    fs::create_dir(at("room")).unwrap();
    let mut wanted = vec![("create".to_owned(), "end".to_owned()), ("mkdir".to_owned(), "room".to_owned())];
    for (kind, end) in [("f", "end"), ("d", "room")] {
        for n in 1..=41 {
            let before = if n == 1 { end.to_owned() } else { format!("{kind}{}", n - 1) };
            symlink(before, at(&format!("{kind}{n}"))).unwrap();
            wanted.push(("symlink".to_owned(), format!("{kind}{n}")));
        }
    }
    let refused = |result: std::io::Result<()>| {
        assert_eq!(result.unwrap_err().raw_os_error(), Some(Errno::LOOP.raw_os_error()));
    };
    fs::read(at("f40")).unwrap();
    refused(fs::read(at("f41")).map(drop));
    fs::create_dir(at("d40/made")).unwrap();
    refused(fs::create_dir(at("d41/not")));
    fs::rename(at("d40/made"), at("d39/moved")).unwrap();
    refused(fs::rename(at("d40/moved"), at("d41/not")));
    // Of one path only so many links are followed, wherever they stand in it.
    fs::write(at("d20/../f19"), "y").unwrap();
    wanted.extend(
        [("open", "end"), ("mkdir", "made"), ("rename", "made"), ("truncate", "end")]
            .map(|(operation, name)| (operation.to_owned(), name.to_owned())),
    );
    let rows = scene.rows();
    let found: Vec<_> = told(&rows).into_iter().map(|(o, n)| (o.to_owned(), n.to_owned())).collect();
    assert_eq!(found, wanted);
    for row in rows.iter().filter(|row| row["filename"] == "made") {
        // Where the kernel has not got the links in memory any more, the words are all that is known.
        let place = if text(row, "pathorigin") == "resolved" { "room" } else { "d40" };
        assert_eq!(text(row, "location"), at(place).to_str().unwrap());
    }
}

#[test]
fn names_of_255_bytes_with_every_byte_come_back_from_every_operation() {
    if !has_ebpf() {
        return;
    }
    let scene = Scene::start();
    let mut every: Vec<u8> = (1..=255).filter(|byte| *byte != b'/').collect();
    every.push(b'!');
    let names = [every.clone(), every.iter().rev().copied().collect(), vec![0xff; 255], vec![b'\n'; 255]];
    let mut wanted = Vec::new();
    for name in &names {
        let mut other = name.clone();
        other[254] = b'.';
        let at = |name: &[u8]| scene.work.join(OsStr::from_bytes(name));
        fs::write(at(name), "x").unwrap();
        fs::set_permissions(at(name), fs::Permissions::from_mode(0o600)).unwrap();
        fs::hard_link(at(name), at(&other)).unwrap();
        fs::remove_file(at(name)).unwrap();
        fs::rename(at(&other), at(name)).unwrap();
        symlink(OsStr::from_bytes(name), at(&other)).unwrap();
        fs::read(at(&other)).unwrap();
        fs::remove_file(at(&other)).unwrap();
        fs::remove_file(at(name)).unwrap();
        fs::create_dir(at(name)).unwrap();
        fs::remove_dir(at(name)).unwrap();
        mknodat(CWD, at(name), FileType::Fifo, Mode::RWXU, 0).unwrap();
        let path = |name: &[u8]| at(name).into_os_string().into_encoded_bytes();
        for (operation, filename, more) in [
            ("create", name, None),
            ("chmod", name, None),
            ("link", name, Some(path(&other))),
            ("unlink", name, None),
            ("rename", &other, Some(path(name))),
            ("symlink", &other, Some(name.clone())),
            ("open", name, None),
            ("unlink", &other, None),
            ("unlink", name, None),
            ("mkdir", name, None),
            ("rmdir", name, None),
            ("mknod", name, None),
        ] {
            wanted.push((operation.to_owned(), filename.clone(), more));
        }
    }
    let rows = scene.rows();
    let found: Vec<_> = rows
        .iter()
        .map(|row| {
            let more = row["target"].as_str().or_else(|| row["detail"].as_str());
            (
                text(row, "operation").to_owned(),
                escape::unescape(text(row, "filename")),
                more.map(escape::unescape),
            )
        })
        .collect();
    assert_eq!(found, wanted);
}

#[test]
fn beyond_path_max_what_is_missing_of_a_path_is_marked() {
    if !has_ebpf() {
        return;
    }
    let scene = Scene::start();
    // Names as long as a call takes, from a directory that no name reaches.
    let script = r#"
        my $c = 'c' x 250;
        for (1..30) { mkdir $c or die; chdir $c or die }
        my ($from, $to) = ('./' x 2047 . 'g', './' x 2047 . 'h');
        open F, '>', 'g' or die; syswrite F, 'four'; close F;
        chmod 0600, $from or die $!;
        rename $from, $to or die;
        open F, '<', './' x 2047 . 'h' or die; close F;
        !chmod 0600, './' x 2048 . 'h' or die 'longer than PATH_MAX';
        mkdir './../../../d' or die;
        unlink $to or die;
    "#;
    let child = perl(&scene, script, &[]);
    let pid = child.id();
    output_of(child);
    let rows = of_process(&scene, pid);
    let component = "c".repeat(250);
    let mut wanted = vec![("mkdir", component.as_str()); 30];
    wanted.extend([
        ("create", "g"),
        ("chmod", "g"),
        ("rename", "g"),
        ("open", "h"),
        ("mkdir", "d"),
        ("unlink", "h"),
    ]);
    assert_eq!(told(&rows), wanted);
    for (depth, row) in rows.iter().enumerate().take(15) {
        let whole = format!("{}{}", scene.work.display(), format!("/{component}").repeat(depth));
        assert_eq!(text(row, "location"), whole);
    }
    for row in &rows[30..] {
        let location = text(row, "location");
        assert!(location.starts_with(&format!("/.../{component}/")), "{location}");
        assert!(location.ends_with(&component) && (3000..4200).contains(&location.len()), "{location}");
    }
    let length = |row: &Row| text(row, "location").len();
    assert_eq!(length(&rows[31]) - length(&rows[34]), 3 * 251, "three directories up");
    assert_eq!(text(&rows[32], "target"), format!("{}/h", text(&rows[32], "location")));
    assert_eq!(scene.recording.count("select count(*) from lossinfo where class not like '%-digest'"), 0);
}

#[test]
fn in_a_directory_that_moves_every_operation_is_told() {
    if !has_ebpf() {
        return;
    }
    let scene = Scene::start();
    fs::create_dir(scene.work.join("here")).unwrap();
    fs::create_dir(scene.work.join("here/inside")).unwrap();
    let mover = perl(
        &scene,
        r#"
        my ($n, $ready) = (0, '');
        $| = 1; print "ready\n";
        vec(my $in, 0, 1) = 1;
        until (select(my $end = $in, undef, undef, 0)) {
            rename 'here', 'there' or die; rename 'there', 'here' or die; $n++;
        }
        print "$n\n";
        "#,
        &[],
    );
    // From within it, where the words say nothing of where it is.
    let within = r#"
        1 until chdir 'here/inside';
        for (1..400) {
            open F, '>', "w$_" or die; syswrite F, 'x'; close F;
            rename "w$_", "x$_" or die; unlink "x$_" or die;
            print "create w$_\nrename w$_\nunlink x$_\n";
        }
    "#;
    // By names, which are right at one moment and wrong at the next.
    let by_name = r#"
        sub again(&$) { my ($try, $says) = @_; 1 until $try->(); print "$says\n" }
        for (1..400) {
            again { open F, '>', "here/n$_" } "create n$_"; close F;
            again { rename "here/n$_", "there/m$_" or rename "here/n$_", "here/m$_" or rename "there/n$_", "there/m$_" } "rename n$_";
            again { unlink "there/m$_" or unlink "here/m$_" } "unlink m$_";
        }
    "#;
    let mut mover = mover;
    let mut says = BufReader::new(mover.stdout.take().unwrap());
    let mut line = String::new();
    says.read_line(&mut line).unwrap();
    let children = [perl(&scene, within, &[]), perl(&scene, by_name, &[])];
    let mut wanted: HashMap<(u32, String), usize> = HashMap::new();
    for child in children {
        let pid = child.id();
        for line in output_of(child).lines() {
            *wanted.entry((pid, line.to_owned())).or_default() += 1;
        }
    }
    drop(mover.stdin.take());
    line.clear();
    says.read_line(&mut line).unwrap();
    let moves: usize = line.trim().parse().unwrap();
    assert!(mover.wait().unwrap().success());
    wanted.insert((mover.id(), "rename here".to_owned()), moves);
    wanted.insert((mover.id(), "rename there".to_owned()), moves);

    let rows = scene.rows();
    let mut found: HashMap<(u32, String), usize> = HashMap::new();
    let own = i64::from(std::process::id());
    for row in rows.iter().filter(|row| number(row, "pid") != own) {
        let pid = u32::try_from(number(row, "pid")).unwrap();
        let what = format!("{} {}", text(row, "operation"), text(row, "filename"));
        *found.entry((pid, what)).or_default() += 1;
        let place = text(row, "location").strip_prefix(scene.work.to_str().unwrap()).unwrap();
        // The kernel writes a new name over the old one while others read it: none has some of both.
        let whole = match text(row, "filename").as_bytes()[0] {
            b'w' | b'x' => ["/here/inside", "/there/inside"],
            b'n' | b'm' => ["/here", "/there"],
            _ => ["", ""],
        };
        assert!(whole.contains(&place), "{row:?}");
    }
    assert_eq!(found, wanted);
    assert_eq!(scene.recording.count("select count(*) from lossinfo where class not like '%-digest'"), 0);
}

#[test]
fn a_pipe_on_which_everybody_waits_holds_nobody_else_up() {
    if !has_ebpf() {
        return;
    }
    let scene = Scene::start();
    fs::set_permissions(scene.work.parent().unwrap(), fs::Permissions::from_mode(0o755)).unwrap();
    let pipe = scene.work.join("pipe");
    mknodat(CWD, &pipe, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
    let mut waiting: Vec<Child> =
        (0..20).map(|_| Command::new("cat").arg(&pipe).stdout(Stdio::piped()).spawn().unwrap()).collect();
    let refused = Command::new("cat").arg(&pipe).uid(NOBODY).stderr(Stdio::null()).status().unwrap();
    assert!(!refused.success());
    // Whoever asks gets an answer while they wait, and what others do meanwhile is told.
    fs::write(scene.work.join("meanwhile"), "x").unwrap();
    let rows = scene.rows();
    assert_eq!(told(&rows), [("mknod", "pipe"), ("open", "pipe"), ("create", "meanwhile")]);
    assert_eq!((number(&rows[1], "result"), text(&rows[1], "username")), (13, "nobody"));
    assert!(waiting.iter_mut().all(|child| child.try_wait().unwrap().is_none()));
    for mut child in waiting {
        child.kill().unwrap();
        child.wait().unwrap();
    }
}
