//! The address of a server out of a store's URL: what the engine's client is told, and what luarm reads of it itself, how the connection is protected.

use std::{path::PathBuf, time::Duration};

use super::Failure;
use crate::error::Trouble;

/// How a connection is protected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Tls {
    /// Not at all.
    Off,
    /// Encrypted, with whoever answers.
    Unverified,
    /// Encrypted, with the server that the URL names.
    Verified {
        /// The certificates (PEM) of those who may vouch for it; `None` for the public authorities.
        authorities: Option<PathBuf>,
    },
}

/// Where a server is, and how it is spoken to.
#[derive(Clone)]
pub(crate) struct Address {
    /// The URL for the engine's client.
    pub(crate) url: String,
    pub(crate) tls: Tls,
    /// How long a batch or a question of luarm's own may take before the server counts as gone; `None` for what is usual.
    pub(crate) timeout: Option<Duration>,
}

/// What the clients call it, each in its own way; two ways to say it would leave open which one holds.
const THEIRS: [&str; 9] = [
    "require_ssl",
    "verify_ca",
    "verify_identity",
    "built_in_roots",
    "sslmode",
    "sslrootcert",
    "ssl_mode",
    "ssl-mode",
    "sslnegotiation",
];

impl Address {
    /// Takes `tls=disable|require|verify`, `ca=FILE` and `timeout=SECONDS` out of the URL's query. `exposed` says whether a URL leads over a network: there, a server is
    /// verified unless the URL says otherwise.
    pub(crate) fn parse(text: &str, exposed: impl FnOnce(&str) -> bool) -> Result<Self, Failure> {
        let wrong = |detail: String| Failure::trouble(Trouble::Setting, detail);
        let after = text.rfind('@').unwrap_or_default();
        let Some(at) = text[after..].find('?').map(|at| after + at) else {
            let tls = if exposed(text) { Tls::Verified { authorities: None } } else { Tls::Off };
            return Ok(Address { url: text.to_owned(), tls, timeout: None });
        };
        let (mut wanted, mut authorities, mut timeout, mut rest) = (None, None, None, Vec::new());
        for pair in text[at + 1..].split('&') {
            match pair.split_once('=') {
                Some(("tls", value)) => wanted = Some(value),
                Some(("ca", value)) => {
                    authorities =
                        Some(PathBuf::from(decoded(value).ok_or_else(|| {
                            wrong(format!("the URL's ca={value} is no path: write % as %25"))
                        })?));
                }
                Some(("timeout", value)) => {
                    let seconds = value.parse().ok().filter(|seconds| (1..=3600).contains(seconds));
                    let refused =
                        || wrong(format!("the URL's timeout={value} is no number of seconds from 1 to 3600"));
                    timeout = Some(Duration::from_secs(seconds.ok_or_else(refused)?));
                }
                Some((key, _)) if THEIRS.contains(&key) => {
                    return Err(wrong(format!(
                        "{key} in the URL is not read: write tls=verify, tls=require or tls=disable, and ca=FILE"
                    )));
                }
                _ => rest.push(pair),
            }
        }
        let mut url = text[..at].to_owned();
        if !rest.is_empty() {
            url = format!("{url}?{}", rest.join("&"));
        }
        let tls = match (wanted, authorities) {
            (Some("verify"), authorities) | (None, authorities @ Some(_)) => Tls::Verified { authorities },
            (Some("require"), None) => Tls::Unverified,
            (Some("disable"), None) => Tls::Off,
            (Some(wanted @ ("require" | "disable")), Some(_)) => {
                return Err(wrong(format!(
                    "tls={wanted} verifies nothing, so ca=FILE is of no use: leave one of them out"
                )));
            }
            (Some(other), _) => {
                return Err(wrong(format!("the URL's tls={other} is none of verify, require, disable")));
            }
            (None, None) if exposed(&url) => Tls::Verified { authorities: None },
            (None, None) => Tls::Off,
        };
        Ok(Address { url, tls, timeout })
    }
}

/// `%2F` is `/`, as in any URL.
fn decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, others)) = rest.split_first() {
        rest = others;
        if *first != b'%' {
            bytes.push(*first);
            continue;
        }
        let (digits, others) = rest.split_at_checked(2)?;
        bytes.push(u8::from_str_radix(str::from_utf8(digits).ok()?, 16).ok()?);
        rest = others;
    }
    String::from_utf8(bytes).ok().filter(|path| !path.is_empty() && !path.contains('\0'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<(String, Tls), String> {
        let exposed = |url: &str| url.contains("far");
        Address::parse(text, exposed).map(|a| (a.url, a.tls)).map_err(|failure| failure.detail)
    }

    fn verified(path: Option<&str>) -> Tls {
        Tls::Verified { authorities: path.map(PathBuf::from) }
    }

    #[test]
    fn what_the_url_says_of_tls_is_read_and_the_rest_left() {
        for (text, url, tls) in [
            ("mysql://u@near/d", "mysql://u@near/d", Tls::Off),
            ("mysql://u@far/d", "mysql://u@far/d", verified(None)),
            ("mysql://u:a?tls=disable@far/d", "mysql://u:a?tls=disable@far/d", verified(None)),
            ("postgres://u@far/d?tls=disable", "postgres://u@far/d", Tls::Off),
            (
                "postgres://u@far/d?tls=require&connect_timeout=3",
                "postgres://u@far/d?connect_timeout=3",
                Tls::Unverified,
            ),
            ("mysql://u@near/d?tls=verify", "mysql://u@near/d", verified(None)),
            (
                "mysql://u@near/d?socket=/s&ca=/a%26b%25.pem",
                "mysql://u@near/d?socket=/s",
                verified(Some("/a&b%.pem")),
            ),
            ("mysql://far/d?ca=x.pem&tls=verify", "mysql://far/d", verified(Some("x.pem"))),
            ("mysql://far/d?x=1", "mysql://far/d?x=1", verified(None)),
        ] {
            assert_eq!(read(text), Ok((url.to_owned(), tls)), "{text}");
        }
    }

    #[test]
    fn a_server_is_waited_for_as_long_as_the_url_says() {
        let address = |text: &str| Address::parse(text, |_| false).unwrap();
        let timeout = Some(Duration::from_secs(7));
        assert_eq!(
            (address("mysql://h/d?timeout=7").timeout, address("mysql://h/d").timeout),
            (timeout, None)
        );
        assert_eq!(address("mysql://h/d?timeout=7&x=1").url, "mysql://h/d?x=1");
    }

    #[test]
    fn what_contradicts_itself_is_refused() {
        for (text, said) in [
            ("mysql://far/d?tls=on", "tls=on is none of verify, require, disable"),
            ("mysql://far/d?timeout=0", "timeout=0 is no number of seconds from 1 to 3600"),
            ("mysql://far/d?timeout=soon", "timeout=soon is no number"),
            ("mysql://far/d?tls=", "tls= is none of"),
            ("mysql://far/d?tls=disable&ca=x", "tls=disable verifies nothing"),
            ("mysql://far/d?tls=require&ca=x", "leave one of them out"),
            ("postgres://far/d?sslmode=require", "sslmode in the URL is not read: write tls=verify"),
            ("mysql://far/d?require_ssl=true", "require_ssl in the URL"),
            ("mysql://far/d?ca=a%2", "ca=a%2 is no path"),
            ("mysql://far/d?ca=a%zz", "is no path"),
            ("mysql://far/d?ca=", "is no path"),
        ] {
            let error = read(text).unwrap_err();
            assert!(error.contains(said), "{text}: {error}");
        }
    }
}
