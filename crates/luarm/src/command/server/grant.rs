//! `luarm server grant`: accounts of the database that may do what they are for, and nothing else.

use std::{
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context, bail};
use clap::{Args, Subcommand};
use luarm_store::{Account, Owner, StoreError, StoreUrl};

use crate::{cli::Place, config::Config};

/// The account of a server, where it is not named.
const SERVER: &str = "luarm_server";

/// No file with a password is longer.
const LONGEST: u64 = 1024;

/// Make an account in the database for luarm server, or for an analyst, or give one that exists what it needs
///
/// --store names the database with its owner's account, which may make accounts, databases and views; put a URL with a password into a
/// configuration file (--config), because everybody on the machine can read a command line. Views of hosts that have none are made as well.
#[derive(Debug, Args)]
pub(crate) struct Grant {
    #[command(subcommand)]
    to: To,
}

#[derive(Debug, Subcommand)]
enum To {
    Server(Server),
    Analyst(Analyst),
}

/// For luarm server: may add rows and set their ends, and have the views of a new host made; may not change or delete anything
#[derive(Debug, Args)]
struct Server {
    /// Name of the account
    #[arg(long, value_name = "NAME", default_value = SERVER)]
    name: String,
    #[command(flatten)]
    how: How,
}

/// For somebody who asks: may only select, from all hosts or from one
#[derive(Debug, Args)]
struct Analyst {
    /// Name of the account
    name: String,
    /// The one host whose rows it may see, which has to be known by now [default: all hosts, those to come included]
    #[arg(long, value_name = "NAME")]
    host: Option<String>,
    #[command(flatten)]
    how: How,
}

#[derive(Debug, Args)]
struct How {
    /// File whose first line is the account's password from now on, or - for standard input [default: a new account gets a random one, which is printed; one
    /// that exists keeps its own]
    #[arg(long, value_name = "FILE")]
    password_file: Option<PathBuf>,
    /// Print the SQL statements, the password (on PostgreSQL: what it is checked by) included, and change nothing
    #[arg(long)]
    print: bool,
    #[command(flatten)]
    place: Place,
}

pub(crate) fn run(grant: Grant, config: &Config) -> anyhow::Result<ExitCode> {
    let (name, how) = match &grant.to {
        To::Server(server) => (server.name.clone(), &server.how),
        To::Analyst(analyst) => (analyst.name.clone(), &analyst.how),
    };
    let given = how.password_file.as_deref().map(password).transpose()?;
    let print = how.print;
    let store = match &grant.to {
        To::Server(server) => &server.how.place,
        To::Analyst(analyst) => &analyst.how.place,
    };
    let store = config.locate(store.data.clone(), store.store.clone()).store;
    if matches!(store, StoreUrl::Sqlite(_)) {
        // Before a file is looked for.
        return Err(StoreError::OnlyServers { url: store, what: "an account" }.into());
    }
    let mut owner = if print { Owner::look(&store)? } else { Owner::open(&store)? };
    let own = given.is_none() && !owner.is_account(&name)?;
    let password = if own { Some(random()?) } else { given };
    let account = match grant.to {
        To::Server(_) => Account::Server { name, password: password.clone() },
        To::Analyst(analyst) => Account::Analyst { name, password: password.clone(), host: analyst.host },
    };
    if print {
        for statement in owner.grants(&account)? {
            println!("{statement};");
        }
        return Ok(ExitCode::SUCCESS);
    }
    owner.grant(&account)?;
    match password {
        Some(password) if own => {
            println!("{password}");
            eprintln!(
                "luarm: {} may log in with the password on standard output; it is nowhere else",
                named(&account)
            );
        }
        Some(_) => eprintln!("luarm: {} may log in with the password of the file", named(&account)),
        None => eprintln!("luarm: {} has what it needs, and keeps its password", named(&account)),
    }
    Ok(ExitCode::SUCCESS)
}

fn named(account: &Account) -> &str {
    let (Account::Server { name, .. } | Account::Analyst { name, .. }) = account;
    name
}

/// The first line of the file.
fn password(path: &Path) -> anyhow::Result<String> {
    let mut source: Box<dyn Read> = match path.to_str() {
        Some("-") => Box::new(io::stdin()),
        _ => Box::new(
            File::open(path).with_context(|| format!("cannot read the password of {}", path.display()))?,
        ),
    };
    let mut text = String::new();
    let read = (&mut source).take(LONGEST + 1).read_to_string(&mut text);
    read.with_context(|| format!("cannot read the password of {}", path.display()))?;
    let line = text.lines().next().unwrap_or_default();
    if line.is_empty() || text.len() as u64 > LONGEST {
        bail!("{} holds no password in its first line, or more than {LONGEST} bytes", path.display());
    }
    Ok(line.to_owned())
}

/// 192 random bits, in hexadecimal, so that a URL can hold them.
fn random() -> anyhow::Result<String> {
    let mut bytes = [0; 24];
    let read = File::open("/dev/urandom").and_then(|mut source| source.read_exact(&mut bytes));
    read.context("cannot get random numbers from /dev/urandom")?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}
