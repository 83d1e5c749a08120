//! `luarm sql`: asks the store, or a server that reads it, in SQL.

mod prove;

use std::{
    io::{self, BufWriter, IsTerminal},
    path::PathBuf,
    process::ExitCode,
};

use clap::Args;
use luarm_hunt::{Console, Format, Outcome};

use crate::{cli::Asked, config::Config};

/// Ask the recorded history in SQL; it only reads, whatever the statement
///
/// Without -e and on a terminal it is a console with history and completion: \G, show tables, describe T, use HOST. Otherwise it reads
/// statements from standard input. It stops at the first statement that fails.
///
/// Where a question spans a time in which something of it was not observed, or events of it were lost, one line says so: under the answer, and
/// on standard error beside csv, json and jsonl.
#[derive(Debug, Args)]
pub(crate) struct Options {
    #[command(flatten)]
    asked: Asked,
    /// Limit the tables to this host, by name or machine id [default: all hosts in the store]
    #[arg(long, value_name = "NAME")]
    host: Option<String>,
    /// Statements to run; may be given several times
    #[arg(short, long, value_name = "SQL")]
    execute: Vec<String>,
    /// table, vertical, csv, json or jsonl [default: table]
    #[arg(long, value_name = "FORMAT")]
    format: Option<Format>,
    /// Write the answer of the one statement into this file with what proves its rows, for `luarm verify FILE` on another machine. The answer has to have the key of a
    /// table, such as psentity, and where the store has several hosts, `host`
    #[arg(long, value_name = "FILE", requires = "execute")]
    prove: Option<PathBuf>,
    /// The time of which the proof tells what was observed, from the first to the last instant, in UTC [default: that of the answer's `created`]
    #[arg(long, value_names = ["FROM", "TO"], num_args = 2, requires = "prove")]
    span: Vec<String>,
}

pub(crate) fn run(options: Options, config: &Config) -> anyhow::Result<ExitCode> {
    let answering = options.asked.locate(config);
    let format = options.format.or(config.format).unwrap_or_default();
    if let Some(file) = &options.prove {
        let asked = prove::Asked {
            answering: &answering,
            statements: &options.execute,
            host: options.host.as_deref().or(config.host.as_deref()),
            span: &options.span,
        };
        return prove::run(&asked, file, format);
    }
    let source = answering.open()?;
    let stdout = io::stdout();
    let terminal = stdout.is_terminal();
    let mut console =
        Console::new(source, luarm_hunt::Options { format, terminal }).with_coverage(io::stderr());
    if let Some(host) = options.host.as_ref().or(config.host.as_ref()) {
        console.use_host(host)?;
    }
    if options.execute.is_empty() && terminal && io::stdin().is_terminal() {
        console.interactive()?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut out = BufWriter::new(stdout.lock());
    if options.execute.is_empty() {
        console.script(io::stdin().lock(), &mut out)?;
    }
    for statements in &options.execute {
        if console.text(statements, &mut out)? == Outcome::Quit {
            break;
        }
    }
    Ok(ExitCode::SUCCESS)
}
