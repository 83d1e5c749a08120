//! Accepting connections: a handshake each, beside all others, within a time and a number.

use std::{
    io,
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use rustls::{
    ServerConfig,
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{mpsc, watch},
    time::{sleep, timeout},
};
use tokio_rustls::TlsAcceptor;
use tokio_stream::wrappers::ReceiverStream;

use super::{
    connection::{Connection, Peer},
    places::{Kind, Places},
    refusal::Refusals,
};
use crate::{tls, token::hex};

/// For the whole handshake.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// Before accepting again, when the process has no file descriptor left.
const PAUSE: Duration = Duration::from_millis(100);

/// The server's own certificate, which is replaced now and then.
#[derive(Debug)]
pub(super) struct Own(RwLock<Arc<CertifiedKey>>);

impl Own {
    pub(super) fn new(certified: Arc<CertifiedKey>) -> Self {
        Own(RwLock::new(certified))
    }

    pub(super) fn replace(&self, certified: Arc<CertifiedKey>) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = certified;
    }
}

impl ResolvesServerCert for Own {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner)))
    }
}

/// Accepts until told to stop; gives the connections whose handshake is done.
pub(super) fn start(
    listener: TcpListener,
    tls: Arc<ServerConfig>,
    (refusals, places): (Arc<Refusals>, Arc<Places>),
    mut stopping: watch::Receiver<bool>,
) -> ReceiverStream<io::Result<Connection>> {
    let (ready, connections) = mpsc::channel(16);
    let acceptor = TlsAcceptor::from(tls);
    tokio::spawn(async move {
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                _ = stopping.wait_for(|stop| *stop) => return,
            };
            let Ok((stream, address)) = accepted else {
                sleep(PAUSE).await;
                continue;
            };
            let (place, cut) = places.take(Kind::Handshake);
            let (acceptor, places) = (acceptor.clone(), Arc::clone(&places));
            let (refusals, ready) = (Arc::clone(&refusals), ready.clone());
            tokio::spawn(async move {
                let shaken = tokio::select! {
                    shaken = timeout(HANDSHAKE, shake(&acceptor, stream)) => shaken,
                    _ = cut => return refusals.count("handshake-crowd", &address.ip(), "too many unfinished handshakes"),
                };
                drop(place);
                let stream = match shaken {
                    Ok(Ok(stream)) => stream,
                    Ok(Err(error)) => return refusals.count("handshake", &address.ip(), &error.to_string()),
                    Err(_) => {
                        return refusals.count("handshake-timeout", &address.ip(), "no handshake in time");
                    }
                };
                let certificate = stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
                let fingerprint = certificate.map(|c| hex(&tls::fingerprint(c)));
                let kind = match (fingerprint.clone(), certificate) {
                    (Some(fingerprint), Some(c)) if tls::is_analyst(c) => Kind::Analyst(fingerprint),
                    (Some(fingerprint), _) => Kind::Host(fingerprint),
                    (None, _) => Kind::Stranger,
                };
                let place = places.take(kind);
                let connection = Connection::new(stream, Peer { address, fingerprint }, place);
                // Nobody takes it when the server has stopped.
                let _ = ready.send(Ok(connection)).await;
            });
        }
    });
    ReceiverStream::new(connections)
}

async fn shake(
    acceptor: &TlsAcceptor,
    stream: TcpStream,
) -> io::Result<tokio_rustls::server::TlsStream<TcpStream>> {
    stream.set_nodelay(true)?;
    acceptor.accept(stream).await
}
