//! What is done with files, under each contender in turn: six workloads and one driver for all of them.

mod bytes;
mod dice;
mod find;
mod mail;
mod project;
mod series;
mod tree;
mod web;

use std::{
    fmt::Display,
    fs,
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

use anyhow::{Context as _, ensure};
use clap::{Args, value_parser};

use self::series::{Measured, Series};
use crate::{
    Bench,
    audit::Audit,
    report::{Bound, Report},
    watcher::{Contender, Watcher},
};

/// How much is done.
#[derive(Debug, Clone, Args)]
pub(crate) struct Sizes {
    /// Files of the source tree that is unpacked and deleted
    #[arg(long, default_value_t = 20_000, value_name = "N", value_parser = value_parser!(u64).range(1..))]
    files: u64,
    /// C files of the project that is compiled
    #[arg(long, default_value_t = 500, value_name = "N", value_parser = value_parser!(u64).range(1..))]
    sources: u64,
    /// Files of the mail server
    #[arg(long, default_value_t = 5_000, value_name = "N", value_parser = value_parser!(u64).range(1..))]
    mails: u64,
    /// Where find begins
    #[arg(long, default_value = "/", value_name = "DIR")]
    find: String,
    /// Bytes that are read one by one, and as many that are written
    #[arg(long, default_value_t = 2_000_000, value_name = "N", value_parser = value_parser!(u64).range(1..))]
    bytes: u64,
    /// Seconds of requests to the web server
    #[arg(long, default_value_t = 10, value_name = "N", value_parser = value_parser!(u64).range(1..))]
    web: u64,
}

impl Sizes {
    /// About a fiftieth of it.
    pub(crate) fn shrink(&mut self) {
        for size in [&mut self.files, &mut self.sources, &mut self.mails, &mut self.bytes, &mut self.web] {
            *size = size.div_ceil(50);
        }
        if self.find == "/" {
            "/usr/share".clone_into(&mut self.find);
        }
    }
}

/// Which of the workloads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Tree,
    Project,
    Mail,
    Find,
    Bytes,
    Web,
}

impl Kind {
    pub(crate) const ALL: [Kind; 6] =
        [Kind::Tree, Kind::Project, Kind::Mail, Kind::Find, Kind::Bytes, Kind::Web];

    fn make(self, bench: &Bench, sizes: &Sizes) -> anyhow::Result<Box<dyn Workload>> {
        Ok(match self {
            Kind::Tree => Box::new(tree::Tree::new(bench, sizes.files)?),
            Kind::Project => Box::new(project::Project::new(bench, sizes.sources)?),
            Kind::Mail => Box::new(mail::Mail::new(bench, sizes.mails)?),
            Kind::Find => Box::new(find::Find::new(&sizes.find)?),
            Kind::Bytes => Box::new(bytes::Bytes::new(bench, sizes.bytes)),
            Kind::Web => Box::new(web::Web::new(bench, sizes.web)?),
        })
    }

    fn title(self) -> &'static str {
        match self {
            Kind::Tree => "Source tree",
            Kind::Project => "Compile",
            Kind::Mail => "Mail server",
            Kind::Find => "Find",
            Kind::Bytes => "Bytes, one by one",
            Kind::Web => "Web server",
        }
    }
}

/// Something that is done in the same way each time.
trait Workload {
    /// What is counted.
    fn unit(&self) -> &'static str;

    /// What is done, for people.
    fn describe(&self) -> String;

    /// The most that it may take, in relation to the time under that contender.
    fn bound(&self) -> Option<(Contender, Bound)>;

    /// Puts everything as it is to be at the beginning.
    fn prepare(&self) -> anyhow::Result<()> {
        Ok(())
    }

    /// Does it.
    fn run(&self, bench: &Bench) -> anyhow::Result<Done>;

    /// What luarm is asked for the number of traces that all of it left in `fileinfo`, and what they are.
    fn evidence(&self) -> Option<Evidence> {
        None
    }
}

/// Some of the workloads in small, one after the other: what a host does with its files.
pub(crate) struct Chores(Vec<Box<dyn Workload>>);

impl Chores {
    /// Prepares what is needed for them.
    pub(crate) fn new(bench: &Bench) -> anyhow::Result<Self> {
        let sizes = Sizes { files: 150, sources: 10, mails: 50, find: String::new(), bytes: 1, web: 1 };
        let kinds = [Kind::Tree, Kind::Project, Kind::Mail];
        Ok(Chores(kinds.iter().map(|kind| kind.make(bench, &sizes)).collect::<Result<_, _>>()?))
    }

    /// Does all of them once.
    pub(crate) fn run(&self, bench: &Bench) -> anyhow::Result<()> {
        for workload in &self.0 {
            workload.prepare()?;
            workload.run(bench)?;
        }
        Ok(())
    }
}

/// What was done.
#[derive(Debug, Clone, Copy)]
struct Done {
    operations: u64,
    taken: Duration,
    /// How many traces there are: at least, and at most.
    traces: (u64, u64),
}

/// How luarm is asked for traces.
struct Evidence {
    query: String,
    what: &'static str,
}

/// What auditd watches: what luarm tells of by default, except reads, which auditd could not leave out for the libraries.
fn audit_rules() -> Vec<String> {
    let mut calls = "openat,openat2,open_by_handle_at,truncate,ftruncate,unlinkat,renameat,renameat2,linkat,symlinkat,mkdirat,mknodat,fchmod,fchmodat,\
                     fchown,fchownat,setxattr,lsetxattr,fsetxattr,removexattr,lremovexattr,fremovexattr"
        .to_owned();
    if cfg!(target_arch = "x86_64") {
        calls += ",open,creat,unlink,rmdir,rename,link,symlink,mkdir,mknod,chmod,chown,lchown";
    }
    let rule = |filter: &str| format!("-F arch=b64 -S {calls} {filter}");
    vec![
        rule("-F dir=/ -F perm=wa -k luarm_file"),
        rule("-F exit=-EACCES -k luarm_denied"),
        rule("-F exit=-EPERM -k luarm_denied"),
    ]
}

/// What the tables have in common.
const EXPLANATION: &str = "For this and the following workloads: auditd has rules for files that are written or get other attributes anywhere, and for \
     what is refused; luarm records that, what is read outside of the libraries, and the processes. Slowdown: time of an operation over that under nothing \
     in the same round. CPU: of the recording process with all its threads (for auditd with kauditd), until all of it is stored; what is spent inside of \
     the watched processes shows in the slowdown. Stored: rows of all tables and growth of the database, or lines and bytes of the log, whoever caused \
     them. Lost: as the contender itself says.\n";

/// Measures all contenders at these workloads, and reports.
pub(crate) fn run(bench: &Bench, kinds: &[Kind], sizes: &Sizes, report: &mut Report) -> anyhow::Result<()> {
    let audit = Audit::hold();
    let rules = audit_rules();
    // What cannot even start is left out of the rounds.
    let start = |contender| Watcher::start(bench, contender, &rules, &audit);
    let (mut able, mut unable) = (Vec::new(), Vec::new());
    for contender in Contender::FILES {
        match start(contender).and_then(Watcher::stop) {
            Ok(()) => able.push(contender),
            Err(error) => unable.push(format!("Skipped: {}: {error:#}", contender.name())),
        }
    }
    for (n, kind) in kinds.iter().enumerate() {
        report.heading(&format!("Files: {}", kind.title()));
        let workload = match kind.make(bench, sizes) {
            Ok(workload) => workload,
            Err(error) => {
                report.say(&format!("Skipped: {error:#}"));
                continue;
            }
        };
        // The first time is slower than any other: what is read has to come from the disk.
        workload.prepare().and_then(|()| workload.run(bench)).with_context(|| kind.title())?;
        let mut all: Vec<Series> = able.iter().map(|contender| Series::new(*contender)).collect();
        for round in 1..=bench.rounds {
            for series in &mut all {
                bench.go_on()?;
                let name = series.contender.name();
                eprintln!("bench: {}, round {round}: {name}", kind.title().to_lowercase());
                let measured = measure(bench, workload.as_ref(), || start(series.contender));
                series.rounds.push(measured.with_context(|| format!("{} under {name}", kind.title()))?);
            }
        }
        if n == 0 {
            report.say(EXPLANATION);
        }
        series::describe(*kind, workload.as_ref(), &all, &unable, report);
    }
    Ok(())
}

fn measure<'a>(
    bench: &Bench,
    workload: &dyn Workload,
    start: impl FnOnce() -> anyhow::Result<Watcher<'a>>,
) -> anyhow::Result<Measured> {
    workload.prepare()?;
    // What the one before left to be written is not for this one to pay.
    rustix::fs::sync();
    let mut watcher = start()?;
    warm_up(bench)?;
    watcher.mark()?;
    let (before, stored) = (watcher.cpu()?, watcher.stored()?);
    let done = workload.run(bench)?;
    watcher.settle()?;
    let cpu = watcher.cpu()? - before;
    let after = watcher.stored()?;
    let found = match (workload.evidence(), &watcher) {
        (Some(evidence), Watcher::Luarm(recorder)) => recorder.ask(&evidence.query)?.first().copied(),
        _ => None,
    };
    let peak_memory = watcher.peak_memory();
    watcher.stop()?;
    Ok(Measured {
        done,
        cpu,
        found,
        peak_memory,
        rows: after.rows.saturating_sub(stored.rows),
        bytes: after.bytes.saturating_sub(stored.bytes),
        lost: after.lost,
    })
}

/// Something for the contender to record before it counts.
fn warm_up(bench: &Bench) -> anyhow::Result<()> {
    let dir = bench.empty_dir()?;
    for n in 0..500 {
        let path = dir.path().join(n.to_string());
        fs::write(&path, "warm").and_then(|()| fs::remove_file(&path)).context("cannot warm up")?;
    }
    Ok(())
}

/// A path as it can stand in a statement, between apostrophes, at the beginning of a pattern.
fn quoted(path: &Path) -> String {
    path.to_string_lossy().replace('\'', "''")
}

/// Runs a command to its end, without a word of its own, and fails when it fails.
fn done(command: &mut Command) -> anyhow::Result<()> {
    let said = |command: &Command| command.get_program().to_string_lossy().into_owned();
    let output =
        command.stdin(Stdio::null()).output().with_context(|| format!("cannot start {}", said(command)))?;
    let complaint = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{}: {}: {}", said(command), output.status, complaint.trim());
    Ok(())
}

/// The numbers that a command prints.
fn numbers<T: std::str::FromStr>(text: &str, by: impl Display) -> anyhow::Result<Vec<T>> {
    let words = text.split_whitespace().map(|word| word.parse().ok());
    words.collect::<Option<_>>().with_context(|| format!("{by} says {text:?}"))
}

/// Fails when a program is not there.
fn need(program: &str) -> anyhow::Result<()> {
    let there = Command::new(program).arg("--version").stdin(Stdio::null()).output();
    there.map(drop).with_context(|| format!("{program} is not installed"))
}
