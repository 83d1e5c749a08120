//! Storms of programs and connections under the eBPF sensor, compared row by row with what the storm itself wrote down.

#![expect(clippy::unwrap_used, reason = "a step that fails fails the test")]

mod support;

use std::{
    collections::HashMap,
    io::Read,
    net::{Ipv4Addr, TcpListener},
    path::Path,
    process::{Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

use support::{Launch, Recording, Row, has_ebpf, programs};

/// What was run: by its unique argument, pid and exit code.
type Run = HashMap<String, (u32, i32)>;

/// Runs the program `count` times on two threads, each time with another argument, until told to stop.
fn storm(program: &Path, name: &str, count: usize, stop: &Arc<AtomicBool>) -> Run {
    let threads: Vec<_> = (0..2)
        .map(|half| {
            let (program, name, stop) = (program.to_owned(), name.to_owned(), Arc::clone(stop));
            thread::spawn(move || {
                let mut run = Run::new();
                for n in (half..count).step_by(2) {
                    if stop.load(Ordering::Relaxed) {
                        break;
                    }
                    let argument = format!("{name}-{n}");
                    let code = n % 200;
                    let mut child =
                        Command::new(&program).arg(code.to_string()).arg(&argument).spawn().unwrap();
                    let status = child.wait().unwrap();
                    assert_eq!(status.code(), Some(code as i32));
                    run.insert(argument, (child.id(), code as i32));
                }
                run
            })
        })
        .collect();
    threads.into_iter().flat_map(|t| t.join().unwrap()).collect()
}

fn integer(row: &Row, column: &str) -> i64 {
    row[column].as_i64().unwrap_or_else(|| panic!("{column} in {row:?}"))
}

/// The rows of a storm, by their unique argument; fails on one that is there twice.
fn rows_of(recording: &Recording, name: &str) -> HashMap<String, Row> {
    let rows = recording.sql(&format!(
        "select pid, ppid, ppsentity, psentity, application, command, arguments, argc, username, origin, exitcode, exitsignal, ended, created, \
         destroyed from psinfo where arguments like '% {name}-%' and application <> 'luarm'"
    ));
    let mut by_argument = HashMap::new();
    for row in rows {
        let argument = row["arguments"].as_str().unwrap().split(' ').nth(1).unwrap().to_owned();
        let twice = by_argument.insert(argument, row);
        assert!(twice.is_none(), "twice: {twice:?}");
    }
    by_argument
}

/// Every program that was run has exactly its row, and there is no other.
fn compare(recording: &Recording, program: &Path, name: &str, run: &Run) {
    let rows = rows_of(recording, name);
    let me = i64::from(std::process::id());
    let mine = integer(
        &recording.sql(&format!("select psentity from psinfo where pid = {me} and destroyed is null"))[0],
        "psentity",
    );
    for (argument, (pid, code)) in run {
        let row = rows.get(argument).unwrap_or_else(|| panic!("{argument} (pid {pid}) is missing"));
        let got =
            (integer(row, "pid"), integer(row, "ppid"), integer(row, "ppsentity"), integer(row, "exitcode"));
        assert_eq!(got, (i64::from(*pid), me, mine, i64::from(*code)), "{row:?}");
        assert_eq!(row["command"].as_str().unwrap(), program.to_str().unwrap());
        assert_eq!(
            (row["application"].as_str(), row["origin"].as_str(), row["ended"].as_str()),
            (Some("quit"), Some("exec"), Some("exit"))
        );
        assert!(row["created"].as_str() <= row["destroyed"].as_str(), "{row:?}");
    }
    assert_eq!(rows.len(), run.len(), "more rows than were run");
    let keys: std::collections::HashSet<i64> = rows.values().map(|r| integer(r, "psentity")).collect();
    assert_eq!(keys.len(), rows.len(), "a psentity twice");
}

fn nothing_lost(recording: &Recording) {
    assert_eq!(recording.sql("select * from lossinfo where class not like '%-digest'"), Vec::<Row>::new());
}

#[test]
fn ten_thousand_programs_are_ten_thousand_rows() {
    if !has_ebpf() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let program = programs::exit_program(dir.path());
    let recording = Launch::on(&dir.path().join("data")).start();
    let run = storm(&program, "storm", 10_000, &Arc::default());
    recording.sync();
    compare(&recording, &program, "storm", &run);
    nothing_lost(&recording);
    assert!(recording.stop().success());
}

#[test]
fn five_thousand_connections_are_told_of_on_both_sides() {
    const CLIENTS: usize = 500;
    const EACH: usize = 10;
    if !has_ebpf() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let program = programs::connect_program(dir.path());
    let recording = Launch::on(&dir.path().join("data")).start();

    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    let server = thread::spawn(move || {
        let mut heard = Vec::new();
        for _ in 0..CLIENTS * EACH {
            let (mut stream, peer) = listener.accept().unwrap();
            let mut text = String::new();
            stream.read_to_string(&mut text).unwrap();
            heard.push((peer.port(), text.len() as i64));
        }
        heard
    });
    let clients: Vec<_> = (0..2)
        .map(|_| {
            let program = program.clone();
            thread::spawn(move || {
                let mut told = Vec::new();
                for _ in 0..CLIENTS / 2 {
                    let output = Command::new(&program)
                        .args([port.to_string(), EACH.to_string()])
                        .stdin(Stdio::null())
                        .output()
                        .unwrap();
                    assert!(output.status.success());
                    for line in String::from_utf8(output.stdout).unwrap().lines() {
                        let (pid, own) = line.split_once(' ').unwrap();
                        told.push((
                            pid.parse::<i64>().unwrap(),
                            own.parse::<i64>().unwrap(),
                            line.len() as i64 + 1,
                        ));
                    }
                }
                told
            })
        })
        .collect();
    let mut told: Vec<_> = clients.into_iter().flat_map(|t| t.join().unwrap()).collect();
    let mut heard = server.join().unwrap();

    // The kernel may take a moment to forget the last connections of all.
    let out = format!(
        "select n.pid, n.sourceport, n.bytessent, n.destport, n.username, n.application, n.result, n.bytesreceived, n.packetssent, p.command, \
         p.pid as ppid from netinfo n join psinfo p on p.host = n.host and p.psentity = n.psentity \
         where n.direction = 'out' and n.destport = {port} and n.destroyed is not null"
    );
    let incoming = format!(
        "select pid, sourceport, bytesreceived, bytessent, result from netinfo \
         where direction = 'in' and destport = {port} and destroyed is not null"
    );
    let wanted = CLIENTS * EACH;
    for _ in 0..60 {
        recording.sync();
        if recording.count(&format!("select count(*) from ({out})")) == wanted as i64
            && recording.count(&format!("select count(*) from ({incoming})")) == wanted as i64
        {
            break;
        }
        thread::sleep(std::time::Duration::from_millis(250));
    }

    let mut rows = Vec::new();
    for row in recording.sql(&out) {
        assert_eq!((integer(&row, "result"), integer(&row, "bytesreceived")), (0, 0), "{row:?}");
        assert_eq!(row["command"].as_str().unwrap(), program.to_str().unwrap());
        assert_eq!(integer(&row, "pid"), integer(&row, "ppid"));
        assert_eq!(row["application"], "connector");
        assert!(integer(&row, "packetssent") >= 3);
        rows.push((integer(&row, "pid"), integer(&row, "sourceport"), integer(&row, "bytessent")));
    }
    told.sort_unstable();
    rows.sort_unstable();
    assert!(rows == told, "{} connections out in the database, {} made", rows.len(), told.len());

    let me = i64::from(std::process::id());
    let mut rows = Vec::new();
    for row in recording.sql(&incoming) {
        assert_eq!(
            (integer(&row, "pid"), integer(&row, "result"), integer(&row, "bytessent")),
            (me, 0, 0),
            "{row:?}"
        );
        rows.push((integer(&row, "sourceport") as u16, integer(&row, "bytesreceived")));
    }
    heard.sort_unstable();
    rows.sort_unstable();
    assert!(rows == heard, "{} connections in in the database, {} accepted", rows.len(), heard.len());
    assert_eq!(
        recording.count(&format!(
            "select count(*) from netinfo where direction = 'listen' and sourceport = {port}"
        )),
        1
    );
    nothing_lost(&recording);
    assert!(recording.stop().success());
}

#[test]
fn killed_in_a_storm_it_keeps_what_it_acknowledged_and_tells_of_the_gap() {
    if !has_ebpf() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let program = programs::exit_program(dir.path());
    let recording = Launch::on(&data).start();

    let before = storm(&program, "before", 1000, &Arc::default());
    recording.sync();
    let stop = Arc::new(AtomicBool::new(false));
    let (storming, during_program) = (Arc::clone(&stop), program.clone());
    let during = thread::spawn(move || storm(&during_program, "during", 1_000_000, &storming));
    let batches = recording.count("select max(batchid) from batchinfo");
    for _ in 0..600 {
        if recording.count("select max(batchid) from batchinfo") > batches + 3 {
            break;
        }
        thread::sleep(std::time::Duration::from_millis(50));
    }
    let acknowledged =
        recording.sql("select batchid, rowcount, endcount, lastevent from batchinfo order by batchid");
    recording.kill();
    stop.store(true, Ordering::Relaxed);
    let during = during.join().unwrap();

    let recording = Launch::on(&data).start();
    let after = storm(&program, "after", 1000, &Arc::default());
    recording.sync();
    compare(&recording, &program, "before", &before);
    compare(&recording, &program, "after", &after);

    // Every batch that had been seen is there, whole and once, and the numbers have no gap.
    let kept = recording.sql("select batchid, rowcount, endcount, lastevent from batchinfo order by batchid");
    assert_eq!(kept[..acknowledged.len()], acknowledged[..]);
    assert!(kept.iter().enumerate().all(|(n, row)| integer(row, "batchid") == n as i64 + 1));

    // Every row of the storm tells the truth, and none is there twice; those that were acknowledged are complete.
    let rows = rows_of(&recording, "during");
    for (argument, row) in &rows {
        let (pid, code) = during.get(argument).unwrap_or_else(|| panic!("never run: {row:?}"));
        assert_eq!(integer(row, "pid"), i64::from(*pid));
        assert!(row["ended"] != "exit" || integer(row, "exitcode") == i64::from(*code), "{row:?}");
        assert!(!row["destroyed"].is_null(), "{row:?}");
    }
    let seen = integer(&acknowledged[acknowledged.len() - 1], "batchid");
    let of_batches = recording
        .count(&format!("select count(*) from psinfo where arguments like '% during-%' and application <> 'luarm' and batch <= {seen}"));
    assert!(of_batches > 0 && rows.len() as i64 >= of_batches);
    // In the order of a thread's work nothing is missing before the last row.
    for half in 0..2 {
        let mut numbers: Vec<usize> = rows
            .keys()
            .map(|a| a.split('-').nth(1).unwrap().parse().unwrap())
            .filter(|n| n % 2 == half)
            .collect();
        numbers.sort_unstable();
        assert!(
            numbers.iter().enumerate().all(|(n, number)| *number == 2 * n + half),
            "a hole in the part that was stored"
        );
    }

    let gap =
        &recording.sql("select created, destroyed, class, ended from coverageinfo where state = 'gap'")[..];
    assert_eq!(gap.len(), 1, "{gap:?}");
    assert!(gap[0]["created"].as_str() < gap[0]["destroyed"].as_str());
    assert!(recording.count("select count(*) from coverageinfo where ended = 'killed'") > 0);
    let last = recording.sql(
        "select max(created) as c from psinfo where arguments like '% during-%' and application <> 'luarm'",
    );
    assert!(last[0]["c"].as_str() <= gap[0]["destroyed"].as_str());

    // This process lived through it all: one row, of one identity.
    let me = std::process::id();
    assert_eq!(
        recording.count(&format!(
            "select count(*) from psinfo where pid = {me} and created >= (select min(boottime) from hostinfo)"
        )),
        1
    );
    assert!(recording.stop().success());
}

#[test]
fn a_reused_pid_is_another_process() {
    const TURNS: usize = 200;
    if !has_ebpf() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let program = programs::connect_program(dir.path());
    let recording = Launch::on(&dir.path().join("data")).start();
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    let server = thread::spawn(move || {
        for _ in 0..TURNS {
            drop(listener.accept().unwrap());
        }
    });

    let mut told = Vec::new();
    let mut pids: HashMap<u32, usize> = HashMap::new();
    let mut again = None;
    for turn in 0..TURNS {
        if let Some(pid) = again {
            // The next process gets the pid that has just been freed, if nobody else is quicker.
            std::fs::write("/proc/sys/kernel/ns_last_pid", format!("{}", pid - 1)).unwrap();
        }
        let child = Command::new(&program)
            .args([port.to_string(), "1".to_owned(), format!("turn-{turn}")])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let pid = child.id();
        let output = child.wait_with_output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let own: i64 = text.trim().split(' ').nth(1).unwrap().parse().unwrap();
        told.push((turn, i64::from(pid), own));
        *pids.entry(pid).or_default() += 1;
        again = Some(pid);
    }
    server.join().unwrap();
    assert!(pids.values().any(|n| *n > TURNS / 4), "no pid was reused: {pids:?}");

    recording.sync();
    for (turn, pid, own) in told {
        let rows = recording.sql(&format!(
            "select p.arguments, p.pid, n.pid as npid from netinfo n join psinfo p on p.host = n.host and p.psentity = n.psentity \
             where n.direction = 'out' and n.destport = {port} and n.sourceport = {own}"
        ));
        assert_eq!(rows.len(), 1, "turn {turn}");
        assert_eq!(rows[0]["arguments"], format!("{port} 1 turn-{turn}"));
        assert_eq!((integer(&rows[0], "pid"), integer(&rows[0], "npid")), (pid, pid));
    }
    let rows = recording.sql("select count(*) as n, count(distinct psentity) as d, count(destroyed) as e from psinfo where arguments like '% turn-%' and application <> 'luarm'");
    assert_eq!((integer(&rows[0], "n"), integer(&rows[0], "d"), integer(&rows[0], "e")), (200, 200, 200));
    assert!(recording.stop().success());
}
