//! A mount namespace with accounts, login records and run-time files of its own: what a test does to them does not touch the machine's.

use std::{
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

/// The namespace, which lives as long as this. Its /etc is a copy; /run, /home, /var/log, /var/mail and /var/lib/extrausers are empty.
pub struct Private {
    anchor: Child,
    mount: String,
    etc: PathBuf,
}

impl Private {
    /// A namespace whose files are kept in `dir`.
    pub fn new(dir: &Path) -> Self {
        let etc = dir.join("etc");
        let script = format!(
            "cp -a /etc {etc} && mount --bind {etc} /etc && mkdir -p /var/lib/extrausers /var/mail &&
            for d in /run /home /var/log /var/mail /var/lib/extrausers; do mount -t tmpfs -o mode=755 luarm-test $d || exit 1; done &&
            mkdir -p /run/sshd /run/lock && touch /run/utmp /var/log/wtmp /var/log/lastlog && echo ready && read end",
            etc = etc.display()
        );
        let mut anchor = Command::new("unshare")
            .args(["--mount", "sh", "-c", &script])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut ready = String::new();
        BufReader::new(anchor.stdout.take().unwrap()).read_line(&mut ready).unwrap();
        assert_eq!(ready, "ready\n", "no private namespace at {}", dir.display());
        let mount = format!("--mount=/proc/{}/ns/mnt", anchor.id());
        Self { anchor, mount, etc }
    }

    /// What runs a command in it.
    pub fn prefix(&self) -> [&str; 2] {
        ["nsenter", &self.mount]
    }

    /// A file of its /etc.
    pub fn etc(&self, name: &str) -> PathBuf {
        self.etc.join(name)
    }

    /// A command in it.
    pub fn command(&self, program: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(&self.mount).arg(program).args(arguments);
        command
    }

    /// Runs a script in it to its end, and gives what it wrote.
    pub fn shell(&self, script: &str) -> String {
        let output = self.command("sh", &["-ec", script]).stdin(Stdio::null()).output().unwrap();
        assert!(output.status.success(), "{script}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).into_owned()
    }
}

impl Drop for Private {
    fn drop(&mut self) {
        drop(self.anchor.stdin.take());
        let _ = self.anchor.wait();
    }
}
