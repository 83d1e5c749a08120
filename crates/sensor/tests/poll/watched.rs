//! A sensor and what it has told so far.

use std::{path::Path, time::Duration};

use luarm_sensor::{
    BootNs, Observation, Sensor,
    observation::{Endpoint, Origin, Program, Task},
    poll::{Poll, PollConfig, start},
    queue::{Closed, Consumer, bounded},
};

/// More rounds than anything takes to be noticed, and it does no harm to be generous.
const ROUNDS: u32 = 200;
const FOREVER: Duration = Duration::from_secs(3600);

pub(crate) struct Watched {
    poll: Option<Box<Poll>>,
    consumer: Consumer,
    seen: Vec<Observation>,
    position: usize,
}

impl Watched {
    /// Starts on this machine, and has the first round done.
    pub(crate) fn start() -> Self {
        Self::below(Path::new("/"))
    }

    /// Starts on a made-up tree.
    pub(crate) fn below(root: &Path) -> Self {
        let (producer, consumer) = bounded(64 << 20);
        let poll = start(PollConfig { root: root.to_owned(), interval: FOREVER }, producer).unwrap();
        let mut watched = Self { poll: Some(Box::new(poll)), consumer, seen: Vec::new(), position: 0 };
        watched.round();
        watched
    }

    /// Has a round done.
    pub(crate) fn round(&mut self) {
        let asked = self.poll.as_ref().unwrap().drain();
        self.receive_until(asked);
    }

    /// Stops the sensor; everything that it told until its queue was closed.
    pub(crate) fn stop(mut self) -> Vec<Observation> {
        self.poll.take().unwrap().stop();
        loop {
            match self.consumer.receive(FOREVER) {
                Ok(chunk) => self.seen.extend(chunk.unwrap()),
                Err(Closed) => return std::mem::take(&mut self.seen),
            }
        }
    }

    /// Everything so far.
    pub(crate) fn seen(&self) -> &[Observation] {
        &self.seen
    }

    /// The first observation, after the one found before, of which something is wanted; rounds are done until there is one.
    pub(crate) fn until<T>(&mut self, mut wanted: impl FnMut(&Observation) -> Option<T>) -> T {
        for _ in 0..ROUNDS {
            while let Some(observation) = self.seen.get(self.position) {
                self.position += 1;
                if let Some(found) = wanted(observation) {
                    return found;
                }
            }
            self.round();
        }
        panic!("nothing of the kind came");
    }

    pub(crate) fn found(&mut self, pid: u32) -> (Task, Program, Origin) {
        self.until(|observation| match observation {
            Observation::Found { task, program, origin, .. } if task.image.pid == pid => {
                Some(((**task).clone(), (**program).clone(), *origin))
            }
            _ => None,
        })
    }

    pub(crate) fn endpoint(&mut self, wanted: impl Fn(&Endpoint) -> bool) -> Endpoint {
        self.until(|observation| match observation {
            Observation::Endpoint(endpoint) if wanted(endpoint) => Some((**endpoint).clone()),
            _ => None,
        })
    }

    fn receive_until(&mut self, asked: BootNs) {
        loop {
            let chunk = self.consumer.receive(FOREVER).unwrap().unwrap();
            let reached =
                |observation: &Observation| matches!(observation, Observation::Reached(at) if *at >= asked);
            let done = chunk.iter().any(reached);
            self.seen.extend(chunk);
            if done {
                return;
            }
        }
    }
}
