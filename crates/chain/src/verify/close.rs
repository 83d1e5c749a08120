//! The second half of a verification: what did not come to nothing is looked at closely, and explained.

use std::{
    collections::{BTreeMap, HashMap, hash_map::Entry},
    sync::atomic::Ordering,
};

use luarm_schema::{TABLES, TableDef};

use super::{
    Change, History, Portioned, Trouble, Verification,
    exact::{self, MOST, Missing, Odd, Suspect, Suspects, TOGETHER},
    explain::{self, Found},
    ledger::PROOF,
    marks::{Marks, push},
    retention,
    rows::{Reading, is_servers},
    spread::spread,
};
use crate::{AHEAD, Manifest, Refusals, is_server};

impl<H: History + Send> Verification<'_, H> {
    /// Looks closely at what did not come to nothing, and says what it is.
    pub(super) fn explain(&mut self, history: &mut H, mut marks: Marks) -> Result<(), Trouble> {
        marks.settle(history)?;
        // What was dropped meanwhile is not missing.
        let later = self.stubs_now(history)?;
        for (host, batch, change, detail) in std::mem::take(&mut marks.findings) {
            if change == Change::ProofMissing && later.covers(host, batch) {
                continue;
            }
            let table = if change == Change::CountWrong { "batchinfo" } else { PROOF };
            self.report.batch(host, batch, table, change, detail);
        }
        self.bound(&later);
        let mut suspects: Vec<(i64, i64)> =
            self.books.values().flat_map(|book| book.suspects().map(|batch| (book.host, batch))).collect();
        suspects.sort_unstable();
        let (mut odds, mut missing) = (Vec::new(), Vec::new());
        let mut rest = suspects.as_slice();
        while !rest.is_empty() && missing.len() < MOST {
            let group = self.group(history, &mut rest)?;
            self.look(&group, &mut odds, &mut marks.untold)?;
            // Retention may have gone on while it was looked for.
            let latest = self.stubs_now(history)?;
            self.bound(&latest);
            exact::missing(&group, &self.books, &mut |m| push(&mut missing, m, &mut marks.untold));
        }
        marks.untold += rest.len() as u64;
        self.conclude(history, &marks, &odds, missing)?;
        self.report.untold += marks.untold;
        Ok(())
    }

    /// What these say that was dropped is not missed.
    fn bound(&mut self, stubs: &retention::Stubs) {
        for (host, book) in &mut self.books {
            book.bounds = stubs.bounds(*host);
        }
    }

    /// As many of the batches as may be looked at together.
    fn group(&self, history: &mut H, rest: &mut &[(i64, i64)]) -> Result<Suspects, Trouble> {
        let (mut group, mut weight) = (Suspects::new(), 0);
        while let Some(((host, batch), after)) = rest.split_first() {
            if weight > TOGETHER {
                break;
            }
            *rest = after;
            history.manifests(*host, *batch, *batch, &mut |(_, bytes, refused)| {
                let Some(Ok(manifest)) = bytes.map(Manifest::decode) else { return };
                let refused = Refusals::decode(refused.unwrap_or_default()).unwrap_or_default();
                let suspect = Suspect::new(manifest, refused);
                weight += suspect.weight();
                group.insert((*host, *batch), suspect);
            })?;
        }
        Ok(group)
    }

    fn look(&self, group: &Suspects, odds: &mut Vec<Odd>, untold: &mut u64) -> Result<(), Trouble> {
        type Gathered = (Vec<Odd>, u64);
        self.progress.all.fetch_add(self.portions.len() as u64, Ordering::Relaxed);
        let each = |history: &mut H, (table, portion): &Portioned, gathered: &mut Gathered| {
            let mut reading = Reading::new(*table);
            history.rows(TABLES[*table], *portion, &mut |values| {
                let Some(said) = reading.take(values) else { return };
                let Some(book) = self.books.get(&said.host) else { return };
                exact::look(group, book, &reading, said, &mut |odd| {
                    push(&mut gathered.0, odd, &mut gathered.1);
                });
            })?;
            self.progress.done.fetch_add(1, Ordering::Relaxed);
            Ok(())
        };
        let found = spread(self.pool, self.threads(), &self.portions, each)?;
        for (some, more) in found {
            *untold += more;
            some.into_iter().for_each(|odd| push(odds, odd, untold));
        }
        Ok(())
    }

    fn conclude(
        &mut self,
        history: &mut H,
        marks: &Marks,
        odds: &[Odd],
        missing: Vec<Missing>,
    ) -> Result<(), Trouble> {
        let mut found = Found::new();
        let mut readings: Vec<Reading> = (0..TABLES.len()).map(Reading::new).collect();
        let all: Vec<Odd> = [odds, &marks.strays, &marks.newer].concat();
        explain::missing(history, &mut readings, missing, &all, &mut found)?;
        let (ahead, newer) = self.ahead(history, &marks.newer)?;
        self.report.unsealed =
            ahead.iter().filter(|odd| !found.contains_key(&(odd.said.host, odd.table, odd.said.key))).count()
                as u64;
        self.report.unsigned = marks.unsigned;
        odds.iter().for_each(|odd| explain::odd(odd, "no batch of the host knows it", &mut found));
        newer.iter().for_each(|odd| {
            let why = format!("it names batch {}, which there is not", odd.batch);
            explain::odd(odd, &why, &mut found);
        });
        // Rows of a batch that is gone are told with it.
        let mut orphans: BTreeMap<(i64, i64), u64> = BTreeMap::new();
        for odd in &marks.strays {
            let at = (odd.said.host, odd.table, odd.said.key);
            match self.books.get(&odd.said.host) {
                _ if found.contains_key(&at) => {}
                Some(book) if odd.batch > 0 && odd.batch <= book.last && !book.has(odd.batch) => {
                    *orphans.entry((odd.said.host, odd.batch)).or_default() += 1;
                }
                Some(_) => {
                    let why = format!("it names batch {}, which there cannot be", odd.batch);
                    explain::odd(odd, &why, &mut found);
                }
                None => {
                    let why = format!("no host has the number {}", odd.said.host);
                    explain::odd(odd, &why, &mut found);
                }
            }
        }
        self.kept(history, &marks.kept, &mut found)?;
        // A row that has both is told as the first of them, however the threads came upon it.
        let mut wrong: Vec<_> = marks.wrong.iter().collect();
        wrong.sort_by_key(|(.., change)| *change != Change::RowChanged);
        for (host, table, key, batch, change) in wrong {
            let detail = match change {
                Change::EndAdded => "it has an end, and names no batch that ended it",
                _ => "`md5sum` is not that of its values",
            };
            found.entry((*host, *table, *key)).or_insert_with(|| (*batch, *change, detail.to_owned()));
        }
        self.report.orphans(&orphans);
        self.report.found(found);
        Ok(())
    }

    /// Takes out of these what servers have written down and are about to seal, and gives both.
    fn ahead(&self, history: &mut H, newer: &[Odd]) -> Result<(Vec<Odd>, Vec<Odd>), Trouble> {
        let mut last: HashMap<i64, i64> = HashMap::new();
        let (mut ahead, mut others) = (Vec::new(), Vec::new());
        for odd in newer {
            let host = odd.said.host;
            let of_server = self.machine_ids.get(&host).is_some_and(|id| is_server(id));
            if !of_server || !is_servers(TABLES[odd.table]) {
                others.push(*odd);
                continue;
            }
            let last = match last.entry(host) {
                Entry::Occupied(known) => *known.get(),
                Entry::Vacant(unknown) => *unknown.insert(history.last_batch(host)?),
            };
            if odd.batch <= last.saturating_add(AHEAD) { ahead.push(*odd) } else { others.push(*odd) }
        }
        Ok((ahead, others))
    }

    /// Rows below the bounds of retention have to be in the manifests of their batches, each by itself.
    fn kept(&self, history: &mut H, kept: &[Odd], found: &mut Found) -> Result<(), Trouble> {
        let mut by_batch: BTreeMap<(i64, i64), Vec<&Odd>> = BTreeMap::new();
        for odd in kept {
            by_batch.entry((odd.said.host, odd.batch)).or_default().push(odd);
        }
        for ((host, batch), odds) in by_batch {
            let mut known = None;
            history.manifests(host, batch, batch, &mut |(_, bytes, _)| {
                known = bytes.and_then(|bytes| Manifest::decode(bytes).ok());
            })?;
            for one in odds {
                let table: &TableDef = TABLES[one.table];
                let at =
                    |known: &Manifest| exact::place(known, table.name, one.part, one.said.key, &one.leaf);
                if known.as_ref().and_then(at).is_some() {
                    continue;
                }
                // One that has ended may have gone meanwhile, and its batch's manifest after it.
                let mut is_there = false;
                history.row(table, host, one.said.key, &mut |_| is_there = true)?;
                if is_there {
                    explain::odd(one, "its batch does not know it with these values", found);
                }
            }
        }
        Ok(())
    }
}
