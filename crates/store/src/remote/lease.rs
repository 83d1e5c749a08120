//! A lock that all nodes of a Galera cluster know: a row, which only one of them can add.
//!
//! The engine's own locks are each node's for itself. Views that two nodes make at the same time under one name stop the whole cluster: either waits for its
//! turn, and holds what the other one's turn needs (MariaDB 10.11).

use std::time::Duration;

use super::{Class, Failure, Session};
use crate::error::Trouble;

/// How long a lease is good, should whoever has it be gone. What is done under it takes seconds.
const SECONDS: u32 = 120;
/// Between two tries, and how many there are: more than a lease is good.
const PAUSE: Duration = Duration::from_millis(250);
const TRIES: u32 = 600;

/// Does something while nobody else at any node changes the schema of this store.
pub(super) async fn hold<S: Session, T>(
    session: &mut S,
    work: impl AsyncFnOnce(&mut S) -> Result<T, Failure>,
) -> Result<T, Failure> {
    session
        .run("CREATE TABLE IF NOT EXISTS luarmlease (name varchar(16) PRIMARY KEY, holder char(36) NOT NULL, until datetime(6) NOT NULL)")
        .await?;
    let rows = session.ask("SELECT uuid()", &[]).await?;
    let holder = rows.first().and_then(|row| row.first()).and_then(super::Datum::text).unwrap_or_default();
    take(session, holder).await?;
    let result = work(session).await;
    // It ends by itself in any case.
    let _ = session.change("DELETE FROM luarmlease WHERE name = 'schema' AND holder = ?", &[holder]).await;
    result
}

async fn take<S: Session>(session: &mut S, holder: &str) -> Result<(), Failure> {
    let add = format!(
        "INSERT INTO luarmlease (name, holder, until) VALUES ('schema', ?, utc_timestamp(6) + INTERVAL {SECONDS} SECOND)"
    );
    for _ in 0..TRIES {
        match session.change(&add, &[holder]).await {
            Ok(_) => return Ok(()),
            // Somebody has it, or was quicker.
            Err(failure) if failure.class == Class::Doubled || failure.is(Trouble::Contended) => {}
            Err(failure) => return Err(failure),
        }
        tokio::time::sleep(PAUSE).await;
        match session.run("DELETE FROM luarmlease WHERE name = 'schema' AND until < utc_timestamp(6)").await {
            Err(failure) if !failure.is(Trouble::Contended) => return Err(failure),
            _ => {}
        }
    }
    Err(Failure::trouble(Trouble::Contended, "somebody else has been changing the schema for minutes"))
}
