//! Accounts that may do what they are for, and nothing else.
//!
//! - The *server's* account adds rows and sets the ends of rows that have not ended. It cannot delete, cannot change what a row began with, and
//!   cannot change an end that is set: column grants keep it from the one, triggers on the tables from the other. It may call the routine that makes the views
//!   of a host (`placing`), which does so with the owner's rights, and nothing else with them.
//! - An *analyst's* account selects: from all hosts, those to come included, or from one. One of all hosts may call the routines that write down what it asks (`noting`).

use luarm_schema::{Dialect, Role, STORE_MADE, TABLES, TableDef};
use postgres_protocol::password::scram_sha_256;

use super::{
    Datum, Failure, Session, noting, places, placing,
    registry::{self, Known},
};
use crate::{Account, error::Trouble, proof, registry::RIGHTS};

/// The statements that make the account and give it what it needs, for the hosts that are known now.
pub(crate) async fn statements<S: Session>(
    session: &mut S,
    account: &Account,
) -> Result<Vec<String>, Failure> {
    let store = places::here(session).await?;
    let hosts = registry::all(session).await?;
    let (name, password) = account.credentials();
    let refused = |text: &str, more: &[char]| {
        text.is_empty() || text.contains(|c: char| c.is_control() || c == '\\' || more.contains(&c))
    };
    if refused(name, &['\'', '"', '`', '@', ':', '/']) {
        let detail = format!(
            "{name:?} cannot name an account: no quotes, @, :, /, backslashes and control characters"
        );
        return Err(Failure::trouble(Trouble::Setting, detail));
    }
    if password.is_some_and(|password| refused(password, &[])) {
        let detail = "a password is not empty, and has no backslashes and control characters";
        return Err(Failure::trouble(Trouble::Setting, detail));
    }
    // MariaDB would make one that needs no password.
    if password.is_none() && !is_account(session, name).await? {
        return Err(Failure::trouble(Trouble::Other, format!("there is no account {name:?}")));
    }
    let places = match account {
        Account::Server { .. } => Vec::new(),
        Account::Analyst { host: None, .. } => places_of(hosts),
        Account::Analyst { host: Some(host), .. } => {
            let of_host: Vec<Known> = hosts.into_iter().filter(|h| h.name == *host).collect();
            if of_host.iter().all(|h| !h.placed) {
                let detail = format!("there is no host {host:?} with views of its own");
                return Err(Failure::trouble(Trouble::Missing, detail));
            }
            places_of(of_host)
        }
    };
    let whole = !matches!(account, Account::Analyst { host: Some(_), .. });
    let server = matches!(account, Account::Server { .. });
    Ok(match S::DIALECT {
        Dialect::Mysql => mysql(&store, name, password, server, whole, &places),
        _ => {
            let rows = session.ask("SELECT current_database()::text", &[]).await?;
            let database = rows.first().and_then(|r| r.first()).and_then(Datum::text).unwrap_or_default();
            postgres(database, name, password, server, whole, &places)
        }
    })
}

/// Whether there is an account of that name.
pub(crate) async fn is_account<S: Session>(session: &mut S, name: &str) -> Result<bool, Failure> {
    let sql = match S::DIALECT {
        Dialect::Mysql => "SELECT count(*) FROM mysql.user WHERE user = ? AND host = '%'",
        _ => "SELECT count(*) FROM pg_catalog.pg_roles WHERE rolname = ?",
    };
    let found = session.ask(sql, &[name]).await?;
    Ok(found.first().and_then(|row| row.first()).and_then(Datum::int) != Some(0))
}

fn places_of(hosts: Vec<Known>) -> Vec<String> {
    let places = hosts.into_iter().filter(|h| h.placed).filter_map(|h| h.place);
    places.flat_map(|place| [format!("{place}{}", places::ALL), place]).collect()
}

fn ends(table: &TableDef) -> Option<String> {
    let mut columns: Vec<&str> = table.ends().map(|c| c.name).collect();
    if columns.is_empty() {
        return None;
    }
    columns.extend(table.columns.iter().filter(|c| c.role == Role::EndBatch).map(|c| c.name));
    Some(columns.join(", "))
}

fn is_store_made(table: &TableDef) -> bool {
    STORE_MADE.iter().any(|t| t.name == table.name)
}

/// What the server's account may do with tables that are none of the schema's.
fn rights() -> impl Iterator<Item = (&'static str, &'static str)> {
    RIGHTS.into_iter().chain([(proof::TABLE, proof::RIGHTS)])
}

fn text(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

fn mysql(
    store: &str,
    name: &str,
    password: Option<&str>,
    server: bool,
    whole: bool,
    places: &[String],
) -> Vec<String> {
    let quoted = |name: &str| format!("`{}`", name.replace('`', "``"));
    // In a grant on a database these two stand for other characters.
    let pattern = |name: &str| quoted(&name.replace('_', "\\_").replace('%', "\\%"));
    let account = format!("{}@'%'", text(name));
    let mut out = Vec::new();
    if let Some(password) = password.map(text) {
        out.push(format!("CREATE USER IF NOT EXISTS {account} IDENTIFIED BY {password}"));
        out.push(format!("ALTER USER {account} IDENTIFIED BY {password}"));
    }
    if server {
        let at = quoted(store);
        out.push(format!("GRANT CREATE TEMPORARY TABLES ON {}.* TO {account}", pattern(store)));
        out.push(format!("GRANT SELECT ON {at}.luarmversion TO {account}"));
        let columns = "SELECT, INSERT (name, machineid), UPDATE (appending)";
        out.push(format!("GRANT {columns} ON {at}.luarmhost TO {account}"));
        out.push(format!("GRANT EXECUTE ON PROCEDURE {at}.{} TO {account}", placing::name(Dialect::Mysql)));
        out.extend(rights().map(|(table, rights)| format!("GRANT {rights} ON {at}.{table} TO {account}")));
        for table in TABLES {
            let rights = match ends(table) {
                _ if is_store_made(table) => "SELECT".to_owned(),
                Some(ends) => format!("SELECT, INSERT, UPDATE ({ends})"),
                None => "SELECT, INSERT".to_owned(),
            };
            out.push(format!("GRANT {rights} ON {at}.{} TO {account}", table.name));
        }
    } else if whole {
        // Not the tables of who may deliver.
        let tables = TABLES.iter().map(|t| t.name).chain(["luarmversion", "luarmhost", proof::TABLE]);
        out.extend(tables.map(|table| format!("GRANT SELECT ON {}.{table} TO {account}", quoted(store))));
        out.extend(noting::grants(Dialect::Mysql, &quoted(store), &account));
    }
    out.extend(places.iter().map(|p| format!("GRANT SELECT, SHOW VIEW ON {}.* TO {account}", pattern(p))));
    out
}

fn postgres(
    database: &str,
    name: &str,
    password: Option<&str>,
    server: bool,
    whole: bool,
    places: &[String],
) -> Vec<String> {
    let quoted = |name: &str| format!("\"{}\"", name.replace('"', "\"\""));
    let account = quoted(name);
    let mut out = Vec::new();
    if let Some(password) = password {
        // What it is checked by, so that the password itself is in no log of the server's.
        let password = text(&scram_sha_256(password.as_bytes()));
        out.push(format!(
            "DO $luarm$ BEGIN CREATE ROLE {account} LOGIN; EXCEPTION WHEN duplicate_object THEN NULL; END $luarm$"
        ));
        out.push(format!("ALTER ROLE {account} LOGIN PASSWORD {password}"));
    }
    out.push(format!("GRANT CONNECT ON DATABASE {} TO {account}", quoted(database)));
    if server {
        out.push(format!("GRANT TEMPORARY ON DATABASE {} TO {account}", quoted(database)));
        out.push(format!("GRANT USAGE ON SCHEMA luarm TO {account}"));
        out.push(format!("GRANT SELECT ON luarm.luarmversion TO {account}"));
        let columns = "SELECT, INSERT (name, machineid), UPDATE (appending)";
        out.push(format!("GRANT {columns} ON luarm.luarmhost TO {account}"));
        out.push(format!(
            "GRANT EXECUTE ON FUNCTION {}(integer) TO {account}",
            placing::name(Dialect::Postgres)
        ));
        out.extend(rights().map(|(table, rights)| format!("GRANT {rights} ON luarm.{table} TO {account}")));
        for table in TABLES {
            let stored = Dialect::Postgres.stored_name(table);
            let rights = match ends(table) {
                _ if is_store_made(table) => "SELECT".to_owned(),
                Some(ends) => format!("SELECT, INSERT, UPDATE ({ends})"),
                None => "SELECT, INSERT".to_owned(),
            };
            out.push(format!("GRANT {rights} ON luarm.{stored} TO {account}"));
            out.push(format!("GRANT SELECT ON luarm.{} TO {account}", table.name));
        }
    } else if whole {
        out.push(format!("GRANT USAGE ON SCHEMA luarm TO {account}"));
        // Not the tables of who may deliver.
        let tables = TABLES.iter().map(|t| t.name).chain(["luarmversion", "luarmhost", proof::TABLE]);
        out.extend(tables.map(|table| format!("GRANT SELECT ON luarm.{table} TO {account}")));
        out.extend(noting::grants(Dialect::Postgres, "luarm", &account));
    }
    for place in places {
        let place = quoted(place);
        out.push(format!("GRANT USAGE ON SCHEMA {place} TO {account}"));
        out.push(format!("GRANT SELECT ON ALL TABLES IN SCHEMA {place} TO {account}"));
    }
    out
}
