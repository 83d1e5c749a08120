//! `luarm sync`: waits until everything that happened before it can be queried.

use std::{path::PathBuf, process::ExitCode};

use anyhow::bail;
use clap::Args;
use luarm_link::{agent::ServerUrl, analyst::Remote};

use crate::{
    cli::{Answering, Asked},
    config::{Config, Timeout},
    control,
};

/// Return 0 once everything that happened on this host before the call can be queried
///
/// Exits 1 when the time is up, or when no recorder is running. For an analyst it is about the hosts that deliver to his server: those that do not are not waited
/// for, but for one that is named.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Data directory; one that an analyst has joined a server with stands for that server [default: /var/lib/luarm]
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Ask this server, as https://HOST:PORT, with the certificate of an analyst in the data directory [default: the one that was joined]
    #[arg(long, value_name = "URL")]
    server: Option<ServerUrl>,
    /// The one host that an analyst's server is to wait for, by name or machine id [default: all that deliver to it]
    #[arg(long, value_name = "NAME")]
    host: Option<String>,
    /// How long to wait, in seconds [default: 10]
    #[arg(long, value_name = "SECONDS")]
    timeout: Option<Timeout>,
}

pub(crate) fn run(options: Options, config: &Config) -> anyhow::Result<ExitCode> {
    let timeout = options.timeout.or(config.timeout).unwrap_or_default().0;
    let asked = Asked { data: options.data, store: None, server: options.server };
    match (asked.locate(config), options.host) {
        (Answering::Store(located), None) => control::sync(&located.data, timeout)?,
        (Answering::Store(located), Some(host)) => {
            bail!(
                "the recorder on {} knows no other host: --host {host} is for analysts",
                located.data.display()
            )
        }
        (Answering::Server(url, data), host) => {
            Remote::open(url, &data)?.sync(host.as_deref(), timeout)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}
