//! A place for each host: a database (MariaDB/MySQL) or schema (PostgreSQL) named after it, in which the seed's eight tables are views that hold
//! what this host recorded, and nothing else; and one beside it, with `_all` behind its name, with all tables.

use luarm_chain::is_server;
use luarm_schema::Dialect;

pub(crate) use super::placing::ALL;
use super::{
    Datum, Failure, Session, lease, placing,
    registry::{self, Known},
    schema,
};
use crate::error::Trouble;

/// Makes the host's place, where that was not done.
async fn make<S: Session>(session: &mut S, known: &mut Known) -> Result<(), Failure> {
    let host = known.host;
    let call = placing::call(S::DIALECT, host);
    if session.is_clustered() {
        lease::call(session, &call).await?;
    } else {
        let made = async |session: &mut S| lease::call(session, &call).await;
        schema::alone(session, made).await?;
    }
    // Another process may have been quicker.
    *known = registry::of_number(session, host).await?;
    Ok(())
}

/// Makes the place, or says why there is none: that is no reason to leave evidence out of the store.
pub(crate) async fn try_make<S: Session>(session: &mut S, known: &mut Known) -> Result<(), Failure> {
    match make(session, known).await {
        Err(failure) if failure.is_transient() => Err(failure),
        Err(failure) => {
            known.place = None;
            tracing::warn!(
                host = known.name,
                "the host has no views of its own yet: {}; the store's owner makes them with `luarm server grant`",
                failure.detail
            );
            Ok(())
        }
        Ok(()) => Ok(()),
    }
}

/// Makes the places of all hosts that have none. Gives the names of all.
pub(crate) async fn make_all<S: Session>(session: &mut S) -> Result<Vec<String>, Failure> {
    let mut places = Vec::new();
    for mut known in registry::all(session).await? {
        if !known.placed && !is_server(&known.machine_id) {
            make(session, &mut known).await?;
        }
        places.extend(known.place);
    }
    Ok(places)
}

/// The database or schema that luarm's tables are in.
pub(crate) async fn here<S: Session>(session: &mut S) -> Result<String, Failure> {
    let sql = match S::DIALECT {
        Dialect::Mysql => "SELECT database()",
        _ => return Ok("luarm".to_owned()),
    };
    let rows = session.ask(sql, &[]).await?;
    let name = rows.first().and_then(|row| row.first()).and_then(Datum::text);
    name.map(str::to_owned).ok_or_else(|| Failure::trouble(Trouble::Missing, "the URL names no database"))
}
