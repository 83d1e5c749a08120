//! The programs that start sessions beside ssh: cron for a job, login on a terminal.

use std::{
    io::{BufRead, BufReader, Write},
    path::Path,
    process::{Command, Stdio},
};

use super::{joined, over, text};
use crate::support::{Launch, has_ebpf, private::Private, skip};

#[test]
fn a_job_of_cron_is_a_session_of_its_user() {
    if !has_ebpf() {
        return;
    }
    if !Path::new("/usr/sbin/cron").exists() {
        return skip("needs cron");
    }
    let (dir, data) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let host = Private::new(dir.path());
    host.shell("useradd -u 4602 lcron; chmod 1777 /home");
    let recording = Launch::on(data.path()).under(&host.prefix()).start();
    // What is due at every start of cron runs at once, and not when a minute begins.
    let job = "@reboot lcron cat /proc/self/sessionid >/home/new; sh -c 'exit 0' in-cron; mv /home/new /home/session";
    host.shell(&format!(
        "rm -f /etc/cron.d/* /etc/crontab; echo \"{job}\" >/etc/cron.d/job; chmod 644 /etc/cron.d/job"
    ));
    let mut cron = host.command("cron", &["-f"]).stdin(Stdio::null()).spawn().unwrap();
    let session = host
        .shell("for i in $(seq 900); do test -s /home/session && break; sleep 0.1; done; cat /home/session");
    let session: i64 = session.trim().parse().unwrap_or_else(|_| panic!("{session}"));
    let told = over(&recording, session);
    cron.kill().unwrap();
    cron.wait().unwrap();
    assert_eq!(
        text(&told, &["loginname", "service", "tty", "remotehost", "origin", "ended"]),
        ["lcron", "cron", "-", "-", "event", "exit"]
    );
    assert_eq!(told["auid"].as_i64(), Some(4602));
    let expected = (told["sessionentity"].as_i64().unwrap(), "lcron".to_owned(), "lcron".to_owned());
    assert_eq!(joined(&recording, "in-cron"), [expected]);
    // Whoever started cron is not the one who is accountable for the job.
    let jobs = recording.sql("select distinct auid, loginname, session from psinfo where uid = 4602");
    assert_eq!(jobs.len(), 1, "{jobs:?}");
    assert_eq!((jobs[0]["auid"].as_i64(), jobs[0]["session"].as_i64()), (Some(4602), Some(session)));
    assert!(recording.stop().success());
}

#[test]
fn a_login_on_a_terminal_is_told_with_the_terminal_and_the_host_that_was_said() {
    if !has_ebpf() {
        return;
    }
    if !Path::new("/usr/bin/script").exists() && !Path::new("/bin/login").exists() {
        return skip("needs login and script");
    }
    let (dir, data) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let host = Private::new(dir.path());
    host.shell("useradd -u 4603 -s /bin/sh llogin; useradd -u 4604 lother");
    let recording = Launch::on(data.path()).under(&host.prefix()).start();
    // `script` is the terminal.
    let mut terminal = host
        .command("script", &["-qec", "login -h client.example -f llogin", "/dev/null"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut keys = terminal.stdin.take().unwrap();
    keys.write_all(b"echo session=$(cat /proc/self/sessionid) tty=$(tty) end; sh -c 'exit 0' in-login\n")
        .unwrap();
    let (mut screen, mut line) = (BufReader::new(terminal.stdout.take().unwrap()), String::new());
    while !line.contains("session=") || line.contains("$(") {
        line.clear();
        assert!(screen.read_line(&mut line).unwrap() > 0, "login ended");
    }
    let word = |key: &str| {
        let value = line.split_whitespace().find_map(|word| word.split_once(key));
        value.unwrap_or_else(|| panic!("no {key} in {line}")).1.to_owned()
    };
    let session: i64 = word("session=").parse().unwrap();
    // Whoever logs out at once takes his record with him.
    let said =
        format!("select count(*) from sessioninfo where session = {session} and remotehost is not null");
    recording.sync();
    recording.wait_for_row(&said);
    keys.write_all(b"exit\n").unwrap();
    drop(keys);
    std::io::copy(&mut screen, &mut std::io::sink()).unwrap();
    terminal.wait().unwrap();
    let told = over(&recording, session);
    let tty = word("tty=").trim_start_matches("/dev/").replace('/', "");
    assert_eq!(
        text(&told, &["loginname", "service", "tty", "remotehost", "origin", "ended"]),
        ["llogin", "login", &tty, "client.example", "event", "exit"]
    );
    let expected = (told["sessionentity"].as_i64().unwrap(), "llogin".to_owned(), "llogin".to_owned());
    assert_eq!(joined(&recording, "in-login"), [expected]);
    // Who was here is in the login records, for whoever starts later.
    let records = Command::new("nsenter")
        .args(&host.prefix()[1..])
        .args(["utmpdump", "/var/log/wtmp"])
        .output()
        .unwrap();
    assert!(String::from_utf8_lossy(&records.stdout).contains("client.example"));
    assert!(recording.stop().success());
}
