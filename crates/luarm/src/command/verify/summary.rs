//! What `luarm verify` says.

use std::{
    collections::BTreeSet,
    io::{self, BufWriter, IsTerminal, Write},
};

use luarm_chain::{
    encode,
    verify::{Finding, Options, Report, Verified},
};
use luarm_hunt::{Format, write_rows};
use luarm_store::Cell;

/// The columns of what was found; scripts rely on them.
const COLUMNS: [&str; 7] = ["host", "batch", "tablename", "rowkey", "finding", "broken", "detail"];

/// Findings on standard output, and how much was checked: beneath them for people, on standard error for programs.
pub(super) fn print(report: &Report, options: &Options, format: Format) -> anyhow::Result<()> {
    let stdout = io::stdout();
    let printing = luarm_hunt::Options { format, terminal: stdout.is_terminal() };
    let mut out = BufWriter::new(stdout.lock());
    let is_for_people = matches!(format, Format::Table | Format::Vertical);
    if !is_for_people || !report.findings.is_empty() {
        let rows = report.findings.iter().map(cells);
        write_rows(printing, &mut out, &COLUMNS, rows)?;
    }
    let mut said = Vec::new();
    say(report, options, &mut said)?;
    if is_for_people {
        out.write_all(&said)?;
    } else {
        io::stderr().write_all(&said)?;
    }
    Ok(out.flush()?)
}

fn cells(finding: &Finding) -> [Cell<'_>; 7] {
    [
        Cell::Text(&finding.host),
        Cell::Integer(finding.batch),
        Cell::Text(finding.table),
        finding.key.map_or(Cell::Null, Cell::Integer),
        Cell::Text(finding.change.name()),
        Cell::Integer((!finding.is_note).into()),
        Cell::Text(&finding.detail),
    ]
}

fn say(report: &Report, options: &Options, out: &mut Vec<u8>) -> io::Result<()> {
    for host in &report.hosts {
        say_host(host, out)?;
    }
    let batches: u64 = report.hosts.iter().map(|host| host.batches).sum();
    writeln!(out, "checked: {}, {batches} batches, {} rows", hosts(report.hosts.len()), report.rows)?;
    if report.unsealed > 0 {
        writeln!(
            out,
            "not checked: {} rows and ends that a server has written down and not sealed yet; it does so within a second, one that was killed when it starts again",
            report.unsealed
        )?;
    }
    if report.unsigned > 0 {
        writeln!(
            out,
            "not checked: {} questions in queryinfo that are in no batch, because whoever asked wrote them down by his own account of the database, or a server of an earlier version did: nobody signs them",
            report.unsigned
        )?;
    }
    let signers: BTreeSet<&String> = report.hosts.iter().flat_map(|host| &host.signers).collect();
    if options.keys.is_empty() && signers.is_empty() {
        writeln!(out, "not checked: when batches arrived, since no server has signed for them")?;
    }
    if options.keys.is_empty() {
        for signer in signers {
            writeln!(
                out,
                "not checked: whether the server's key {signer} is the right one; name the file with it by --server-key"
            )?;
        }
    }
    for key in &options.keys {
        writeln!(out, "server's key: {}", encode(key.as_bytes()))?;
    }
    if options.witnesses.is_empty() {
        writeln!(
            out,
            "not checked: whether the last batches are gone, or all was rewritten; compare with heads that are kept elsewhere by --against"
        )?;
    }
    let broken = report.findings.iter().filter(|finding| !finding.is_note).count() as u64 + report.untold;
    if report.untold > 0 {
        writeln!(out, "{} findings more are not listed", report.untold)?;
    }
    match broken {
        0 => writeln!(out, "intact"),
        1 => writeln!(out, "NOT INTACT: 1 finding"),
        more => writeln!(out, "NOT INTACT: {more} findings"),
    }
}

fn hosts(count: usize) -> String {
    if count == 1 { "1 host".to_owned() } else { format!("{count} hosts") }
}

fn say_host(host: &Verified, out: &mut Vec<u8>) -> io::Result<()> {
    let Verified { name, batches, signatures, receipts, .. } = host;
    // A name may hold anything.
    write!(out, "{}: {batches} batches", name.escape_debug())?;
    if let Some((first, last)) = host.span {
        write!(out, ", {first} to {last}")?;
    }
    writeln!(out, ", {signatures} signatures, {receipts} receipts")?;
    if let Some(anchor) = &host.anchor {
        writeln!(out, "    first key of the host: {anchor}")?;
    }
    if let Some(head) = &host.head {
        writeln!(out, "    head: batch {}, digest {}", head.batch, head.digest)?;
    }
    Ok(())
}
