//! A session that is opened when it is needed, on a runtime of its own, so that callers may block.

use std::{fmt, time::Duration};

use luarm_schema::SCHEMA_VERSION;
use tokio::runtime::{Builder, Handle, Runtime};

use super::{Failure, Session, schema};
use crate::{StoreError, StoreUrl, error::Trouble};

/// How long a server may take to accept a connection, or several of which one is to be found.
pub(crate) const CONNECTING: Duration = Duration::from_secs(10);

/// How long taking leave may take.
const LEAVING: Duration = Duration::from_secs(1);

/// What a connection is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Keeping {
    /// Reading: the tables must be there.
    Reading,
    /// Appending; tables are made where there are none and the account may.
    Appending,
}

/// A session, or none since the last one broke.
pub(crate) struct Connection<S: Session> {
    pub(crate) url: StoreUrl,
    text: String,
    keeping: Keeping,
    runtime: Runtime,
    session: Option<S>,
}

impl<S: Session> Drop for Connection<S> {
    fn drop(&mut self) {
        // Elsewhere a runtime may not block; the server finds out by itself then.
        if let Some(session) = self.session.take()
            && Handle::try_current().is_err()
        {
            let leave = async { tokio::time::timeout(LEAVING, session.close()).await };
            let _ = self.runtime.block_on(leave);
        }
    }
}

impl<S: Session> Connection<S> {
    /// Opens one; makes or checks the tables.
    pub(crate) fn open(url: &StoreUrl, keeping: Keeping) -> Result<Self, StoreError> {
        let runtime = Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|e| Failure::trouble(Trouble::Other, e).of("make a runtime for", url))?;
        let text = url.secret().to_owned();
        if S::is_exposed(&text) {
            tracing::warn!(
                "{url}: what goes over the network to this server is not encrypted, the password included"
            );
        }
        let mut connection = Connection { url: url.clone(), text, keeping, runtime, session: None };
        connection.prepare()?;
        Ok(connection)
    }

    /// Opens the store for the first time: makes what is missing, says what is wrong.
    fn prepare(&mut self) -> Result<(), StoreError> {
        let (text, writes) = (self.text.clone(), self.keeping == Keeping::Appending);
        let first = self.runtime.block_on(connected::<S>(&text, writes));
        let mut session = match first {
            Err(failure) if writes && failure.is(Trouble::Missing) => self
                .runtime
                .block_on(async {
                    S::create_database(&text).await?;
                    connected::<S>(&text, writes).await
                })
                .map_err(|failure| failure.of("open", &self.url))?,
            other => other.map_err(|failure| failure.of("open", &self.url))?,
        };
        let mut found = self.within(schema::version(&mut session)).map_err(|f| f.of("open", &self.url))?;
        if found.is_none() && writes {
            self.within(schema::create(&mut session)).map_err(|f| f.of("make the tables of", &self.url))?;
            found = self.within(schema::version(&mut session)).map_err(|f| f.of("open", &self.url))?;
        }
        match found {
            Some(SCHEMA_VERSION) => {}
            Some(found) => {
                return Err(StoreError::DatabaseVersion {
                    url: self.url.clone(),
                    found,
                    known: SCHEMA_VERSION,
                });
            }
            None => {
                let detail = "it has no tables of luarm";
                return Err(Failure::trouble(Trouble::Missing, detail).of("open", &self.url));
            }
        }
        self.session = Some(session);
        Ok(())
    }

    fn within<T>(&self, work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
        self.runtime.block_on(work)
    }

    /// Does something with a session, opened anew if the last one broke, within the time. A session whose connection broke, or that did not
    /// answer in time, is given up; so is one whose transaction cannot be undone.
    pub(crate) fn with<T, E: Troubled>(
        &mut self,
        limit: Option<Duration>,
        work: impl AsyncFnOnce(&mut S) -> Result<T, E>,
    ) -> Result<T, E> {
        let Connection { runtime, session, text, keeping, .. } = self;
        let writes = *keeping == Keeping::Appending;
        let mut own = match session.take() {
            Some(session) => session,
            None => runtime.block_on(connected::<S>(text, writes))?,
        };
        let result = runtime.block_on(async {
            let Some(limit) = limit else {
                return work(&mut own).await;
            };
            match tokio::time::timeout(limit, work(&mut own)).await {
                Ok(result) => result,
                Err(_) => {
                    let detail = format!("no answer within {} s", limit.as_secs());
                    Err(Failure::trouble(Trouble::Lost, detail).into())
                }
            }
        });
        let usable = match &result {
            Ok(_) => true,
            Err(error) if error.is_lost() => false,
            Err(_) => {
                let undone = async { tokio::time::timeout(CONNECTING, own.run("ROLLBACK")).await };
                matches!(runtime.block_on(undone), Ok(Ok(_)))
            }
        };
        if usable {
            *session = Some(own);
        }
        result
    }

    /// What ends the running statement, if there is a session.
    pub(crate) fn cancel(&self) -> Option<S::Cancel> {
        self.session.as_ref().map(S::cancel)
    }
}

/// An error that may be a failure of the connection.
pub(crate) trait Troubled: From<Failure> {
    /// Whether the session is of no use any more.
    fn is_lost(&self) -> bool;
}

impl Troubled for Failure {
    fn is_lost(&self) -> bool {
        self.is(Trouble::Lost)
    }
}

impl Troubled for super::StreamError {
    fn is_lost(&self) -> bool {
        match self {
            super::StreamError::Failed(failure) => failure.is_lost(),
            // The rest of the answer is still on its way.
            super::StreamError::Output(_) => true,
        }
    }
}

async fn connected<S: Session>(text: &str, writes: bool) -> Result<S, Failure> {
    match tokio::time::timeout(CONNECTING, S::connect(text, writes)).await {
        Ok(result) => result,
        Err(_) => {
            let detail = format!("no connection within {} s", CONNECTING.as_secs());
            Err(Failure::trouble(Trouble::Lost, detail))
        }
    }
}

impl<S: Session> fmt::Debug for Connection<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection").field("url", &self.url).finish_non_exhaustive()
    }
}
