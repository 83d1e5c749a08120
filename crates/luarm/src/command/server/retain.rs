//! `luarm server retain`: keeps rows for a time.

use std::{
    collections::HashMap,
    io::{self, IsTerminal},
    process::ExitCode,
};

use clap::Args;
use luarm_chain::SigningKey;
use luarm_hunt::Format;
use luarm_link::{authority, notary};
use luarm_store::{Cell, Owner, Reader, StoreUrl};

use crate::{
    USAGE,
    cli::Place,
    config::{Config, Keep, Located},
    log,
};

/// Drop what is older than a time from the tables of activities, whole days (UTC), and record that it was dropped
///
/// Prints a row for each host and table. Rows that have not ended stay, and so do the ledger of batches and what is true of a host for a time. What was
/// dropped stands in the table retentioninfo. Best run once a day. In a database on a server --store names it with its owner's account, and days ahead are made on the
/// way. In a SQLite file, whose server or recorder may run meanwhile, rows stay that ended on a day that is kept; the file does not become smaller: what is recorded from
/// then on takes the space. A recorder does it by itself with luarm run --keep.
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
    let store = located.store.clone();
    let dropped = match options.dry_run {
        true => Owner::look(&store)?.would_retain(keep)?,
        false => {
            let mut owner = Owner::open(&store)?;
            match signer(&located)? {
                Some(key) => owner.sign_with(key),
                None => tracing::warn!(
                    "{} has no key of a server, and no recorder's data are beside it: what is dropped is recorded, and not signed; luarm verify will say so",
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

/// Who signs what is dropped: the server of the data directory, else its recorder.
fn signer(located: &Located) -> anyhow::Result<Option<SigningKey>> {
    if let Some(key) = notary::find(&located.data)? {
        return Ok(Some(key));
    }
    let recorded = matches!(located.store, StoreUrl::Sqlite(_)) && located.data.join("chain.key").exists();
    Ok(recorded.then(|| notary::retention(&located.data)).transpose()?)
}
