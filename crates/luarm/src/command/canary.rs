//! `luarm canary`: what a recorder runs to see whether it sees it. Whoever else runs it does the same, and is recorded as anybody is.

use std::{
    io::{self, Read, Write},
    process::ExitCode,
};

use clap::Args;

use crate::canary::acts;

/// Do something known in each class of events
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Which round it is; 0 does everything
    #[arg(value_name = "ROUND")]
    round: u64,
    /// Only what a sensor sees that looks at times, until standard input ends
    #[arg(long)]
    sampled: bool,
}

pub(crate) fn run(options: &Options) -> ExitCode {
    let mut failed = false;
    acts::act(
        options.round,
        options.sampled,
        |said| failed = io::stdout().write_all(said.as_bytes()).and_then(|()| io::stdout().flush()).is_err(),
        || {
            let _ = io::stdin().read_to_end(&mut Vec::new());
        },
    );
    if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}
