//! What watches: the contenders, and what all of them can be asked.

use std::time::Duration;

use anyhow::Context as _;

use crate::{
    Bench,
    audit::{Audit, Auditd},
    cpu,
    floor::{Floor, Reader},
    recorder::Recorder,
    storm::Storm,
};

/// Who is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Contender {
    Nothing,
    Ebpf,
    Auditd,
    Rings,
    Observations,
    Poll,
    Empty,
}

impl Contender {
    /// Who watches a storm, in the order in which a round goes through them. The first is what the others are compared with.
    pub(crate) const STORM: [Contender; 6] = [
        Contender::Nothing,
        Contender::Ebpf,
        Contender::Auditd,
        Contender::Rings,
        Contender::Observations,
        Contender::Poll,
    ];

    /// The same for what is done with files, of which the polling sensor knows nothing.
    pub(crate) const FILES: [Contender; 5] =
        [Contender::Nothing, Contender::Ebpf, Contender::Auditd, Contender::Empty, Contender::Rings];

    /// For people.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Contender::Nothing => "nothing",
            Contender::Ebpf => "luarm, eBPF, rows in SQLite",
            Contender::Auditd => "auditd and kauditd, lines in a file",
            Contender::Rings => "floor: eBPF, bytes thrown away",
            Contender::Observations => "floor: eBPF, decoded and thrown away",
            Contender::Poll => "luarm, polling, rows in SQLite",
            Contender::Empty => "floor: empty program on the same system calls",
        }
    }
}

/// A contender at work.
pub(crate) enum Watcher<'a> {
    Nothing,
    Luarm(Recorder),
    Auditd(Auditd<'a>),
    Reader { reader: Reader, before: u64 },
}

/// What a contender has stored since it was marked; a recorder, since it began.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Stored {
    /// Rows of any table, lines of a log, or records that were read.
    pub rows: u64,
    /// By how much the database or the log grew; 0 for a floor.
    pub bytes: u64,
    /// How many events it says that it lost.
    pub lost: u64,
}

/// What a contender has of a storm.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Found {
    /// Programs or connections; for a floor, records or observations of any kind.
    pub events: u64,
    /// Accepted connections.
    pub accepted: Option<u64>,
    /// How many of the events it has more than once.
    pub doubled: u64,
    /// How many it says that it lost.
    pub lost: u64,
}

impl<'a> Watcher<'a> {
    /// Starts it, auditd with these rules; returns when it watches.
    pub(crate) fn start(
        bench: &Bench,
        contender: Contender,
        rules: &[String],
        audit: &'a anyhow::Result<Audit>,
    ) -> anyhow::Result<Self> {
        let reader = |floor| Reader::start(floor).map(|reader| Watcher::Reader { reader, before: 0 });
        match contender {
            Contender::Nothing => Ok(Watcher::Nothing),
            Contender::Ebpf => Recorder::start(bench, "ebpf").map(Watcher::Luarm),
            Contender::Poll => Recorder::start(bench, "poll").map(Watcher::Luarm),
            Contender::Auditd => match audit {
                Ok(audit) => Auditd::start(bench, audit, rules).map(Watcher::Auditd),
                Err(error) => Err(anyhow::anyhow!("{error:#}")),
            },
            Contender::Empty => reader(Floor::Empty),
            Contender::Rings => reader(Floor::Rings),
            Contender::Observations => reader(Floor::Observations),
        }
    }

    /// Waits until everything that happened before now is where it belongs, and lets it count from here.
    pub(crate) fn mark(&mut self) -> anyhow::Result<()> {
        self.settle()?;
        match self {
            Watcher::Auditd(auditd) => auditd.mark(),
            Watcher::Reader { reader, before } => {
                *before = reader.read()?;
                Ok(())
            }
            Watcher::Nothing | Watcher::Luarm(_) => Ok(()),
        }
    }

    /// Waits until everything that happened before now is where it belongs.
    pub(crate) fn settle(&mut self) -> anyhow::Result<()> {
        match self {
            Watcher::Nothing => Ok(()),
            Watcher::Luarm(recorder) => recorder.sync(),
            Watcher::Auditd(auditd) => auditd.settle(),
            Watcher::Reader { reader, .. } => reader.read().map(drop),
        }
    }

    /// CPU time so far.
    pub(crate) fn cpu(&self) -> anyhow::Result<Duration> {
        match self {
            Watcher::Nothing => Ok(Duration::ZERO),
            Watcher::Luarm(recorder) => recorder.clock.read(),
            Watcher::Auditd(auditd) => auditd.cpu(),
            Watcher::Reader { reader, .. } => reader.clock.read(),
        }
    }

    /// The most memory that its process had, in kilobytes.
    pub(crate) fn peak_memory(&self) -> Option<u64> {
        let pid = match self {
            Watcher::Nothing => return None,
            Watcher::Luarm(recorder) => recorder.pid(),
            Watcher::Auditd(auditd) => auditd.pid(),
            Watcher::Reader { reader, .. } => reader.pid(),
        };
        cpu::kilobytes(pid, "status", "VmHWM")
    }

    /// What it has of a storm since the mark.
    pub(crate) fn found(&mut self, storm: Storm, tag: &str, port: Option<u16>) -> anyhow::Result<Found> {
        match self {
            Watcher::Nothing => Ok(Found::default()),
            Watcher::Luarm(recorder) => {
                let row = recorder.ask(&storm.query(tag, port))?;
                let number = |n: usize| row.get(n).copied().context("a query answers too little");
                let (events, distinct, accepted, lost) = (number(0)?, number(1)?, number(2)?, number(3)?);
                let accepted = port.map(|_| accepted);
                Ok(Found { events, accepted, doubled: events - distinct, lost })
            }
            Watcher::Auditd(auditd) => {
                let lost = auditd.lost()?;
                if port.is_none() {
                    let (events, doubled) = auditd.executed(tag)?;
                    return Ok(Found { events, accepted: None, doubled, lost });
                }
                let events = auditd.called("luarm_connect", "dial")?;
                let accepted = Some(auditd.called("luarm_accept", "acceptor")?);
                Ok(Found { events, accepted, doubled: 0, lost })
            }
            Watcher::Reader { reader, before } => {
                Ok(Found { events: reader.read()? - *before, ..Found::default() })
            }
        }
    }

    /// How much it has stored.
    pub(crate) fn stored(&mut self) -> anyhow::Result<Stored> {
        match self {
            Watcher::Nothing => Ok(Stored::default()),
            Watcher::Luarm(recorder) => recorder.stored(),
            Watcher::Auditd(auditd) => {
                let (rows, bytes) = auditd.written()?;
                Ok(Stored { rows, bytes, lost: auditd.lost()? })
            }
            Watcher::Reader { reader, before } => {
                Ok(Stored { rows: reader.read()? - *before, ..Stored::default() })
            }
        }
    }

    /// Ends it.
    pub(crate) fn stop(self) -> anyhow::Result<()> {
        match self {
            Watcher::Luarm(recorder) => recorder.stop(),
            Watcher::Nothing | Watcher::Auditd(_) | Watcher::Reader { .. } => Ok(()),
        }
    }
}
