//! What kind of change explains that entries have no rows, and rows no entries.

use std::collections::{BTreeMap, HashMap};

use luarm_schema::TABLES;

use super::{
    Change, History, Trouble,
    exact::{Missing, Odd},
    rows::{Reading, Said},
};
use crate::{Leaf, Part};

/// What was found about one row, by host, place of its table, and key.
pub(super) type Found = BTreeMap<(i64, usize, i64), (i64, Change, String)>;

/// A row as it is now.
struct Now {
    said: Said,
    leaves: [Leaf; 3],
}

impl Now {
    fn leaf(&self, part: Part) -> &Leaf {
        match part {
            Part::Begin => &self.leaves[0],
            Part::Whole => &self.leaves[1],
            Part::End => &self.leaves[2],
        }
    }
}

fn now(
    history: &mut dyn History,
    readings: &mut [Reading],
    table: usize,
    host: i64,
    key: i64,
) -> Result<Option<Now>, Trouble> {
    let reading = &mut readings[table];
    let mut now = None;
    history.row(TABLES[table], host, key, &mut |values| {
        if let Some(said) = reading.take(values) {
            let leaves = [Part::Begin, Part::Whole, Part::End].map(|part| reading.leaf(part, key));
            now = Some(Now { said, leaves });
        }
    })?;
    Ok(now)
}

/// Explains the entries without rows. What a row elsewhere explains is that row's as well.
pub(super) fn missing(
    history: &mut dyn History,
    readings: &mut [Reading],
    mut entries: Vec<Missing>,
    odds: &[Odd],
    found: &mut Found,
) -> Result<(), Trouble> {
    let mut by_key: HashMap<(usize, i64), Vec<&Odd>> = HashMap::new();
    for odd in odds {
        by_key.entry((odd.table, odd.said.key)).or_default().push(odd);
    }
    entries.sort_unstable_by_key(|m| (m.part, m.host, m.batch, m.table, m.key));
    for entry in entries {
        let at = (entry.host, entry.table, entry.key);
        if found.contains_key(&at) {
            continue;
        }
        let (change, detail) = match now(history, readings, entry.table, entry.host, entry.key)? {
            Some(now) => changed(&entry, &now),
            None => {
                let elsewhere = by_key.get(&(entry.table, entry.key)).into_iter().flatten();
                let moved = elsewhere.into_iter().find(|o| o.leaf == entry.leaf && o.said.host != entry.host);
                match moved {
                    Some(odd) => {
                        let there = (odd.said.host, odd.table, odd.said.key);
                        let detail = format!("it is with host number {} now", odd.said.host);
                        found.insert(there, (odd.batch, Change::RowMoved, "it is another host's".to_owned()));
                        (Change::RowMoved, detail)
                    }
                    None => (Change::RowDeleted, format!("batch {} has it, the table has not", entry.batch)),
                }
            }
        };
        found.insert(at, (entry.batch, change, detail));
    }
    Ok(())
}

fn changed(entry: &Missing, now: &Now) -> (Change, String) {
    let Said { batch, dbatch, .. } = now.said;
    let is_same = |part| *now.leaf(part) == entry.leaf;
    let ended = || dbatch.map_or("no batch".to_owned(), |dbatch| format!("batch {dbatch}"));
    match entry.part {
        Part::Begin | Part::Whole if batch != entry.batch => {
            let of = entry.batch;
            if is_same(entry.part) {
                (Change::RowMoved, format!("it names batch {batch}; batch {of} created it"))
            } else {
                (
                    Change::RowChanged,
                    format!("it names batch {batch}; batch {of} created it, with other values"),
                )
            }
        }
        Part::Begin if is_same(Part::Begin) => {
            (Change::EndChanged, format!("its end names {}, in which it had not ended", ended()))
        }
        Part::Begin => (Change::RowChanged, "a value is another than its batch created it with".to_owned()),
        Part::Whole if is_same(Part::Whole) => {
            (Change::EndChanged, format!("its end names {}; batch {batch} ended it", ended()))
        }
        Part::Whole if !now.said.has_end => (Change::EndRemoved, format!("batch {batch} ended it")),
        Part::Whole if now.said.is_summed => {
            let detail = "a value of its end is another than its batch ended it with, or the row was changed with its md5sum";
            (Change::EndChanged, detail.to_owned())
        }
        Part::Whole => (Change::RowChanged, "a value is another than its batch created it with".to_owned()),
        Part::End if !now.said.has_end => (Change::EndRemoved, format!("batch {} ended it", entry.batch)),
        Part::End if is_same(Part::End) => {
            (Change::EndChanged, format!("its end names {}; batch {} ended it", ended(), entry.batch))
        }
        Part::End => {
            (Change::EndChanged, "a value of its end is another than its batch ended it with".to_owned())
        }
    }
}

/// Explains a row without an entry, unless it is explained already.
pub(super) fn odd(odd: &Odd, why: &str, found: &mut Found) {
    let at = (odd.said.host, odd.table, odd.said.key);
    let explained = || {
        let change = if odd.part == Part::End { Change::EndAdded } else { Change::RowInserted };
        let detail = match odd.is_refused {
            true => format!("batch {} has it, and the store is said to have refused it", odd.batch),
            false => why.to_owned(),
        };
        (odd.batch, change, detail)
    };
    found.entry(at).or_insert_with(explained);
}
