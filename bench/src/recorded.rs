//! Real rows: an agent records a host that is busy while its server is away, and what waits in its spool afterwards is taken out.

use std::{collections::HashMap, path::Path};

use anyhow::{Context as _, ensure};
use luarm_link::{identity, packed};
use luarm_schema::{Batch, Row, Sink, TABLES, TableDef, Value, canonical::Canonical, tables::BatchInfo};
use luarm_store::{Parcel, Spool, StoreUrl};

use crate::{
    Bench,
    files::Chores,
    rows::{of_host, sealer},
    served::Served,
};

/// Programs, and processes that connect ten times each, of one turn: with the files of [`Chores`] about 1,500 rows, a third of them of files.
const PROGRAMS: u64 = 250;
const CONNECTING: u64 = 20;
const CONNECTIONS: u64 = 10;
/// Turns without a row more until it is plain that nothing is recorded.
const IDLE_TURNS: u32 = 3;

/// What one host recorded, and others might have.
pub(crate) struct Recorded {
    /// From the first one on.
    batches: Vec<Batch>,
    /// The entry of each batch in the ledger, as each of the other hosts has sealed it.
    seals: Vec<Vec<Row>>,
}

/// A row with everything that later batches made of it.
pub(crate) struct Settled {
    /// As it is at the end.
    pub row: Row,
    created_by: i64,
    ended_by: Option<i64>,
}

impl Recorded {
    /// Has an agent record until it has so many rows at least, and as many hosts seal a copy each.
    pub(crate) fn record(bench: &Bench, rows: u64, hosts: u64) -> anyhow::Result<Self> {
        let dir = bench.empty_dir()?;
        let served = Served::start(bench, &StoreUrl::Sqlite(dir.path().join("store.db")))?;
        let data = dir.path().join("agent");
        let chores = Chores::new(bench)?;
        let acceptor = bench.programs.accept()?;
        let (alone, agent) = served.agent_alone(&data)?;
        let (mut there, mut idle) = (0, 0);
        for turn in 0.. {
            bench.go_on()?;
            bench.programs.exec(PROGRAMS, &format!("turn-{turn}-"))?;
            bench.programs.connect(CONNECTING, CONNECTIONS, &format!("call-{turn}-"), &acceptor)?;
            chores.run(bench)?;
            let before = std::mem::replace(&mut there, alone.rows(&data)?);
            if there >= rows {
                break;
            }
            idle = if there > before { 0 } else { idle + 1 };
            ensure!(idle < IDLE_TURNS, "the agent records nothing: it has {there} rows");
            if turn % 10 == 0 {
                eprintln!("bench: {there} of {rows} rows are recorded");
            }
        }
        agent.stop()?;
        let recorded = Self::of(take(&data)?, hosts)?;
        ensure!(recorded.rows() >= rows, "the spool has {} of {there} rows", recorded.rows());
        Ok(recorded)
    }

    /// These batches, and as many hosts.
    pub(crate) fn of(batches: Vec<Batch>, hosts: u64) -> anyhow::Result<Self> {
        let mut recorded = Recorded { batches, seals: Vec::new() };
        for host in 0..hosts {
            let keys = tempfile::tempdir()?;
            let mut sealer = sealer(keys.path(), host)?;
            let mut entries = Vec::new();
            for mut batch in recorded.renamed(host) {
                sealer.seal(&mut batch)?;
                entries.extend(batch.rows.pop());
            }
            recorded.seals.push(entries);
        }
        Ok(recorded)
    }

    /// Rows of all tables, those of the ledger as well.
    pub(crate) fn rows(&self) -> u64 {
        self.batches.iter().map(|batch| batch.rows.len() as u64).sum()
    }

    /// Rows that were stored before they ended.
    pub(crate) fn ends(&self) -> u64 {
        self.batches.iter().map(|batch| batch.ends.len() as u64).sum()
    }

    /// Batches.
    pub(crate) fn batches(&self) -> usize {
        self.batches.len()
    }

    /// The tables that have rows, and how many.
    pub(crate) fn tables(&self) -> Vec<(&'static TableDef, u64)> {
        let mut counts = vec![0; TABLES.len()];
        for row in self.batches.iter().flat_map(|batch| &batch.rows) {
            counts[row.position()] += 1;
        }
        TABLES.iter().copied().zip(counts).filter(|(_, count)| *count > 0).collect()
    }

    /// The batches as if another host had made them, with the seals of the one that did.
    fn renamed(&self, host: u64) -> impl Iterator<Item = Batch> {
        self.batches.iter().map(move |batch| {
            let mut batch = batch.clone();
            for row in &mut batch.rows {
                if let Row::HostInfo(info) = row {
                    (info.machineid, info.hostname) = of_host(host);
                }
            }
            batch
        })
    }

    /// The batches as another host would have made and sealed them.
    fn of_host(&self, host: u64) -> impl Iterator<Item = Batch> {
        let seals = self.seals.get(host as usize).into_iter().flatten();
        self.renamed(host).zip(seals).map(|(mut batch, entry)| {
            if let Some(last) = batch.rows.last_mut() {
                last.clone_from(entry);
            }
            batch
        })
    }

    /// What another host would deliver.
    pub(crate) fn parcels(&self, host: u64) -> anyhow::Result<Vec<Parcel>> {
        self.of_host(host).map(|batch| packed::pack(&batch).context("cannot pack a batch")).collect()
    }

    /// The batches of the first host, not sealed, as if none had held more than `most` rows beside its entry in the ledger.
    pub(crate) fn in_parts(&self, most: usize) -> impl Iterator<Item = Batch> {
        self.renamed(0).flat_map(move |batch| parts(&batch, most)).zip(1..).map(|(mut batch, id)| {
            batch.id = id;
            let (rows, ends) = (batch.rows.len() as i64 - 1, batch.ends.len() as i64);
            if let Some(Row::BatchInfo(info)) = batch.rows.last_mut() {
                (info.batchid, info.rowcount, info.endcount) = (id, rows, ends);
                (info.publickey, info.nextkey) = (None, None);
                (info.digest, info.signature) = (None, None);
            }
            batch
        })
    }

    /// Bytes that the batches have on the wire when none has more than `most` rows beside its entry in the ledger.
    pub(crate) fn wire_bytes(&self, most: usize) -> anyhow::Result<u64> {
        let mut bytes = 0;
        for batch in &self.batches {
            for part in parts(batch, most) {
                bytes += packed::pack(&part)?.bytes.len() as u64;
            }
        }
        Ok(bytes)
    }

    /// The rows of a host as they are at the end, table by table.
    pub(crate) fn settled(&self, host: u64) -> Vec<Settled> {
        let mut rows: Vec<Settled> = Vec::new();
        let mut places: HashMap<(usize, i64), usize> = HashMap::new();
        for batch in self.of_host(host) {
            for row in batch.rows {
                if !row.is_ended() {
                    places.insert((row.position(), row.key()), rows.len());
                }
                let ended_by = (row.table().is_interval() && row.is_ended()).then_some(batch.id);
                rows.push(Settled { row, created_by: batch.id, ended_by });
            }
            for (key, end) in batch.ends {
                // Of two ends the first counts.
                if let Some(place) = places.remove(&(end.position(), key)) {
                    rows[place].row.set_end(end);
                    rows[place].ended_by = Some(batch.id);
                }
            }
        }
        rows.sort_by_key(|settled| settled.row.position());
        rows
    }
}

/// Takes all batches out of the spool of a data directory.
fn take(data: &Path) -> anyhow::Result<Vec<Batch>> {
    let (spool, _) = Spool::open(&identity::spool(data), 0)?;
    let mut batches: Vec<Batch> = Vec::new();
    while let Some(parcel) = spool.next(batches.last().map_or(0, |batch| batch.id))? {
        batches.push(packed::unpack(&parcel)?);
    }
    let whole = batches.iter().zip(1..).all(|(batch, id)| batch.id == id) && !batches.is_empty();
    ensure!(whole, "batches are missing in the spool");
    Ok(batches)
}

/// A batch in parts of so many rows, the ends evenly among them.
fn parts(batch: &Batch, most: usize) -> Vec<Batch> {
    let mut rows = batch.rows.clone();
    let Some(entry) = rows.pop() else { return Vec::new() };
    debug_assert_eq!(entry.table().name, BatchInfo::TABLE.name);
    let count = rows.len().div_ceil(most).max(1);
    let ends = batch.ends.len().div_ceil(count).max(1);
    let mut ends = batch.ends.chunks(ends);
    let rows: Vec<&[Row]> = if rows.is_empty() { vec![&[]] } else { rows.chunks(most).collect() };
    rows.into_iter()
        .map(|rows| {
            let mut part = Batch { id: batch.id, rows: rows.to_vec(), ..Batch::default() };
            part.ends = ends.next().unwrap_or_default().to_vec();
            part.rows.push(entry.clone());
            part
        })
        .collect()
}

impl Settled {
    /// Gives the values of all stored columns, as the store has them in the end.
    pub(crate) fn stored<S: Sink>(&self, host: i64, sink: &mut S, digested: &mut Canonical) {
        let left = self.row.table().stored().count();
        let mut sink = Ended { sink, left, by: self.ended_by };
        self.row.stored(host, self.created_by, &mut sink, digested);
    }
}

/// Passes values on, but the last one of an interval, which is the batch that ended it.
struct Ended<'a, S> {
    sink: &'a mut S,
    left: usize,
    by: Option<i64>,
}

impl<S: Sink> Sink for Ended<'_, S> {
    fn put(&mut self, value: Value<'_>) {
        self.left = self.left.saturating_sub(1);
        match self.by {
            Some(batch) if self.left == 0 => self.sink.put(Value::Int(batch)),
            _ => self.sink.put(value),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_have_all_of_a_batch() {
        let batches = crate::rows::sample(100);
        let batch = &batches[1];
        assert!(!batch.ends.is_empty());
        for most in [1, 7, 99, 100, 1000] {
            let parts = parts(batch, most);
            assert_eq!(parts.len(), (batch.rows.len() - 1).div_ceil(most));
            let rows: Vec<&Row> = parts.iter().flat_map(|p| &p.rows[..p.rows.len() - 1]).collect();
            assert!(rows.into_iter().eq(&batch.rows[..batch.rows.len() - 1]), "{most}");
            assert!(parts.iter().flat_map(|p| &p.ends).eq(&batch.ends), "{most}");
        }
    }

    #[test]
    fn small_batches_say_what_they_hold() {
        let recorded = Recorded::of(crate::rows::sample(100), 1).unwrap();
        let (mut rows, mut ends) = (0, 0);
        for (batch, id) in recorded.in_parts(7).zip(1..) {
            let Some(Row::BatchInfo(info)) = batch.rows.last() else { panic!("no entry") };
            assert_eq!((batch.id, info.batchid), (id, id));
            assert_eq!(info.rowcount, batch.rows.len() as i64 - 1);
            assert_eq!(info.endcount, batch.ends.len() as i64);
            rows += batch.rows.len() as u64 - 1;
            ends += batch.ends.len() as u64;
        }
        assert_eq!((rows, ends), (recorded.rows() - recorded.batches() as u64, recorded.ends()));
    }
}
