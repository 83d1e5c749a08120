//! The console at a (pseudo) terminal, whose answers come from a server.

use std::{
    fs::File,
    io::{Read, Write},
    process::{Child, Command, Stdio},
};

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};

use crate::{
    scene::{ENDLESS, each},
    support::program,
};

struct Session {
    terminal: File,
    child: Child,
    /// What it wrote and nobody has waited for yet.
    seen: String,
}

impl Session {
    fn start(home: &std::path::Path, arguments: &[&str]) -> Self {
        let terminal = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
        grantpt(&terminal).unwrap();
        unlockpt(&terminal).unwrap();
        let name = ptsname(&terminal, Vec::new()).unwrap().into_string().unwrap();
        let end = || Stdio::from(File::options().read(true).write(true).open(&name).unwrap());
        // setsid makes it the controlling terminal, so that its Ctrl-C is a signal.
        let child = Command::new("setsid")
            .args(["--ctty", "--wait"])
            .arg(program())
            .args(arguments)
            .env("XDG_STATE_HOME", home)
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
    each("a_session_at_a_terminal", &[], |scene| {
        let data = scene.path("anna");
        let mut session = Session::start(&scene.path("state"), &["sql", "--data", data.to_str().unwrap()]);
        session.wait_for("luarm> ");
        session.send("select 6 *\r");
        session.wait_for("    -> ");
        session.send("7 as answer;\r");
        session.wait_for("|     42 |");
        session.wait_for("luarm> ");
        // Ctrl-C ends the query that runs, and only it.
        session.send(&format!("{ENDLESS};\r"));
        scene.server.wait_for("netinfo d");
        session.send("\x03");
        session.wait_for("Query interrupted");
        scene.server.wait_for("then the analyst ended it");
        assert_eq!(scene.working(), 0);
        session.wait_for("luarm> ");
        session.send("use panoitpsl;\r");
        session.wait_for("luarm> ");
        session.send("select count(*) as n from psinfo;\r");
        session.wait_for("| 57 |");
        session.wait_for("luarm> ");
        session.send("\x04");
        assert!(session.child.wait().unwrap().success());
    });
}
