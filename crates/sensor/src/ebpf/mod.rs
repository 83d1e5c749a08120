//! The eBPF sensor: what the kernel itself tells at the moment of each event.
//!
//! The programs stand in `bpf/`, one file for each subject. They write records into two rings: `events`, whose records are bounded, and `bulk`, for what
//! someone can make large at will. A thread reads both ten times a second (`reader`), turns the records into observations
//! (`decode`) and puts these into the queue. What a ring could not take is counted in the kernel, class by class, and reported as
//! [`Observation::Loss`]. Needs Linux 5.17 with type information (BTF) and CAP_BPF, CAP_PERFMON and CAP_NET_ADMIN, or root.

mod attached;
mod bulk;
mod decode;
mod discard;
mod empty;
mod exchanges;
mod files;
mod fill;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzing;
mod hooks;
mod kernel;
mod mounts;
mod names;
mod own;
mod places;
mod privilege;
mod quiet;
mod reader;
mod record;
mod syscalls;

use std::{
    io,
    os::fd::OwnedFd,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    thread::{self, JoinHandle},
};

use attached::Attached;
pub use discard::discard;
pub use empty::Empty;
use reader::Reader;
use rustix::event::{EventfdFlags, eventfd};

use crate::{
    RingFill, Sensor,
    capability::Duty,
    clock,
    observation::{BootNs, Coverage, Observation},
    queue::Producer,
};

/// The compiled programs.
static OBJECT: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/luarm.bpf.o"));

/// Sizes of the rings in bytes, powers of two.
#[derive(Debug, Clone)]
pub struct EbpfConfig {
    /// For events: an exec takes about 600 bytes.
    pub events: u32,
    /// For arguments beyond 2 KiB, and for DNS messages.
    pub bulk: u32,
    /// Directories and files that everybody reads: that something below them is read is not told.
    pub quiet: Vec<PathBuf>,
    /// Directories and files whose contents are digested when they were changed; a component `*` stands for every directory.
    pub digested: Vec<PathBuf>,
    /// Bytes of the largest file that is digested, an image or not.
    pub digest_limit: u64,
}

/// Libraries, locales, fonts, and the caches of the dynamic linker: what a program reads whatever it is for.
pub const QUIET: &[&str] = &[
    "/usr/lib",
    "/usr/lib32",
    "/usr/lib64",
    "/usr/libexec",
    "/lib",
    "/lib32",
    "/lib64",
    "/usr/include",
    "/usr/share/locale",
    "/usr/share/locale-langpack",
    "/usr/share/i18n",
    "/usr/share/zoneinfo",
    "/usr/share/terminfo",
    "/usr/share/perl",
    "/usr/share/perl5",
    "/usr/share/fonts",
    "/usr/share/icons",
    "/usr/share/mime",
    "/var/cache/fontconfig",
    "/etc/ld.so.cache",
    "/etc/localtime",
    "/etc/locale.alias",
];

/// What decides what runs and who may come in: configuration, programs, what the kernel is started with, modules, units, jobs, and users' own keys and units.
pub const DIGESTED: &[&str] = &[
    "/etc",
    "/boot",
    "/usr/bin",
    "/usr/sbin",
    "/bin",
    "/sbin",
    "/usr/local",
    "/usr/lib/systemd",
    "/usr/lib/modules",
    "/usr/lib/*/security",
    "/usr/lib/security",
    "/usr/lib64/security",
    "/lib/systemd",
    "/lib/modules",
    "/lib/*/security",
    "/var/spool/cron",
    "/var/spool/at",
    "/root/.ssh",
    "/root/.config/systemd",
    "/root/.config/autostart",
    "/home/*/.ssh",
    "/home/*/.config/systemd",
    "/home/*/.config/autostart",
];

impl Default for EbpfConfig {
    fn default() -> Self {
        EbpfConfig {
            events: 8 << 20,
            bulk: 4 << 20,
            quiet: QUIET.iter().map(PathBuf::from).collect(),
            digested: DIGESTED.iter().map(PathBuf::from).collect(),
            digest_limit: 512 << 20,
        }
    }
}

/// Why this kernel cannot be watched by eBPF.
#[derive(Debug, thiserror::Error)]
pub enum EbpfError {
    /// The kernel refused the programs, or some that everything rests on.
    #[error("{0}")]
    Refused(String),
    /// A system call around them failed.
    #[error("cannot {0}: {1}")]
    System(&'static str, #[source] io::Error),
}

/// A running eBPF sensor.
pub struct EbpfSensor {
    thread: Option<JoinHandle<()>>,
    wake: Arc<OwnedFd>,
    stopping: Arc<AtomicBool>,
    fills: Arc<fill::Fills>,
}

/// Loads and attaches the programs, then reports what exists already and from then on what happens. Returns once everything is attached.
pub fn start(config: EbpfConfig, producer: Producer) -> Result<Box<dyn Sensor>, EbpfError> {
    let wake = Arc::new(
        eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)
            .map_err(|e| EbpfError::System("make an event descriptor", e.into()))?,
    );
    let stopping = Arc::new(AtomicBool::new(false));
    let (ready, started) = mpsc::channel();
    let fills = Arc::new(fill::Fills::default());
    let thread_fills = Arc::clone(&fills);
    let (thread_wake, thread_stopping) = (Arc::clone(&wake), Arc::clone(&stopping));
    let thread = thread::Builder::new()
        .name("ebpf".to_owned())
        .spawn(move || {
            // libbpf's objects stay on the thread that made them.
            let attached = match Attached::new(&config) {
                Ok(attached) => attached,
                Err(e) => return drop(ready.send(Err(e))),
            };
            // Before the threads that digest are started.
            Duty::Watching.settle();
            let outcome = Reader::new(&attached, &producer, &thread_wake, thread_fills).map(|mut reader| {
                drop(ready.send(Ok(())));
                reader.run(&thread_stopping);
            });
            if let Err(e) = outcome {
                drop(ready.send(Err(e)));
            }
            producer.close();
        })
        .map_err(|e| EbpfError::System("start a thread", e))?;
    match started.recv() {
        Ok(Ok(())) => Ok(Box::new(EbpfSensor { thread: Some(thread), wake, stopping, fills })),
        Ok(Err(e)) => Err(e),
        Err(_) => {
            Err(EbpfError::Refused("the sensor's thread ended while it loaded the programs".to_owned()))
        }
    }
}

/// What would be watched here, and what not and why: loads and attaches everything for a moment.
pub fn doctor() -> Result<Vec<Coverage>, EbpfError> {
    Attached::new(&EbpfConfig::default()).map(|attached| attached.coverage.clone())
}

impl EbpfSensor {
    fn wake(&self) {
        // The counter cannot overflow in practice, and a full one is awake already.
        let _ = rustix::io::write(&*self.wake, &1u64.to_ne_bytes());
    }
}

impl Sensor for EbpfSensor {
    fn drain(&self) -> BootNs {
        let now = clock::now();
        self.wake();
        now
    }

    fn rings(&self) -> Vec<RingFill> {
        self.fills.read()
    }

    fn stop(mut self: Box<Self>) {
        self.stopping.store(true, Ordering::Release);
        self.wake();
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the eBPF sensor's thread ended in a panic");
        }
    }
}

/// About how much memory an observation takes while it waits.
fn weight(observation: &Observation) -> usize {
    const BASE: usize = 256;
    match observation {
        Observation::Exec { program, .. } | Observation::Found { program, .. } => {
            3 * BASE + program.arguments.bytes.len()
        }
        Observation::ExecDenied { arguments, .. } => 2 * BASE + arguments.bytes.len(),
        Observation::Dns(dns) => BASE + dns.payload.len(),
        Observation::File(_) => 4 * BASE,
        Observation::Privilege(_)
        | Observation::Endpoint(_)
        | Observation::EndpointEnd { .. }
        | Observation::Fork { .. } => 2 * BASE,
        _ => BASE,
    }
}
