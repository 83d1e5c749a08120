//! `luarm enroll`: who may deliver to a server.

use std::{path::PathBuf, process::ExitCode};

use anyhow::bail;
use clap::{Args, Subcommand};
use luarm_link::{
    agent::{self, ServerUrl},
    server,
    token::Token,
};
use luarm_store::StoreUrl;

use crate::{
    FAILED,
    cli::Place,
    config::{Config, Lifetime},
    data_dir::DataDir,
    log, pipeline,
};

/// Let a host deliver to a server, or no longer
#[derive(Debug, Args)]
pub(crate) struct Options {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Token(MakeToken),
    Join(Join),
    Revoke(Revoke),
}

/// On the server: print a token with which one host can join, once
#[derive(Debug, Args)]
pub(crate) struct MakeToken {
    #[command(flatten)]
    place: Place,
    /// How long it is good, such as 1h, 15m or 7d [default: 1h]
    #[arg(long, value_name = "TIME")]
    expires: Option<Lifetime>,
    /// The one host that may use it, by the name under which it will be known; a host that has joined before gets a new certificate with it, and its old
    /// ones are revoked [default: any new host]
    #[arg(long, value_name = "NAME")]
    host: Option<String>,
}

/// On the audited host: make its key, get its certificate, remember the server
#[derive(Debug, Args)]
pub(crate) struct Join {
    /// The server, as https://HOST:PORT
    url: ServerUrl,
    /// The token that luarm enroll token printed
    #[arg(long, value_name = "TOKEN")]
    token: String,
    /// Data directory [default: /var/lib/luarm]
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Name under which this host will be known [default: its host name]
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
}

/// On the server: make this host's certificate worthless from now on, on open connections too
#[derive(Debug, Args)]
pub(crate) struct Revoke {
    /// The host, by its name or machine id
    host: String,
    #[command(flatten)]
    place: Place,
}

pub(crate) fn run(options: Options, config: &Config) -> anyhow::Result<ExitCode> {
    match options.command {
        Command::Token(options) => token(options, config),
        Command::Join(options) => join(options, config),
        Command::Revoke(options) => revoke(options, config),
    }
}

fn token(options: MakeToken, config: &Config) -> anyhow::Result<ExitCode> {
    let (data, store) = store(options.place, config)?;
    let lifetime = options.expires.unwrap_or(Lifetime::HOUR).0;
    let token = server::make_token(&data, store.as_ref(), options.host.as_deref(), lifetime)?;
    println!("{token}");
    Ok(ExitCode::SUCCESS)
}

fn join(options: Join, config: &Config) -> anyhow::Result<ExitCode> {
    let token: Token = options.token.parse()?;
    let data = config.locate(options.data, None).data;
    let dir = DataDir::hold(&data)?;
    let facts = pipeline::host(&dir)?;
    let name = options.name.unwrap_or(facts.hostname);
    let joined = agent::join(&options.url, &token, &data, (&name, &facts.machine_id))?;
    log::announce(&format!(
        "joined {} as {}. Next: luarm agent --data {}",
        joined.server,
        joined.name,
        data.display()
    ));
    Ok(ExitCode::SUCCESS)
}

fn revoke(options: Revoke, config: &Config) -> anyhow::Result<ExitCode> {
    let (data, store) = store(options.place, config)?;
    let Some(store) = store else {
        bail!(
            "no server has run on {} yet, so no host has joined; name its store with --store URL if it has another data directory",
            data.display()
        );
    };
    match server::revoke(&store, &options.host)? {
        Ok(0) => log::complain(&format!("{} had no certificate that was good", options.host)),
        Ok(_) => {}
        Err(known) => {
            let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
            log::complain(&format!("no host {:?} has joined; these have: {known}", options.host));
            return Ok(ExitCode::from(FAILED));
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// The server's data directory, and its store where it is known: named, or used by the server before.
fn store(place: Place, config: &Config) -> anyhow::Result<(PathBuf, Option<StoreUrl>)> {
    let named = place.store.is_some() || (config.store.is_some() && place.data.is_none());
    let located = place.locate(config);
    let store = if named { Some(located.store) } else { server::remembered_store(&located.data)? };
    Ok((located.data, store))
}
