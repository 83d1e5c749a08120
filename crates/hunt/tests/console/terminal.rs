//! The console at a (pseudo) terminal: prompts, Ctrl-C, completion, history.

use std::{
    fs::{self, File},
    io::{Read, Write},
    os::unix::fs::PermissionsExt,
    path::Path,
    process::{Child, Command, Stdio},
};

use luarm_hunt::{Console, Options};
use luarm_store::{Reader, StoreUrl};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};

use crate::fixture::make_store;

const STORE: &str = "LUARM_TEST_TERMINAL_STORE";

#[test]
#[ignore = "is the child of the tests at a terminal"]
fn process_at_a_terminal() {
    let Ok(url) = std::env::var(STORE) else {
        return;
    };
    let reader = Reader::open(&StoreUrl::parse(&url).unwrap()).unwrap();
    let result = Console::new(reader, Options { terminal: true, ..Options::default() }).interactive();
    println!("left {}", result.is_ok());
}

/// A console with its terminal.
struct Session {
    terminal: File,
    child: Child,
    /// What it wrote and nobody has waited for yet.
    seen: String,
}

impl Session {
    fn start(home: &Path) -> Self {
        let url = make_store(&home.join("luarm.db"));
        let terminal = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
        grantpt(&terminal).unwrap();
        unlockpt(&terminal).unwrap();
        let name = ptsname(&terminal, Vec::new()).unwrap().into_string().unwrap();
        let end = || Stdio::from(File::options().read(true).write(true).open(&name).unwrap());
        // setsid makes it the controlling terminal, so that its Ctrl-C is a signal.
        let child = Command::new("setsid")
            .args(["--ctty", "--wait"])
            .arg(std::env::current_exe().unwrap())
            .args([
                "terminal::process_at_a_terminal",
                "--exact",
                "--ignored",
                "--nocapture",
                "--test-threads=1",
            ])
            .env(STORE, url.to_string())
            .env("XDG_STATE_HOME", home.join("state"))
            .env("TERM", "xterm")
            .stdin(end())
            .stdout(end())
            .stderr(end())
            .spawn()
            .unwrap();
        Session { terminal: terminal.into(), child, seen: String::new() }
    }

    fn send(&mut self, keys: &str) {
        self.terminal.write_all(keys.as_bytes()).unwrap();
    }

    /// Reads until that text has come.
    fn wait_for(&mut self, text: &str) {
        let mut buffer = [0; 4096];
        loop {
            if let Some(at) = self.seen.find(text) {
                self.seen.drain(..at + text.len());
                return;
            }
            let read = self.terminal.read(&mut buffer).unwrap_or(0);
            assert!(read > 0, "the console ended before {text:?}: {:?}", self.seen);
            self.seen.push_str(&String::from_utf8_lossy(&buffer[..read]));
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_session_at_a_terminal() {
    let home = tempfile::tempdir().unwrap();
    let mut session = Session::start(home.path());
    session.wait_for("luarm> ");
    session.send("select 6 *\r");
    session.wait_for("    -> ");
    session.send("7 as answer;\r");
    session.wait_for("|     42 |");
    session.wait_for("1 row in set");
    session.wait_for("luarm> ");

    // An error is shown, and the next statement may come.
    session.send("select * from nowhere;\r");
    session.wait_for("ERROR: no such table: nowhere");
    session.wait_for("luarm> ");

    // Ctrl-C at the prompt forgets what was begun.
    session.send("select 'never");
    session.wait_for("never");
    session.send("\x03");
    session.wait_for("luarm> ");

    // Ctrl-C while a query runs ends the query, and only it. The rows show that it runs.
    session.send("select i, 'running' from (with recursive n(i) as (select 1 union all select i + 1 from n) select i from n);\r");
    session.wait_for("| running   |");
    session.send("\x03");
    session.wait_for("Query interrupted");
    session.wait_for("luarm> ");

    // The tab key completes.
    session.send("desc renamei\t;\r");
    session.wait_for("oldapplication");
    session.wait_for("luarm> ");

    session.send("\x04");
    session.wait_for("left true");
    let history = home.path().join("state/luarm/history");
    assert!(fs::read_to_string(&history).unwrap().contains("7 as answer;"));
    assert_eq!(fs::metadata(&history).unwrap().permissions().mode() & 0o777, 0o600);
}
