//! The canary's thread: runs `luarm canary` again and again, has what it did judged by the recorder once all of its rows must be there, and says what is missing.

pub(crate) mod acts;

use std::{
    fs::{self, DirBuilder},
    io::{self, Read},
    os::{
        fd::{AsRawFd, OwnedFd},
        unix::{fs::DirBuilderExt, process::CommandExt},
    },
    path::Path,
    process::{Child, Command, Stdio},
    str::FromStr,
    sync::{
        atomic::Ordering::Relaxed,
        mpsc::{self, Receiver, RecvTimeoutError, Sender},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use anyhow::Context;
use luarm_recorder::canary::{Report, Verdict};
use luarm_schema::Time;
use luarm_sensor::capability::Duty;
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    fs::{Mode, OFlags, fcntl_setfl},
};

use crate::{
    config::Lifetime,
    control,
    launcher::Launcher,
    pipeline::{Meters, Point, Probe},
};

/// How long its rows have to come by themselves, so that what they take is what others take.
const PAUSE: Duration = Duration::from_secs(3);
/// For its process to end; a longer round is given up.
const PATIENCE: Duration = Duration::from_secs(10);
/// Until rows that did not come by themselves have to be there.
const LONGEST_WAIT: Duration = Duration::from_secs(30);
const LOOK: Duration = Duration::from_millis(5);
const LONGEST_REPORT: u64 = 1 << 16;
/// The kernel's number of the first pid namespace.
const FIRST_PIDS: &str = "pid:[4026531836]";

/// How often a canary is run: `60s`, `5m`; or `off`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Every(pub Option<Duration>);

impl Every {
    const MOST: Duration = Duration::from_secs(86_400);
}

impl Default for Every {
    fn default() -> Self {
        Self(Some(Duration::from_secs(60)))
    }
}

impl FromStr for Every {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "off" {
            return Ok(Self(None));
        }
        match text.parse::<Lifetime>() {
            Ok(Lifetime(time)) if time <= Self::MOST => Ok(Self(Some(time))),
            _ => Err(format!("{text:?} is neither a time from 1s to 1d nor off: write it like 60s or 5m")),
        }
    }
}

/// Why there can be no canary here, if there cannot.
pub(crate) fn obstacle(every: Every) -> Option<&'static str> {
    if every.0.is_none() {
        return Some("switched off (--canary off)");
    }
    let pids = fs::read_link("/proc/self/ns/pid").unwrap_or_default();
    if pids != Path::new(FIRST_PIDS) {
        return Some("the recorder is in a pid namespace of its own, where it does not know its own number");
    }
    (std::process::id() == 1)
        .then_some("the recorder is the first process: what it has not created becomes its child")
}

/// What a canary's rounds are made of.
pub(crate) struct Rounds {
    pub probe: Probe,
    /// To the recorder, and back.
    pub reports: Sender<Reported>,
    /// Whether sensors only look at times.
    pub sampled: bool,
}

/// A report for the recorder, and where its verdict goes.
pub(crate) type Reported = (Report, Sender<Verdict>);

/// A canary's thread. It ends when this is dropped, and its process with it.
pub(crate) struct Canary {
    stop: Option<Sender<Rounds>>,
    thread: Option<JoinHandle<()>>,
}

impl Drop for Canary {
    fn drop(&mut self) {
        drop(self.stop.take());
        // A panic has had its message.
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

impl Canary {
    /// Starts the thread while there is what its process needs. It does nothing before [`Canary::begin`].
    pub(crate) fn prepare(launcher: &Launcher, every: Duration, data: &Path) -> anyhow::Result<Self> {
        let place = acts::directory(data);
        let made = DirBuilder::new().mode(0o700).create(&place);
        if let Err(error) = made
            && error.kind() != io::ErrorKind::AlreadyExists
        {
            return Err(error).with_context(|| format!("cannot make {} for the canary", place.display()));
        }
        // By the directory itself: its process need not be able to come there by name.
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let place = rustix::fs::open(&place, flags, Mode::empty())
            .with_context(|| format!("cannot use {} for the canary", place.display()))?;
        let (stop, rounds) = mpsc::channel();
        let thread = launcher.launch(move || {
            thread::Builder::new().name("canary".to_owned()).spawn(move || {
                Duty::Canary.settle();
                let Ok(begun) = rounds.recv() else { return };
                Keeper { rounds: begun, ended: rounds, every, place, round: 0, trouble: None }.run();
            })
        })?;
        Ok(Self { stop: Some(stop), thread: Some(thread.context("cannot start the canary's thread")?) })
    }

    /// Has the rounds begin.
    pub(crate) fn begin(&self, rounds: Rounds) {
        let _ = self.stop.as_ref().map(|stop| stop.send(rounds));
    }
}

struct Keeper {
    rounds: Rounds,
    /// Closed when it is over.
    ended: Receiver<Rounds>,
    every: Duration,
    place: OwnedFd,
    /// Of the round that is to come: 0 for one that does everything.
    round: u64,
    /// What was said of the last round.
    trouble: Option<String>,
}

impl Keeper {
    fn run(mut self) {
        // What a service manager may have set: nobody's child becomes the recorder's.
        let _ = rustix::process::set_child_subreaper(None);
        while !self.rounds.probe.meters.ready.load(Relaxed) {
            if self.is_over(LOOK * 10) {
                return;
            }
        }
        loop {
            let began = Instant::now();
            let mut report = self.round();
            if self.is_over(PAUSE.min(self.every / 2)) || !self.settle(&mut report) {
                return;
            }
            let (sender, verdict) = mpsc::channel();
            if self.rounds.reports.send((report, sender)).is_err() {
                return;
            }
            let Some(verdict) = self.verdict(&verdict) else { return };
            self.tell(&verdict);
            // While something is missing everything is done each time, so that it is known when it is back.
            let well = verdict.missing.is_empty() && verdict.trouble.is_none() && !verdict.doubted;
            self.round = if well { self.round + 1 } else { 0 };
            let pause =
                if verdict.doubted { Duration::ZERO } else { self.every.saturating_sub(began.elapsed()) };
            if self.is_over(pause) {
                return;
            }
        }
    }

    /// Whether it was ended within that time.
    fn is_over(&self, wait: Duration) -> bool {
        !matches!(self.ended.recv_timeout(wait), Err(RecvTimeoutError::Timeout))
    }

    /// Waits until all that the canary did is in a batch; says in the report if that took too long. False if it is over.
    fn settle(&self, report: &mut Report) -> bool {
        let meters = &self.rounds.probe.meters;
        let wait = LONGEST_WAIT.min(self.every.max(PAUSE));
        let over = || self.is_over(Duration::ZERO);
        if !control::settle_unless(&self.rounds.probe, Point::Kept, wait, &over) {
            if over() {
                return false;
            }
            report.behind =
                Some(format!("after {} s it was not observed or not stored up to then", wait.as_secs()));
        }
        report.lost = meters.lost_since(report.began);
        true
    }

    fn verdict(&self, verdict: &Receiver<Verdict>) -> Option<Verdict> {
        loop {
            match verdict.recv_timeout(LOOK * 10) {
                Ok(verdict) => return Some(verdict),
                Err(RecvTimeoutError::Timeout) if !self.is_over(Duration::ZERO) => {}
                Err(_) => return None,
            }
        }
    }

    fn tell(&mut self, verdict: &Verdict) {
        self.rounds.probe.meters.judged(verdict);
        if let Some(trouble) = verdict.trouble.as_ref().filter(|_| verdict.trouble != self.trouble) {
            tracing::warn!("the canary could not do its round: {trouble}");
        }
        self.trouble.clone_from(&verdict.trouble);
        for (class, reason) in verdict.missing.iter().filter(|(class, _)| verdict.lost.contains(class)) {
            tracing::warn!("the class {class} is not watched: {reason}");
        }
        for class in &verdict.regained {
            tracing::warn!("the class {class} is watched again: the canary came back");
        }
    }

    /// Runs the canary to its end.
    fn round(&self) -> Report {
        let mut report = Report { began: Time::now(), ..Report::default() };
        let mut child = match self.spawn() {
            Ok(child) => child,
            Err(error) => {
                report.trouble = Some(format!("it cannot be run: {error}"));
                return report;
            }
        };
        report.pid = child.id();
        let ended = self.attend(&mut child, &mut report);
        // It is reaped here at the latest; one that has ended is not harmed.
        let _ = child.kill();
        let status = child.wait();
        match (ended, status) {
            (Ok(()), Ok(status)) if status.success() => {
                report.done.extend(["exec", "exit"].map(str::to_owned));
            }
            (Err(error), _) => report.trouble = Some(error.to_string()),
            (_, Ok(status)) => report.trouble = Some(format!("its process ended with {status}")),
            (_, Err(error)) => report.trouble = Some(format!("its process was lost: {error}")),
        }
        report
    }

    fn spawn(&self) -> io::Result<Child> {
        let mut command = Command::new("/proc/self/exe");
        command.arg0("luarm").arg("canary").arg(self.round.to_string());
        if self.rounds.sampled {
            command.arg("--sampled");
        }
        let place = format!("/proc/self/fd/{}", self.place.as_raw_fd());
        command
            .env_clear()
            .current_dir(place)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null());
        command.spawn()
    }

    /// Takes what it says, and lets it go.
    fn attend(&self, child: &mut Child, report: &mut Report) -> io::Result<()> {
        let until = Instant::now() + PATIENCE;
        let mut output = child.stdout.take().ok_or(io::ErrorKind::BrokenPipe)?;
        fcntl_setfl(&output, OFlags::NONBLOCK)?;
        let mut said = String::new();
        loop {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(io::Error::other(format!(
                    "its process took longer than {} s",
                    PATIENCE.as_secs()
                )));
            }
            let wait = Timespec::try_from(left.min(LOOK * 10)).map_err(io::Error::other)?;
            poll(&mut [PollFd::new(&output, PollFlags::IN)], Some(&wait))?;
            let mut bytes = Vec::new();
            let ended = match (&mut output).take(LONGEST_REPORT).read_to_end(&mut bytes) {
                Ok(_) => true,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => false,
                Err(error) => return Err(error),
            };
            said += &String::from_utf8_lossy(&bytes);
            if said.len() as u64 > LONGEST_REPORT {
                return Err(io::Error::other("its process does not stop talking"));
            }
            if said.ends_with("end\n") {
                break;
            }
            if ended || self.is_over(Duration::ZERO) {
                return Err(io::Error::other("its process ended too soon"));
            }
        }
        read(&said, report);
        if self.rounds.sampled {
            // Whoever looks at times has to have looked while it is there.
            let over = || self.is_over(Duration::ZERO);
            control::settle_unless(&self.rounds.probe, Point::Kept, LONGEST_WAIT, &over);
        }
        drop(child.stdin.take());
        let until = Instant::now() + PATIENCE;
        while child.try_wait()?.is_none() {
            if Instant::now() >= until {
                return Err(io::Error::other("its process did not end"));
            }
            thread::sleep(LOOK);
        }
        Ok(())
    }
}

/// What a canary's process says it did.
fn read(said: &str, report: &mut Report) {
    for line in said.lines() {
        if let Some(name) = line.strip_prefix("did ") {
            report.done.push(name.to_owned());
        } else if let Some((name, why)) = line.strip_prefix("not ").and_then(|line| line.split_once(": ")) {
            report.failed.push((name.to_owned(), why.to_owned()));
        }
    }
}

/// What `luarm status` says of canaries.
pub(crate) fn summary(meters: &Meters) -> String {
    let state = meters.canary();
    let Some(began) = state.began else { return state.off.unwrap_or_else(|| "not yet".to_owned()) };
    if let Some(trouble) = state.trouble {
        return format!("failed at {began}: {trouble}");
    }
    let slowest = state.latencies.iter().max_by_key(|(_, latency)| **latency);
    let slowest = slowest.map_or(String::new(), |(class, latency)| {
        format!("; the slowest after {} ms: {class}", latency / 1000)
    });
    match state.missing.len() {
        0 => format!("came back at {began} in {} classes{slowest}", state.latencies.len()),
        missing => format!("did not come back at {began} in {missing} classes"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_run_at_a_pace_or_not_at_all() {
        let every = |text: &str| text.parse::<Every>().map(|every| every.0.map(|time| time.as_secs()));
        assert_eq!(every("off"), Ok(None));
        assert_eq!(every("1s"), Ok(Some(1)));
        assert_eq!(every("5m"), Ok(Some(300)));
        for wrong in ["0s", "2d", "60", "on", ""] {
            assert!(every(wrong).unwrap_err().contains("write it like 60s"), "{wrong}");
        }
    }

    #[test]
    fn what_it_says_is_read_and_nothing_else() {
        let mut report = Report::default();
        read("did fork\nnot question: port 53 of 127.0.0.1: in use\nwhat\nnot so\nend\n", &mut report);
        assert_eq!(report.done, ["fork"]);
        assert_eq!(report.failed, [("question".to_owned(), "port 53 of 127.0.0.1: in use".to_owned())]);
    }
}
