//! `luarm sync`: waits until everything that happened before it can be queried.

use std::{path::PathBuf, process::ExitCode};

use clap::Args;

use crate::{
    config::{Config, Timeout},
    control,
};

/// Return 0 once everything that happened on this host before the call can be queried
///
/// Exits 1 when the time is up, or when no recorder is running.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Data directory [default: /var/lib/luarm]
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// How long to wait, in seconds [default: 10]
    #[arg(long, value_name = "SECONDS")]
    timeout: Option<Timeout>,
}

pub(crate) fn run(options: Options, config: &Config) -> anyhow::Result<ExitCode> {
    let data = config.locate(options.data, None).data;
    let timeout = options.timeout.or(config.timeout).unwrap_or_default().0;
    control::sync(&data, timeout)?;
    Ok(ExitCode::SUCCESS)
}
