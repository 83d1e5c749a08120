//! `luarm server retain`: keeps rows for a time.

use std::{
    collections::HashMap,
    io::{self, IsTerminal},
    process::ExitCode,
};

use clap::Args;
use luarm_hunt::Format;
use luarm_link::{authority, notary};
use luarm_store::{Cell, Owner, Reader};

use crate::{
    USAGE,
    cli::Place,
    config::{Config, Keep},
    log,
};

/// Drop what is older than a time from the tables of activities, whole days (UTC), and record that it was dropped
///
/// Prints a row for each host and table. Rows that have not ended stay, and so do the ledger of batches and what is true of a host for a time. What was
/// dropped stands in the table retentioninfo. Best run once a day, because days ahead are made on the way. --store names the database with its
/// owner's account; SQLite has no days to drop.
#[derive(Debug, Args)]
pub(crate) struct Retain {
    /// How long rows are kept, in whole days (UTC), such as 90d; at least 1d
    #[arg(long, value_name = "TIME")]
    keep: Option<Keep>,
    /// Say what would be dropped, and change nothing
    #[arg(long)]
    dry_run: bool,
    /// table, vertical, csv, json or jsonl [default: table]
    #[arg(long, value_name = "FORMAT")]
    format: Option<Format>,
    #[command(flatten)]
    place: Place,
}

pub(crate) fn run(options: Retain, config: &Config) -> anyhow::Result<ExitCode> {
    let Some(Keep(keep)) = options.keep.or(config.keep) else {
        log::complain(
            "how long are rows to be kept? Write it like --keep 90d, or keep = \"90d\" in the configuration file",
        );
        return Ok(ExitCode::from(USAGE));
    };
    let format = options.format.or(config.format).unwrap_or_default();
    let located = options.place.locate(config);
    let store = located.store;
    let dropped = match options.dry_run {
        true => Owner::look(&store)?.would_retain(keep)?,
        false => {
            let mut owner = Owner::open(&store)?;
            match notary::find(&located.data)? {
                Some(key) => owner.sign_with(key),
                None => tracing::warn!(
                    "{} has no key of a server: what is dropped is recorded, and not signed; luarm verify will say so",
                    authority::directory(&located.data).display()
                ),
            }
            owner.retain(keep)?
        }
    };
    let hosts = Reader::open(&store)?.hosts()?;
    let names: HashMap<i64, &str> = hosts.iter().map(|host| (host.number, host.name.as_str())).collect();
    let before: Vec<String> = dropped.iter().map(|lost| lost.before.to_string()).collect();
    let rows = dropped.iter().zip(&before).map(|(lost, before)| {
        [
            names.get(&lost.host).map_or(Cell::Integer(lost.host), |name| Cell::Text(name)),
            Cell::Text(lost.table),
            Cell::Text(before),
            Cell::Integer(lost.rows),
            Cell::Integer(lost.kept),
        ]
    });
    let stdout = io::stdout();
    let printing = luarm_hunt::Options { format, terminal: stdout.is_terminal() };
    let columns = ["host", "table", "before", "dropped", "kept"];
    luarm_hunt::write_rows(printing, &mut stdout.lock(), &columns, rows)?;
    Ok(ExitCode::SUCCESS)
}
