//! Kernel audit with Debian's auditd, started for the measurement alone, and everything put back behind it.

use std::{
    collections::HashSet,
    fs::{self, File},
    io::{BufRead, BufReader, Seek, SeekFrom},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail, ensure};
use rustix::process::{Pid, Signal, geteuid, kill_process};
use tempfile::TempDir;

use crate::{Bench, cpu, cpu::CpuClock};

const DEBIAN: &str = "/etc/audit/auditd.conf";
const PATIENCE: Duration = Duration::from_secs(120);

/// What the keys of rules for a measurement begin with.
const KEYS: &str = "luarm_";
/// What keeps the kernel from auditing between two measurements.
const NOTHING: &str = "-a never,task";

/// Debian's own rules begin with these two.
const BACKLOG: u64 = 8192;
const BACKLOG_WAIT: u64 = 60_000;

/// What is changed in Debian's configuration: where the log lies, that it is one file, and that a full disk does not suspend it.
const CHANGES: &[(&str, &str)] = &[
    ("max_log_file_action", "IGNORE"),
    ("space_left_action", "IGNORE"),
    ("admin_space_left_action", "IGNORE"),
    ("disk_full_action", "IGNORE"),
    ("disk_error_action", "IGNORE"),
];

fn auditctl(arguments: &[&str]) -> anyhow::Result<String> {
    let output = Command::new("auditctl").args(arguments).output().context("cannot start auditctl")?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let complaint = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "auditctl {}: {}", arguments.join(" "), complaint.trim());
    Ok(text)
}

/// A number in what `auditctl -s` says.
fn state(name: &str) -> anyhow::Result<u64> {
    let text = auditctl(&["-s"])?;
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    let value = value.and_then(|v| v.split_whitespace().next()?.parse().ok());
    value.with_context(|| format!("auditctl -s does not tell {name}"))
}

/// Removes the rules that a run left behind which was killed: they slow down everything on the machine.
fn clear() -> anyhow::Result<()> {
    let rules = auditctl(&["-l"])?;
    let is_key = |word: &&str| word.starts_with(KEYS);
    let keys = rules.split(|c: char| c.is_whitespace() || c == '=').filter(is_key);
    for key in keys.collect::<HashSet<_>>() {
        auditctl(&["-D", "-k", key])?;
    }
    // That it comes alone, and kernel audit is off, says who left it.
    if auditctl(&["-l"])?.trim() == NOTHING && state("enabled")? == 0 {
        auditctl(&["-D"])?;
    }
    Ok(())
}

/// Kernel audit, for as long as this lives: nobody else uses it, and between two uses it costs nothing.
pub(crate) struct Audit {
    backlog: u64,
    backlog_wait: u64,
}

impl Audit {
    /// Takes hold of kernel audit, unless someone else has it.
    pub(crate) fn hold() -> anyhow::Result<Self> {
        ensure!(geteuid().is_root(), "it needs root");
        ensure!(Path::new(DEBIAN).exists(), "auditd is not installed");
        ensure!(state("pid")? == 0, "kernel audit has a daemon already (stop it to measure auditd)");
        clear()?;
        ensure!(
            auditctl(&["-l"])?.starts_with("No rules"),
            "kernel audit has rules already (they would be lost)"
        );
        let audit = Audit { backlog: state("backlog_limit")?, backlog_wait: state("backlog_wait_time")? };
        audit.rest()?;
        Ok(audit)
    }

    /// Once audit was on, the kernel prepares to audit every system call of each new process until the next boot, rules or not; this rule keeps it
    /// from that. Without it the other contenders would pay for audit.
    fn rest(&self) -> anyhow::Result<()> {
        auditctl(&["-D"])?;
        auditctl(&["-e", "0"])?;
        auditctl(&NOTHING.split(' ').collect::<Vec<_>>())?;
        Ok(())
    }
}

impl Drop for Audit {
    fn drop(&mut self) {
        let (backlog, wait) = (self.backlog.to_string(), self.backlog_wait.to_string());
        for arguments in [["-D", ""], ["-e", "0"], ["-b", &backlog], ["--backlog_wait_time", &wait]] {
            let given: Vec<&str> = arguments.into_iter().filter(|a| !a.is_empty()).collect();
            if let Err(error) = auditctl(&given) {
                eprintln!("bench: cannot put kernel audit back: {error:#}");
            }
        }
    }
}

/// A running auditd with the rules for one measurement.
pub(crate) struct Auditd<'a> {
    audit: &'a Audit,
    child: Child,
    clocks: [CpuClock; 2],
    log: PathBuf,
    from: u64,
    lost: u64,
    _dir: TempDir,
}

impl<'a> Auditd<'a> {
    /// Starts it with these rules, each in the words of `auditctl -a always,exit`.
    pub(crate) fn start(bench: &Bench, audit: &'a Audit, rules: &[String]) -> anyhow::Result<Self> {
        let dir = bench.empty_dir()?;
        let log = dir.path().join("audit.log");
        fs::write(dir.path().join("auditd.conf"), configuration(dir.path(), &log)?)?;
        fs::create_dir(dir.path().join("plugins.d"))?;
        auditctl(&["-D"])?;
        let child = Command::new("auditd")
            .args(["-n", "-c"])
            .arg(dir.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .context("cannot start auditd")?;
        let kauditd = cpu::find("kauditd").context("there is no kauditd")?;
        let clocks = [CpuClock::of(child.id())?, CpuClock::of(kauditd)?];
        let pid = child.id();
        let mut auditd = Auditd { audit, child, clocks, log, from: 0, lost: 0, _dir: dir };
        wait_until("auditd to take over kernel audit", || Ok(state("pid")? == u64::from(pid)))?;
        auditctl(&["-b", &BACKLOG.to_string()])?;
        auditctl(&["--backlog_wait_time", &BACKLOG_WAIT.to_string()])?;
        for rule in rules {
            let words: Vec<&str> = ["-a", "always,exit"].into_iter().chain(rule.split_whitespace()).collect();
            auditctl(&words)?;
        }
        auditd.lost = state("lost")?;
        Ok(auditd)
    }

    /// Waits until everything that the kernel has is in the log.
    pub(crate) fn settle(&self) -> anyhow::Result<()> {
        let mut size = None;
        wait_until("auditd to write what it was given", || {
            let before = size.replace(fs::metadata(&self.log)?.len());
            thread::sleep(Duration::from_millis(150));
            Ok(before == size && state("backlog")? == 0)
        })
    }

    /// From now on it counts.
    pub(crate) fn mark(&mut self) -> anyhow::Result<()> {
        self.from = fs::metadata(&self.log)?.len();
        Ok(())
    }

    /// CPU time of auditd, and of the kernel's thread that feeds it.
    pub(crate) fn cpu(&self) -> anyhow::Result<Duration> {
        Ok(self.clocks[0].read()? + self.clocks[1].read()?)
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Records that the kernel could not hand over.
    pub(crate) fn lost(&self) -> anyhow::Result<u64> {
        Ok(state("lost")? - self.lost)
    }

    /// How many lines and bytes were written to the log since the mark.
    pub(crate) fn written(&self) -> anyhow::Result<(u64, u64)> {
        let mut lines = 0;
        self.lines(|_| lines += 1)?;
        Ok((lines, fs::metadata(&self.log)?.len() - self.from))
    }

    /// How many programs with such an argument are in the log since the mark, and how many of these more than once.
    pub(crate) fn executed(&self, tag: &str) -> anyhow::Result<(u64, u64)> {
        let argument = format!(" a1=\"{tag}");
        let (mut names, mut all) = (HashSet::new(), 0);
        self.lines(|line| {
            if let (true, Some((_, rest))) = (line.contains("type=EXECVE"), line.split_once(&argument)) {
                all += 1;
                names.insert(rest.split('"').next().unwrap_or_default().to_owned());
            }
        })?;
        Ok((all, all - names.len() as u64))
    }

    /// How many system calls under that key, by programs of that name, did well since the mark.
    pub(crate) fn called(&self, key: &str, comm: &str) -> anyhow::Result<u64> {
        let (key, comm, mut all) = (format!("key=\"{key}\""), format!("comm=\"{comm}\""), 0);
        self.lines(|line| {
            let found = line.contains("success=yes") && line.contains(&comm) && line.contains(&key);
            all += u64::from(found);
        })?;
        Ok(all)
    }

    fn lines(&self, mut each: impl FnMut(&str)) -> anyhow::Result<()> {
        let mut file = File::open(&self.log)?;
        file.seek(SeekFrom::Start(self.from))?;
        let mut reader = BufReader::new(file);
        let mut line = Vec::new();
        while reader.read_until(b'\n', &mut line)? > 0 {
            each(&String::from_utf8_lossy(&line));
            line.clear();
        }
        Ok(())
    }
}

impl Drop for Auditd<'_> {
    fn drop(&mut self) {
        if let Err(error) = self.audit.rest() {
            eprintln!("bench: cannot put kernel audit to rest: {error:#}");
        }
        let stopped = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        if stopped.is_none_or(|pid| kill_process(pid, Signal::TERM).is_err()) {
            let _ = self.child.kill();
        }
        let _ = self.child.wait();
    }
}

/// Debian's configuration with our changes.
fn configuration(dir: &Path, log: &Path) -> anyhow::Result<String> {
    let (log, plugins) = (log.display().to_string(), dir.join("plugins.d").display().to_string());
    let mut changes = vec![("log_file", log.as_str()), ("plugin_dir", plugins.as_str())];
    changes.extend(CHANGES);
    let debian = fs::read_to_string(DEBIAN).with_context(|| format!("cannot read {DEBIAN}"))?;
    let key = |line: &str| line.split('=').next().unwrap_or_default().trim().to_owned();
    let kept = debian.lines().filter(|line| changes.iter().all(|(name, _)| key(line) != *name));
    let changed = changes.iter().map(|(name, value)| format!("{name} = {value}"));
    Ok(kept.map(str::to_owned).chain(changed).map(|line| line + "\n").collect())
}

fn wait_until(what: &str, mut done: impl FnMut() -> anyhow::Result<bool>) -> anyhow::Result<()> {
    let begun = Instant::now();
    while !done()? {
        if begun.elapsed() > PATIENCE {
            bail!("waited for {what} in vain");
        }
        thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}
