//! `luarm verify`: is the recorded history what the hosts sealed?

mod answer;
mod heads;
mod summary;

use std::{
    io::{self, IsTerminal},
    path::{Path, PathBuf},
    process::ExitCode,
    sync::{
        atomic::Ordering,
        mpsc::{self, RecvTimeoutError},
    },
    thread,
    time::Duration,
};

use anyhow::{Context, anyhow, bail};
use clap::Args;
use luarm_chain::{
    VerifyingKey, decode,
    verify::{self, Progress, Report, Trouble, Witness},
};
use luarm_hunt::Format;
use luarm_link::notary;
use luarm_store::Evidence;

use crate::{FAILED, cli::Place, config::Config, log};

/// It could not be checked.
const UNCHECKED: u8 = 2;

/// Check that the recorded history is what the hosts sealed, and all of it
///
/// Everything is recomputed from the tables themselves: each row against what its batch held, each batch against its digest, its host's signature and the
/// server's receipt, each host's batches one after the other. What is not as it was is told with host, batch, table, key of the row and the kind of change. What
/// the data directory knows is used where it is meant (without --store, or with --data): the server's public key, and the latest batches that were
/// kept. Exit code 0: intact; 1: not; 2: it could not be checked.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Check an answer that `luarm sql --prove FILE` wrote, and nothing else: no store is needed
    #[arg(value_name = "FILE", conflicts_with_all = ["data", "store", "host", "export", "against"])]
    file: Option<PathBuf>,
    /// First public key of a host for which no server has signed, as `luarm verify` shows it there; repeat it for more. For an answer in a file
    #[arg(long, value_name = "KEY", requires = "file")]
    host_key: Vec<String>,
    #[command(flatten)]
    place: Place,
    /// Check only this host, by name or machine id [default: all hosts in the store]
    #[arg(long, value_name = "NAME")]
    host: Option<String>,
    /// File with a server's public key (DIR/server/notary.pub there); repeat it for more. Then every batch has to have a receipt by one of them
    #[arg(long, value_name = "FILE")]
    server_key: Vec<PathBuf>,
    /// Write the head of each host's history into this directory, a few lines to keep elsewhere: on another machine, on paper. Not of a host that is not intact
    #[arg(long, value_name = "DIR")]
    export: Option<PathBuf>,
    /// Compare with the heads in this directory, which --export wrote before: a history that was rewritten as a whole, or cut, shows
    #[arg(long, value_name = "DIR")]
    against: Option<PathBuf>,
    /// table, vertical, csv, json or jsonl [default: table]
    #[arg(long, value_name = "FORMAT")]
    format: Option<Format>,
}

pub(crate) fn run(options: Options, config: &Config) -> anyhow::Result<ExitCode> {
    match check(options, config) {
        Ok(code) => Ok(code),
        Err(error) => {
            log::complain(&format!("{error:#}"));
            Ok(ExitCode::from(UNCHECKED))
        }
    }
}

fn check(options: Options, config: &Config) -> anyhow::Result<ExitCode> {
    let Options { file, host_key, place, host, server_key, export, against, format } = options;
    if let Some(file) = file {
        let files =
            if server_key.is_empty() { config.server_key.clone().unwrap_or_default() } else { server_key };
        return answer::check(&file, &keys(&files)?, &host_key);
    }
    let format = format.or(config.format).unwrap_or_default();
    let is_own = place.store.is_none() || place.data.is_some();
    let located = place.locate(config);
    let data = is_own.then_some(located.data.as_path());
    let files =
        if server_key.is_empty() { config.server_key.clone().unwrap_or_default() } else { server_key };
    // Before anything is read: what is kept meanwhile is not missed.
    let witnesses = witnesses(data, against.as_deref())?;
    let options = verify::Options {
        host: host.or_else(|| config.host.clone()),
        keys: keys(&signers(data, &files))?,
        stub_keys: keys(&retainer(data))?,
        witnesses,
        threads: thread::available_parallelism().map_or(1, usize::from),
    };
    let open = || Evidence::open(&located.store).map_err(Trouble::from);
    let report = watched(|progress| verify::verify(&open, &options, progress))
        .map_err(|error| anyhow!("{error}"))
        .with_context(|| format!("cannot check {}", located.store))?;
    if report.hosts.is_empty() && report.is_intact() {
        bail!("{} holds no history of any host: there is nothing to check", located.store);
    }
    summary::print(&report, &options, format)?;
    if let Some(directory) = export {
        heads::export(&report, &directory)?;
    }
    Ok(if report.is_intact() { ExitCode::SUCCESS } else { ExitCode::from(FAILED) })
}

/// What has to be there: by the data directory, and by heads that were kept elsewhere.
fn witnesses(data: Option<&Path>, against: Option<&Path>) -> anyhow::Result<Vec<Witness>> {
    let mut all = Vec::new();
    if let Some(data) = data {
        all.extend(heads::own(data)?);
    }
    if let Some(directory) = against {
        let heads = heads::read(directory)?;
        if heads.is_empty() {
            bail!("no heads (*.json) are in {}: name the directory that --export wrote", directory.display());
        }
        all.extend(heads);
    }
    Ok(all)
}

/// The files with the servers' public keys: those that are named, else that of a server which has the data directory.
fn signers(data: Option<&Path>, files: &[PathBuf]) -> Vec<PathBuf> {
    let own = data.map(|data| data.join("server/notary.pub")).filter(|own| files.is_empty() && own.exists());
    files.iter().cloned().chain(own).collect()
}

/// The file with the public key of a recorder that keeps its rows for a time.
fn retainer(data: Option<&Path>) -> Vec<PathBuf> {
    data.map(notary::retention_public).filter(|own| own.exists()).into_iter().collect()
}

fn keys(files: &[PathBuf]) -> anyhow::Result<Vec<VerifyingKey>> {
    let mut keys = Vec::new();
    for file in files {
        let text = std::fs::read_to_string(file)
            .with_context(|| format!("cannot read the server's public key {}", file.display()))?;
        let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
        for line in lines {
            let bytes: Option<[u8; 32]> = decode(line.trim_end_matches('='));
            let key = bytes.and_then(|bytes| VerifyingKey::from_bytes(&bytes).ok());
            keys.push(key.with_context(|| {
                format!(
                    "{} is no public key of a server: name the file notary.pub of its data directory",
                    file.display()
                )
            })?);
        }
    }
    Ok(keys)
}

/// Does it with a bar on the terminal that shows how far it is.
fn watched(work: impl FnOnce(&Progress) -> Result<Report, Trouble> + Send) -> Result<Report, Trouble> {
    let progress = Progress::default();
    if !io::stderr().is_terminal() {
        return work(&progress);
    }
    let (done, is_done) = mpsc::channel::<()>();
    let watching = &progress;
    thread::scope(|scope| {
        scope.spawn(move || {
            let (progress, mut is_shown) = (watching, false);
            while is_done.recv_timeout(Duration::from_millis(200)) == Err(RecvTimeoutError::Timeout) {
                let (all, part) =
                    (progress.all.load(Ordering::Relaxed), progress.done.load(Ordering::Relaxed));
                let rows = progress.rows.load(Ordering::Relaxed);
                let filled = usize::try_from(part * 40 / all.max(1)).unwrap_or(40).min(40);
                eprint!("\rverifying [{:<40}] {rows} rows ", "#".repeat(filled));
                is_shown = true;
            }
            if is_shown {
                eprint!("\r\x1b[K");
            }
        });
        let report = work(&progress);
        drop(done);
        report
    })
}
