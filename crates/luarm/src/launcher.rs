//! Who may do what in a recorder: a thread that has the capabilities to attach sensors, and starts them, and all others, which have none.
//!
//! Whatever speaks to a network, to a database or to whoever asks runs without any capability. SECURITY.md lists what each thread has.

use std::{
    os::unix::fs::MetadataExt,
    path::Path,
    sync::mpsc,
    thread::{self, JoinHandle},
};

use anyhow::{Context, anyhow};
use luarm_sensor::capability::Duty;
use luarm_store::StoreUrl;

type Errand = Box<dyn FnOnce() + Send>;

/// The thread that has what attaching takes. It has ended when this is dropped.
pub(crate) struct Launcher {
    errands: Option<mpsc::Sender<Errand>>,
    thread: Option<JoinHandle<()>>,
}

impl Drop for Launcher {
    fn drop(&mut self) {
        drop(self.errands.take());
        // A panic has had its message.
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

impl Launcher {
    /// Starts the thread, then has the calling thread give up its capabilities: to be called before any other thread is started. What is kept is kept below
    /// `data`, or in `store`.
    pub(crate) fn part(data: &Path, store: Option<&StoreUrl>) -> anyhow::Result<Self> {
        let (sender, errands) = mpsc::channel::<Errand>();
        let thread = thread::Builder::new()
            .name("launcher".to_owned())
            .spawn(move || {
                Duty::Attaching.settle();
                for errand in errands {
                    errand();
                }
            })
            .context("cannot start the thread that starts the sensor")?;
        let own = is_own(data)
            && match store {
                Some(StoreUrl::Sqlite(path)) => is_own(path) && path.parent().is_none_or(is_own),
                _ => true,
            };
        if own { Duty::Keeping } else { Duty::KeepingForOthers }.settle();
        Ok(Launcher { errands: Some(sender), thread: Some(thread) })
    }

    /// Has it done there; waits for the result. Threads that it starts have the capabilities that it has then.
    pub(crate) fn launch<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> anyhow::Result<T> {
        let (done, result) = mpsc::channel();
        let errand = Box::new(move || {
            // Whoever asked waits for it.
            let _ = done.send(work());
        });
        let gone = || anyhow!("the thread that starts the sensor broke down; its message is above");
        self.errands.as_ref().and_then(|errands| errands.send(errand).ok()).ok_or_else(gone)?;
        result.recv().map_err(|_| gone())
    }
}

/// Whether it belongs to the user that this process runs as, or is not there yet.
fn is_own(path: &Path) -> bool {
    let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
    path.metadata().map_or(true, |facts| facts.uid() == rustix::process::geteuid().as_raw())
}
