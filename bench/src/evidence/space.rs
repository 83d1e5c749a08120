//! The bytes that evidence takes in SQLite.

use std::path::Path;

use anyhow::ensure;
use luarm_schema::{Batch, tables::BatchInfo};
use luarm_store::{StoreUrl, Writer};
use rusqlite::{Connection, OpenFlags};

use crate::{
    Bench,
    recorded::Recorded,
    rows::{of_host, sealer},
};

/// Rows of a batch of a host that has little to do.
pub(super) const FEW: usize = 25;

/// Bytes of a store.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Space {
    pub(super) batches: u64,
    /// All of it.
    pub(super) store: u64,
    /// What it has more than one without evidence.
    pub(super) evidence: u64,
    /// Manifests alone, without what SQLite has around them.
    pub(super) manifests: u64,
}

/// Twice the same rows.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Spaces {
    pub(super) rows: u64,
    /// In batches as they were recorded.
    pub(super) recorded: Space,
    /// In small ones.
    pub(super) few: Space,
}

impl Spaces {
    /// What evidence takes for each row, and for each batch whatever is in it.
    pub(super) fn split(&self) -> (f64, f64) {
        let batches = self.few.batches as f64 - self.recorded.batches as f64;
        let batch = (self.few.evidence as f64 - self.recorded.evidence as f64) / batches;
        let rows = self.recorded.evidence as f64 - batch * self.recorded.batches as f64;
        (rows / self.rows as f64, batch)
    }
}

pub(super) fn measure(bench: &Bench, recorded: &Recorded) -> anyhow::Result<Spaces> {
    let rows = recorded.rows() - recorded.batches() as u64;
    Ok(Spaces {
        rows,
        recorded: of(bench.empty_dir()?.path(), || recorded.in_parts(usize::MAX))?,
        few: of(bench.empty_dir()?.path(), || recorded.in_parts(FEW))?,
    })
}

/// Of a store with and one without evidence.
fn of<B: Iterator<Item = Batch>>(dir: &Path, batches: impl Fn() -> B) -> anyhow::Result<Space> {
    let (with, without) = (dir.join("with.db"), dir.join("without.db"));
    let (machine, _) = of_host(0);
    let mut sealer = sealer(dir, 0)?;
    let mut space = Space { batches: 0, store: 0, evidence: 0, manifests: 0 };
    let (mut writer, _) = Writer::open(&StoreUrl::Sqlite(with.clone()), &machine)?;
    for mut batch in batches() {
        sealer.seal(&mut batch)?;
        space.batches += 1;
        space.manifests += batch.manifest.len() as u64;
        writer.append(&batch)?;
    }
    drop(writer);
    let (mut writer, _) = Writer::open(&StoreUrl::Sqlite(without.clone()), &machine)?;
    batches().try_for_each(|batch| writer.append(&batch).map(drop))?;
    drop(writer);
    let (with, without) = (pages(&with)?, pages(&without)?);
    space.store = with.store;
    // The empty table is there without evidence as well.
    space.evidence = (with.proofs + with.ledger).saturating_sub(without.ledger);
    let more = with.store.saturating_sub(without.store) + without.proofs;
    ensure!(
        more == space.evidence,
        "{more} bytes more for {} of evidence: something else differs",
        space.evidence
    );
    Ok(space)
}

/// Pages of tables with their indexes, in bytes.
struct Pages {
    store: u64,
    ledger: u64,
    proofs: u64,
}

fn pages(path: &Path) -> anyhow::Result<Pages> {
    let conn = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    let of = |filter: &str| {
        let sql = format!("SELECT coalesce(sum(pgsize), 0) FROM dbstat WHERE {filter}",);
        conn.query_row(&sql, [], |row| row.get(0).map(i64::unsigned_abs))
    };
    let of_table =
        |table: &str| of(&format!("name IN (SELECT name FROM sqlite_schema WHERE tbl_name LIKE '{table}%')"));
    Ok(Pages {
        store: of("true")?,
        ledger: of_table(BatchInfo::TABLE.name)?,
        proofs: of_table("luarmproof")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rows::sample;

    fn space(batches: u64, evidence: u64) -> Space {
        Space { batches, store: 0, evidence, manifests: 0 }
    }

    #[test]
    fn what_a_row_and_a_batch_take_follows_from_two_sizes() {
        let of = |batches| space(batches, 1000 * 20 + batches * 250);
        let spaces = Spaces { rows: 1000, recorded: of(2), few: of(40) };
        assert_eq!(spaces.split(), (20.0, 250.0));
    }

    #[test]
    fn nothing_but_evidence_differs_and_it_is_more_than_manifests() {
        let recorded = Recorded::of(sample(200), 1).unwrap();
        for most in [usize::MAX, FEW] {
            let dir = tempfile::tempdir().unwrap();
            let space = of(dir.path(), || recorded.in_parts(most)).unwrap();
            assert_eq!(space.batches, recorded.in_parts(most).count() as u64);
            // Each of the 600 rows, and of the 200 ends or so, takes 16 bytes and something.
            assert!(space.manifests > 16 * (600 + recorded.ends()), "{space:?}");
            assert!(space.evidence > space.manifests && space.store > space.evidence, "{space:?}");
        }
    }
}
