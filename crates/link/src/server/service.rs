//! The calls of the protocol.

use std::sync::Arc;

use luarm_store::Certified;
use tokio::sync::{Semaphore, mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Request, Response, Status, Streaming};

use super::{
    backend::Backend,
    connection::Peer,
    deliver::{self, Streams},
    desk::Desk,
    inquiry,
    refusal::{Refusal, Refusals},
};
use crate::proto::{
    Answer, Certificate, JoinReply, JoinRequest, Parcel, Question, Receipt, RenewRequest,
    delivery_server::Delivery, enrolment_server::Enrolment, inquiry_server::Inquiry,
};

/// Receipts that may wait for a peer to read them.
const RECEIPTS: usize = 16;

/// What all calls share.
pub(super) struct Service {
    pub(super) backend: Arc<Backend>,
    pub(super) refusals: Arc<Refusals>,
    pub(super) stopping: watch::Receiver<bool>,
    pub(super) streams: Arc<Streams>,
    pub(super) desk: Arc<Desk>,
    /// As many batches are unpacked at the same time, so that memory is bounded; those that wait for the store have a [`Room`](super::room::Room).
    pub(super) writing: Arc<Semaphore>,
}

impl Service {
    pub(super) fn new(
        backend: Arc<Backend>,
        refusals: Arc<Refusals>,
        desk: Arc<Desk>,
        stopping: watch::Receiver<bool>,
    ) -> Arc<Self> {
        let writing = Arc::new(Semaphore::new(backend.places()));
        Arc::new(Service { backend, refusals, stopping, streams: Arc::default(), desk, writing })
    }

    /// Does something that blocks.
    pub(super) async fn block<T: Send + 'static>(
        self: &Arc<Self>,
        work: impl FnOnce(&Backend) -> Result<T, Refusal> + Send + 'static,
    ) -> Result<T, Refusal> {
        let backend = Arc::clone(&self.backend);
        tokio::task::spawn_blocking(move || work(&backend)).await.map_err(Refusal::failed)?
    }

    /// Who calls: the certificate of the connection says it, and nothing else.
    async fn caller<T, C: Send + 'static>(
        self: &Arc<Self>,
        request: &Request<T>,
        known: fn(&Backend, &str) -> Result<C, Refusal>,
    ) -> Result<(String, C), Status> {
        let peer = peer(request)?;
        let Some(fingerprint) = peer.fingerprint.clone() else {
            let message = "this call needs a certificate: luarm enroll join gets one";
            let refusal = Refusal::new("no-certificate", Code::Unauthenticated, message);
            return Err(self.refusals.refuse(&peer.address.ip(), refusal));
        };
        let asked = fingerprint.clone();
        match self.block(move |backend| known(backend, &asked)).await {
            Ok(caller) => Ok((fingerprint, caller)),
            Err(refusal) => Err(self.refusals.refuse(&peer.address.ip(), refusal)),
        }
    }
}

fn peer<T>(request: &Request<T>) -> Result<&Peer, Status> {
    request.extensions().get().ok_or_else(|| Status::internal("a connection without a peer"))
}

#[tonic::async_trait]
impl Enrolment for Arc<Service> {
    async fn join(&self, request: Request<JoinRequest>) -> Result<Response<JoinReply>, Status> {
        let address = peer(&request)?.address.ip();
        let request = request.into_inner();
        match self.block(move |backend| backend.join(&request)).await {
            Ok(reply) => Ok(Response::new(reply)),
            Err(refusal) => Err(self.refusals.refuse(&address, refusal)),
        }
    }

    async fn renew(&self, request: Request<RenewRequest>) -> Result<Response<Certificate>, Status> {
        let (fingerprint, host): (_, Certified) = self.caller(&request, Backend::certified).await?;
        let request = request.into_inner().request;
        match self.block(move |backend| backend.renew(&fingerprint, &request)).await {
            Ok(certificate) => Ok(Response::new(certificate)),
            Err(refusal) => Err(self.refusals.refuse(&host.name, refusal)),
        }
    }
}

#[tonic::async_trait]
impl Delivery for Arc<Service> {
    type DeliverStream = ReceiverStream<Result<Receipt, Status>>;

    async fn deliver(
        &self,
        request: Request<Streaming<Parcel>>,
    ) -> Result<Response<Self::DeliverStream>, Status> {
        let (fingerprint, host) = self.caller(&request, Backend::host).await?;
        let (receipts, answers) = mpsc::channel(RECEIPTS);
        let delivering = deliver::run(Arc::clone(self), fingerprint, host, request.into_inner(), receipts);
        tokio::spawn(delivering);
        Ok(Response::new(ReceiverStream::new(answers)))
    }
}

#[tonic::async_trait]
impl Inquiry for Arc<Service> {
    type AskStream = ReceiverStream<Result<Answer, Status>>;

    async fn ask(&self, request: Request<Question>) -> Result<Response<Self::AskStream>, Status> {
        let (fingerprint, (name, scope)) = self.caller(&request, Backend::analyst).await?;
        let address = peer(&request)?.address;
        let place = self.desk.enter(&name, &scope).map_err(|refusal| self.refusals.refuse(&name, refusal))?;
        // One part that waits to be sent, while the next is gathered.
        let (answers, stream) = mpsc::channel(1);
        let asker = inquiry::Asker { name, address, fingerprint, scope };
        tokio::spawn(inquiry::run(Arc::clone(self), asker, request.into_inner(), place, answers));
        Ok(Response::new(ReceiverStream::new(stream)))
    }
}
