//! Where monitoring asks.

use std::{fmt, net::SocketAddr, path::PathBuf, str::FromStr};

/// An address and port, or a Unix socket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Address {
    /// `127.0.0.1:7468`
    Tcp(SocketAddr),
    /// `unix:/run/luarm/metrics.sock`
    Unix(PathBuf),
}

impl FromStr for Address {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || {
            format!(
                "{text:?} is neither ADDRESS:PORT nor unix:/PATH: write it like 127.0.0.1:7468 or unix:/run/luarm/metrics.sock"
            )
        };
        if let Some(path) = text.strip_prefix("unix:") {
            let path = PathBuf::from(path);
            // Longer ones fit into no socket's address, see unix(7).
            let fits = path.is_absolute() && path.as_os_str().len() < 108;
            return if fits { Ok(Address::Unix(path)) } else { Err(wrong()) };
        }
        text.parse().map(Address::Tcp).map_err(|_| wrong())
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::Tcp(address) => write!(f, "http://{address}/metrics"),
            Address::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_and_sockets_are_told_apart_and_what_is_neither_is_named() {
        assert_eq!("127.0.0.1:80".parse(), Ok(Address::Tcp(([127, 0, 0, 1], 80).into())));
        assert!(matches!("[::1]:0".parse(), Ok(Address::Tcp(address)) if address.is_ipv6()));
        assert_eq!("unix:/run/x".parse(), Ok(Address::Unix("/run/x".into())));
        for text in ["", "7468", "localhost:80", "unix:", "unix:x", &format!("unix:/{}", "x".repeat(108))] {
            let error = text.parse::<Address>().unwrap_err();
            assert!(error.contains(&format!("{text:?}")), "{error}");
        }
    }
}
