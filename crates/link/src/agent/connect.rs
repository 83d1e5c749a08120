//! Connections to a server.

use std::{fmt, io, str::FromStr, sync::Arc, time::Duration};

use hyper_util::rt::TokioIo;
use rustls::{ClientConfig, pki_types::ServerName};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tonic::transport::{Channel, Endpoint, Uri};

use crate::LinkError;

/// The port where none is named.
const PORT: u16 = 7467;
/// For name lookup, connection and handshake.
const PATIENCE: Duration = Duration::from_secs(10);
/// The server is asked whether it still lives after so long, and has as long to answer.
const KEEPALIVE: Duration = Duration::from_secs(15);

/// The address of a server: `https://HOST[:PORT]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerUrl {
    host: String,
    port: u16,
}

impl FromStr for ServerUrl {
    type Err = LinkError;

    fn from_str(text: &str) -> Result<Self, LinkError> {
        let wrong = || LinkError::Url { text: text.to_owned() };
        let uri: Uri = text.parse().map_err(|_| wrong())?;
        let plain =
            uri.scheme_str() == Some("https") && matches!(uri.path(), "" | "/") && uri.query().is_none();
        let authority = uri.authority().filter(|a| plain && !a.as_str().contains('@')).ok_or_else(wrong)?;
        let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
        let port = match authority.port() {
            Some(port) => port.as_u16(),
            None if authority.as_str() != authority.host() => return Err(wrong()),
            None => PORT,
        };
        ServerName::try_from(host.as_str()).map_err(|_| wrong())?;
        Ok(ServerUrl { host, port })
    }
}

impl fmt::Display for ServerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, port } = self;
        if host.contains(':') {
            write!(f, "https://[{host}]:{port}")
        } else {
            write!(f, "https://{host}:{port}")
        }
    }
}

/// Connects, within ten seconds.
pub(crate) async fn connect(url: &ServerUrl, tls: ClientConfig) -> Result<Channel, LinkError> {
    let unreachable = |detail: String| LinkError::Unreachable { url: url.to_string(), detail };
    // TLS is the connector's business: to the channel the scheme says nothing of it.
    let endpoint = Endpoint::from_shared(url.to_string().replacen("https", "http", 1))
        .map_err(|e| unreachable(e.to_string()))?
        .http2_keep_alive_interval(KEEPALIVE)
        .keep_alive_timeout(KEEPALIVE)
        .keep_alive_while_idle(true);
    let (host, port) = (url.host.clone(), url.port);
    let name = ServerName::try_from(host.clone()).map_err(|e| unreachable(e.to_string()))?;
    let connector = TlsConnector::from(Arc::new(tls));
    let connector = tower::service_fn(move |_: Uri| {
        let (host, name, connector) = (host.clone(), name.clone(), connector.clone());
        async move {
            let stream = TcpStream::connect((host.as_str(), port)).await?;
            stream.set_nodelay(true)?;
            Ok::<_, io::Error>(TokioIo::new(connector.connect(name, stream).await?))
        }
    });
    match tokio::time::timeout(PATIENCE, endpoint.connect_with_connector(connector)).await {
        Ok(Ok(channel)) => Ok(channel),
        Ok(Err(error)) => Err(unreachable(cause(&error))),
        Err(_) => Err(unreachable(format!("no answer within {} s", PATIENCE.as_secs()))),
    }
}

/// The innermost cause, which says most.
pub(crate) fn cause(error: &dyn std::error::Error) -> String {
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_read_back() {
        for (text, shown) in [
            ("https://audit.example.org", "https://audit.example.org:7467"),
            ("https://audit:8443/", "https://audit:8443"),
            ("https://127.0.0.1:1", "https://127.0.0.1:1"),
            ("https://[::1]:7467", "https://[::1]:7467"),
        ] {
            let url: ServerUrl = text.parse().unwrap();
            assert_eq!(url.to_string(), shown);
            assert_eq!(shown.parse::<ServerUrl>().unwrap(), url);
        }
    }

    #[test]
    fn what_is_no_server_is_refused() {
        for text in [
            "",
            "audit",
            "http://audit",
            "https://",
            "https://a/b",
            "https://u@a",
            "https://a:99999",
            "https://a?x",
            "https://a_b!",
        ] {
            assert!(text.parse::<ServerUrl>().is_err(), "{text}");
        }
    }
}
