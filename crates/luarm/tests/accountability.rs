//! Who is accountable, and where a process stands: login, terminal, namespaces, control group, parents, what it used.

#![expect(clippy::unwrap_used, reason = "a step that fails fails the test")]

mod support;

use std::{fs, path::PathBuf, process::Command};

use support::{Launch, Recording, Row, has_ebpf};

/// The rows of the shells that were run for that marker and do nothing else.
fn rows(recording: &Recording, marker: &str) -> Vec<Row> {
    recording.sync();
    recording.sql(&format!("select * from psinfo where arguments = '-c exit 0 {marker}' order by psentity"))
}

fn run(command: &mut Command) {
    assert!(command.status().unwrap().success(), "{command:?}");
}

#[test]
fn the_login_is_kept_through_a_change_of_user() {
    if !has_ebpf() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let recording = Launch::on(dir.path()).start();
    // What a login does: the login uid is set once, and every process below inherits it.
    let script = "echo 65534 > /proc/self/loginuid || exit 1; sh -c 'exit 0' login-child; setpriv --reuid=1 --clear-groups sh -c 'exit 0' login-other-user";
    run(Command::new("sh").args(["-c", script]));
    for (marker, username) in [("login-child", "root"), ("login-other-user", "daemon")] {
        let found = rows(&recording, marker);
        let row = found.last().unwrap();
        assert_eq!(
            (row["username"].as_str(), row["loginname"].as_str(), row["auid"].as_i64()),
            (Some(username), Some("nobody"), Some(65534))
        );
        assert!(row["session"].is_i64(), "{row:?}");
    }
    run(Command::new("sh").args(["-c", "exit 0", "no-login"]));
    let found = rows(&recording, "no-login");
    let inherited = fs::read_to_string("/proc/self/loginuid").unwrap() != "4294967295";
    assert_eq!(found[0]["auid"].is_i64(), inherited);
    assert!(recording.stop().success());
}

#[test]
fn terminal_and_namespaces_are_told() {
    if !has_ebpf() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let recording = Launch::on(dir.path()).start();
    run(Command::new("script")
        .args(["-qec", "tty > tty; sh -c 'exit 0' on-a-terminal", "/dev/null"])
        .current_dir(dir.path()));
    let terminal = fs::read_to_string(dir.path().join("tty")).unwrap();
    let row = &rows(&recording, "on-a-terminal")[0];
    assert_eq!(row["tty"].as_str().unwrap(), terminal.trim().trim_start_matches("/dev/").replace('/', ""));
    assert_eq!(row["cwd"].as_str().unwrap(), dir.path().canonicalize().unwrap().to_str().unwrap());

    let script = "for n in mnt net pid user uts ipc cgroup; do readlink /proc/self/ns/$n; done > ns; sh -c 'exit 0' elsewhere";
    run(Command::new("unshare")
        .args(["-mnpfuiUrC", "--mount-proc", "sh", "-c", script])
        .current_dir(dir.path()));
    let row = &rows(&recording, "elsewhere")[0];
    let numbers: Vec<i64> = fs::read_to_string(dir.path().join("ns"))
        .unwrap()
        .lines()
        .map(|line| line.split(['[', ']']).nth(1).unwrap().parse().unwrap())
        .collect();
    let told: Vec<i64> = ["mntns", "netns", "pidns", "userns", "utsns", "ipcns", "cgroupns"]
        .iter()
        .map(|c| row[*c].as_i64().unwrap())
        .collect();
    assert_eq!(told, numbers);
    let own = &rows(&recording, "on-a-terminal")[0];
    assert!(
        ["mntns", "netns", "pidns", "userns", "utsns", "ipcns", "cgroupns"].iter().all(|c| own[*c].is_null()),
        "{own:?}"
    );
    assert!(recording.stop().success());
}

/// The control groups' mount that this test can write to.
fn control_groups() -> Option<PathBuf> {
    let mounts = fs::read_to_string("/proc/mounts").unwrap();
    mounts
        .lines()
        .find(|line| line.split(' ').nth(2) == Some("cgroup2"))
        .map(|line| PathBuf::from(line.split(' ').nth(1).unwrap()))
}

#[test]
fn a_container_is_known_by_its_control_group() {
    if !has_ebpf() {
        return;
    }
    let Some(root) = control_groups() else {
        return support::skip("no version 2 control groups are mounted");
    };
    let id = "0123456789abcdef".repeat(4);
    let group = root.join(format!("luarm-test-{}", std::process::id()));
    let container = group.join(format!("docker-{id}.scope"));
    if fs::create_dir_all(&container).is_err() {
        return support::skip("cannot make a control group");
    }
    let dir = tempfile::tempdir().unwrap();
    let recording = Launch::on(dir.path()).start();
    let script = format!("echo $$ > {}/cgroup.procs && sh -c 'exit 0' contained", container.display());
    let status = Command::new("sh").args(["-c", &script]).status().unwrap();
    let found = rows(&recording, "contained");
    let _ = fs::remove_dir(&container);
    let _ = fs::remove_dir(&group);
    assert!(status.success());
    let row = &found[0];
    let path = format!("/{}/docker-{id}.scope", group.file_name().unwrap().to_str().unwrap());
    assert_eq!((row["cgroup"].as_str(), row["container"].as_str()), (Some(&*path), Some(&*id)));
    assert!(recording.stop().success());
}

#[test]
fn what_a_process_used_is_told_at_its_end() {
    if !has_ebpf() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let recording = Launch::on(dir.path()).start();
    // 64 MiB of memory, 10 MB read and written, a signal for an end.
    let script = "my $m = 'x' x (64 << 20); open my $i, '<', '/dev/zero'; open my $o, '>', '/dev/null';
        for (1 .. 1000) { sysread $i, my $b, 10_000; syswrite $o, $b } my $n; $n++ for 1 .. 3_000_000; kill 9, $$";
    let status = Command::new("perl").args(["-e", script, "used-much"]).status().unwrap();
    assert!(!status.success());
    recording.sync();
    let row = &recording
        .sql("select * from psinfo where command like '%/perl' and arguments like '% used-much'")[0];
    let number = |column: &str| row[column].as_i64().unwrap_or_else(|| panic!("{column} of {row:?}"));
    assert_eq!(
        (number("exitsignal"), row["exitcode"].is_null(), row["ended"].as_str()),
        (9, true, Some("exit"))
    );
    assert!((64 << 20..1 << 30).contains(&number("maxrss")), "{}", number("maxrss"));
    assert!((10_000_000..20_000_000).contains(&number("bytesread")), "{}", number("bytesread"));
    assert!((10_000_000..20_000_000).contains(&number("byteswritten")), "{}", number("byteswritten"));
    assert!(number("usercpu") + number("systemcpu") > 10_000, "{row:?}");
    let percent = row["pmem"].as_f64().unwrap();
    let memory = recording.sql("select memory from hostinfo")[0]["memory"].as_f64().unwrap();
    assert!((percent - 100.0 * number("maxrss") as f64 / memory).abs() <= 0.06, "{percent}");
    assert!(row["pcpu"].as_f64().unwrap() > 0.0);
    assert!(recording.stop().success());
}

#[test]
fn a_tree_of_processes_is_tied_by_keys() {
    if !has_ebpf() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let recording = Launch::on(dir.path()).start();
    // A shell, a copy of it that never runs anything else, and below that a program.
    run(Command::new("sh").args(["-c", "(sh -c 'exit 0' the-leaf; true)", "the-root"]));
    recording.sync();
    let chain = recording.sql(
        "with recursive up(psentity, ppsentity, origin, argv, depth) as (
             select psentity, ppsentity, origin, argv, 0 from psinfo where arguments = '-c exit 0 the-leaf'
             union all select p.psentity, p.ppsentity, p.origin, p.argv, depth + 1 from psinfo p join up on p.psentity = up.ppsentity)
         select origin, argv from up order by depth limit 3",
    );
    let told: Vec<_> = chain
        .iter()
        .map(|row| (row["origin"].as_str().unwrap(), row["argv"].as_str().unwrap().lines().last().unwrap()))
        .collect();
    assert_eq!(told, [("exec", "the-leaf"), ("fork", "the-root"), ("exec", "the-root")]);
    assert!(recording.stop().success());
}
