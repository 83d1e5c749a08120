//! luarm: records what happens on audited computers in a relational database.
//!
//! This binary wires the libraries together: `run` is the [`pipeline`], the other commands ask the store or the running recorder.

mod canary;
mod cli;
mod command;
mod config;
mod control;
mod data_dir;
mod keeping;
mod launcher;
mod log;
mod metrics;
mod own;
mod pipeline;
mod sensor;
mod service;
mod size;
mod witness;

use std::process::ExitCode;

use clap::Parser;

use crate::{cli::Cli, config::ConfigError};

/// It failed, or the answer is no.
const FAILED: u8 = 1;
/// Wrong usage, wrong configuration included. clap exits with the same code.
const USAGE: u8 = 2;

fn main() -> ExitCode {
    match cli::dispatch(Cli::parse()) {
        Ok(code) => code,
        Err(error) => {
            log::complain(&format!("{error:#}"));
            ExitCode::from(if error.is::<ConfigError>() { USAGE } else { FAILED })
        }
    }
}
