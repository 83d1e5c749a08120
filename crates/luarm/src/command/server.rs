//! `luarm server`: takes what agents deliver into one store, and answers analysts out of it; what its owner does to the store.

mod grant;
mod retain;

use std::{
    net::SocketAddr,
    path::PathBuf,
    process::ExitCode,
    sync::{Arc, mpsc},
};

use clap::{Args, Subcommand};
use luarm_link::{
    authority::{self, Authority},
    notary,
    server::{self, Server},
};
use luarm_sensor::HostFacts;
use luarm_store::{OVERDUE, StoreUrl};

use super::run::catch_signals;
use crate::{
    cli::Place,
    config::{Config, HostStore, Lifetime, Queries, Unrecorded},
    control, log,
    metrics::{self, Address},
    pipeline::Event,
    service,
};

/// Where agents expect a server.
const PORT: u16 = 7467;

/// Serve agents and analysts, until SIGTERM or SIGINT: take what agents deliver into the store, answer what analysts ask
///
/// `luarm server init` has made its certificate authority before. Prints one line beginning `luarm: serving` on standard error once it accepts. On
/// SIGTERM or SIGINT it finishes the batches at hand. Several servers may share one store.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct Options {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    place: Place,
    /// Address and port to listen at [default: `[::]:7467`]
    #[arg(long, value_name = "ADDR")]
    listen: Option<SocketAddr>,
    /// How long the certificate of a host or an analyst is good; it gets another one by itself before, such as 90d, 12h or 30s [default: 90d]
    #[arg(long, value_name = "TIME")]
    certificates: Option<Lifetime>,
    /// Serve figures for Prometheus (GET /metrics) and whether all is well (GET /health) over HTTP at this address and port, or socket: 127.0.0.1:7468 or
    /// unix:/PATH. Whoever reaches it can read them [default: not at all]
    #[arg(long, value_name = "ADDRESS")]
    metrics: Option<Address>,
    /// A host of which nothing came for so long, and that did not say that it stops, is overdue: the log says so, and a figure, such as 90s or 15m
    /// [default: 3m]
    #[arg(long, value_name = "TIME")]
    overdue: Option<Lifetime>,
    #[command(flatten)]
    answering: Answers,
}

/// How analysts are answered
#[derive(Debug, Args)]
struct Answers {
    /// The store as analysts are to read it: the same database, by an account that can only select [default: the store, in transactions that only
    /// read]
    #[arg(long, value_name = "URL")]
    read_store: Option<StoreUrl>,
    /// For analysts who are limited to hosts (luarm enroll token --analyst NAME --host HOST): the same database by an account that can only select from the
    /// views of this host, as HOST=URL; repeat it for more. On MariaDB and MySQL the URL names the host's own database (HOST_all)
    #[arg(long, value_name = "HOST=URL")]
    host_store: Vec<HostStore>,
    /// The longest that a question of an analyst may take, taking the answer included, such as 90s or 15m [default: 10m]
    #[arg(long, value_name = "TIME")]
    query_time: Option<Lifetime>,
    /// The most rows of an answer to an analyst [default: 50000000]
    #[arg(long, value_name = "ROWS")]
    query_rows: Option<u64>,
    /// How many questions of one analyst may be answered at the same time, of 16 in all [default: 4]
    #[arg(long, value_name = "NUMBER")]
    queries: Option<Queries>,
    /// What becomes of a question of an analyst that cannot be recorded in queryinfo: refuse it, or answer it [default: refuse]
    #[arg(long, value_name = "WHAT")]
    unrecorded: Option<Unrecorded>,
}

impl Answers {
    fn limits(self, config: &Config) -> server::Answering {
        let default = server::Answering::default();
        server::Answering {
            store: self.read_store.or_else(|| config.read_store.clone()),
            hosts: match self.host_store.is_empty() {
                true => config.host_store.iter().flatten().cloned().map(|host| host.0).collect(),
                false => self.host_store.into_iter().map(|host| host.0).collect(),
            },
            time: self.query_time.or(config.query_time).map_or(default.time, |time| time.0),
            rows: self.query_rows.or(config.query_rows).unwrap_or(default.rows),
            unrecorded: self.unrecorded.or(config.unrecorded).unwrap_or_default() == Unrecorded::Answer,
            at_once: self.queries.or(config.queries).map_or(default.at_once, |queries| queries.0),
        }
    }
}

#[derive(Debug, Subcommand)]
enum Command {
    Init(Init),
    Grant(grant::Grant),
    Retain(retain::Retain),
}

/// Make the server's certificate authority in DIR/server
#[derive(Debug, Args)]
pub(crate) struct Init {
    /// Data directory [default: /var/lib/luarm]
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Name or address under which hosts reach the server; repeat it for more. It always answers on loopback [default: this host's name]
    #[arg(long, value_name = "NAME")]
    name: Vec<String>,
}

pub(crate) fn run(options: Options, config: &Config) -> anyhow::Result<ExitCode> {
    match options.command {
        Some(Command::Init(init)) => self::init(init, config),
        Some(Command::Grant(grant)) => grant::run(grant, config),
        Some(Command::Retain(retain)) => retain::run(retain, config),
        None => serve(options, config),
    }
}

fn init(init: Init, config: &Config) -> anyhow::Result<ExitCode> {
    let data = config.locate(init.data, None).data;
    let names = if init.name.is_empty() { own_name() } else { init.name };
    Authority::init(&data, &names)?;
    let notary = notary::open(&data)?;
    log::announce(&format!(
        "the authority is in {}; keep a copy of it in a safe place. What it takes in it signs with {}. Next: luarm server --data {}",
        authority::directory(&data).display(),
        luarm_chain::encode(&notary.public()),
        data.display()
    ));
    Ok(ExitCode::SUCCESS)
}

/// This host's name, where a certificate can have it.
fn own_name() -> Vec<String> {
    let name = HostFacts::read(std::path::Path::new("/")).map(|facts| facts.hostname).unwrap_or_default();
    let plain = name.bytes().all(|b| b.is_ascii_alphanumeric() || b".-".contains(&b));
    if plain && !name.is_empty() { vec![name] } else { Vec::new() }
}

fn serve(options: Options, config: &Config) -> anyhow::Result<ExitCode> {
    let located = options.place.locate(config);
    let any = SocketAddr::from((std::net::Ipv6Addr::UNSPECIFIED, PORT));
    let (events, happened) = mpsc::channel();
    catch_signals(events)?;
    raise_descriptors();
    let server = Server::start(&server::Config {
        data: located.data.clone(),
        store: located.store.clone(),
        listen: options.listen.or(config.listen).unwrap_or(any),
        lifetime: options.certificates.or(config.certificates).unwrap_or_default().0,
        answering: options.answering.limits(config),
        overdue: options.overdue.or(config.overdue).map_or(OVERDUE, |time| time.0),
    })?;
    let monitor = server.monitor()?;
    let _desk = control::attend(&located.data, located.store.to_string(), server.scribe())?;
    let address = options.metrics.as_ref().or(config.metrics.as_ref());
    let _metrics = metrics::serve(address, Arc::clone(&monitor) as _)?;
    server::remember_store(&located.data, &located.store)?;
    service::ready(&format!("serving at {} into {}", server.address(), located.store));
    for event in happened {
        if event == Event::Stop {
            break;
        }
    }
    service::stopping();
    tracing::info!("stopping");
    let refusals = server.refusals();
    drop(monitor);
    server.stop();
    for (kind, count) in refusals.totals() {
        tracing::info!("refused {count} times: {kind}");
    }
    Ok(ExitCode::SUCCESS)
}

/// Each connection takes a file descriptor, and the usual soft limit is for programs that still use select(2).
fn raise_descriptors() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    if let Err(error) = setrlimit(Resource::Nofile, raised) {
        tracing::warn!("cannot raise the limit of open files: {error}");
    }
}
