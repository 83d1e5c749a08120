//! Logins: those of the kernel, of a real ssh server, of cron and login, and of login records.

#![expect(clippy::unwrap_used, reason = "a step that fails fails the test")]

mod programs;
#[path = "../support/mod.rs"]
mod support;

use std::{
    fs,
    io::{BufRead, BufReader, Write as _},
    path::Path,
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
};

use support::{Launch, Recording, Row, has_ebpf, private::Private, skip};

/// A shell that has logged in as `nobody` does below the kernel's audit, and takes commands.
struct Login {
    shell: Child,
    commands: ChildStdin,
    answers: BufReader<ChildStdout>,
    session: i64,
}

impl Login {
    fn new() -> Self {
        let script = "echo 65534 > /proc/self/loginuid || exit 1; cat /proc/self/sessionid; echo; while read -r command; do eval \"$command\"; done";
        let mut shell = Command::new("sh")
            .args(["-c", script])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (commands, answers) = (shell.stdin.take().unwrap(), shell.stdout.take().unwrap());
        let mut login = Self { shell, commands, answers: BufReader::new(answers), session: 0 };
        login.session = login.answer().parse().unwrap();
        login
    }

    fn answer(&mut self) -> String {
        let mut line = String::new();
        self.answers.read_line(&mut line).unwrap();
        line.trim().to_owned()
    }

    /// Runs a command to its end, and gives the first line that it wrote.
    fn run(&mut self, command: &str) -> String {
        writeln!(self.commands, "{command}; echo").unwrap();
        let answer = self.answer();
        if !answer.is_empty() {
            self.answer();
        }
        answer
    }

    fn end(mut self) {
        drop(self.commands);
        self.shell.wait().unwrap();
    }
}

/// The one row of a session.
fn row(recording: &Recording, session: i64) -> Row {
    recording.sync();
    let rows = recording.sql(&format!("select * from sessioninfo where session = {session}"));
    assert_eq!(rows.len(), 1, "{rows:?}");
    rows[0].clone()
}

/// The one row of a session whose processes are about to end; nobody says when the last one has.
fn over(recording: &Recording, session: i64) -> Row {
    loop {
        let row = row(recording, session);
        if !row["destroyed"].is_null() {
            return row;
        }
    }
}

fn text<'a>(row: &'a Row, columns: &[&str]) -> Vec<&'a str> {
    columns.iter().map(|column| row[*column].as_str().unwrap_or("-")).collect()
}

/// The session of the process that was run for that marker, by the plain join, and whose name stands behind it.
fn joined(recording: &Recording, marker: &str) -> Vec<(i64, String, String)> {
    let query = format!(
        "select p.username, s.loginname, s.sessionentity as number from psinfo p join sessioninfo s on s.host = p.host and s.session = p.session
         where p.arguments = '-c exit 0 {marker}'"
    );
    let text = |row: &Row, column: &str| row[column].as_str().unwrap().to_owned();
    let rows = recording.sql(&query);
    rows.iter()
        .map(|row| (row["number"].as_i64().unwrap(), text(row, "username"), text(row, "loginname")))
        .collect()
}

#[test]
fn a_session_is_its_processes() {
    if !has_ebpf() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let recording = Launch::on(dir.path()).start();
    let (mut first, mut second) = (Login::new(), Login::new());
    assert_ne!(first.session, second.session);
    first.run("sh -c 'exit 0' in-first");
    second.run("setpriv --reuid=1 --clear-groups sh -c 'exit 0' in-second");
    let told = row(&recording, first.session);
    assert_eq!(
        text(
            &told,
            &["username", "loginname", "service", "tty", "remotehost", "remoteaddress", "origin", "ended"]
        ),
        ["nobody", "nobody", "sh", "-", "-", "-", "event", "-"]
    );
    assert_eq!((told["auid"].as_i64(), told["pid"].as_i64()), (Some(65534), Some(first.shell.id().into())));
    let leader =
        recording.sql(&format!("select pid, application from psinfo where psentity = {}", told["psentity"]));
    assert_eq!(
        (leader[0]["pid"].as_i64(), leader[0]["application"].as_str()),
        (told["pid"].as_i64(), Some("sh"))
    );
    let number = |row: &Row| row["sessionentity"].as_i64().unwrap();
    assert_eq!(joined(&recording, "in-first"), [(number(&told), "root".to_owned(), "nobody".to_owned())]);
    let other = row(&recording, second.session);
    assert_eq!(joined(&recording, "in-second"), [(number(&other), "daemon".to_owned(), "nobody".to_owned())]);
    // What outlives the shell keeps the session.
    let left: u32 = first.run("sleep 1000 > /dev/null & echo $!").parse().unwrap();
    let session = first.session;
    first.end();
    assert!(row(&recording, session)["destroyed"].is_null());
    let left = rustix::process::Pid::from_raw(left.try_into().unwrap()).unwrap();
    rustix::process::kill_process(left, rustix::process::Signal::KILL).unwrap();
    assert_eq!(over(&recording, session)["ended"].as_str(), Some("exit"));
    second.end();
    assert!(recording.stop().success());
}

#[test]
fn a_restart_goes_on_with_a_session() {
    if !has_ebpf() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let recording = Launch::on(dir.path()).start();
    let (mut lasts, mut gone) = (Login::new(), Login::new());
    lasts.run("sh -c 'exit 0' before");
    gone.run("sh -c 'exit 0' before-too");
    let before = row(&recording, lasts.session);
    row(&recording, gone.session);
    recording.kill();
    let ended = gone.session;
    gone.end();
    let mut found = Login::new();
    let recording = Launch::on(dir.path()).start();
    lasts.run("sh -c 'exit 0' after");
    found.run("sh -c 'exit 0' found");
    assert_eq!(row(&recording, lasts.session), before);
    assert_eq!(joined(&recording, "after").len(), 1);
    assert_eq!(row(&recording, ended)["ended"].as_str(), Some("unseen"));
    let told = row(&recording, found.session);
    assert_eq!(text(&told, &["loginname", "service", "origin"]), ["nobody", "sh", "found"]);
    assert_eq!(told["pid"].as_i64(), Some(found.shell.id().into()));
    let session = lasts.session;
    lasts.end();
    found.end();
    assert_eq!(row(&recording, session)["ended"].as_str(), Some("exit"));
    assert!(recording.stop().success());
}

/// A server of our own, which ends with this.
struct Sshd {
    server: Child,
    port: u16,
}

impl Sshd {
    fn start(host: &Private, dir: &Path) -> Self {
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let at = |name: &str| dir.join(name).display().to_string();
        for key in ["hostkey", "key"] {
            let status =
                Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f", &at(key)]).status();
            assert!(status.unwrap().success());
        }
        let config = format!(
            "ListenAddress 127.0.0.1:{port}\nHostKey {}\nAuthorizedKeysFile {}\nPermitRootLogin yes\nStrictModes no\nUsePAM yes\nPidFile none\nUseDNS no\n",
            at("hostkey"),
            at("key.pub")
        );
        fs::write(dir.join("sshd_config"), config).unwrap();
        let mut server = host
            .command("/usr/sbin/sshd", &["-D", "-e", "-f", &at("sshd_config")])
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut said = BufReader::new(server.stderr.take().unwrap());
        let mut line = String::new();
        while !line.contains("listening") {
            line.clear();
            assert!(said.read_line(&mut line).unwrap() > 0, "sshd does not start");
        }
        std::thread::spawn(move || std::io::copy(&mut said, &mut std::io::sink()));
        Self { server, port }
    }

    fn ssh(&self, dir: &Path, options: &[&str], script: &str) -> Vec<String> {
        let output = Command::new("ssh")
            .args([
                "-F",
                "none",
                "-o",
                "StrictHostKeyChecking=no",
                "-o",
                "UserKnownHostsFile=/dev/null",
                "-o",
                "LogLevel=ERROR",
            ])
            .arg("-i")
            .arg(dir.join("key"))
            .args(["-p", &self.port.to_string()])
            .args(options)
            .args(["root@127.0.0.1", script])
            .stdin(Stdio::null())
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", support::complaint(&output));
        String::from_utf8_lossy(&output.stdout).lines().map(|line| line.trim().to_owned()).collect()
    }
}

impl Drop for Sshd {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

#[test]
fn a_login_by_ssh_is_told_with_its_remote_host() {
    if !has_ebpf() {
        return;
    }
    if !Path::new("/usr/sbin/sshd").exists() {
        return skip("needs openssh-server");
    }
    let (dir, data) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let host = Private::new(dir.path());
    host.shell("useradd -u 4601 lssh");
    let recording = Launch::on(data.path()).under(&host.prefix()).start();
    let server = Sshd::start(&host, dir.path());
    let script = "cat /proc/self/sessionid; echo; tty; su -s /bin/sh lssh -c \"sh -c 'exit 0' in-su\"; sh -c 'exit 0' in-ssh";

    // On a terminal, as a person does: sshd keeps a login record.
    let answers = server.ssh(dir.path(), &["-tt"], &format!("{script}; sleep 2"));
    let session: i64 = answers[0].parse().unwrap_or_else(|_| panic!("{answers:?}"));
    let told = over(&recording, session);
    let tty = answers[1].trim_start_matches("/dev/").replace('/', "");
    assert_eq!(
        text(
            &told,
            &["username", "loginname", "service", "tty", "remotehost", "remoteaddress", "origin", "ended"]
        ),
        ["root", "root", "sshd", &tty, "127.0.0.1", "127.0.0.1", "event", "exit"]
    );
    let leader = recording.sql(&format!("select command from psinfo where psentity = {}", told["psentity"]));
    assert!(leader[0]["command"].as_str().unwrap().contains("sshd"), "{leader:?}");
    for (marker, user) in [("in-su", "lssh"), ("in-ssh", "root")] {
        let expected = (told["sessionentity"].as_i64().unwrap(), user.to_owned(), "root".to_owned());
        assert_eq!(joined(&recording, marker), [expected]);
    }

    // Without one, as scp does: nobody keeps a record, but the connection is known.
    let answers = server.ssh(dir.path(), &["-T"], "cat /proc/self/sessionid");
    let second: i64 = answers[0].parse().unwrap();
    assert_ne!(session, second);
    assert_eq!(
        text(
            &row(&recording, second),
            &["loginname", "service", "tty", "remotehost", "remoteaddress", "ended"]
        ),
        ["root", "sshd", "-", "-", "127.0.0.1", "exit"]
    );

    // While nothing watches: the server's own records tell of it.
    recording.kill();
    server.ssh(dir.path(), &["-tt"], "true");
    while host.shell("utmpdump /var/log/wtmp 2> /dev/null").matches("[8]").count() < 2 {}
    let recording = Launch::on(data.path()).under(&host.prefix()).start();
    recording.sync();
    let rows = recording.sql("select * from sessioninfo where origin = 'wtmp'");
    assert_eq!(rows.len(), 1, "{rows:?}");
    assert_eq!(
        text(&rows[0], &["username", "remotehost", "remoteaddress", "ended"]),
        ["root", "127.0.0.1", "127.0.0.1", "logout"]
    );
    drop(server);
    assert!(recording.stop().success());
}

#[test]
fn a_login_that_only_a_record_tells_of_has_a_row() {
    if !has_ebpf() {
        return;
    }
    let (dir, data) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let host = Private::new(dir.path());
    let mut shell = Command::new("sleep").arg("1000").spawn().unwrap();
    // As a service without audit writes it; and what it leaves behind of one who is gone.
    let record = |kind: u8, pid: u32, line: &str, user: &str| {
        format!(
            "[{kind}] [{pid:05}] [ts/9] [{user:<8}] [{line:<12}] [client.example      ] [192.0.2.7      ] [2024-02-29T12:00:00,000000+00:00]"
        )
    };
    let write = |records: &[String]| {
        fs::write(host.etc("records"), records.join("\n") + "\n").unwrap();
        host.shell("utmpdump -r < /etc/records > /run/utmp 2> /dev/null");
    };
    let stale = record(7, 4_194_303, "pts/8", "ghost");
    let recording = Launch::on(data.path()).under(&host.prefix()).start();
    write(&[stale.clone(), record(7, shell.id(), "pts/9", "daemon")]);
    let rows = |recording: &Recording| {
        recording.sync();
        recording.sql("select * from sessioninfo where origin in ('utmp', 'logind')")
    };
    let columns = ["username", "tty", "remotehost", "remoteaddress", "origin", "created", "ended"];
    let expected = ["daemon", "pts9", "client.example", "192.0.2.7", "utmp", "2024-02-29 12:00:00.000000"];
    let told = rows(&recording);
    assert_eq!(told.len(), 1, "{told:?}");
    assert_eq!(text(&told[0], &columns)[..6], expected);
    assert_eq!((told[0]["ended"].is_null(), told[0]["session"].is_null()), (true, true));
    assert_eq!(told[0]["pid"].as_i64(), Some(shell.id().into()));
    // It lasts over a restart, and ends with its record.
    recording.kill();
    let recording = Launch::on(data.path()).under(&host.prefix()).start();
    assert_eq!(rows(&recording), told);
    write(&[stale, record(8, shell.id(), "pts/9", "")]);
    let told = rows(&recording);
    assert_eq!((told.len(), told[0]["ended"].as_str()), (1, Some("logout")));
    shell.kill().unwrap();
    shell.wait().unwrap();
    assert!(recording.stop().success());
}
