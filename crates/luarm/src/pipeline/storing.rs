//! The store's thread: appends batch after batch, and holds on to one that the store cannot take now.

use std::{
    sync::{Arc, atomic::Ordering::Relaxed},
    time::{Duration, Instant},
};

use luarm_schema::Batch;
use luarm_store::StoreError;

use super::{Keeper, backlog::Backlog, meters::Meters};

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
    Unstored { rows: usize, source: StoreError },
}

/// Stores what comes through the backlog until it is closed.
pub(super) fn run(
    mut keeper: Box<dyn Keeper>,
    backlog: &Backlog,
    meters: &Arc<Meters>,
) -> Result<(), StoringError> {
    while let Some((batch, bytes)) = backlog.take() {
        if let Err(error) = store(&mut *keeper, &batch, backlog, meters) {
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

/// Appends one batch, however often it takes.
fn store(
    keeper: &mut dyn Keeper,
    batch: &Batch,
    backlog: &Backlog,
    meters: &Meters,
) -> Result<(), StoringError> {
    let mut pause = FIRST_PAUSE;
    let mut failing: Option<Instant> = None;
    loop {
        let error = match keeper.keep(batch) {
            Ok(refused) => {
                backlog.refuse(refused.into_iter());
                if let Some(since) = failing {
                    tracing::warn!("the store works again after {:.1} s", since.elapsed().as_secs_f64());
                    meters.set_trouble(None);
                }
                return Ok(());
            }
            Err(error) if !error.is_transient() => return Err(StoringError::Fatal(error)),
            Err(error) => error,
        };
        if failing.is_none() {
            tracing::error!("cannot store: {error}; recording goes on in memory, and storing is tried again");
            failing = Some(Instant::now());
        }
        meters.store_errors.fetch_add(1, Relaxed);
        meters.set_trouble(Some(error.to_string()));
        if backlog.rest(pause).is_some_and(|closed| closed >= GRACE) {
            return Err(StoringError::Unstored { rows: batch.rows.len(), source: error });
        }
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}
