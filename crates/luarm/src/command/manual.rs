//! `luarm manual`: manual pages and completions, made of the command line's own declarations. For packages.

use std::{fs, path::PathBuf, process::ExitCode};

use anyhow::Context;
use clap::{Args, CommandFactory};
use clap_complete::Shell;

use crate::cli::Cli;

/// Write manual pages, and completions for bash, zsh and fish, into a directory
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Where to; made if need be
    #[arg(value_name = "DIR")]
    directory: PathBuf,
}

pub(crate) fn run(options: &Options) -> anyhow::Result<ExitCode> {
    let directory = &options.directory;
    let cannot =
        || format!("cannot write into {}; name a directory that you may write into", directory.display());
    fs::create_dir_all(directory).with_context(cannot)?;
    clap_mangen::generate_to(Cli::command(), directory).with_context(cannot)?;
    for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
        clap_complete::generate_to(shell, &mut Cli::command(), "luarm", directory).with_context(cannot)?;
    }
    Ok(ExitCode::SUCCESS)
}
