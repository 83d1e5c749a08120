//! Which store: the URLs of the command line.

use std::{fmt, path::PathBuf, str::FromStr};

use crate::StoreError;

/// The address of a store.
#[derive(Clone, PartialEq, Eq)]
pub enum StoreUrl {
    /// `sqlite:PATH`, a file.
    Sqlite(PathBuf),
    /// `mysql://…`, the whole URL.
    Mysql(String),
    /// `postgres://…`, the whole URL.
    Postgres(String),
}

impl StoreUrl {
    /// Reads `sqlite:PATH`, `mysql://…` or `postgres://…`.
    pub fn parse(text: &str) -> Result<Self, StoreError> {
        if let Some(path) = text.strip_prefix("sqlite:") {
            if path.is_empty() || path.contains('\0') {
                return Err(StoreError::Url { text: text.to_owned() });
            }
            return Ok(StoreUrl::Sqlite(PathBuf::from(path)));
        }
        match text.split_once("://") {
            Some(("mysql", rest)) if !rest.is_empty() => Ok(StoreUrl::Mysql(text.to_owned())),
            Some(("postgres" | "postgresql", rest)) if !rest.is_empty() => {
                Ok(StoreUrl::Postgres(text.to_owned()))
            }
            _ => Err(StoreError::Url { text: text.to_owned() }),
        }
    }

    /// The same URL with a limit to what the client takes of a server at once, unless it has one.
    pub(crate) fn with_longest_packet(&self, bytes: usize) -> Self {
        const PARAMETER: &str = "max_allowed_packet=";
        match self {
            StoreUrl::Mysql(url) if !url.contains(PARAMETER) => {
                let mark = if url.contains('?') { '&' } else { '?' };
                StoreUrl::Mysql(format!("{url}{mark}{PARAMETER}{bytes}"))
            }
            other => other.clone(),
        }
    }

    /// The whole URL, password included, of a server's database; empty for a file.
    pub(crate) fn secret(&self) -> &str {
        match self {
            StoreUrl::Sqlite(_) => "",
            StoreUrl::Mysql(url) | StoreUrl::Postgres(url) => url,
        }
    }
}

impl FromStr for StoreUrl {
    type Err = StoreError;

    fn from_str(text: &str) -> Result<Self, StoreError> {
        Self::parse(text)
    }
}

/// The URL without its password.
impl fmt::Display for StoreUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StoreUrl::Sqlite(path) => write!(f, "sqlite:{}", path.display()),
            StoreUrl::Mysql(url) | StoreUrl::Postgres(url) => f.write_str(&without_password(url)),
        }
    }
}

impl fmt::Debug for StoreUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "StoreUrl({self})")
    }
}

/// `scheme://user:password@…` with the password masked. A password may hold any character: the last `@` ends it.
fn without_password(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else {
        return url.to_owned();
    };
    let Some((credentials, place)) = rest.rsplit_once('@') else {
        return url.to_owned();
    };
    match credentials.split_once(':') {
        Some((user, _)) => format!("{scheme}://{user}:***@{place}"),
        None => url.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_read_back_what_they_show() {
        for text in [
            "sqlite:/var/lib/luarm/luarm.db",
            "sqlite:here.db",
            "mysql://db/audit",
            "postgres://u@db:5432/audit",
        ] {
            assert_eq!(StoreUrl::parse(text).unwrap().to_string(), text);
        }
        assert_eq!(
            StoreUrl::parse("postgresql://db/a").unwrap(),
            StoreUrl::Postgres("postgresql://db/a".to_owned())
        );
    }

    #[test]
    fn other_texts_are_refused_with_the_forms() {
        for text in [
            "",
            "luarm.db",
            "/var/lib/luarm.db",
            "sqlite:",
            "mysql:x",
            "mysql://",
            "oracle://x",
            "sqlite:a\0b",
        ] {
            let message = StoreUrl::parse(text).unwrap_err().to_string();
            assert!(message.contains("sqlite:PATH") && message.contains("postgres://"), "{message}");
        }
    }

    #[test]
    fn passwords_are_not_shown() {
        for (url, shown) in [
            ("mysql://root:s3:c@ret@db/audit", "mysql://root:***@db/audit"),
            ("postgres://u:p@/audit", "postgres://u:***@/audit"),
        ] {
            let url = StoreUrl::parse(url).unwrap();
            assert_eq!(url.to_string(), shown);
            assert!(!format!("{url:?}").contains("s3"));
        }
    }
}
