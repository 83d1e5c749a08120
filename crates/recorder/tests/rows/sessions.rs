//! Logins: the kernel's sessions, what login records say of them, and both over restarts.

use luarm_schema::tables::SessionInfo;
use luarm_sensor::{
    BootNs, Observation,
    condition::{Condition, ConditionKind, Login, LoginSource},
    observation::*,
};

use crate::scene::*;

const SERVER: ImageId = ImageId { pid: 10, start: MS, execs: 1 };
const MONITOR: ImageId = ImageId { pid: 11, start: SECOND, execs: 1 };
const SHELL: ImageId = ImageId { pid: 12, start: 2 * SECOND, execs: 0 };
const RECORD: Login = Login {
    source: LoginSource::Utmp,
    id: Vec::new(),
    user: Vec::new(),
    tty: None,
    host: None,
    address: None,
    service: None,
    pid: 0,
    session: None,
    since: 0,
    until: None,
};

/// The task with a name and, if a login stands behind it, its session.
fn named(image: ImageId, creator: Option<ImageId>, comm: &str, session: Option<u32>) -> Box<Task> {
    let auid = session.map(|_| 1000);
    Box::new(Task { comm: comm.into(), session, auid, ..*task(image, creator) })
}

fn forked(image: ImageId, creator: ImageId, session: Option<u32>) -> Observation {
    Observation::Fork { at: image.start, task: named(image, Some(creator), "sshd", session) }
}

fn met(at: BootNs, image: ImageId, comm: &str, session: Option<u32>) -> Observation {
    let program = program("/usr/sbin/sshd", &["sshd"]);
    Observation::Found { at, task: named(image, None, comm, session), program, origin: Origin::Found }
}

fn record_of(pid: u32, user: &str, tty: &str) -> Login {
    Login { id: format!("{tty} {pid}").into(), user: user.into(), tty: Some(tty.into()), pid, ..RECORD }
}

fn login(at: BootNs, login: Login) -> Observation {
    Observation::Condition { at, condition: Box::new(Condition::Login(login)), origin: Origin::Event }
}

/// A server that was there accepts a connection, and forks a process for it that lets the user in.
fn ssh() -> Vec<Observation> {
    let accepted = Endpoint { direction: Direction::In, ..connection(5, SECOND - 1, actor(SERVER)) };
    vec![
        met(MS, SERVER, "sshd", None),
        Observation::Complete(Inventory::Processes),
        begins(accepted),
        forked(ImageId { execs: 0, ..MONITOR }, SERVER, None),
        Observation::Exec {
            at: SECOND + 1,
            task: named(MONITOR, None, "sshd", None),
            program: program("/usr/sbin/sshd", &["sshd", "-R"]),
        },
        forked(SHELL, MONITOR, Some(3)),
    ]
}

fn line(row: &SessionInfo) -> String {
    let seconds = |time: luarm_schema::Time| (time.0 - BOOT) as f64 / 1e6;
    let end = row
        .end
        .as_ref()
        .map_or("lasts".to_owned(), |end| format!("{}@{}", end.ended, seconds(end.destroyed)));
    let text = |text: &Option<String>| text.clone().unwrap_or("-".into());
    format!(
        "{} {} {:?} by {} of {} on {} from {}/{} {} @{} {end}",
        row.session.map_or("-".into(), |session| session.to_string()),
        row.username,
        row.loginname.as_deref().unwrap_or("-"),
        text(&row.service),
        row.pid.unwrap_or(0),
        text(&row.tty),
        text(&row.remotehost),
        text(&row.remoteaddress),
        row.origin,
        seconds(row.created),
    )
}

fn sessions(memory: &Memory) -> Vec<String> {
    memory.sessioninfo().into_iter().map(line).collect()
}

#[test]
fn a_session_begins_where_the_login_took_place_and_ends_with_its_last_process() {
    let child = image(13, 3 * SECOND, 0);
    let mut story = ssh();
    story.extend([
        forked(child, SHELL, Some(3)),
        exit(4 * SECOND, SHELL, 0),
        exit(5 * SECOND, MONITOR, 0),
        Observation::Reached(8 * SECOND),
        exit(9 * SECOND, child, 0),
    ]);
    let memory = record(recorder(), story);
    assert_eq!(
        sessions(&memory),
        [r#"3 alice "alice" by sshd of 11 on - from -/79.125.109.171 event @2 exit@9"#]
    );
    assert_eq!(memory.sessioninfo()[0].psentity, Some(psentity(MONITOR)));
    assert_eq!(memory.sessioninfo()[0].bootentity, memory.hostinfo()[0].bootentity);
}

#[test]
fn children_one_after_the_other_are_one_session() {
    let writer = image(20, SECOND, 1);
    let mut story = vec![met(SECOND, writer, "sh", None), Observation::Complete(Inventory::Processes)];
    for n in 0..5 {
        let child = image(30 + n, u64::from(n + 2) * 5 * SECOND, 0);
        story.extend([
            forked(child, writer, Some(9)),
            exit(child.start + SECOND, child, 0),
            Observation::Reached(child.start + 4 * SECOND),
        ]);
    }
    story.push(exit(60 * SECOND, writer, 0));
    let memory = record(recorder(), story);
    assert_eq!(sessions(&memory), [r#"9 alice "alice" by sh of 20 on - from -/- event @10 exit@60"#]);
}

#[test]
fn a_login_without_a_fork_is_that_of_the_image_before() {
    let before = image(20, SECOND, 1);
    let after = ImageId { execs: 2, ..before };
    let exec = Observation::Exec {
        at: 2 * SECOND,
        task: named(after, None, "bash", Some(4)),
        program: program("/bin/bash", &["-bash"]),
    };
    let memory = record(recorder(), [met(SECOND, before, "login", None), exec, exit(3 * SECOND, after, 0)]);
    assert_eq!(sessions(&memory), [r#"4 alice "alice" by login of 20 on - from -/- event @2 exit@3"#]);
    assert_eq!(memory.sessioninfo()[0].psentity, Some(psentity(before)));
}

#[test]
fn a_record_tells_the_session_of_its_process_from_where_it_came() {
    let from = |pid, tty: &str, host: &str| Login { host: Some(host.into()), ..record_of(pid, "alice", tty) };
    for pid in [MONITOR.pid, SHELL.pid] {
        let mut story = ssh();
        story.push(login(2 * SECOND + MS, from(pid, "pts/7", "client.example")));
        // A record of a terminal inside the session, by its multiplexer.
        story.push(login(2 * SECOND + 2 * MS, Login { since: 5, ..from(SHELL.pid, "pts/8", "tmux") }));
        story.push(Observation::Reached(9 * SECOND));
        let memory = record(recorder(), story);
        let expected =
            r#"3 alice "alice" by sshd of 11 on pts7 from client.example/79.125.109.171 event @2 lasts"#;
        assert_eq!(sessions(&memory), [expected], "{pid}");
    }
    // By its terminal, where the process is not of the session; what logind tells names it.
    let mut story = ssh();
    let mut shell = named(ImageId { execs: 1, ..SHELL }, None, "bash", Some(3));
    shell.tty = Some(b"pts7".to_vec());
    story.push(Observation::Exec {
        at: 2 * SECOND + 1,
        task: shell,
        program: program("/bin/bash", &["-bash"]),
    });
    story.push(login(2 * SECOND + MS, from(999, "pts/7", "client.example")));
    let logind = Login {
        source: LoginSource::Logind,
        session: Some(3),
        service: Some(b"sshd-session".to_vec()),
        address: Some("192.0.2.9".parse().unwrap()),
        ..record_of(0, "alice", "pts/7")
    };
    story.push(login(2 * SECOND + MS, logind));
    let memory = record(recorder(), story);
    let expected =
        r#"3 alice "alice" by sshd-session of 11 on pts7 from client.example/192.0.2.9 event @2 lasts"#;
    assert_eq!(sessions(&memory), [expected]);
}

#[test]
fn what_a_session_starts_later_does_not_come_from_its_peer() {
    let cron = image(13, 3 * SECOND, 0);
    let job = image(14, 10 * SECOND, 0);
    let command = image(15, 11 * SECOND, 0);
    let mut story = ssh();
    story.extend([forked(cron, SHELL, Some(3)), forked(job, cron, Some(3)), forked(command, job, Some(4))]);
    let memory = record(recorder(), story);
    let rows = sessions(&memory);
    assert!(rows[0].contains("/79.125.109.171"), "{rows:?}");
    assert_eq!(rows[1], r#"4 alice "alice" by sshd of 14 on - from -/- event @11 lasts"#);
}

#[test]
fn a_record_without_a_session_has_its_own_row() {
    let telnet = image(40, SECOND, 1);
    let utmp = |at| login(at, Login { since: BOOT + 1_500_000, ..record_of(40, "bob", "pts/1") });
    let logind = Login { source: LoginSource::Logind, ..record_of(40, "bob", "pts/1") };
    let over = || Observation::ConditionEnd {
        at: 9 * SECOND,
        condition: Box::new(Condition::Login(record_of(40, "bob", "pts/1"))),
    };
    for (ends, expected) in [(over(), "logout@9"), (exit(8 * SECOND, telnet, 0), "exit@8")] {
        for waits in [true, false] {
            let mut recorder = recorder();
            for observation in
                [met(SECOND, telnet, "login", None), utmp(2 * SECOND), Observation::Reached(5 * SECOND)]
            {
                recorder.observe(observation);
            }
            let mut memory = Memory::default();
            if !waits {
                recorder.observe(login(2 * SECOND, logind.clone()));
                memory.append(recorder.flush(5 * SECOND).unwrap());
            }
            recorder.observe(ends.clone());
            memory.append(recorder.stop(10 * SECOND));
            let expected = if waits && expected.starts_with("exit") { "lasts" } else { expected };
            assert_eq!(
                sessions(&memory),
                [format!(r#"- bob "-" by - of 40 on pts1 from -/- utmp @1.5 {expected}"#)]
            );
        }
    }
    // Told in between, as in life.
    let mut recorder = recorder();
    let mut memory = Memory::default();
    for observation in
        [met(SECOND, telnet, "login", None), utmp(2 * SECOND), Observation::Reached(5 * SECOND)]
    {
        recorder.observe(observation);
    }
    memory.append(recorder.flush(5 * SECOND).unwrap());
    assert!(sessions(&memory)[0].ends_with("utmp @1.5 lasts"));
    let mut later = start(memory.resume(), host(), 6 * SECOND);
    for observation in [
        met(6 * SECOND, telnet, "login", None),
        Observation::Complete(Inventory::Processes),
        utmp(6 * SECOND),
        Observation::Complete(Inventory::Conditions(ConditionKind::Login)),
        Observation::Reached(8 * SECOND),
    ] {
        later.observe(observation);
    }
    if let Some(batch) = later.flush(8 * SECOND) {
        memory.append(batch);
    }
    later.observe(exit(9 * SECOND, telnet, 0));
    memory.append(later.stop(10 * SECOND));
    assert_eq!(sessions(&memory), [r#"- bob "-" by - of 40 on pts1 from -/- utmp @1.5 exit@9"#]);
}

/// A first run that was killed while the session lasted.
fn first_run() -> Memory {
    let mut memory = Memory::default();
    let mut recorder = recorder();
    ssh().into_iter().for_each(|observation| recorder.observe(observation));
    recorder.observe(Observation::Reached(9 * SECOND));
    memory.append(recorder.flush(9 * SECOND).unwrap());
    assert_eq!(sessions(&memory).len(), 1);
    memory
}

#[test]
fn a_restart_goes_on_with_a_session_that_lasts_and_ends_one_that_is_gone() {
    for lasts in [true, false] {
        let mut memory = first_run();
        let mut recorder = start(memory.resume(), host(), 60 * SECOND);
        if lasts {
            recorder.observe(met(60 * SECOND, SHELL, "bash", Some(3)));
            recorder.observe(met(60 * SECOND, MONITOR, "sshd", Some(3)));
        }
        // This one began while nothing watched.
        recorder.observe(met(60 * SECOND, image(50, 41 * SECOND, 0), "bash", Some(4)));
        recorder.observe(met(60 * SECOND, image(49, 40 * SECOND, 1), "login", Some(4)));
        recorder.observe(Observation::Complete(Inventory::Processes));
        recorder.observe(Observation::Reached(65 * SECOND));
        memory.append(recorder.stop(66 * SECOND));
        let end = if lasts { "lasts" } else { "unseen@60" };
        assert_eq!(
            sessions(&memory),
            [
                format!(r#"3 alice "alice" by sshd of 11 on - from -/79.125.109.171 event @2 {end}"#),
                r#"4 alice "alice" by login of 49 on - from -/- found @40 lasts"#.to_owned()
            ]
        );
        memory.check_references();
    }
}

#[test]
fn what_took_place_while_nothing_watched_is_told_by_records() {
    let past = |user: &str, since: u64, until: u64| Login {
        source: LoginSource::Wtmp,
        since: wall(since).0,
        until: Some(wall(until).0),
        ..record_of(70, user, "pts/4")
    };
    let story = || {
        let known = past("known", 3 * SECOND, 4 * SECOND);
        let seen = past("seen", 3 * SECOND, 30 * SECOND);
        let missed = past("missed", 30 * SECOND, 31 * SECOND);
        [known, seen, missed].map(|record| login(60 * SECOND, record))
    };
    let mut memory = first_run();
    let mut recorder = start(memory.resume(), host(), 60 * SECOND);
    story().into_iter().for_each(|observation| recorder.observe(observation));
    memory.append(recorder.stop(61 * SECOND));
    // The next run reads the same records, and others may be there when nothing is known of any run before.
    let mut recorder = start(memory.resume(), host(), 100 * SECOND);
    story().into_iter().for_each(|observation| recorder.observe(observation));
    memory.append(recorder.stop(101 * SECOND));
    assert_eq!(sessions(&memory)[1..], [r#"- missed "-" by - of 70 on pts4 from -/- wtmp @30 logout@31"#]);
    assert!(sessions(&record(self::recorder(), story())).is_empty());
}

#[test]
fn sessions_of_different_boots_do_not_mix() {
    let mut memory = first_run();
    let mut other = host();
    other.boot_id = "second boot".into();
    let mut recorder = start(memory.resume(), other, 600 * SECOND);
    recorder.observe(met(600 * SECOND, image(12, 2 * SECOND, 0), "bash", Some(3)));
    recorder.observe(Observation::Complete(Inventory::Processes));
    memory.append(recorder.stop(601 * SECOND));
    let rows = memory.sessioninfo();
    assert_eq!(rows.len(), 2);
    assert_eq!(rows[0].end.as_ref().map(|end| &*end.ended), Some("boot"));
    assert_eq!((rows[1].session, rows[1].end.is_none()), (Some(3), true));
    assert_ne!(rows[0].bootentity, rows[1].bootentity);
}

#[test]
fn a_login_is_settled_only_after_it_was_told() {
    let mut recorder = recorder();
    ssh().into_iter().for_each(|observation| recorder.observe(observation));
    recorder.observe(Observation::Reached(2 * SECOND + MS));
    recorder.flush(2 * SECOND + MS);
    assert!(recorder.unsettled(2 * SECOND + MS));
    recorder.observe(Observation::Reached(4 * SECOND));
    recorder.flush(4 * SECOND);
    assert!(!recorder.unsettled(4 * SECOND));
}
