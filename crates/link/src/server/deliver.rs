//! One stream of batches.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use luarm_store::{Certified, Parcel};
use tokio::{
    sync::{mpsc, oneshot, watch},
    time::{MissedTickBehavior, interval, timeout},
};
use tonic::{Code, Status, Streaming};

use super::{refusal::Refusal, service::Service};
use crate::proto::{PackedBatch, Parcel as Message, Receipt, parcel::What};

/// For the first message, and for a receipt to be taken.
const PATIENCE: Duration = Duration::from_secs(30);
/// Between two looks at whether the certificate of a silent stream was revoked. One that delivers is looked at with each batch.
const LOOK: Duration = Duration::from_secs(2);

/// Wishes of one host that may wait: as many as there can be questions, and some that nobody waits for any more.
const WISHES: usize = 64;

/// The wish that everything that happened on a host be delivered: told when it is, dropped when it will not be.
pub(super) type Wish = oneshot::Sender<()>;

/// The one stream of each host, by machine id.
#[derive(Debug, Default)]
pub(super) struct Streams(Mutex<HashMap<String, Entry>>);

#[derive(Debug)]
struct Entry {
    name: String,
    over: oneshot::Sender<()>,
    wishes: mpsc::Sender<Wish>,
}

impl Streams {
    /// The newest stream of a host is its stream: the one before it may be a connection that died without a word.
    fn enter(&self, host: &Certified) -> (oneshot::Receiver<()>, mpsc::Receiver<Wish>) {
        let ((over, told), (wishes, wished)) = (oneshot::channel(), mpsc::channel(WISHES));
        let entry = Entry { name: host.name.clone(), over, wishes };
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(host.machine_id.clone(), entry);
        (told, wished)
    }

    /// The hosts that deliver now: machine id, name, and where to leave a wish.
    pub(super) fn delivering(&self) -> Vec<(String, String, mpsc::Sender<Wish>)> {
        let streams = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        streams.iter().map(|(id, entry)| (id.clone(), entry.name.clone(), entry.wishes.clone())).collect()
    }

    /// Forgets a stream whose receiver is closed, unless another one is the host's by now.
    fn leave(&self, machine_id: &str) {
        let mut streams = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if streams.get(machine_id).is_some_and(|entry| entry.over.is_closed()) {
            streams.remove(machine_id);
        }
    }
}

/// Serves the stream to its end.
pub(super) async fn run(
    service: Arc<Service>,
    fingerprint: String,
    host: Certified,
    mut batches: Streaming<Message>,
    receipts: mpsc::Sender<Result<Receipt, Status>>,
) {
    let (mut over, mut wishes) = service.streams.enter(&host);
    let ended = serve(&service, &fingerprint, &host, &mut batches, &receipts, (&mut over, &mut wishes)).await;
    over.close();
    service.streams.leave(&host.machine_id);
    if let Err(status) = ended {
        // Whoever does not read it does not learn it.
        let _ = timeout(PATIENCE, receipts.send(Err(status))).await;
    }
}

async fn serve(
    service: &Arc<Service>,
    fingerprint: &str,
    host: &Certified,
    batches: &mut Streaming<Message>,
    receipts: &mpsc::Sender<Result<Receipt, Status>>,
    (over, wishes): (&mut oneshot::Receiver<()>, &mut mpsc::Receiver<Wish>),
) -> Result<(), Status> {
    let refuse = |refusal| service.refusals.refuse(&host.name, refusal);
    let unsound = |message: &str| Refusal::new("unsound", Code::InvalidArgument, message);
    let hello = timeout(PATIENCE, batches.message()).await;
    let hello = hello.map_err(|_| Status::deadline_exceeded("no hello came"))?;
    match received(hello).map_err(refuse)? {
        Some(What::Hello(_)) => {}
        Some(What::Batch(_) | What::Synced(_)) => {
            return Err(refuse(unsound("a batch came before the hello")));
        }
        None => return Ok(()),
    }
    let asked = host.clone();
    let mut stored = service.block(move |backend| backend.last_batch(&asked)).await.map_err(refuse)?;
    give(receipts, Receipt { stored, ..Receipt::default() }).await?;
    let (mut wished, mut number) = (HashMap::<u64, Wish>::new(), 0);
    let mut looks = interval(LOOK);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut stopping = service.stopping.clone();
    loop {
        let message = tokio::select! {
            message = batches.message() => message,
            _ = &mut *over => return Err(Status::aborted("another connection of this host took over")),
            () = told(&mut stopping) => return Err(Status::unavailable("the server is stopping")),
            Some(wish) = wishes.recv() => {
                wished.retain(|_, wish| !wish.is_closed());
                if wished.len() < WISHES {
                    number += 1;
                    wished.insert(number, wish);
                    give(receipts, Receipt { stored, sync: number, ..Receipt::default() }).await?;
                }
                continue;
            }
            _ = looks.tick() => {
                let asked = fingerprint.to_owned();
                service.block(move |backend| backend.host(&asked)).await.map_err(refuse)?;
                continue;
            }
        };
        let batch = match received(message).map_err(refuse)? {
            Some(What::Batch(batch)) => batch,
            Some(What::Synced(synced)) => {
                if let Some(wish) = wished.remove(&synced.number) {
                    // Whoever wished it may have gone.
                    let _ = wish.send(());
                }
                continue;
            }
            Some(What::Hello(_)) => return Err(refuse(unsound("a second hello came"))),
            None => return Ok(()),
        };
        let PackedBatch { id, digest, length, zstd } = batch;
        let parcel = Parcel { id, digest, length, bytes: zstd };
        let place = Arc::clone(&service.writing).acquire_owned().await;
        let asked = fingerprint.to_owned();
        let receipt =
            service.block(move |backend| backend.store(&asked, &parcel, place)).await.map_err(refuse)?;
        stored = receipt.stored.max(stored);
        give(receipts, receipt).await?;
    }
}

/// Waits until the server is told to stop.
pub(super) async fn told(stopping: &mut watch::Receiver<bool>) {
    // Whoever could tell is gone: the server ends.
    let _ = stopping.wait_for(|stop| *stop).await;
}

/// What came; `None` at the end.
fn received(message: Result<Option<Message>, Status>) -> Result<Option<What>, Refusal> {
    match message {
        Ok(None) => Ok(None),
        Ok(Some(Message { what: Some(what) })) => Ok(Some(what)),
        Ok(Some(Message { what: None })) => Err(Refusal::new(
            "version",
            Code::FailedPrecondition,
            "a message of no kind that is known here: update the server",
        )),
        // What gRPC says of a message that is too long, of compression, of what is no message.
        Err(status) if matches!(status.code(), Code::OutOfRange | Code::ResourceExhausted) => {
            Err(Refusal::new("too-large", Code::ResourceExhausted, status.message()))
        }
        Err(status)
            if matches!(status.code(), Code::Internal | Code::Unimplemented | Code::InvalidArgument) =>
        {
            Err(Refusal::new("unsound", Code::InvalidArgument, status.message()))
        }
        // The connection is gone.
        Err(_) => Ok(None),
    }
}

/// Gives a receipt to a peer that reads it in time.
async fn give(receipts: &mpsc::Sender<Result<Receipt, Status>>, receipt: Receipt) -> Result<(), Status> {
    match timeout(PATIENCE, receipts.send(Ok(receipt))).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(_)) => Err(Status::cancelled("the peer is gone")),
        Err(_) => Err(Status::deadline_exceeded("the peer does not read its receipts")),
    }
}
