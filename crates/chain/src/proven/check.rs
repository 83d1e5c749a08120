//! Checking what proves an answer, without the store.

use std::collections::{BTreeMap, BTreeSet};

use ed25519_dalek::VerifyingKey;
use luarm_schema::{
    Column, Role, Sink, Source, TableDef, Value,
    tables::{BatchInfo, CoverageInfo, LossInfo},
};
use serde_json::Value as Json;

use super::{BatchPart, HostPart, Proven, RowPart, build, coverage, give, json, value, values};
use crate::{
    Manifest, Part, Sha256, Stored, decode, encode,
    link::{self, NOTHING, Tip},
    verify::{Proof, receipt},
};

/// What a check gives.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Checked {
    /// What is wrong: if there is any, the answer is not proven.
    pub flaws: Vec<String>,
    /// What could not be led back to a key that is believed.
    pub unanchored: Vec<String>,
    /// Whose rows they are.
    pub hosts: Vec<String>,
    /// Rows of the answer whose rows in tables are proven.
    pub answers: u64,
    /// Rows in tables that are proven.
    pub rows: u64,
    /// Columns of the answer that are those of proven rows.
    pub proven: Vec<String>,
    /// Columns of the answer that were reckoned: nothing proves them but the rows beside them.
    pub reckoned: Vec<String>,
    /// What was observed of the time, class by class, and what was lost.
    pub coverage: Vec<String>,
}

/// The columns of the ledger's rows that a batch is made with.
pub(super) fn ledger_columns() -> impl Iterator<Item = &'static Column> {
    BatchInfo::TABLE.columns.iter().filter(|column| column.role == Role::Begin)
}

/// Values as they stand in a file.
#[derive(Default)]
pub(super) struct Collected(pub(super) Vec<Json>);

impl Sink for Collected {
    fn put(&mut self, value: Value<'_>) {
        self.0.push(json(value));
    }
}

struct Ledger<'a>(&'a BTreeMap<String, Json>, Box<dyn Iterator<Item = &'static Column>>);

impl Source for Ledger<'_> {
    fn take(&mut self) -> Value<'_> {
        let found = self.1.next().and_then(|column| value(column.kind, self.0.get(column.name)?));
        // No value of any column.
        found.unwrap_or(Value::Real(f64::NAN))
    }
}

impl BatchPart {
    fn info(&self) -> Option<BatchInfo> {
        BatchInfo::read(&mut Ledger(&self.ledger, Box::new(ledger_columns())))
    }

    fn digest(&self, machine_id: &str, info: &BatchInfo) -> Option<Sha256> {
        Some(link::digest(machine_id, &decode(&self.previous)?, &decode(&self.root)?, info))
    }

    /// Whether its digest is that of a batch of this machine.
    pub(super) fn is_of(&self, machine_id: &str) -> bool {
        let stated = || {
            let info = self.info()?;
            Some(self.digest(machine_id, &info)? == decode::<32>(info.digest.as_deref()?)?)
        };
        stated() == Some(true)
    }

    fn proof(&self) -> Option<Proof> {
        Some(Proof {
            has_manifest: self.manifest.is_some(),
            root: Vec::new(),
            refused: self.refused.as_deref().map(bytes).transpose().ok()?,
            received: self.received,
            receipt: self.receipt.as_deref().map(bytes).transpose().ok()?,
            signer: self.signer.as_deref().map(bytes).transpose().ok()?,
        })
    }

    fn manifest(&self) -> Option<Result<Manifest, String>> {
        let bytes = match bytes(self.manifest.as_deref()?) {
            Ok(bytes) => bytes,
            Err(_) => return Some(Err("its manifest is no base64".to_owned())),
        };
        if decode::<32>(&self.root) != Some(Manifest::root_of(&bytes)) {
            return Some(Err("its manifest is not the one that its root stands for".to_owned()));
        }
        Some(Manifest::decode(&bytes).map_err(|error| error.to_string()))
    }
}

fn bytes(text: &str) -> Result<Vec<u8>, base64::DecodeError> {
    use base64::{Engine, prelude::BASE64_STANDARD_NO_PAD};
    BASE64_STANDARD_NO_PAD.decode(text)
}

impl Proven {
    /// Checks everything. `keys` are the servers' that are believed; `host_keys` the first keys of hosts, for which no server has signed.
    pub fn check(&self, keys: &[VerifyingKey], host_keys: &[VerifyingKey]) -> Checked {
        let mut checked = Checked::default();
        let mut manifests: BTreeMap<(i64, i64), Manifest> = BTreeMap::new();
        let mut numbers = BTreeSet::new();
        for host in &self.hosts {
            if !numbers.insert(host.number) {
                checked.flaws.push(format!("host number {} stands for two computers", host.number));
            }
            host.check(keys, host_keys, &mut manifests, &mut checked);
            let HostPart { number, machineid, name, .. } = host;
            // Digests are of a machine id; what it is called in a store, nobody signs.
            checked.hosts.push(format!("host number {number}: machine id {machineid}, called {name}"));
        }
        let mut known: BTreeMap<(i64, &str, i64), &RowPart> = BTreeMap::new();
        for row in &self.rows {
            match row.check(&manifests) {
                Ok((host, table, key)) => {
                    checked.rows += 1;
                    known.insert((host, table.name, key), row);
                }
                Err(flaw) => checked.flaws.push(flaw),
            }
        }
        self.compare(&known, &mut checked);
        let of = |table: &TableDef| {
            let rows = known.iter().filter(|((_, name, _), _)| *name == table.name);
            rows.map(|((host, ..), row)| (self.name(*host), &row.values)).collect::<Vec<_>>()
        };
        if let Some((from, to)) = &self.span {
            checked.coverage = coverage::told(&of(CoverageInfo::TABLE), &of(LossInfo::TABLE), from, to);
        }
        checked
    }

    fn name(&self, number: i64) -> String {
        let host = self.hosts.iter().find(|host| host.number == number);
        host.map_or_else(|| number.to_string(), |host| host.name.clone())
    }

    /// Compares the answer with the rows that it names.
    fn compare(&self, known: &BTreeMap<(i64, &str, i64), &RowPart>, checked: &mut Checked) {
        let keys = build::keys(&self.columns);
        if keys.is_empty() {
            checked.flaws.push("the answer names no rows".to_owned());
        }
        let host_at = self.columns.iter().position(|name| name.eq_ignore_ascii_case("host"));
        let one = match &self.hosts[..] {
            [one] => Some(one.number),
            _ => None,
        };
        let is_known = |name: &str| {
            keys.iter().any(|(_, table)| table.stored().any(|column| column.name.eq_ignore_ascii_case(name)))
        };
        (checked.proven, checked.reckoned) = self.columns.iter().cloned().partition(|name| is_known(name));
        for (n, cells) in self.answer.iter().enumerate() {
            let host = host_at.and_then(|at| cells.get(at)).and_then(Json::as_i64).or(one);
            let key = |at: usize| cells.get(at).filter(|cell| !cell.is_null());
            let mut named: Vec<&RowPart> = Vec::new();
            let mut is_whole = cells.len() == self.columns.len();
            for (at, table) in &keys {
                let Some(cell) = key(*at) else { continue };
                let row = cell.as_i64().zip(host).and_then(|(key, host)| known.get(&(host, table.name, key)));
                match row {
                    Some(row) => named.push(row),
                    None => is_whole = false,
                }
            }
            if !is_whole || named.is_empty() {
                checked.flaws.push(format!("row {} of the answer names a row that is not proven", n + 1));
                continue;
            }
            let wrong = self.columns.iter().zip(cells).find(|(name, cell)| {
                let values: Vec<&Json> =
                    named.iter().filter_map(|row| row.values.get(&name.to_lowercase())).collect();
                !values.is_empty() && !values.contains(cell)
            });
            match wrong {
                Some((name, cell)) => {
                    checked.flaws.push(format!(
                        "row {} of the answer: {name} is {cell}, and not so in the row that it names",
                        n + 1
                    ));
                }
                None => checked.answers += 1,
            }
        }
    }
}

impl HostPart {
    fn check(
        &self,
        keys: &[VerifyingKey],
        host_keys: &[VerifyingKey],
        manifests: &mut BTreeMap<(i64, i64), Manifest>,
        checked: &mut Checked,
    ) {
        let mut tip: Option<Tip> = None;
        let mut is_led = false;
        for (n, part) in self.batches.iter().enumerate() {
            let Some(info) = part.info() else {
                checked.flaws.push(format!("{}: a value of its ledger is none of its column's", self.name));
                return;
            };
            let at = format!("{}, batch {}", self.name, info.batchid);
            let stated: Option<Sha256> = info.digest.as_deref().and_then(decode);
            let Some(digest) = part.digest(&self.machineid, &info).filter(|digest| Some(*digest) == stated)
            else {
                checked.flaws.push(format!("{at}: its digest is not that of its manifest, its row in the ledger, and the digest before it"));
                continue;
            };
            match part.manifest() {
                Some(Ok(manifest)) => _ = manifests.insert((self.number, info.batchid), manifest),
                Some(Err(flaw)) => checked.flaws.push(format!("{at}: {flaw}")),
                None => {}
            }
            // From the first key, one after the other.
            let is_next = info.batchid == n as i64 + 1;
            let root: Option<Sha256> = decode(&part.root);
            let led = is_next
                && root.is_some_and(|root| {
                    let result = link::check(&self.machineid, tip.as_ref(), &root, &info);
                    tip = result.tip;
                    let is_first = n == 0 && decode(&part.previous) == Some(NOTHING);
                    let own = info
                        .publickey
                        .as_deref()
                        .and_then(decode)
                        .and_then(|key| VerifyingKey::from_bytes(&key).ok());
                    let is_believed = own.is_some_and(|own| host_keys.contains(&own));
                    result.flaw.is_none() && (if n == 0 { is_first && is_believed } else { is_led })
                });
            is_led = led;
            if part.manifest.is_none() {
                continue;
            }
            let signed = part.proof().as_ref().and_then(receipt);
            let is_right = |(signer, receipt, refused): &(VerifyingKey, crate::Receipt, crate::Refusals)| {
                receipt.is_by(signer, (&self.machineid, info.batchid, &digest), refused)
            };
            match signed {
                Some(signed) if !is_right(&signed) => {
                    checked.flaws.push(format!("{at}: the server has signed another digest"));
                }
                Some(signed) if keys.contains(&signed.0) => {}
                _ if led => {}
                Some(signed) => checked.unanchored.push(format!(
                    "{at}: the server's key {} is not given; name the file with it by --server-key",
                    encode(signed.0.as_bytes())
                )),
                None => {
                    let first = self.batches.first().and_then(|part| part.ledger.get("publickey")?.as_str());
                    checked.unanchored.push(format!(
                        "{at}: no server has signed for it; name the first key of the host by --host-key, if it is {}",
                        first.unwrap_or("known")
                    ));
                }
            }
        }
    }
}

impl RowPart {
    /// Looks for the row in the manifests of its batches. Gives its host, table and key.
    fn check(
        &self,
        manifests: &BTreeMap<(i64, i64), Manifest>,
    ) -> Result<(i64, &'static TableDef, i64), String> {
        let table =
            Proven::table(&self.table).ok_or_else(|| format!("no table {:?} can be proven", self.table))?;
        let values = values(table, &self.values)
            .ok_or_else(|| format!("{}: the values are none of the table's", table.name))?;
        let int = |name: &str| {
            let at = table.stored().position(|column| column.name == name)?;
            match values.get(at) {
                Some(Value::Int(n)) => Some(*n),
                _ => None,
            }
        };
        let (Some(host), Some(key), Some(batch)) = (int("host"), int(table.key), int("batch")) else {
            return Err(format!("{}: a row has no host, key or batch", table.name));
        };
        let at = format!("{} {} {key}", table.name, table.key);
        let begins = table.columns.iter().filter(|column| column.role == Role::Begin).count();
        let ends = table.ends().count();
        let mut stored = Stored::default();
        give(&values[1..=begins], &mut Begin(&mut stored));
        give(&values[1 + begins..1 + begins + ends], &mut End(&mut stored));
        let dbatch = int("dbatch");
        if dbatch.is_none() && stored.has_end() {
            return Err(format!("{at}: it has an end, and names no batch that ended it"));
        }
        let part = if dbatch == Some(batch) { Part::Whole } else { Part::Begin };
        let end = dbatch.filter(|dbatch| *dbatch != batch).map(|dbatch| (dbatch, Part::End));
        for (batch, part) in [Some((batch, part)), end].into_iter().flatten() {
            let leaf = stored.leaf(table.name, part, key);
            let manifest = manifests.get(&(host, batch));
            let found = manifest.and_then(|manifest| manifest.find(table.name, part, key));
            if found.is_none_or(|(_, found)| found != leaf) {
                return Err(format!("{at}: batch {batch} does not hold it with these values"));
            }
        }
        let sum: Option<&Json> = self.values.get("md5sum");
        if sum.and_then(Json::as_str).map(str::as_bytes) != Some(&stored.md5sum()[..]) {
            return Err(format!("{at}: md5sum is not that of its values"));
        }
        Ok((host, table, key))
    }
}

struct Begin<'a>(&'a mut Stored);

impl Sink for Begin<'_> {
    fn put(&mut self, value: Value<'_>) {
        self.0.put_begin(value);
    }
}

struct End<'a>(&'a mut Stored);

impl Sink for End<'_> {
    fn put(&mut self, value: Value<'_>) {
        self.0.put_end(value);
    }
}
