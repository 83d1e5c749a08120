//! What a process costs: its CPU clock, and its memory.
#![expect(unsafe_code, reason = "another process's CPU clock has no safe name")]

use std::{fs, io, time::Duration};

use anyhow::Context as _;

/// The CPU time of a process: all its threads, the ended ones too, in user and in kernel mode.
#[derive(Debug, Clone, Copy)]
pub(crate) struct CpuClock(libc::clockid_t);

impl CpuClock {
    /// The clock of that process; a thread of the kernel is one too.
    pub(crate) fn of(pid: u32) -> anyhow::Result<Self> {
        let mut clock = 0;
        // SAFETY: writes one number into `clock`.
        let error = unsafe { libc::clock_getcpuclockid(pid as libc::pid_t, &raw mut clock) };
        if error != 0 {
            let error = io::Error::from_raw_os_error(error);
            return Err(error).with_context(|| format!("process {pid} has no CPU clock"));
        }
        Ok(CpuClock(clock))
    }

    /// What it says now.
    pub(crate) fn read(self) -> anyhow::Result<Duration> {
        let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        // SAFETY: writes one timespec into `time`.
        if unsafe { libc::clock_gettime(self.0, &raw mut time) } != 0 {
            return Err(io::Error::last_os_error()).context("cannot read a process's CPU clock");
        }
        Ok(Duration::new(time.tv_sec.unsigned_abs(), time.tv_nsec as u32))
    }
}

/// The process of that task name, kernel threads included.
pub(crate) fn find(comm: &str) -> Option<u32> {
    let entries = fs::read_dir("/proc").ok()?;
    let mut pids = entries.flatten().filter_map(|e| e.file_name().to_str()?.parse::<u32>().ok());
    pids.find(|pid| fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|c| c.trim() == comm))
}

/// Kilobytes after the name in a file of that process under /proc.
pub(crate) fn kilobytes(pid: u32, file: &str, name: &str) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/{file}")).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    line.trim().trim_end_matches("kB").trim().parse().ok()
}

/// Bytes of kernel memory behind the BPF maps that a process holds.
pub(crate) fn map_bytes(pid: u32) -> u64 {
    let Ok(entries) = fs::read_dir(format!("/proc/{pid}/fdinfo")) else { return 0 };
    let mut maps: Vec<(u64, u64)> = entries
        .flatten()
        .filter_map(|entry| {
            let text = fs::read_to_string(entry.path()).ok()?;
            let number = |name| text.lines().find_map(|l| l.strip_prefix(name)?.trim().parse().ok());
            Some((number("map_id:")?, number("memlock:")?))
        })
        .collect();
    maps.sort_unstable();
    maps.dedup();
    maps.into_iter().map(|(_, bytes)| bytes).sum()
}
