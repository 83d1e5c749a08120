//! On what was measured, and with which command.

use std::{fs, process::Command};

use rustix::system::{sysinfo, uname};

use crate::{Bench, report::Report, root};

/// Machine, system, commit and command.
pub(crate) fn describe(bench: &Bench, report: &mut Report) {
    let system = uname();
    let (info, kernel) = (sysinfo(), system.release().to_string_lossy().into_owned());
    let memory = (info.totalram * u64::from(info.mem_unit)) >> 20;
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    report.say(&format!("- Command: `{}`", [vec!["./do bench".to_owned()], arguments].concat().join(" ")));
    report.say(&format!("- Commit: {}", commit().unwrap_or_else(|| "unknown".to_owned())));
    report.say(&format!(
        "- Machine: {}, {} processors, {memory} MB of memory, Linux {kernel} on {}, data on {}, files of workloads on {}",
        model().unwrap_or_else(|| "unknown processor".to_owned()),
        processors(),
        system.machine().to_string_lossy(),
        filesystem(bench).unwrap_or_else(|| "an unknown file system".to_owned()),
        bench.disk.describe(),
    ));
    report.say(&format!(
        "- {} rounds, each with every contender once, one after the other. Figures: median (lowest–highest) over the rounds.",
        bench.rounds
    ));
}

/// How many programs can run at once.
pub(crate) fn processors() -> usize {
    std::thread::available_parallelism().map_or(1, Into::into)
}

fn model() -> Option<String> {
    let text = fs::read_to_string("/proc/cpuinfo").ok()?;
    let line = text.lines().find(|line| line.starts_with("model name"))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

fn commit() -> Option<String> {
    let git = |arguments: &[&str]| {
        // Root measures in a tree that may belong to another.
        let output =
            Command::new("git").args(["-c", "safe.directory=*"]).args(arguments).current_dir(root()).output();
        output
            .ok()
            .filter(|o| o.status.success())
            .map(|o| String::from_utf8_lossy(&o.stdout).trim().to_owned())
    };
    let changed = git(&["status", "--porcelain", "--untracked-files=no"])?;
    let with = if changed.is_empty() { "" } else { ", with changes that are not committed" };
    Some(git(&["rev-parse", "--short=12", "HEAD"])? + with)
}

/// The type of the file system that the data is on.
fn filesystem(bench: &Bench) -> Option<String> {
    let path = bench.dir.path().canonicalize().ok()?;
    let mounts = fs::read_to_string("/proc/self/mounts").ok()?;
    let fields = mounts.lines().map(|line| line.split(' ').collect::<Vec<_>>());
    let over = fields.filter(|f| f.len() > 2 && path.starts_with(f[1])).max_by_key(|f| f[1].len())?;
    Some(over[2].to_owned())
}
