//! Keeping rows for a time, by the recorder itself: a thread that drops what is over, at the start and once an hour.
//!
//! It has a connection of its own, and works in small steps, between which the recorder stores.

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc::{self, RecvTimeoutError, Sender},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use anyhow::Context;
use luarm_link::notary;
use luarm_store::{Dropped, Owner, StoreUrl};

/// How often it looks. Whole days are dropped: most of the times there is nothing to do.
const EVERY: Duration = Duration::from_secs(3_600);

/// The thread; it ends after the step at hand when this goes.
pub(crate) struct Keeping {
    stop: Arc<AtomicBool>,
    wake: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Keeping {
    /// Begins to drop rows of the store that are older than `keep`, signed with a key in the data directory.
    pub(crate) fn begin(data: PathBuf, store: StoreUrl, keep: Duration) -> anyhow::Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let (wake, woken) = mpsc::channel::<()>();
        let stopped = Arc::clone(&stop);
        let thread = thread::Builder::new()
            .name("retention".to_owned())
            .spawn(move || {
                loop {
                    match retain(&data, &store, keep, &stopped) {
                        Ok(dropped) => tell(&dropped),
                        Err(error) => tracing::error!(
                            "cannot drop rows that are older than they are to be kept: {error:#}; it is tried again in an hour"
                        ),
                    }
                    if woken.recv_timeout(EVERY) != Err(RecvTimeoutError::Timeout) {
                        break;
                    }
                }
            })
            .context("cannot start the retention's thread")?;
        Ok(Keeping { stop, wake: Some(wake), thread: Some(thread) })
    }
}

impl Drop for Keeping {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        drop(self.wake.take());
        if let Some(thread) = self.thread.take() {
            // Its message, if it broke down, is in the log.
            let _ = thread.join();
        }
    }
}

fn retain(
    data: &std::path::Path,
    store: &StoreUrl,
    keep: Duration,
    stop: &Arc<AtomicBool>,
) -> anyhow::Result<Vec<Dropped>> {
    let mut owner = Owner::open(store)?;
    owner.sign_with(notary::retention(data)?);
    owner.stop_by(Arc::clone(stop));
    Ok(owner.retain(keep)?)
}

fn tell(dropped: &[Dropped]) {
    if let Some(first) = dropped.first() {
        let rows: i64 = dropped.iter().map(|lost| lost.rows).sum();
        tracing::info!("dropped {rows} rows of before {}, as retentioninfo says", first.before);
    }
}
