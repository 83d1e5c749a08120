//! Putting together what proves an answer.

use std::collections::{BTreeMap, BTreeSet};

use luarm_schema::{TABLES, TableDef, Time, Value};
use serde_json::Value as Json;

use super::{BatchPart, FORMAT, HostPart, Proven, RowPart, named};
use crate::{
    Sha256, encode,
    link::NOTHING,
    verify::{Entry, History, HostFacts, Trouble},
};

/// An answer whose rows are to be proven.
#[derive(Debug, Clone, Default)]
pub struct Named {
    /// What was asked.
    pub statement: String,
    /// Names of its columns.
    pub columns: Vec<String>,
    /// Its rows: NULL, integers, texts; doubles as texts.
    pub rows: Vec<Vec<Json>>,
    /// The host that the tables were limited to.
    pub host: Option<i64>,
    /// Rows that tell of coverage and losses, by table and key, with their host.
    pub more: Vec<(i64, &'static TableDef, i64)>,
    /// The time that they are of.
    pub span: Option<(Time, Time)>,
}

/// Why an answer cannot be proven.
#[derive(Debug, thiserror::Error)]
pub enum Unprovable {
    /// It names no rows.
    #[error("the answer names no rows: select the key of a table as well, such as {0}")]
    NoKey(String),
    /// It does not say of which host its rows are.
    #[error(
        "the store has several hosts, and the answer does not name them: select `host` as well, or name one with --host"
    )]
    NoHost,
    /// A row that it names is not there.
    #[error("the answer names a row of {table} with {column} {key} of host number {host}, and there is none")]
    NoRow {
        /// The table.
        table: &'static str,
        /// Its key.
        column: &'static str,
        /// The key's value.
        key: i64,
        /// The host.
        host: i64,
    },
    /// What would prove a batch is not in the store.
    #[error("batch {batch} of {host} cannot be proven: {what} is not in the store; `luarm verify` tells why")]
    NoProof {
        /// The host's name.
        host: String,
        /// The batch.
        batch: i64,
        /// What is missing.
        what: &'static str,
    },
    /// The store cannot be read.
    #[error("{0}")]
    Trouble(Trouble),
}

impl From<Trouble> for Unprovable {
    fn from(trouble: Trouble) -> Self {
        Unprovable::Trouble(trouble)
    }
}

/// The tables whose keys are among the columns, with their places.
pub(super) fn keys(columns: &[String]) -> Vec<(usize, &'static TableDef)> {
    let of = |(at, name): (usize, &String)| {
        let table = TABLES.iter().copied().find(|table| table.key.eq_ignore_ascii_case(name))?;
        Some((at, Proven::table(table.name)?))
    };
    columns.iter().enumerate().filter_map(of).collect()
}

/// Puts together what proves the answer.
pub fn prove(history: &mut dyn History, answer: Named) -> Result<Proven, Unprovable> {
    let keys = keys(&answer.columns);
    if keys.is_empty() {
        let known: Vec<&str> = TABLES.iter().filter(|t| crate::verify::is_sealed(t)).map(|t| t.key).collect();
        return Err(Unprovable::NoKey(known.join(", ")));
    }
    let facts = history.hosts()?;
    let host_at = answer.columns.iter().position(|name| name.eq_ignore_ascii_case("host"));
    let only = answer.host.or_else(|| match &facts[..] {
        [one] => Some(one.number),
        _ => None,
    });
    let mut wanted: BTreeSet<(i64, &'static str, i64)> = BTreeSet::new();
    for row in &answer.rows {
        let said = host_at.and_then(|at| row.get(at)).and_then(Json::as_i64);
        let host = said.or(only).ok_or(Unprovable::NoHost)?;
        for (at, table) in &keys {
            if let Some(key) = row.get(*at).and_then(Json::as_i64) {
                wanted.insert((host, table.name, key));
            }
        }
    }
    wanted.extend(answer.more.iter().map(|(host, table, key)| (*host, table.name, *key)));
    let mut rows = Vec::with_capacity(wanted.len());
    let mut batches: BTreeMap<i64, BTreeSet<i64>> = BTreeMap::new();
    for (host, table, key) in wanted {
        let Some(table) = luarm_schema::table(table) else { continue };
        let before = rows.len();
        history.row(table, host, key, &mut |values| {
            let number = |name: &str| {
                let at = table.stored().position(|column| column.name == name)?;
                match values.get(at) {
                    Some(Value::Int(n)) => Some(*n),
                    _ => None,
                }
            };
            batches
                .entry(host)
                .or_default()
                .extend([number("batch"), number("dbatch")].into_iter().flatten());
            rows.push(RowPart { table: table.name.to_owned(), values: named(table, values) });
        })?;
        if rows.len() == before {
            return Err(Unprovable::NoRow { table: table.name, column: table.key, key, host });
        }
    }
    let mut hosts = Vec::new();
    for (number, needed) in &batches {
        let known = facts.iter().find(|facts| facts.number == *number);
        hosts.push(host(history, *number, known, needed)?);
    }
    let span = answer.span.map(|(from, to)| (from.to_string(), to.to_string()));
    Ok(Proven {
        format: FORMAT.to_owned(),
        statement: answer.statement,
        asked: Time::now().to_string(),
        span,
        columns: answer.columns,
        answer: answer.rows,
        hosts,
        rows,
    })
}

/// The batches of a host that are needed. Where no server has signed for them, all of them up to the last one: then it is the first key that they lead to.
fn host(
    history: &mut dyn History,
    number: i64,
    facts: Option<&HostFacts>,
    needed: &BTreeSet<i64>,
) -> Result<HostPart, Unprovable> {
    let name = facts.map_or_else(|| number.to_string(), |facts| facts.name.clone());
    let missing = |batch: i64, what| Unprovable::NoProof { host: name.clone(), batch, what };
    let (first, last) = (needed.first().copied().unwrap_or(0), needed.last().copied().unwrap_or(0));
    let machine_ids = facts.map_or(&[][..], |facts| &facts.machine_ids);
    let (mut previous, mut after) = (Some(NOTHING), 0);
    let mut all: Vec<(bool, BatchPart)> = Vec::new();
    let mut machineid = None;
    let mut is_signed = true;
    while after < last {
        let page = history.entries(number, after)?;
        if page.is_empty() {
            break;
        }
        for entry in page.iter().filter(|entry| entry.batch <= last) {
            let is_needed = needed.contains(&entry.batch);
            let part = batch(history, number, entry, previous, is_needed)?;
            previous = digest(entry);
            let Some(part) = part else {
                if is_needed {
                    return Err(missing(entry.batch, "its digest, manifest, or that of the batch before"));
                }
                // Without it there is no way from the first key.
                is_signed &= entry.batch < first;
                continue;
            };
            machineid = machineid.or_else(|| machine_ids.iter().find(|id| part.is_of(id)).cloned());
            is_signed &= !is_needed || part.receipt.is_some();
            all.push((is_needed, part));
        }
        after = page.last().map_or(last, |entry| entry.batch);
    }
    let held = all.iter().filter(|(is_needed, _)| *is_needed).count();
    if held < needed.len() {
        return Err(missing(last, "one of the batches up to it"));
    }
    let batches = all.into_iter().filter(|(is_needed, _)| *is_needed || !is_signed).map(|(_, part)| part);
    let machineid = machineid.or_else(|| machine_ids.first().cloned()).unwrap_or_default();
    Ok(HostPart { number, machineid, batches: batches.collect(), name })
}

fn digest(entry: &Entry) -> Option<Sha256> {
    crate::decode(entry.row.as_ref()?.info.as_ref()?.digest.as_deref()?)
}

fn batch(
    history: &mut dyn History,
    host: i64,
    entry: &Entry,
    previous: Option<Sha256>,
    is_needed: bool,
) -> Result<Option<BatchPart>, Trouble> {
    let (Some(info), Some(proof), Some(previous)) =
        (entry.row.as_ref().and_then(|row| row.info.as_ref()), &entry.proof, previous)
    else {
        return Ok(None);
    };
    let mut manifest = None;
    if is_needed {
        history
            .manifests(host, entry.batch, entry.batch, &mut |(_, bytes, _)| manifest = bytes.map(encode))?;
        if manifest.is_none() {
            return Ok(None);
        }
    }
    let mut ledger = BTreeMap::new();
    let mut begins = super::check::Collected::default();
    info.begin(&mut begins);
    for (column, value) in super::check::ledger_columns().zip(begins.0) {
        ledger.insert(column.name.to_owned(), value);
    }
    let text = |bytes: &Option<Vec<u8>>| bytes.as_deref().map(encode);
    Ok(Some(BatchPart {
        ledger,
        previous: encode(&previous),
        root: encode(&proof.root),
        manifest,
        received: proof.received,
        refused: text(&proof.refused),
        receipt: text(&proof.receipt),
        signer: text(&proof.signer),
    }))
}
