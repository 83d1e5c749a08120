//! `luarm enroll`: who may deliver to a server, and who may ask it.

use std::{path::PathBuf, process::ExitCode};

use anyhow::bail;
use clap::{Args, Subcommand};
use luarm_link::{
    agent::{self, ServerUrl},
    analyst, server,
    token::Token,
};
use luarm_store::{Scope, StoreUrl};

use crate::{
    FAILED,
    cli::{Place, analyst_data},
    config::{Config, Lifetime},
    data_dir::DataDir,
    log, pipeline,
};

/// Let a host deliver to a server or an analyst ask it, or no longer
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

/// On the server: print a token with which one host or one analyst can join, once
#[derive(Debug, Args)]
pub(crate) struct MakeToken {
    #[command(flatten)]
    place: Place,
    /// How long it is good, such as 1h, 15m or 7d [default: 1h]
    #[arg(long, value_name = "TIME")]
    expires: Option<Lifetime>,
    /// The one host that may use it, by the name under which it will be known; a host that has joined before gets a new certificate with it, and its old
    /// ones are revoked [default: any new host]. With --analyst: a host whose rows the analyst may see; repeat it for more [default: all hosts]
    #[arg(long, value_name = "NAME")]
    host: Vec<String>,
    /// For an analyst of this name, who can ask and nothing else; certificates that he had are revoked when he joins
    #[arg(long, value_name = "NAME")]
    analyst: Option<String>,
}

/// On the audited host or the analyst's machine: make a key, get a certificate, remember the server
#[derive(Debug, Args)]
pub(crate) struct Join {
    /// The server, as https://HOST:PORT
    url: ServerUrl,
    /// The token that luarm enroll token printed
    #[arg(long, value_name = "TOKEN")]
    token: String,
    /// Data directory [default: /var/lib/luarm; for an analyst luarm in $XDG_STATE_HOME or ~/.local/state]
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Name under which this host will be known; an analyst is known by the name in the token [default: its host name]
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
}

/// On the server: make the certificate of a host or an analyst worthless from now on, on open connections too
#[derive(Debug, Args)]
#[group(id = "whose", required = true, multiple = false)]
pub(crate) struct Revoke {
    /// The host, by its name or machine id
    #[arg(group = "whose")]
    host: Option<String>,
    /// The analyst
    #[arg(long, value_name = "NAME", group = "whose")]
    analyst: Option<String>,
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
    let token = match (&options.analyst, options.host.as_slice()) {
        (Some(analyst), hosts) => {
            let scope = if hosts.is_empty() { Scope::All } else { Scope::Hosts(hosts.to_vec()) };
            server::make_analyst_token(&data, store.as_ref(), (analyst, &scope), lifetime)?
        }
        (None, []) => server::make_token(&data, store.as_ref(), None, lifetime)?,
        (None, [host]) => server::make_token(&data, store.as_ref(), Some(host), lifetime)?,
        (None, _) => {
            bail!("a token is for one host: make one for each, or name an --analyst who may see them")
        }
    };
    println!("{token}");
    Ok(ExitCode::SUCCESS)
}

fn join(options: Join, config: &Config) -> anyhow::Result<ExitCode> {
    let token: Token = options.token.parse()?;
    if token.is_for_analyst() {
        return join_analyst(&options, &token, config);
    }
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

fn join_analyst(options: &Join, token: &Token, config: &Config) -> anyhow::Result<ExitCode> {
    if let Some(name) = &options.name {
        bail!("--name {name:?} is for hosts: an analyst is known by the name that the token was made for");
    }
    let Some(data) = options.data.clone().or_else(|| config.data.clone()).or_else(analyst_data) else {
        bail!(
            "there is no $XDG_STATE_HOME or $HOME to keep the certificate in: name a directory with --data"
        );
    };
    let joined = analyst::join(&options.url, token, &data)?;
    let place = match &options.data {
        Some(data) => format!(" --data {}", data.display()),
        None => String::new(),
    };
    eprintln!("luarm: joined {} as the analyst {}. Next: luarm sql{place}", joined.server, joined.name);
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
    let (kind, name, revoked) = match (&options.analyst, &options.host) {
        (Some(analyst), _) => ("analyst", analyst, server::revoke_analyst(&store, analyst)?),
        (None, Some(host)) => ("host", host, server::revoke(&store, host)?),
        (None, None) => bail!("name a host, or an analyst with --analyst NAME"),
    };
    match revoked {
        Ok(0) => log::complain(&format!("{name} had no certificate that was good")),
        Ok(_) => {}
        Err(known) => {
            let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
            log::complain(&format!("no {kind} {name:?} has joined; these have: {known}"));
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
