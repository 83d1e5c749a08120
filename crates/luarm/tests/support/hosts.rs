//! Hosts of a test's own: each has its network, its host name, its machine id and its directories for itself, and all share the kernel.

use std::{
    fs,
    io::{BufRead, BufReader},
    path::Path,
    process::{Child, Command, ExitStatus, Output, Stdio},
    sync::Arc,
};

use super::{Log, program};

/// A host, which is there as long as this lives. Its data directory is the default one; `luarm` is in its PATH, and it has no configuration.
pub struct Host {
    /// Its host name.
    pub name: String,
    anchor: Child,
    path: String,
    targets: [String; 3],
}

impl Host {
    /// A host of that name with nothing but a loopback interface. What it writes is kept in `dir`, which hosts may share. `knows` are lines of
    /// its /etc/hosts.
    pub fn new(dir: &Path, name: &str, knows: &str) -> Self {
        let own = dir.join(name);
        for directory in ["data", "config", "bin"] {
            fs::create_dir_all(own.join(directory)).unwrap();
        }
        std::os::unix::fs::symlink(program(), own.join("bin/luarm")).unwrap();
        let id: String = name.bytes().cycle().take(16).map(|byte| format!("{byte:02x}")).collect();
        fs::write(own.join("machine-id"), format!("{id}\n")).unwrap();
        fs::write(own.join("hosts"), format!("127.0.0.1 localhost\n{knows}\n")).unwrap();
        let script = format!(
            "cd {own} && echo {name} > /proc/sys/kernel/hostname && ip link set lo up && mkdir -p /etc/luarm /var/lib/luarm &&
            mount --bind machine-id /etc/machine-id && mount --bind hosts /etc/hosts && mount --bind config /etc/luarm &&
            mount --bind data /var/lib/luarm && echo ready && read end",
            own = own.display()
        );
        let mut anchor = Command::new("unshare")
            .args(["--net", "--uts", "--mount", "sh", "-c", &script])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut ready = String::new();
        BufReader::new(anchor.stdout.take().unwrap()).read_line(&mut ready).unwrap();
        assert_eq!(ready, "ready\n", "no host {name}");
        let of = |option: &str, kind: &str| format!("--{option}=/proc/{}/ns/{kind}", anchor.id());
        let targets = [of("net", "net"), of("uts", "uts"), of("mount", "mnt")];
        let path = format!("{}:{}", own.join("bin").display(), std::env::var("PATH").unwrap_or_default());
        Self { name: name.to_owned(), anchor, path, targets }
    }

    /// A process on it.
    pub fn pid(&self) -> u32 {
        self.anchor.id()
    }

    /// A cable to another host, with an address at either end.
    pub fn cable(&self, own: &str, other: &Self, theirs: &str) {
        let (here, there) = (format!("to-{}", other.name), format!("to-{}", self.name));
        self.run(&format!("ip link add {here} type veth peer name {there} netns {}", other.anchor.id()));
        self.run(&format!("ip address add {own} dev {here} && ip link set {here} up"));
        other.run(&format!("ip address add {theirs} dev {there} && ip link set {there} up"));
    }

    /// What runs a command on it.
    pub fn prefix(&self) -> Vec<&str> {
        ["nsenter"].into_iter().chain(self.targets.iter().map(String::as_str)).collect()
    }

    /// A command line that replaces the shell that reads it.
    pub fn command(&self, line: &str) -> Command {
        let mut command = Command::new("nsenter");
        command.args(&self.targets).args(["sh", "-c", &format!("exec {line}")]).env("PATH", &self.path);
        command.stdin(Stdio::null());
        command
    }

    /// Runs a script on it to its end, which must be a good one; gives what it wrote.
    pub fn run(&self, script: &str) -> String {
        let quoted = script.replace('\'', "'\\''");
        let Output { status, stdout, stderr } = self.command(&format!("sh -ec '{quoted}'")).output().unwrap();
        assert!(status.success(), "{} {script}: {}", self.name, String::from_utf8_lossy(&stderr));
        String::from_utf8(stdout).unwrap()
    }
}

/// A server or agent on a host; killed when it goes out of scope.
pub struct Started {
    child: Child,
    log: Arc<Log>,
}

impl Host {
    /// Starts a command that goes on, and waits until it serves or records.
    pub fn start(&self, line: &str) -> Started {
        let mut child = self.command(line).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let log = Log::of(&mut child);
        log.wait_for(if line.starts_with("luarm server") { "luarm: serving" } else { "luarm: recording" });
        Started { child, log }
    }
}

impl Started {
    /// Waits until a line of standard error contains `text`, and returns the line.
    pub fn wait_for(&self, text: &str) -> String {
        self.log.wait_for(text)
    }

    /// Kills it as a crash would.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Asks it to stop, and waits for its end.
    pub fn stop(mut self) -> ExitStatus {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        self.child.wait().unwrap()
    }
}

impl Drop for Started {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("it said:\n{}", self.log.said());
        }
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        drop(self.anchor.stdin.take());
        let _ = self.anchor.wait();
    }
}
