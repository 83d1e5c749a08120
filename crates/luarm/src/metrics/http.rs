//! Answering over HTTP, on a thread of its own. Whoever asks can hold up neither recording nor others who ask: connections are few, each has one question and a
//! time, and who comes when all are taken takes the place of the oldest; figures are gathered by one thread at a time, and not more often than a few times a
//! second.

use std::{
    collections::VecDeque,
    convert::Infallible,
    fs, io,
    net::TcpListener,
    os::unix::{
        fs::{FileTypeExt, PermissionsExt},
        net::UnixListener,
    },
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::{Duration, Instant},
};

use anyhow::Context;
use http_body_util::Full;
use hyper::{
    Method, Request, Response, StatusCode,
    body::{Bytes, Incoming},
    header,
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::Semaphore,
    task::{AbortHandle, spawn_blocking},
    time::{sleep, timeout},
};

use super::{Address, Monitored};

const MOST_CONNECTIONS: usize = 16;
/// Bytes that a question may have before it is refused; hyper takes no less.
const LONGEST_QUESTION: usize = 8192;
const MOST_HEADERS: usize = 64;
/// For a question to arrive.
const ASKING: Duration = Duration::from_secs(5);
/// For the figures to be gathered.
const GATHERING: Duration = Duration::from_secs(5);
/// For all of a connection.
const PATIENCE: Duration = Duration::from_secs(20);
/// Figures are as good as new for so long.
const FRESH: Duration = Duration::from_millis(200);
/// Before accepting again, when the process has no file descriptor left.
const PAUSE: Duration = Duration::from_millis(100);
const TEXT: &str = "text/plain; charset=utf-8";

/// Takes the socket away when it ends.
pub(crate) struct Endpoint(Option<PathBuf>);

impl Drop for Endpoint {
    fn drop(&mut self) {
        if let Some(path) = &self.0 {
            // Left behind it does no harm: the next one replaces it.
            let _ = fs::remove_file(path);
        }
    }
}

enum Listener {
    Tcp(tokio::net::TcpListener),
    Unix(tokio::net::UnixListener),
}

/// Answers at that address until the process ends; without one, not at all.
pub(crate) fn serve(
    address: Option<&Address>,
    monitored: Arc<dyn Monitored>,
) -> anyhow::Result<Option<Endpoint>> {
    let Some(address) = address else { return Ok(None) };
    let cannot = || format!("cannot serve metrics at {address}; choose another address with --metrics");
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(2)
        .build()
        .with_context(cannot)?;
    let (listener, address, endpoint) = {
        let _inside = runtime.enter();
        open(address).with_context(cannot)?
    };
    let source =
        Arc::new(Source { monitored, gathering: Arc::new(Semaphore::new(1)), last: Mutex::new(None) });
    thread::Builder::new()
        .name("metrics".to_owned())
        .spawn(move || runtime.block_on(accept(listener, source)))
        .with_context(cannot)?;
    tracing::info!("metrics and health are served at {address}");
    Ok(Some(endpoint))
}

fn open(address: &Address) -> io::Result<(Listener, Address, Endpoint)> {
    match address {
        Address::Tcp(address) => {
            let listener = TcpListener::bind(address)?;
            listener.set_nonblocking(true)?;
            let address = listener.local_addr()?;
            if !address.ip().is_loopback() {
                tracing::warn!("whoever reaches {address} can read the metrics: nobody is asked who he is");
            }
            let listener = Listener::Tcp(tokio::net::TcpListener::from_std(listener)?);
            Ok((listener, Address::Tcp(address), Endpoint(None)))
        }
        Address::Unix(path) => {
            let listener = listen(path)?;
            listener.set_nonblocking(true)?;
            let listener = Listener::Unix(tokio::net::UnixListener::from_std(listener)?);
            Ok((listener, address.clone(), Endpoint(Some(path.clone()))))
        }
    }
}

/// A socket in the place of one that nobody listens at any more.
fn listen(path: &Path) -> io::Result<UnixListener> {
    match fs::symlink_metadata(path) {
        Ok(found) if found.file_type().is_socket() => {
            if std::os::unix::net::UnixStream::connect(path).is_ok() {
                return Err(io::Error::new(io::ErrorKind::AddrInUse, "somebody answers there already"));
            }
            fs::remove_file(path)?;
        }
        Ok(_) => {
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, "there is a file that is no socket"));
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    let listener = UnixListener::bind(path)?;
    // The group is the directory's, where that is set-group-id.
    fs::set_permissions(path, fs::Permissions::from_mode(0o660))?;
    Ok(listener)
}

async fn accept(listener: Listener, source: Arc<Source>) {
    let mut open: VecDeque<AbortHandle> = VecDeque::new();
    loop {
        let source = Arc::clone(&source);
        let task = match &listener {
            Listener::Tcp(listener) => {
                listener.accept().await.map(|(stream, _)| tokio::spawn(converse(stream, source)))
            }
            Listener::Unix(listener) => {
                listener.accept().await.map(|(stream, _)| tokio::spawn(converse(stream, source)))
            }
        };
        let Ok(task) = task else {
            sleep(PAUSE).await;
            continue;
        };
        open.retain(|other| !other.is_finished());
        if open.len() >= MOST_CONNECTIONS
            && let Some(oldest) = open.pop_front()
        {
            oldest.abort();
        }
        open.push_back(task.abort_handle());
    }
}

async fn converse(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, source: Arc<Source>) {
    let service = service_fn(|request| {
        let source = Arc::clone(&source);
        async move { Ok::<_, Infallible>(answer(&request, &source).await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(ASKING)
        .max_buf_size(LONGEST_QUESTION)
        .max_headers(MOST_HEADERS)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), service);
    // Whoever asks badly, or goes away, learns nothing, and is no news.
    let _ = timeout(PATIENCE, connection).await;
}

async fn answer(request: &Request<Incoming>, source: &Arc<Source>) -> Response<Full<Bytes>> {
    let path = request.uri().path();
    if path != "/metrics" && path != "/health" {
        return reply(StatusCode::NOT_FOUND, TEXT, "ask for /metrics or /health\n".to_owned());
    }
    if request.method() != Method::GET && request.method() != Method::HEAD {
        return reply(StatusCode::METHOD_NOT_ALLOWED, TEXT, "GET and HEAD are answered\n".to_owned());
    }
    let Some(look) = source.look().await else {
        let message =
            format!("no figures within {} s: something holds up what has them\n", GATHERING.as_secs());
        return reply(StatusCode::SERVICE_UNAVAILABLE, TEXT, message);
    };
    match (path, &look.figures, &look.health) {
        ("/metrics", Ok(text), _) => reply(StatusCode::OK, prometheus::TEXT_FORMAT, text.clone()),
        ("/metrics", Err(error), _) => reply(StatusCode::INTERNAL_SERVER_ERROR, TEXT, format!("{error}\n")),
        (_, _, Ok(())) => reply(StatusCode::OK, TEXT, "ok\n".to_owned()),
        (_, _, Err(reason)) => {
            reply(StatusCode::SERVICE_UNAVAILABLE, TEXT, format!("{}\n", reason.replace(['\r', '\n'], " ")))
        }
    }
}

fn reply(status: StatusCode, kind: &'static str, text: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from(text));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static(kind));
    response
}

/// Both answers, of one moment.
struct Look {
    at: Instant,
    figures: Result<String, String>,
    health: Result<(), String>,
}

struct Source {
    monitored: Arc<dyn Monitored>,
    /// One looks at a time: what holds it up, holds up one thread.
    gathering: Arc<Semaphore>,
    last: Mutex<Option<Arc<Look>>>,
}

impl Source {
    /// Both answers, unless they cannot be had in time.
    async fn look(self: &Arc<Self>) -> Option<Arc<Look>> {
        let looking = async {
            let place = Arc::clone(&self.gathering).acquire_owned().await.ok()?;
            let source = Arc::clone(self);
            let looking = spawn_blocking(move || {
                let _place = place;
                source.gather()
            });
            looking.await.ok()
        };
        timeout(GATHERING, looking).await.ok().flatten()
    }

    fn gather(&self) -> Arc<Look> {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(look) = last.as_ref().filter(|look| look.at.elapsed() < FRESH) {
            return Arc::clone(look);
        }
        let figures = self.monitored.figures().text();
        let look = Arc::new(Look { figures, health: self.monitored.health(), at: Instant::now() });
        *last = Some(Arc::clone(&look));
        look
    }
}
