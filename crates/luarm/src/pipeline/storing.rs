//! The store's thread: seals batch after batch and appends it, and holds on to one that the store cannot take now.

use std::{
    sync::{Arc, atomic::Ordering::Relaxed},
    time::{Duration, Instant},
};

use luarm_chain::KeyError;
use luarm_schema::Batch;
use luarm_store::StoreError;
use rustix::time::{ClockId, clock_gettime};

use super::{Keeper, Seal, backlog::Backlog, meters::Meters};

const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);
/// How long a recorder that was told to stop waits for a store that fails.
const GRACE: Duration = Duration::from_secs(5);

/// How storing ended otherwise than well.
#[derive(Debug, thiserror::Error)]
pub(super) enum StoringError {
    #[error("the store is unusable, nothing more can be recorded: {0}")]
    Fatal(#[source] StoreError),
    #[error("{rows} rows could not be stored before the end: {source}")]
    Unstored { rows: usize, source: Trouble },
}

/// Why a batch cannot be kept now.
#[derive(Debug, thiserror::Error)]
pub(super) enum Trouble {
    #[error(transparent)]
    Store(StoreError),
    /// Without the next key on disk it is not sealed, and what is not sealed is not stored.
    #[error(transparent)]
    Key(KeyError),
}

/// Seals and stores what comes through the backlog until it is closed.
pub(super) fn run(
    mut keeper: Box<dyn Keeper>,
    mut seal: Seal,
    backlog: &Backlog,
    meters: &Arc<Meters>,
) -> Result<(), StoringError> {
    while let Some((mut batch, bytes)) = backlog.take() {
        if let Err(error) = store((&mut *keeper, &mut seal), &mut batch, backlog, meters) {
            backlog.give_up();
            return Err(error);
        }
        backlog.kept(batch.id, bytes);
        if keeper.delivers() {
            backlog.delivered(batch.id);
        }
        meters.stored(&batch);
    }
    Ok(())
}

/// Seals one batch, once, and appends it, however often either takes.
fn store(
    (keeper, seal): (&mut dyn Keeper, &mut Seal),
    batch: &mut Batch,
    backlog: &Backlog,
    meters: &Meters,
) -> Result<(), StoringError> {
    let mut pause = FIRST_PAUSE;
    let mut failing: Option<Instant> = None;
    let mut sealed = false;
    loop {
        if !sealed {
            let before = processor_ns();
            let outcome = seal.sealer.seal(batch);
            meters.sealing_ns.fetch_add(processor_ns().saturating_sub(before), Relaxed);
            match outcome {
                Ok(()) => sealed = true,
                Err(error) => {
                    wait(Trouble::Key(error), (&mut failing, &mut pause), batch, backlog, meters)?;
                    continue;
                }
            }
        }
        let error = match keeper.keep(batch) {
            Ok(refused) => {
                backlog.refuse(refused.into_iter());
                if let Some(head) = seal.sealer.head(&seal.host, batch) {
                    seal.heads.note(head);
                }
                if let Some(since) = failing {
                    tracing::warn!("the store works again after {:.1} s", since.elapsed().as_secs_f64());
                    meters.set_trouble(None);
                }
                return Ok(());
            }
            Err(error) if !error.is_transient() => return Err(StoringError::Fatal(error)),
            Err(error) => error,
        };
        wait(Trouble::Store(error), (&mut failing, &mut pause), batch, backlog, meters)?;
    }
}

/// What this thread has used of a processor, in user and in kernel mode.
fn processor_ns() -> u64 {
    let used = clock_gettime(ClockId::ThreadCPUTime);
    used.tv_sec.unsigned_abs() * 1_000_000_000 + used.tv_nsec.unsigned_abs()
}

/// Waits before the next try; fails when the end cannot wait any longer.
fn wait(
    error: Trouble,
    (failing, pause): (&mut Option<Instant>, &mut Duration),
    batch: &Batch,
    backlog: &Backlog,
    meters: &Meters,
) -> Result<(), StoringError> {
    if failing.is_none() {
        tracing::error!("cannot store: {error}; recording goes on in memory, and storing is tried again");
        *failing = Some(Instant::now());
    }
    meters.store_errors.fetch_add(1, Relaxed);
    meters.set_trouble(Some(error.to_string()));
    if backlog.rest(*pause).is_some_and(|closed| closed >= GRACE) {
        return Err(StoringError::Unstored { rows: batch.rows.len(), source: error });
    }
    *pause = (*pause * 2).min(LONGEST_PAUSE);
    Ok(())
}
