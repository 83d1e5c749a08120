//! Work for several threads, each with a connection of its own.

use std::sync::{
    Mutex, PoisonError,
    atomic::{AtomicBool, AtomicUsize, Ordering},
};

use super::Trouble;

/// Connections, opened when they are needed and used again.
pub(super) struct Pool<'a, H> {
    open: &'a (dyn Fn() -> Result<H, Trouble> + Sync),
    idle: Mutex<Vec<H>>,
}

impl<'a, H> Pool<'a, H> {
    pub(super) fn new(open: &'a (dyn Fn() -> Result<H, Trouble> + Sync)) -> Self {
        Pool { open, idle: Mutex::new(Vec::new()) }
    }

    pub(super) fn take(&self) -> Result<H, Trouble> {
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        idle.map_or_else(self.open, Ok)
    }

    pub(super) fn give(&self, history: H) {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(history);
    }
}

/// Does all the work in so many threads; gives what each of them has gathered. Ends early with the first trouble.
pub(super) fn spread<'w, H: Send, W: Sync, S: Default + Send>(
    pool: &Pool<'_, H>,
    threads: usize,
    work: &'w [W],
    each: impl Fn(&mut H, &'w W, &mut S) -> Result<(), Trouble> + Sync,
) -> Result<Vec<S>, Trouble> {
    let next = AtomicUsize::new(0);
    let stop = AtomicBool::new(false);
    let trouble: Mutex<Option<Trouble>> = Mutex::new(None);
    let gathered: Mutex<Vec<S>> = Mutex::new(Vec::new());
    let one = || {
        let mut state = S::default();
        let mut done = || -> Result<(), Trouble> {
            let mut history: Option<H> = None;
            while !stop.load(Ordering::Relaxed) {
                let Some(work) = work.get(next.fetch_add(1, Ordering::Relaxed)) else { break };
                let history = match &mut history {
                    Some(history) => history,
                    None => history.insert(pool.take()?),
                };
                each(history, work, &mut state)?;
            }
            if let Some(history) = history {
                pool.give(history);
            }
            Ok(())
        };
        if let Err(error) = done() {
            stop.store(true, Ordering::Relaxed);
            trouble.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
        }
        gathered.lock().unwrap_or_else(PoisonError::into_inner).push(state);
    };
    std::thread::scope(|scope| {
        for _ in 1..threads.min(work.len()) {
            scope.spawn(one);
        }
        one();
    });
    match trouble.into_inner().unwrap_or_else(PoisonError::into_inner) {
        Some(error) => Err(error),
        None => Ok(gathered.into_inner().unwrap_or_else(PoisonError::into_inner)),
    }
}
