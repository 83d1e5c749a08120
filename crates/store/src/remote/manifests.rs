//! Manifests of batches of which retention has left nothing.

use std::collections::{HashMap, HashSet};

use luarm_chain::Manifest;
use luarm_schema::{ACTIVITIES, Dialect, tables::RetentionInfo};

use super::{Datum, Failure, Session};
use crate::{proof, retention::Given};

/// Manifests that are read at a time.
const PAGE: usize = 64;
/// One of more bytes is read by itself.
const LARGE: usize = 256 << 10;

/// Sets the manifests to NULL of batches of which nothing is left; their roots stay, which the digests cover.
pub(crate) async fn forget<S: Session>(session: &mut S) -> Result<(), Failure> {
    let hosts = dropped(session).await?;
    let left = left(session, &hosts).await?;
    let is_left =
        |host: i64, table: &str, key: i64| left.get(table).is_some_and(|keys| keys.contains(&(host, key)));
    for (number, host) in &hosts {
        let last = host.last();
        let mut after = 0;
        loop {
            let page = page(session, *number, after, last).await?;
            let Some((end, _)) = page.last() else { break };
            after = *end;
            let gone = page.iter().filter(|(batch, manifest)| {
                let is_gone =
                    |m: &Manifest| host.is_gone(*batch, m, |table, key| is_left(*number, table, key));
                manifest.as_ref().is_some_and(is_gone)
            });
            let gone: Vec<String> = gone.map(|(batch, _)| batch.to_string()).collect();
            if !gone.is_empty() {
                session
                    .run(&format!(
                        "UPDATE {} SET manifest = NULL WHERE host = {number} AND batch IN ({})",
                        proof::TABLE,
                        gone.join(", ")
                    ))
                    .await?;
            }
        }
    }
    Ok(())
}

async fn dropped<S: Session>(session: &mut S) -> Result<HashMap<i64, Given>, Failure> {
    let table = RetentionInfo::TABLE.name;
    let sql = format!("SELECT host, tablename, beforekey, firstbatch, lastbatch FROM {table}");
    let mut hosts: HashMap<i64, Given> = HashMap::new();
    for row in session.ask(&sql, &[]).await? {
        let [host, table, Datum::Int(before), Datum::Int(first), Datum::Int(last)] = &row[..] else {
            continue;
        };
        if let (Some(host), Some(table)) = (host.int(), table.text()) {
            hosts.entry(host).or_default().add(table, *before, (*first, *last));
        }
    }
    Ok(hosts)
}

/// Host and key of the rows in those ranges that are there still, by table: those that had not ended, and what came late.
async fn left<S: Session>(
    session: &mut S,
    hosts: &HashMap<i64, Given>,
) -> Result<HashMap<&'static str, HashSet<(i64, i64)>>, Failure> {
    let mut left = HashMap::new();
    for table in ACTIVITIES {
        let Some(bound) = hosts.values().filter_map(|host| host.bounds.get(table.name)).max() else {
            continue;
        };
        let (key, stored) = (table.key, S::DIALECT.stored_name(table));
        let rows =
            session.ask(&format!("SELECT host, {key} FROM {stored} WHERE {key} < {bound}"), &[]).await?;
        let keys = rows.iter().filter_map(|row| Some((row.first()?.int()?, row.get(1)?.int()?)));
        left.insert(table.name, keys.collect());
    }
    Ok(left)
}

/// The next batches of the host that have a manifest, and these; `None` for what cannot be read.
async fn page<S: Session>(
    session: &mut S,
    host: i64,
    after: i64,
    last: i64,
) -> Result<Vec<(i64, Option<Manifest>)>, Failure> {
    let hexadecimal = match S::DIALECT {
        Dialect::Mysql => "hex(manifest)",
        _ => "encode(manifest, 'hex')",
    };
    let sql = format!(
        "SELECT batch, CASE WHEN octet_length(manifest) <= {LARGE} THEN {hexadecimal} END FROM {} WHERE host = {host} AND manifest IS NOT NULL AND batch > {after} AND batch <= {last} \
         ORDER BY batch LIMIT {PAGE}",
        proof::TABLE
    );
    let rows = session.ask(&sql, &[]).await?;
    let mut page = Vec::with_capacity(rows.len());
    for row in &rows {
        let Some(batch) = row.first().and_then(Datum::int) else { continue };
        let manifest = match row.get(1).and_then(Datum::text) {
            Some(text) => decoded(text),
            None => {
                let sql = format!(
                    "SELECT {hexadecimal} FROM {} WHERE host = {host} AND batch = {batch}",
                    proof::TABLE
                );
                let alone = session.ask(&sql, &[]).await?;
                alone.first().and_then(|row| row.first()?.text()).and_then(decoded)
            }
        };
        page.push((batch, manifest));
    }
    Ok(page)
}

fn decoded(hexadecimal: &str) -> Option<Manifest> {
    Manifest::decode(&bytes(hexadecimal)?).ok()
}

fn bytes(hexadecimal: &str) -> Option<Vec<u8>> {
    let digit = |byte: u8| char::from(byte).to_digit(16);
    let pair = |pair: &[u8]| Some((digit(*pair.first()?)? * 16 + digit(*pair.get(1)?)?) as u8);
    hexadecimal.as_bytes().chunks(2).map(pair).collect()
}
