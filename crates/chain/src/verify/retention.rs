//! What retention says that it dropped.

use std::collections::HashMap;

use ed25519_dalek::VerifyingKey;
use luarm_schema::{TABLES, TableDef, tables::RetentionInfo};

use super::{History, Trouble, history::Values, rows};
use crate::stub::{self, Signed};

/// The rows of `retentioninfo`.
#[derive(Debug, Default)]
pub(super) struct Stubs {
    /// Host and row.
    rows: Vec<(i64, RetentionInfo)>,
    /// Host and key of rows that are not what a server signs, and why.
    pub(super) wrong: Vec<(i64, i64, String)>,
}

impl Stubs {
    /// Below which keys the host's rows were dropped, by the table's place in [`TABLES`].
    pub(super) fn bounds(&self, host: i64) -> Vec<i64> {
        let mut bounds = vec![i64::MIN; TABLES.len()];
        for (_, stub) in self.rows.iter().filter(|(of, _)| *of == host) {
            if let Some(table) = rows::position(&stub.tablename) {
                bounds[table] = bounds[table].max(stub.beforekey);
            }
        }
        bounds
    }

    /// Whether rows of that batch were dropped.
    pub(super) fn covers(&self, host: i64, batch: i64) -> bool {
        let is = |(of, stub): &(i64, RetentionInfo)| {
            *of == host && stub.firstbatch <= batch && batch <= stub.lastbatch
        };
        self.rows.iter().any(is)
    }
}

/// Reads what retention says, and checks it.
pub(super) fn read<H: History>(
    history: &mut H,
    only: Option<i64>,
    keys: &[VerifyingKey],
    machine_ids: &HashMap<i64, String>,
) -> Result<Stubs, Trouble> {
    let table: &'static TableDef = RetentionInfo::TABLE;
    let Some(place) = rows::position(table.name) else { return Ok(Stubs::default()) };
    let mut stubs = Stubs::default();
    let mut reading = rows::Reading::new(place);
    for portion in history.portions(table, only)? {
        history.rows(table, portion, &mut |values| {
            let Some(said) = reading.take(values) else { return };
            let begins = values.get(1..).unwrap_or_default();
            let Some(stub) = RetentionInfo::read(&mut Values(begins.iter())) else {
                stubs.wrong.push((said.host, said.key, "a value is none of its column's".to_owned()));
                return;
            };
            let machine_id = machine_ids.get(&said.host).map(String::as_str);
            if let Some(detail) = flaw(&said, &stub, keys, machine_id) {
                stubs.wrong.push((said.host, said.key, detail.to_owned()));
            }
            stubs.rows.push((said.host, stub));
        })?;
    }
    Ok(stubs)
}

fn flaw(
    said: &rows::Said,
    stub: &RetentionInfo,
    keys: &[VerifyingKey],
    machine_id: Option<&str>,
) -> Option<&'static str> {
    if said.batch != 0 {
        return Some("it names a batch, and only the store itself makes rows of this table");
    }
    // Without an identity nothing can be said of a signature; that it is missing was told.
    match machine_id.map(|machine_id| stub::signed(machine_id, stub))? {
        Signed::Not => Some("no server has signed it: whoever may delete rows could have written it"),
        Signed::Wrong => Some("the signature is not that of its values"),
        Signed::By(key) if !keys.is_empty() && !keys.contains(&key) => {
            Some("it is signed by a key that is not given")
        }
        Signed::By(_) if !said.is_summed => Some("`md5sum` is not that of its values"),
        Signed::By(_) => None,
    }
}
