//! What is aimed at the recorder itself becomes rows of alertinfo, with the row that is the evidence; what it does itself does not.

#![expect(clippy::unwrap_used, reason = "a step that fails fails the test")]

mod support;

use std::{
    collections::BTreeSet,
    fs,
    path::Path,
    process::{Command, Stdio},
};

use support::{Launch, Recording, Row, has_ebpf, is_root, skip};

/// A recorder with eBPF, and root's rights; `None` where they are not to be had.
fn recorder(data: &Path, arguments: &[&str]) -> Option<Recording> {
    if !is_root() || !has_ebpf() {
        skip("needs root and eBPF");
        return None;
    }
    let recording = Launch::on(data).with(&["--sensor", "ebpf"]).with(arguments).start();
    recording.sync();
    Some(recording)
}

fn shell(script: &str) {
    let output = Command::new("bash").args(["-ec", script]).stdin(Stdio::null()).output().unwrap();
    assert!(output.status.success(), "{script}: {}", String::from_utf8_lossy(&output.stderr));
}

fn perl(script: &str, arguments: &[&str]) -> String {
    let output = Command::new("perl").args(["-e", script]).args(arguments).output().unwrap();
    assert!(output.status.success(), "{script}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn text<'r>(row: &'r Row, name: &str) -> &'r str {
    row[name].as_str().unwrap_or_else(|| panic!("{name} in {row:?}"))
}

/// The alerts of a kind, with what their evidence says, in order.
fn alerts(recording: &Recording, kind: &str, evidence: &str) -> Vec<Row> {
    recording.sync();
    let (columns, table, key) = match evidence {
        "privinfo" => ("e.operation, e.detail, e.result, e.targetpid", "privinfo", "privid"),
        "fileinfo" => ("e.operation, e.location, e.filename, e.access", "fileinfo", "fileaccessid"),
        _ => ("e.class, e.state", "coverageinfo", "coverageid"),
    };
    recording.sql(&format!(
        "SELECT a.kind, a.severity, a.summary, a.username, a.application, a.pid, a.detector, p.command, {columns} FROM alertinfo a \
         JOIN {table} e ON e.host = a.host AND e.{key} = a.rowkey LEFT JOIN psinfo p ON p.host = a.host AND p.psentity = a.psentity \
         WHERE a.tablename = '{table}' AND a.kind = '{kind}' ORDER BY a.alertid"
    ))
}

#[test]
fn signals_to_the_recorder_are_alerts_whoever_sends_them() {
    let directory = tempfile::tempdir().unwrap();
    let Some(mut recording) = recorder(directory.path(), &[]) else { return };
    let pid = recording.pid();
    // Root's, as the recorder is: no signal across users.
    shell(&format!("/bin/kill -STOP {pid}; /bin/kill -CONT {pid}; exec 3>&1; /bin/kill -0 {pid}"));
    let refused = Command::new("setpriv")
        .args(["--reuid", "65534", "--regid", "65534", "--clear-groups", "/bin/kill", "-KILL"])
        .arg(pid.to_string())
        .output()
        .unwrap();
    assert!(!refused.status.success());
    let rows = alerts(&recording, "signal", "privinfo");
    let told: Vec<_> = rows
        .iter()
        .map(|row| {
            assert_eq!((text(row, "operation"), row["targetpid"].as_u64()), ("signal", Some(pid.into())));
            assert_eq!((text(row, "application"), text(row, "detector")), ("kill", "self-protection"));
            (text(row, "detail"), text(row, "severity"), text(row, "username"), row["result"].as_i64())
        })
        .collect();
    assert_eq!(
        told,
        [
            ("SIGSTOP", "critical", "root", Some(0)),
            ("SIGCONT", "notice", "root", Some(0)),
            ("SIGKILL", "notice", "nobody", Some(1)),
        ]
    );
    assert!(rows.iter().all(|row| text(row, "command").ends_with("/kill")), "{rows:?}");
    let line = recording.wait_for("alert: SIGSTOP was sent to the recorder, by kill (pid ");
    assert!(line.contains(" of root"), "{line}");
    // What stops it in an orderly way is told by its last words.
    let data = directory.path().to_owned();
    shell(&format!("/bin/kill -TERM {pid}"));
    assert!(recording.wait().success());
    let query = "SELECT count(*) FROM alertinfo WHERE kind = 'signal' AND severity = 'notice' AND summary LIKE 'SIGTERM%' AND application = 'kill'";
    assert_eq!(support::count(&data, query), 1);
}

#[test]
fn who_reaches_into_the_recorder_is_an_alert() {
    let directory = tempfile::tempdir().unwrap();
    let Some(recording) = recorder(directory.path(), &[]) else { return };
    let pid = recording.pid().to_string();
    if cfg!(target_arch = "x86_64") {
        // ptrace(PTRACE_SEIZE), and process_vm_readv of nothing that is there.
        perl(
            "my $r = syscall(101, 0x4206, $ARGV[0]+0, 0, 0); die $! if $r < 0; syscall(101, 17, $ARGV[0]+0, 0, 0);",
            &[&pid],
        );
        let rows = alerts(&recording, "trace", "privinfo");
        assert!(
            rows.iter().any(|row| text(row, "operation") == "ptrace"
                && text(row, "detail") == "SEIZE"
                && text(row, "severity") == "critical"
                && text(row, "application") == "perl"),
            "{rows:?}"
        );
    }
}

/// The numbers of programs, tables and links that a process has descriptors of, by the kernel's own word.
fn objects(pid: u32) -> Vec<(u32, u32)> {
    let mut found = BTreeSet::new();
    for entry in fs::read_dir(format!("/proc/{pid}/fdinfo")).unwrap() {
        let text = fs::read_to_string(entry.unwrap().path()).unwrap_or_default();
        // A link tells its program as well.
        let of =
            |name: &str| text.lines().find_map(|line| line.strip_prefix(name)?.trim().parse::<u32>().ok());
        let named = [(30, of("link_id:")), (14, of("map_id:")), (13, of("prog_id:"))];
        if let Some((command, Some(id))) = named.into_iter().find(|(_, id)| id.is_some()) {
            found.insert((command, id));
        }
    }
    found.into_iter().collect()
}

#[test]
fn who_gets_hold_of_the_sensors_programs_is_an_alert() {
    let directory = tempfile::tempdir().unwrap();
    let Some(recording) = recorder(directory.path(), &[]) else { return };
    if !cfg!(target_arch = "x86_64") {
        return skip("speaks to the kernel by the numbers of x86-64");
    }
    let own = objects(recording.pid());
    let of = |command| own.iter().filter(|(c, _)| *c == command).count();
    assert!(of(13) > 20 && of(14) > 5 && of(30) > 5, "{own:?}");
    let list: Vec<String> = own.iter().map(|(command, id)| format!("{command}:{id}")).collect();
    let taken = perl(
        "my $n = 0; for (@ARGV) { my ($c, $id) = split /:/; my $a = pack('L x124', $id); $n++ if syscall(321, $c+0, $a, 128) >= 0; } print $n;",
        &list.iter().map(String::as_str).collect::<Vec<_>>(),
    );
    assert_eq!(taken.parse(), Ok(own.len()));
    recording.sync();
    let told =
        recording.sql("SELECT detail FROM privinfo WHERE operation = 'bpf-open' AND application = 'perl'");
    let told: BTreeSet<String> = told.iter().map(|row| text(row, "detail").to_owned()).collect();
    let wanted = own.iter().map(|(command, id)| match command {
        13 => format!("program id {id}"),
        14 => format!("table id {id}"),
        _ => format!("link id {id}"),
    });
    let wanted: BTreeSet<String> = wanted.collect();
    assert!(told.is_subset(&wanted), "{:?}", told.difference(&wanted));
    // What libbpf made for itself beside the object need not be told: it is data that the programs cannot change.
    let missing: Vec<_> = wanted.difference(&told).collect();
    assert!(missing.iter().all(|name| name.starts_with("table")) && missing.len() < 4, "{missing:?}");
    let rows = alerts(&recording, "bpf", "privinfo");
    assert_eq!(rows.len(), told.len());
    assert!(rows.iter().all(|row| text(row, "severity") == "critical"), "{rows:?}");
}

#[test]
fn who_touches_the_recorders_files_is_an_alert_and_the_recorder_is_not() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    let configuration = directory.path().join("luarm.toml");
    fs::write(&configuration, "# nothing\n").unwrap();
    let wanted = configuration.to_str().unwrap().to_owned();
    let Some(recording) = recorder(&data, &["--config", &wanted, "--canary", "1s"]) else { return };
    // Reading is no alert, by whichever program; nor is what luarm itself does, its canary included.
    recording.wait_for_row("SELECT count(*) FROM psinfo WHERE canary IS NOT NULL AND destroyed IS NOT NULL");
    for _ in 0..3 {
        recording.sql("SELECT count(*) AS n FROM psinfo");
    }
    let path = |name: &str| data.join(name).to_str().unwrap().to_owned();
    shell(&format!("cat {} {wanted} > /dev/null; ls {}", path("luarm.db"), path("")));
    recording.sync();
    let none = recording.sql("SELECT * FROM alertinfo");
    assert!(none.is_empty(), "{none:?}");

    let elsewhere = directory.path().join("elsewhere");
    shell(&format!(
        ": >> {db}; echo x > {new}; mv {new} {new}er; rm {new}er; chmod 700 {dir}; ln {db} {other}; : >> {other}; rm {other}; echo '#' >> {wanted}",
        db = path("luarm.db"),
        new = path("new"),
        dir = path(""),
        other = elsewhere.display(),
    ));
    let rows = alerts(&recording, "file", "fileinfo");
    let told: Vec<_> = rows
        .iter()
        .map(|row| (text(row, "operation"), text(row, "filename"), text(row, "severity")))
        .collect();
    let critical = |operation, name| (operation, name, "critical");
    for wanted in [
        critical("open", "luarm.db"),
        critical("create", "new"),
        critical("rename", "new"),
        critical("unlink", "newer"),
        critical("chmod", "data"),
        critical("link", "luarm.db"),
        critical("open", "elsewhere"),
        ("open", "luarm.toml", "warning"),
    ] {
        assert!(told.contains(&wanted), "{wanted:?} in {told:?}");
    }
    let own = format!("SELECT * FROM alertinfo WHERE application = 'luarm' OR pid = {}", recording.pid());
    assert!(recording.sql(&own).is_empty());
}

#[test]
fn little_room_on_the_disk_is_an_alert_before_it_is_full() {
    let directory = tempfile::tempdir().unwrap();
    let recording =
        Launch::on(directory.path()).with(&["--sensor", "poll", "--disk-reserve", "8000000GiB"]).start();
    recording.wait_for("MiB are left for the recorder's data in");
    recording.sync();
    let rows = recording.sql("SELECT kind, severity, summary, tablename FROM alertinfo");
    assert_eq!(rows.len(), 1, "{rows:?}");
    assert_eq!((text(&rows[0], "kind"), text(&rows[0], "severity")), ("disk", "critical"));
    assert!(recording.stop().success());
}

#[test]
fn a_run_that_ended_without_a_word_is_an_alert_of_the_next() {
    let directory = tempfile::tempdir().unwrap();
    let recording = Launch::on(directory.path()).with(&["--sensor", "poll"]).start();
    recording.sync();
    recording.kill();
    let recording = Launch::on(directory.path()).with(&["--sensor", "poll"]).start();
    let rows = alerts(&recording, "killed", "coverageinfo");
    assert_eq!(rows.len(), 1, "{rows:?}");
    assert_eq!((text(&rows[0], "class"), text(&rows[0], "state")), ("all", "gap"));
    assert!(recording.stop().success());
    // An orderly end is none.
    let recording = Launch::on(directory.path()).with(&["--sensor", "poll"]).start();
    assert_eq!(alerts(&recording, "killed", "coverageinfo").len(), 1);
}
