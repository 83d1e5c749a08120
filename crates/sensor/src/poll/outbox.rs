//! Chunks of observations on their way to the queue.

use crate::{
    Observation,
    observation::{Endpoint, Program, Task},
    queue::{Closed, Producer},
};

const CHUNK: usize = 256 << 10;

/// Collects what a round has to say, and sends it in chunks of moderate size.
pub(super) struct Outbox {
    producer: Producer,
    chunk: Vec<Observation>,
    bytes: usize,
    closed: bool,
}

impl Outbox {
    pub(super) fn new(producer: Producer) -> Self {
        Self { producer, chunk: Vec::new(), bytes: 0, closed: false }
    }

    pub(super) fn push(&mut self, observation: Observation) {
        self.bytes += weight(&observation);
        self.chunk.push(observation);
        if self.bytes >= CHUNK {
            self.send();
        }
    }

    /// Sends what is there; an error when nobody receives it any more.
    pub(super) fn flush(&mut self) -> Result<(), Closed> {
        self.send();
        if self.closed { Err(Closed) } else { Ok(()) }
    }

    pub(super) fn close(self) {
        self.producer.close();
    }

    fn send(&mut self) {
        if !self.chunk.is_empty() {
            let (chunk, bytes) = (std::mem::take(&mut self.chunk), std::mem::take(&mut self.bytes));
            self.closed |= self.producer.send(chunk, bytes).is_err();
        }
    }
}

/// About how many bytes an observation takes in memory.
fn weight(observation: &Observation) -> usize {
    let boxed = match observation {
        Observation::Fork { task, .. } => of_task(task),
        Observation::Exec { task, program, .. } | Observation::Found { task, program, .. } => {
            of_task(task) + of_program(program)
        }
        Observation::Endpoint(endpoint) | Observation::EndpointEnd { endpoint, .. } => of_endpoint(endpoint),
        _ => 0,
    };
    size_of::<Observation>() + boxed
}

fn of_task(task: &Task) -> usize {
    size_of::<Task>() + task.comm.len() + task.cgroup.as_ref().map_or(0, Vec::len)
}

fn of_program(program: &Program) -> usize {
    let cwd = program.cwd.as_ref().map_or(0, Vec::len);
    size_of::<Program>() + program.path.len() + program.arguments.bytes.len() + cwd
}

fn of_endpoint(endpoint: &Endpoint) -> usize {
    size_of::<Endpoint>() + endpoint.actor.as_ref().map_or(0, |actor| actor.comm.len())
}
