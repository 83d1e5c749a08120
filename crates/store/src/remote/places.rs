//! A place for each host: a database (MariaDB/MySQL) or schema (PostgreSQL) named after it, in which the seed's eight tables are views that hold
//! what this host recorded, and nothing else; and one beside it, with `_all` behind its name, with all tables.

use luarm_schema::{Dialect, TABLES, TableDef};

use super::{
    Datum, Failure, Session,
    registry::{self, Known},
    schema,
};
use crate::error::Trouble;

/// The tables that the seed's console shows.
const SEED: [&str; 8] =
    ["fileinfo", "groupinfo", "hostinfo", "hwinfo", "netinfo", "netint", "netroute", "psinfo"];

/// What stands behind the name of the place with all tables.
pub(crate) const ALL: &str = "_all";

/// Bytes or characters of a name that every engine takes, with [`ALL`] behind it.
const LONGEST: usize = 59;

/// Names that belong to the engines or to luarm itself.
const TAKEN: [&str; 8] =
    ["mysql", "information_schema", "performance_schema", "sys", "test", "public", "luarm", "lost+found"];

/// The name that the host's place should have: its own name, where that is one that an engine takes as it is.
fn wanted(known: &Known) -> String {
    let name = &known.name;
    let plain = name.to_lowercase();
    let fits = !name.is_empty()
        && name.len() <= LONGEST
        && !name.contains(['\0', '#'])
        && name.chars().all(|c| c < '\u{10000}')
        && !name.ends_with(char::is_whitespace)
        && !plain.starts_with("pg_")
        && !plain.starts_with("host_")
        && !plain.ends_with(ALL)
        && !TAKEN.contains(&plain.as_str());
    if fits { name.clone() } else { format!("host_{}", known.host) }
}

/// Makes the host's place, where that was not done.
async fn make<S: Session>(session: &mut S, known: &mut Known) -> Result<(), Failure> {
    let host = known.host;
    *known = schema::alone(session, async |session: &mut S| {
        // Another process may have been quicker.
        let mut known = registry::of_number(session, host).await?;
        if !known.placed {
            make_alone(session, &mut known).await?;
        }
        Ok(known)
    })
    .await?;
    Ok(())
}

async fn make_alone<S: Session>(session: &mut S, known: &mut Known) -> Result<(), Failure> {
    let place = match &known.place {
        Some(place) => place.clone(),
        None => {
            let mut place = wanted(known);
            // Somebody else's, or that of a host whose name differs in a way that this engine does not see.
            if exists(session, &place).await? || exists(session, &format!("{place}{ALL}")).await? {
                place = format!("host_{}", known.host);
            }
            let host = known.host;
            session.change(&format!("UPDATE luarmhost SET place = ? WHERE host = {host}"), &[&place]).await?;
            place
        }
    };
    known.place = Some(place.clone());
    let store = here(session).await?;
    for (name, all) in [(place.clone(), false), (format!("{place}{ALL}"), true)] {
        let quoted = S::quoted(&name);
        session
            .run(&match S::DIALECT {
                Dialect::Mysql => format!("CREATE DATABASE IF NOT EXISTS {quoted}"),
                _ => format!("CREATE SCHEMA IF NOT EXISTS {quoted}"),
            })
            .await?;
        for table in TABLES.iter().filter(|t| all || SEED.contains(&t.name)) {
            session.run(&view(S::DIALECT, &S::quoted(&store), &quoted, table, known.host)).await?;
        }
    }
    session.run(&format!("UPDATE luarmhost SET placed = 1 WHERE host = {}", known.host)).await?;
    known.placed = true;
    Ok(())
}

/// Makes the place, or says that somebody else has to.
pub(crate) async fn try_make<S: Session>(session: &mut S, known: &mut Known) -> Result<(), Failure> {
    match make(session, known).await {
        Err(failure) if failure.is(Trouble::Forbidden) || failure.is(Trouble::Denied) => {
            known.place = None;
            tracing::info!(
                host = known.name,
                "this account may not make the host's own views; the store's owner makes them with `luarm server grant`"
            );
            Ok(())
        }
        other => other,
    }
}

/// Makes the places of all hosts that have none. Gives the names of all.
pub(crate) async fn make_all<S: Session>(session: &mut S) -> Result<Vec<String>, Failure> {
    let mut places = Vec::new();
    for mut known in registry::all(session).await? {
        if !known.placed {
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

async fn exists<S: Session>(session: &mut S, name: &str) -> Result<bool, Failure> {
    let sql = match S::DIALECT {
        Dialect::Mysql => {
            "SELECT schema_name FROM information_schema.schemata WHERE lower(schema_name) = lower(?)"
        }
        _ => "SELECT nspname FROM pg_catalog.pg_namespace WHERE nspname = ?",
    };
    Ok(!session.ask(sql, &[name]).await?.is_empty())
}

fn view(dialect: Dialect, store: &str, place: &str, table: &TableDef, host: i64) -> String {
    let columns: Vec<&str> = table.columns.iter().map(|c| c.name).collect();
    let (head, tail) = match dialect {
        Dialect::Mysql => ("CREATE OR REPLACE SQL SECURITY DEFINER VIEW", ""),
        // What an analyst's own functions are shown are rows of this host only.
        _ => ("CREATE OR REPLACE VIEW", " WITH (security_barrier)"),
    };
    format!(
        "{head} {place}.{0}{tail} AS SELECT {1} FROM {store}.{0} WHERE host = {host}",
        table.name,
        columns.join(", ")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_named_after_its_host_where_that_harms_nobody() {
        let wanted = |name: &str| {
            let (name, machine_id) = (name.to_owned(), String::new());
            wanted(&Known { host: 7, name, machine_id, place: None, placed: false })
        };
        for name in ["panoitpsl", "web-1.example.org", "a`b\"c'; DROP TABLE x; --", "../../etc", "ä"] {
            assert_eq!(wanted(name), name);
        }
        let long = "x".repeat(60);
        for name in [
            "",
            "MySQL",
            "sys",
            "public",
            "luarm",
            "pg_temp",
            "x\0y",
            "a ",
            "host_1",
            "x_ALL",
            "#mysql50#..",
            "\u{1f427}",
            &long,
        ] {
            assert_eq!(wanted(name), "host_7", "{name}");
        }
    }
}
