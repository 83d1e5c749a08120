//! The newest head of each host in a directory, outside of the database: so a tail that is cut from there shows.

use std::{
    collections::HashMap,
    fs::{self, DirBuilder, OpenOptions},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread::{self, JoinHandle},
    time::Duration,
};

use crate::Head;

/// The least time between two writings.
const ROUND: Duration = Duration::from_secs(1);

/// Keeps heads: `DIR/HOST.json` for each host, replaced whole, at most once a second, by a thread of its own. What a crash takes of the last second is
/// in the database, and the older head is in its history.
///
/// Dropped, it writes what is left.
pub struct Heads {
    shared: Arc<Shared>,
    writer: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    /// What is not written, by the host's name.
    newest: HashMap<String, Head>,
    over: bool,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Heads {
    /// Keeps them in that directory, which is made for its owner only where it is not there.
    pub fn keep_in(directory: &Path) -> io::Result<Self> {
        DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
        let shared = Arc::new(Shared::default());
        let (theirs, directory) = (Arc::clone(&shared), directory.to_owned());
        let writer =
            thread::Builder::new().name("heads".to_owned()).spawn(move || write(&theirs, &directory))?;
        Ok(Heads { shared, writer: Some(writer) })
    }

    /// That is the newest head of its host.
    pub fn note(&self, head: Head) {
        let mut state = self.shared.lock();
        let wakes = state.newest.is_empty();
        state.newest.insert(head.host.clone(), head);
        drop(state);
        if wakes {
            self.shared.changed.notify_all();
        }
    }
}

impl Drop for Heads {
    fn drop(&mut self) {
        self.shared.lock().over = true;
        self.shared.changed.notify_all();
        if let Some(writer) = self.writer.take() {
            let _ = writer.join();
        }
    }
}

impl std::fmt::Debug for Heads {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Heads")
    }
}

fn write(shared: &Shared, directory: &Path) {
    let mut is_told = false;
    loop {
        let mut state = shared.lock();
        while state.newest.is_empty() && !state.over {
            state = shared.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        let (due, over) = (std::mem::take(&mut state.newest), state.over);
        drop(state);
        for (host, head) in due {
            if let Err(error) = replace(&path(directory, &host), head.text().as_bytes()) {
                if !is_told {
                    let directory = directory.display();
                    tracing::warn!(
                        "the head of {host} cannot be kept in {directory}: {error}; it is tried again"
                    );
                }
                is_told = true;
                // Unless a newer one came meanwhile.
                shared.lock().newest.entry(host).or_insert(head);
            } else {
                is_told = false;
            }
        }
        if over {
            return;
        }
        let mut state = shared.lock();
        let mut left = ROUND;
        let begun = std::time::Instant::now();
        while !state.over && !left.is_zero() {
            state = shared.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
            left = ROUND.saturating_sub(begun.elapsed());
        }
    }
}

fn path(directory: &Path, host: &str) -> PathBuf {
    directory.join(Head::file_name(host))
}

/// Without waiting for the disk: a head that is a second old does as well.
fn replace(path: &Path, content: &[u8]) -> io::Result<()> {
    // Several processes may keep heads in one directory.
    let fresh = path.with_extension(format!("{}.new", std::process::id()));
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&fresh)?;
    file.write_all(content)?;
    drop(file);
    fs::rename(&fresh, path)
}

#[cfg(test)]
mod tests {
    use luarm_schema::Row;

    use super::*;
    use crate::{KeyFile, Sealer, sealer::tests::batch};

    #[test]
    fn the_newest_head_is_there_at_the_end_and_can_be_checked() {
        let directory = tempfile::tempdir().unwrap();
        let kept = directory.path().join("heads");
        let file = KeyFile::open(&directory.path().join("key")).unwrap();
        let (mut sealer, _) = Sealer::open(file, "m", 0, None).unwrap();
        let heads = Heads::keep_in(&kept).unwrap();
        let mut last = String::new();
        for id in 1..=20 {
            let mut batch = batch(id);
            sealer.seal(&mut batch).unwrap();
            heads.note(sealer.head("peng/uin", &batch).unwrap());
            let Some(Row::BatchInfo(info)) = batch.rows.pop() else { panic!() };
            last = info.digest.unwrap();
        }
        drop(heads);
        let text = fs::read_to_string(kept.join("peng%2Fuin.json")).unwrap();
        let head = Head::read(&text).unwrap();
        assert_eq!((head.batch, head.digest, head.host.as_str()), (20, last, "peng/uin"));
        assert_eq!(fs::read_dir(kept).unwrap().count(), 1);
    }

    #[test]
    fn a_head_that_cannot_be_written_keeps_nobody_waiting() {
        let directory = tempfile::tempdir().unwrap();
        let kept = directory.path().join("heads");
        let file = KeyFile::open(&directory.path().join("key")).unwrap();
        let (mut sealer, _) = Sealer::open(file, "m", 0, None).unwrap();
        let mut batch = batch(1);
        sealer.seal(&mut batch).unwrap();
        let heads = Heads::keep_in(&kept).unwrap();
        fs::remove_dir(&kept).unwrap();
        fs::write(&kept, "in the way").unwrap();
        heads.note(sealer.head("penguin", &batch).unwrap());
        drop(heads);
        assert_eq!(fs::read_to_string(&kept).unwrap(), "in the way");
    }
}
