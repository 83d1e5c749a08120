//! The command line, as `luarm --help` shows it.

use std::{
    env,
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::{Args, Parser, Subcommand};
use luarm_link::{agent::ServerUrl, analyst::Remote, identity};
use luarm_store::{Reader, Source, StoreUrl};

use crate::{
    command::{agent, canary, doctor, enroll, manual, run, server, sql, status, sync, verify},
    config::{Config, Located},
    log::{self, Level},
    witness::{Witness, Witnessed},
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
    Verify(verify::Options),
    Doctor(doctor::Options),
    Server(server::Options),
    Enroll(enroll::Options),
    Agent(agent::Options),
    #[command(hide = true)]
    Canary(canary::Options),
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

/// Whom to ask: a store, or a server that reads its own for analysts.
#[derive(Debug, Args)]
pub(crate) struct Asked {
    /// Data directory; one that an analyst has joined a server with stands for that server [default: /var/lib/luarm; where there is no store, the
    /// directory that an analyst joins with by default]
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// Store: sqlite:PATH, mysql://… or postgres://… [default: luarm.db in the data directory]
    #[arg(long, value_name = "URL", conflicts_with = "server")]
    pub store: Option<StoreUrl>,
    /// Ask this server, as https://HOST:PORT, with the certificate of an analyst in the data directory [default: the one that was joined]
    #[arg(long, value_name = "URL")]
    pub server: Option<ServerUrl>,
}

/// Where the answers come from.
#[derive(Debug)]
pub(crate) enum Answering {
    /// A store, and perhaps a recorder on the data directory.
    Store(Located),
    /// A server, with the certificate in this directory.
    Server(Option<ServerUrl>, PathBuf),
}

impl Asked {
    /// Who answers, by these options and the configuration.
    pub(crate) fn locate(self, config: &Config) -> Answering {
        let Asked { data, store, server } = self;
        let joined = |data: &Path| identity::is_analysts(data);
        if server.is_some() {
            let data = data.or_else(|| config.data.clone().filter(|data| joined(data)));
            return Answering::Server(server, data.or_else(analyst_data).unwrap_or_default());
        }
        let named = store.is_some() || (config.store.is_some() && data.is_none());
        let located = config.locate(data.clone(), store);
        if named {
            return Answering::Store(located);
        }
        if joined(&located.data) {
            return Answering::Server(None, located.data);
        }
        let nothing = data.is_none() && config.data.is_none() && !located.data.join("luarm.db").exists();
        match analyst_data().filter(|data| nothing && joined(data)) {
            Some(data) => Answering::Server(None, data),
            None => Answering::Store(located),
        }
    }
}

impl Answering {
    /// Opens it, for somebody who tells of his questions himself.
    pub(crate) fn open_plain(&self) -> anyhow::Result<Box<dyn Source>> {
        Ok(match self {
            Answering::Store(located) => Box::new(Reader::open(&located.store)?),
            Answering::Server(url, data) => Box::new(Remote::open(url.clone(), data)?),
        })
    }

    /// Opens it; the recorder of the data directory is told of each question to its store.
    pub(crate) fn open(&self) -> anyhow::Result<Box<dyn Source>> {
        let source = self.open_plain()?;
        Ok(match self {
            Answering::Store(located) => {
                Box::new(Witnessed::new(source, Witness::new(&located.data, &located.store)))
            }
            Answering::Server(..) => source,
        })
    }
}

/// Where an analyst's certificate is by default: `$XDG_STATE_HOME/luarm`, or the same below `~/.local/state`.
pub(crate) fn analyst_data() -> Option<PathBuf> {
    let absolute = |name| env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let state = absolute("XDG_STATE_HOME").or_else(|| Some(absolute("HOME")?.join(".local/state")))?;
    Some(state.join("luarm"))
}

/// Runs the command that was asked for.
pub(crate) fn dispatch(cli: Cli) -> anyhow::Result<ExitCode> {
    if let Command::Canary(options) = &cli.command {
        // A configuration is nothing to it.
        return Ok(canary::run(options));
    }
    let config = Config::load(cli.config.as_deref())?;
    log::start(cli.log.or(config.log).unwrap_or_default());
    match cli.command {
        Command::Run(options) => run::run(options, &config),
        Command::Sync(options) => sync::run(options, &config),
        Command::Sql(options) => sql::run(options, &config),
        Command::Status(options) => status::run(options, &config),
        Command::Verify(options) => verify::run(options, &config),
        Command::Doctor(options) => doctor::run(options, &config),
        Command::Server(options) => server::run(options, &config),
        Command::Enroll(options) => enroll::run(options, &config),
        Command::Agent(options) => agent::run(options, &config),
        Command::Canary(options) => Ok(canary::run(&options)),
        Command::Manual(options) => manual::run(&options),
    }
}
