//! Delivers what is in the outbox, over whatever connections can be had.

use std::{
    collections::VecDeque,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    thread::JoinHandle,
    time::{Duration, Instant},
};

use luarm_schema::Time;
use tokio::{
    runtime::Handle,
    sync::{mpsc, watch},
    time::{sleep, timeout},
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Streaming, transport::Channel};

use super::{
    backoff::Backoff,
    connect::{self, ServerUrl},
    join::{refused, renew},
    outbox::Outbox,
};
use crate::{
    LinkError,
    identity::Identity,
    packed,
    proto::{Hello, PackedBatch, Parcel, Receipt, Synced, delivery_client::DeliveryClient, parcel::What},
};

/// Batches that may be on their way at once, and bytes of them.
const WINDOW: usize = 32;
const WINDOW_BYTES: usize = 8 << 20;
/// For the server's first word, and for a batch to be stored.
const PATIENCE: Duration = Duration::from_secs(60);
/// Between two looks at whether the certificate is to be renewed.
const LOOK: Duration = Duration::from_secs(1);
/// Before another try at something that no time mends by itself.
const HOPELESS: Duration = Duration::from_secs(15);

/// What a courier tells.
pub trait Events: Send {
    /// The server has all batches up to this number.
    fn delivered(&mut self, id: i64);
    /// The server's engine refused so many rows of a table for what is in them.
    fn refused(&mut self, table: &str, count: u32);
    /// The server asks for everything that has happened on this host: `done` is to be called, from whichever thread, once it is delivered. Dropping it says that
    /// it will not be.
    fn sync(&mut self, done: Box<dyn FnOnce() + Send>) {
        drop(done);
    }
}

/// How the connection is.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LinkState {
    /// The server that is connected.
    pub connected: Option<String>,
    /// What keeps batches from being delivered.
    pub trouble: Option<String>,
    /// When a batch was delivered last.
    pub delivered: Option<Time>,
    /// When the certificate expires.
    pub expires: Option<Time>,
}

/// What a courier works with.
pub struct Plan {
    /// The data directory.
    pub data: PathBuf,
    /// The servers, to be tried in turn.
    pub servers: Vec<ServerUrl>,
    /// Version of luarm.
    pub version: &'static str,
}

/// A running courier.
pub struct Courier {
    state: Arc<Mutex<LinkState>>,
    stop: watch::Sender<Option<Instant>>,
    thread: JoinHandle<()>,
}

impl Courier {
    /// Starts delivering what is in the outbox.
    pub fn start(
        plan: Plan,
        identity: Identity,
        outbox: Arc<Outbox>,
        events: Box<dyn Events>,
    ) -> Result<Self, LinkError> {
        let failed = |source| LinkError::File {
            action: "start the courier's thread for",
            path: "the agent".into(),
            source,
        };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(failed)?;
        let state = Arc::new(Mutex::new(LinkState::default()));
        let (stop, stopping) = watch::channel(None);
        let round = Round {
            plan,
            identity,
            outbox,
            events,
            state: Arc::clone(&state),
            stopping,
            told: None,
            progress: false,
        };
        let thread = std::thread::Builder::new()
            .name("courier".to_owned())
            .spawn(move || runtime.block_on(round.run()))
            .map_err(failed)?;
        Ok(Courier { state, stop, thread })
    }

    /// How the connection is.
    pub fn state(&self) -> Arc<Mutex<LinkState>> {
        Arc::clone(&self.state)
    }

    /// Ends: at once when everything is delivered, else after at most that long. What is not delivered is in the spool.
    pub fn stop(self, grace: Duration) {
        let _ = self.stop.send(Some(Instant::now() + grace));
        let _ = self.thread.join();
    }
}

impl std::fmt::Debug for Courier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Courier").field("state", &self.state).finish_non_exhaustive()
    }
}

/// How a session ended.
enum End {
    /// The courier was told to stop, and has.
    Stopped,
    /// The session failed.
    Failed(LinkError),
}

impl From<LinkError> for End {
    fn from(error: LinkError) -> Self {
        End::Failed(error)
    }
}

impl From<luarm_store::StoreError> for End {
    fn from(error: luarm_store::StoreError) -> Self {
        End::Failed(error.into())
    }
}

struct Round {
    plan: Plan,
    identity: Identity,
    outbox: Arc<Outbox>,
    events: Box<dyn Events>,
    state: Arc<Mutex<LinkState>>,
    stopping: watch::Receiver<Option<Instant>>,
    /// What was said of the trouble last, so that it is said once.
    told: Option<String>,
    /// Whether the present session got anything done.
    progress: bool,
}

impl Round {
    async fn run(mut self) {
        let mut backoff = Backoff::new();
        for turn in 0_usize.. {
            let Some(url) = self.plan.servers.get(turn % self.plan.servers.len().max(1)).cloned() else {
                return;
            };
            self.progress = false;
            let ended = self.session(&url).await;
            self.set(|state| state.connected = None);
            let End::Failed(error) = ended else { return };
            if self.progress {
                backoff.reset();
            }
            let mut pause = backoff.next();
            if matches!(
                error,
                LinkError::ServerLost { .. } | LinkError::ServerAhead { .. } | LinkError::Expired { .. }
            ) {
                pause = pause.max(HOPELESS);
            }
            self.complain(&error);
            // Another server may be there at once.
            if (turn + 1) % self.plan.servers.len() != 0 {
                pause = Duration::from_millis(10);
            }
            // There is no server to deliver to: what is in the spool stays there.
            tokio::select! {
                () = sleep(pause) => {}
                () = told(&mut self.stopping) => return,
            }
        }
    }

    /// Whether it was told to stop, and has nothing more to try.
    fn is_time(&self) -> bool {
        let until = *self.stopping.borrow();
        until.is_some_and(|until| Instant::now() >= until || self.outbox.acknowledged() >= self.outbox.last())
    }

    fn set(&self, change: impl FnOnce(&mut LinkState)) {
        change(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner));
    }

    fn complain(&mut self, error: &LinkError) {
        let message = error.to_string();
        self.set(|state| state.trouble = Some(message.clone()));
        if self.told.as_ref() != Some(&message) {
            tracing::warn!(
                "nothing is delivered: {message}; it is tried again, and what is recorded waits in the spool"
            );
            self.told = Some(message);
        }
    }

    /// One connection, until it ends.
    async fn session(&mut self, url: &ServerUrl) -> End {
        match self.deliver(url).await {
            Ok(()) => End::Stopped,
            Err(end) => end,
        }
    }

    async fn deliver(&mut self, url: &ServerUrl) -> Result<(), End> {
        let facts = self.identity.facts();
        self.set(|state| state.expires = Some(Time(facts.expires)));
        if self.identity.is_expired(Time::now()) {
            let (expires, name) = (Time(facts.expires), facts.name.clone());
            return Err(LinkError::Expired { expires, name }.into());
        }
        let tls = self.identity.tls()?;
        let channel = tokio::select! {
            channel = connect::connect(url, tls) => channel?,
            () = overdue(&mut self.stopping) => return Ok(()),
        };
        let (sender, outgoing) = mpsc::channel(WINDOW);
        let hello = Hello { version: self.plan.version.to_owned() };
        // There is room: it is the first message.
        let _ = sender.try_send(Parcel { what: Some(What::Hello(hello)) });
        let mut client =
            DeliveryClient::new(channel.clone()).max_encoding_message_size(packed::MOST_PACKED + (64 << 10));
        let answer = timeout(PATIENCE, client.deliver(ReceiverStream::new(outgoing))).await;
        let mut receipts =
            answer.map_err(|_| silent(url))?.map_err(|status| refused(url, &status))?.into_inner();
        let first = self.receipt(url, &mut receipts).await?;
        let sent = self.begin(url, first.stored)?;
        self.carry(url, (&sender, &mut receipts), sent, channel).await
    }

    /// The server has all batches up to `stored`: whether that can be, and what is next.
    fn begin(&mut self, url: &ServerUrl, stored: i64) -> Result<i64, LinkError> {
        let (acknowledged, last) = (self.outbox.acknowledged(), self.outbox.last());
        if stored < acknowledged {
            return Err(LinkError::ServerLost {
                url: url.to_string(),
                first: stored + 1,
                last: acknowledged,
            });
        }
        if stored > last {
            return Err(LinkError::ServerAhead { url: url.to_string(), stored, last });
        }
        self.set(|state| {
            state.connected = Some(url.to_string());
            state.trouble = None;
        });
        if self.told.take().is_some() {
            tracing::info!("delivering to {url} again: {} batches wait", last - stored);
        } else {
            tracing::info!("delivering to {url}");
        }
        self.delivered(stored)?;
        Ok(stored)
    }

    fn delivered(&mut self, stored: i64) -> Result<(), LinkError> {
        self.outbox.acknowledge(stored)?;
        self.events.delivered(stored);
        Ok(())
    }

    /// The next receipt.
    async fn receipt(
        &self,
        url: &ServerUrl,
        receipts: &mut Streaming<Receipt>,
    ) -> Result<Receipt, LinkError> {
        let receipt = timeout(PATIENCE, receipts.message()).await;
        let receipt = receipt.map_err(|_| silent(url))?.map_err(|status| refused(url, &status))?;
        receipt.ok_or_else(|| LinkError::Unreachable {
            url: url.to_string(),
            detail: "it ended the connection".to_owned(),
        })
    }

    /// Sends batch after batch, several at a time, and takes receipts.
    async fn carry(
        &mut self,
        url: &ServerUrl,
        (sender, receipts): (&mpsc::Sender<Parcel>, &mut Streaming<Receipt>),
        mut sent: i64,
        channel: Channel,
    ) -> Result<(), End> {
        let mut under_way: VecDeque<(i64, usize)> = VecDeque::new();
        let mut bytes = 0;
        let mut waiting_since = Instant::now();
        let (mut stopping, mut overdue_since) = (self.stopping.clone(), self.stopping.clone());
        loop {
            while under_way.len() < WINDOW && bytes < WINDOW_BYTES {
                let Some(parcel) = self.outbox.next(sent)? else { break };
                if under_way.is_empty() {
                    waiting_since = Instant::now();
                }
                sent = parcel.id;
                bytes += parcel.bytes.len();
                under_way.push_back((sent, parcel.bytes.len()));
                let batch = PackedBatch {
                    id: parcel.id,
                    digest: parcel.digest,
                    length: parcel.length,
                    zstd: parcel.bytes,
                };
                // When nobody takes it any more, the receipts say why.
                let _ = sender.try_send(Parcel { what: Some(What::Batch(batch)) });
            }
            if under_way.is_empty() && self.is_time() {
                return Ok(());
            }
            tokio::select! {
                receipt = receipts.message() => {
                    let receipt = receipt.map_err(|status| refused(url, &status))?;
                    let Some(Receipt { stored, refused, sync }) = receipt else {
                        let detail = "it ended the connection".to_owned();
                        return Err(LinkError::Unreachable { url: url.to_string(), detail }.into());
                    };
                    if stored > sent {
                        let last = self.outbox.last();
                        return Err(LinkError::ServerAhead { url: url.to_string(), stored, last }.into());
                    }
                    while under_way.front().is_some_and(|(id, _)| *id <= stored) {
                        bytes -= under_way.pop_front().map_or(0, |(_, bytes)| bytes);
                    }
                    waiting_since = Instant::now();
                    self.progress = true;
                    self.set(|state| state.delivered = Some(Time::now()));
                    for rows in refused {
                        tracing::error!("{url} could not store {} rows of {}", rows.count, rows.table);
                        self.events.refused(&rows.table, rows.count);
                    }
                    self.delivered(stored)?;
                    if sync != 0 {
                        self.sync(sync, sender);
                    }
                }
                () = self.outbox.filled(), if under_way.len() < WINDOW && bytes < WINDOW_BYTES => {}
                () = told(&mut stopping), if stopping.borrow().is_none() => {}
                () = overdue(&mut overdue_since) => return Ok(()),
                () = sleep(LOOK) => {}
            }
            if !under_way.is_empty() && waiting_since.elapsed() > PATIENCE {
                return Err(silent(url).into());
            }
            if self.identity.is_due(Time::now()) {
                self.renew(url, channel.clone()).await;
            }
        }
    }

    /// The server asks for everything. It is told when it has it, if the connection lasts so long.
    fn sync(&mut self, number: u64, sender: &mpsc::Sender<Parcel>) {
        let (runtime, sender) = (Handle::current(), sender.downgrade());
        self.events.sync(Box::new(move || {
            runtime.spawn(async move {
                if let Some(sender) = sender.upgrade() {
                    // A connection that ended has nobody to tell.
                    let _ = sender.send(Parcel { what: Some(What::Synced(Synced { number })) }).await;
                }
            });
        }));
    }

    /// Another certificate. Should it fail, there is time to try again.
    async fn renew(&mut self, url: &ServerUrl, channel: Channel) {
        match renew(url, channel, &self.identity, &self.plan.data).await {
            Ok(identity) => {
                tracing::info!(
                    "this host has a new certificate, until {} UTC",
                    Time(identity.facts().expires)
                );
                self.set(|state| state.expires = Some(Time(identity.facts().expires)));
                self.identity = identity;
            }
            Err(error) => {
                self.set(|state| state.trouble = Some(format!("the certificate is not renewed: {error}")));
                tracing::warn!("the certificate cannot be renewed now: {error}");
            }
        }
    }
}

fn silent(url: &ServerUrl) -> LinkError {
    let detail = format!("no answer within {} s", PATIENCE.as_secs());
    LinkError::Unreachable { url: url.to_string(), detail }
}

/// Waits until the courier is told to stop.
async fn told(stopping: &mut watch::Receiver<Option<Instant>>) {
    // Whoever could tell is gone: it ends.
    let _ = stopping.wait_for(Option::is_some).await;
}

/// Waits until the courier was told to stop and its time is up.
async fn overdue(stopping: &mut watch::Receiver<Option<Instant>>) {
    told(stopping).await;
    let until = *stopping.borrow();
    if let Some(until) = until {
        tokio::time::sleep_until(until.into()).await;
    }
}
