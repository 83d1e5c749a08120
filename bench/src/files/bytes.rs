//! Reads and writes of one byte: what is not recorded may cost nothing.

use std::time::Duration;

use anyhow::Context as _;

use super::{Done, Workload, numbers};
use crate::{Bench, report::Bound, watcher::Contender};

pub(super) struct Bytes {
    times: u64,
}

impl Bytes {
    pub(super) fn new(_: &Bench, times: u64) -> Self {
        Bytes { times }
    }
}

impl Workload for Bytes {
    fn unit(&self) -> &'static str {
        "call"
    }

    fn describe(&self) -> String {
        format!(
            "{0} reads of one byte of /dev/zero, then {0} writes of one byte to a file in memory, timed by the program that does it. The floor is an empty \
             program at every tracepoint of a system call that luarm uses: neither has one at read or write, but as long as there is any, the kernel takes \
             a longer way into each system call and out of it.",
            self.times
        )
    }

    fn bound(&self) -> Option<(Contender, Bound)> {
        Some((Contender::Empty, Bound::AtMost(1.0)))
    }

    fn run(&self, bench: &Bench) -> anyhow::Result<Done> {
        let said = bench.programs.run("bytes", &[self.times.to_string().as_ref()])?;
        let taken = *numbers(&said, "bytes")?.first().context("bytes says nothing")?;
        Ok(Done { operations: 2 * self.times, taken: Duration::from_nanos(taken), traces: (0, 0) })
    }
}
