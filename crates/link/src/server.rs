//! The server: takes batches from hosts, each into its own history, answers analysts, and signs certificates.
//!
//! ```text
//! accept ──▶ handshake ──▶ gRPC ─┬▶ deliver ──▶ backend ──▶ store
//!  bounded    512, 10 s  bounded │  one stream   a few threads that block
//!                       messages │  for each host
//!                                └▶ inquiry ──▶ answer ◀── store, by connections that only read
//!                                   few at once  a thread each
//! ```
//!
//! It has no state but what is in the store, and its keys: several servers may share one store. What it is asked it writes down as a host of its own kind, in a chain that it seals
//! itself (`journal`). Nothing that one peer does holds up another: handshakes, strangers and the
//! connections of one host have places of their own, and who comes when all are taken takes the place of the oldest.

mod accept;
mod answer;
mod backend;
mod chain;
mod connection;
mod deliver;
mod desk;
mod examine;
mod hosts;
mod inquiry;
mod journal;
mod monitor;
mod note;
mod open;
mod pending;
mod places;
mod refusal;
mod room;
mod service;

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::{Arc, Weak},
    time::Duration,
};

use luarm_schema::{
    Time,
    tables::{QueryInfo, QueryInfoEnd},
};
use luarm_store::{Asked, Registry, Scope, StoreUrl, analyst_id};
use tokio::{net::TcpListener, runtime::Runtime, sync::watch};
use tonic::transport::Server as Grpc;

use self::{backend::Backend, desk::Desk, monitor::Tally, places::Places, service::Service};
pub use self::{
    desk::Answering,
    hosts::Sighted,
    monitor::{Monitor, Vitals},
    refusal::Refusals,
};
use crate::{
    LinkError,
    authority::{self, Authority},
    files, notary, packed,
    proto::{
        delivery_server::DeliveryServer, enrolment_server::EnrolmentServer, inquiry_server::InquiryServer,
    },
    tls,
    token::Token,
};

/// How long a server that was told to stop waits for what is under way.
const DRAIN: Duration = Duration::from_secs(10);
/// A peer is asked whether it still lives after so long, and has as long to answer.
const KEEPALIVE: Duration = Duration::from_secs(20);
/// How much of one stream may be on its way before it is read.
const WINDOW: u32 = 1 << 20;
/// What a message may have beside a batch. Whoever has no certificate can send no more.
const ENVELOPE: usize = 64 << 10;
/// Between two makings of the server's own certificate.
const RENEW: Duration = Duration::from_secs(86_400);

/// How to serve.
#[derive(Debug, Clone)]
pub struct Config {
    /// The data directory, which has the authority.
    pub data: PathBuf,
    /// The store.
    pub store: StoreUrl,
    /// Where to listen.
    pub listen: SocketAddr,
    /// How long a host's or an analyst's certificate is good.
    pub lifetime: Duration,
    /// How analysts are answered.
    pub answering: Answering,
    /// After how long a silence a host that did not say goodbye is overdue.
    pub overdue: Duration,
}

/// A running server.
pub struct Server {
    runtime: Runtime,
    address: SocketAddr,
    stop: watch::Sender<bool>,
    serving: tokio::task::JoinHandle<Result<(), tonic::transport::Error>>,
    refusals: Arc<Refusals>,
    tally: Arc<Tally>,
    places: Arc<Places>,
    store: StoreUrl,
    overdue: Duration,
    backend: Arc<Backend>,
}

/// Writes down questions to a server's store, as long as the server serves. Both calls block.
#[derive(Clone)]
pub struct Scribe(Weak<Backend>);

impl Scribe {
    /// Writes a question down before it is answered. An error says why it cannot be.
    pub fn begin(&self, question: QueryInfo) -> Result<Asked, String> {
        self.backend()?.ask(question).map_err(|refusal| refusal.inside.unwrap_or(refusal.message))
    }

    /// Writes down how it ended.
    pub fn end(&self, asked: Asked, end: &QueryInfoEnd) -> Result<(), String> {
        self.backend()?.answered(asked, end).map_err(|refusal| refusal.inside.unwrap_or(refusal.message))
    }

    fn backend(&self) -> Result<Arc<Backend>, String> {
        self.0.upgrade().ok_or_else(|| "the server is stopping".to_owned())
    }
}

impl std::fmt::Debug for Scribe {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Scribe")
    }
}

impl Server {
    /// Starts serving; returns once connections are accepted.
    pub fn start(config: &Config) -> Result<Self, LinkError> {
        let authority = Authority::load(&config.data)?;
        let own = Arc::new(accept::Own::new(authority.own()?));
        let tls = Arc::new(tls::server(authority.certificate(), Arc::<accept::Own>::clone(&own))?);
        let refusals = Arc::new(Refusals::default());
        let tally = Arc::new(Tally::default());
        let places = Arc::new(Places::default());
        let backend =
            Arc::new(Backend::open(config, authority, &notary::open(&config.data)?, Arc::clone(&tally))?);
        let listening = |source| LinkError::Listen { address: config.listen.to_string(), source };
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .max_blocking_threads(64)
            .thread_name("server")
            .enable_all()
            .build()
            .map_err(listening)?;
        let listener = runtime.block_on(TcpListener::bind(config.listen)).map_err(listening)?;
        let address = listener.local_addr().map_err(listening)?;
        let (stop, stopping) = watch::channel(false);
        let desk = Arc::new(Desk::new(&config.store, config.answering.clone()));
        let service = Service::new(Arc::clone(&backend), Arc::clone(&refusals), desk, stopping.clone());
        let incoming = {
            let _inside = runtime.enter();
            accept::start(listener, tls, (Arc::clone(&refusals), Arc::clone(&places)), stopping.clone())
        };
        runtime.spawn(renew_own(Arc::clone(&backend), own));
        let mut stopped = stopping;
        let serving = Grpc::builder()
            .initial_stream_window_size(WINDOW)
            .initial_connection_window_size(2 * WINDOW)
            .max_concurrent_streams(8)
            .concurrency_limit_per_connection(8)
            .http2_keepalive_interval(Some(KEEPALIVE))
            .http2_keepalive_timeout(Some(KEEPALIVE))
            .http2_max_header_list_size(16 << 10)
            .add_service(EnrolmentServer::new(Arc::clone(&service)).max_decoding_message_size(ENVELOPE))
            .add_service(
                InquiryServer::new(Arc::clone(&service))
                    .max_decoding_message_size(packed::MOST_QUESTION + ENVELOPE),
            )
            .add_service(
                DeliveryServer::new(service).max_decoding_message_size(packed::MOST_PACKED + ENVELOPE),
            )
            .serve_with_incoming_shutdown(incoming, async move {
                // An error would mean that nobody can tell us to stop any more.
                let _ = stopped.wait_for(|stop| *stop).await;
            });
        let serving = runtime.spawn(serving);
        let (store, overdue) = (config.store.clone(), config.overdue);
        Ok(Server { runtime, address, stop, serving, refusals, tally, places, store, overdue, backend })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What writes down questions to its store that come by another way.
    pub fn scribe(&self) -> Scribe {
        Scribe(Arc::downgrade(&self.backend))
    }

    /// What it refused.
    pub fn refusals(&self) -> Arc<Refusals> {
        Arc::clone(&self.refusals)
    }

    /// Watches over it and its hosts from now on; asks the store now and then, over connections of its own, and says in the log which hosts fall silent
    /// and which come back.
    pub fn monitor(&self) -> Result<Arc<Monitor>, LinkError> {
        let parts = (Arc::clone(&self.tally), Arc::clone(&self.refusals), Arc::clone(&self.places));
        Monitor::start(parts, self.store.clone(), self.overdue).map_err(|source| LinkError::File {
            action: "start the monitor's thread for",
            path: "the server".into(),
            source,
        })
    }

    /// Stops: finishes the batches at hand, and ends the connections.
    pub fn stop(self) {
        // Nobody listens when everything has ended already.
        let _ = self.stop.send(true);
        let serving = self.serving;
        self.runtime.block_on(async move {
            if tokio::time::timeout(DRAIN, serving).await.is_err() {
                tracing::warn!("some connections did not end within {} s", DRAIN.as_secs());
            }
        });
        self.runtime.shutdown_timeout(DRAIN);
        self.backend.close();
    }
}

impl std::fmt::Debug for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Server").field("address", &self.address).finish_non_exhaustive()
    }
}

async fn renew_own(backend: Arc<Backend>, own: Arc<accept::Own>) {
    loop {
        tokio::time::sleep(RENEW).await;
        match backend.authority().own() {
            Ok(certified) => own.replace(certified),
            Err(error) => tracing::error!("the server's certificate cannot be renewed: {error}"),
        }
    }
}

/// Makes a token for a host. It is kept in the store, if one is known, else in the data directory, where the server finds it when it starts.
pub fn make_token(
    data: &Path,
    store: Option<&StoreUrl>,
    host: Option<&str>,
    lifetime: Duration,
) -> Result<Token, LinkError> {
    if let Some(host) = host {
        examine::host_name(host)?;
    }
    let token = Token::new(Authority::load(data)?.fingerprint())?;
    keep_token(data, store, &token, host.map(str::to_owned), None, lifetime)?;
    Ok(token)
}

/// Makes a token for an analyst, who may see the rows of these hosts. It is kept as a host's is.
pub fn make_analyst_token(
    data: &Path,
    store: Option<&StoreUrl>,
    (analyst, scope): (&str, &Scope),
    lifetime: Duration,
) -> Result<Token, LinkError> {
    examine::analyst_name(analyst)?;
    if let Scope::Hosts(hosts) = scope {
        hosts.iter().try_for_each(|host| examine::host_name(host))?;
        if matches!(store, Some(StoreUrl::Sqlite(_))) {
            return Err(LinkError::Unlimited);
        }
    }
    let token = Token::new(Authority::load(data)?.fingerprint())?.for_analyst();
    keep_token(data, store, &token, Some(analyst_id(analyst)), Some(scope), lifetime)?;
    Ok(token)
}

fn keep_token(
    data: &Path,
    store: Option<&StoreUrl>,
    token: &Token,
    name: Option<String>,
    scope: Option<&Scope>,
    lifetime: Duration,
) -> Result<(), LinkError> {
    let now = Time::now();
    let lifetime = i64::try_from(lifetime.as_micros()).unwrap_or(i64::MAX);
    let kept = luarm_store::Token {
        id: token.id(),
        hash: token.hash(),
        expires: Time(now.0.saturating_add(lifetime)),
        name,
    };
    let Some(store) = store else {
        return pending::keep(data, &kept, scope);
    };
    let mut registry = Registry::open(store)?;
    registry.add_token(&kept, now)?;
    if let Some(scope) = scope {
        registry.set_scope(&kept.id, scope)?;
    }
    Ok(())
}

/// Revokes the certificates of a host, by its name or machine id. `Err` with the known names if there is no such host.
pub fn revoke(store: &StoreUrl, host: &str) -> Result<Result<u64, Vec<String>>, LinkError> {
    let mut registry = Registry::open(store)?;
    match registry.revoke(host, Time::now())? {
        Some(revoked) => Ok(Ok(revoked)),
        None => Ok(Err(registry.names()?)),
    }
}

/// Revokes the certificates of an analyst. `Err` with the known names if there is no such analyst.
pub fn revoke_analyst(store: &StoreUrl, analyst: &str) -> Result<Result<u64, Vec<String>>, LinkError> {
    let mut registry = Registry::open(store)?;
    match registry.revoke(&analyst_id(analyst), Time::now())? {
        Some(revoked) => Ok(Ok(revoked)),
        None => Ok(Err(registry.analysts()?)),
    }
}

/// Notes which store the server of this data directory uses, for the commands that come after.
pub fn remember_store(data: &Path, store: &StoreUrl) -> Result<(), LinkError> {
    let text = match store {
        StoreUrl::Sqlite(path) => {
            // A relative path means something else elsewhere.
            let path = std::path::absolute(path).unwrap_or_else(|_| path.clone());
            format!("sqlite:{}", path.display())
        }
        StoreUrl::Mysql(url) | StoreUrl::Postgres(url) => url.clone(),
    };
    let path = authority::directory(data).join("store");
    if files::read(&path)?.as_deref() == Some(text.as_bytes()) {
        return Ok(());
    }
    files::write(&path, text.as_bytes())
}

/// The store that the server of this data directory used last.
pub fn remembered_store(data: &Path) -> Result<Option<StoreUrl>, LinkError> {
    let Some(text) = files::read(&authority::directory(data).join("store"))? else {
        return Ok(None);
    };
    Ok(Some(StoreUrl::parse(&String::from_utf8_lossy(&text))?))
}
