//! The command line, as `luarm --help` shows it.

use std::{path::PathBuf, process::ExitCode};

use clap::{Args, Parser, Subcommand};
use luarm_store::StoreUrl;

use crate::{
    command::{agent, doctor, enroll, manual, run, server, sql, status, sync},
    config::{Config, Located},
    log::{self, Level},
};

/// Records what happens on audited computers in a relational database, and answers questions about it.
///
/// Exit codes: 0 done, 1 the answer is no or it failed, 2 wrong usage. Every option can also stand in the configuration file; the command
/// line overrides it.
#[derive(Debug, Parser)]
#[command(name = "luarm", version, propagate_version = true)]
pub(crate) struct Cli {
    /// Configuration file; without it /etc/luarm/luarm.toml where there is one
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    /// How much to say on standard error: error, warn, info, debug or trace [default: info]
    #[arg(long, global = true, value_name = "LEVEL")]
    log: Option<Level>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Run(run::Options),
    Sync(sync::Options),
    Sql(sql::Options),
    Status(status::Options),
    Doctor(doctor::Options),
    Server(server::Options),
    Enroll(enroll::Options),
    Agent(agent::Options),
    #[command(hide = true)]
    Manual(manual::Options),
}

/// Where the recorded history lies.
#[derive(Debug, Args)]
pub(crate) struct Place {
    /// Data directory [default: /var/lib/luarm]
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// Store: sqlite:PATH, mysql://… or postgres://…; of a cluster several servers, HOST,HOST [default: luarm.db in the data directory]
    #[arg(long, value_name = "URL")]
    pub store: Option<StoreUrl>,
}

impl Place {
    /// The data directory and store that these options and the configuration mean together.
    pub(crate) fn locate(self, config: &Config) -> Located {
        config.locate(self.data, self.store)
    }
}

/// Runs the command that was asked for.
pub(crate) fn dispatch(cli: Cli) -> anyhow::Result<ExitCode> {
    let config = Config::load(cli.config.as_deref())?;
    log::start(cli.log.or(config.log).unwrap_or_default());
    match cli.command {
        Command::Run(options) => run::run(options, &config),
        Command::Sync(options) => sync::run(options, &config),
        Command::Sql(options) => sql::run(options, &config),
        Command::Status(options) => status::run(options, &config),
        Command::Doctor(options) => doctor::run(options, &config),
        Command::Server(options) => server::run(options, &config),
        Command::Enroll(options) => enroll::run(options, &config),
        Command::Agent(options) => agent::run(options, &config),
        Command::Manual(options) => manual::run(&options),
    }
}
