//! `luarm sql --prove`: an answer with what proves its rows.

use std::{fs, io, path::Path, process::ExitCode};

use anyhow::{Context, bail};
use luarm_chain::proven::{self, Named};
use luarm_hunt::{Format, write_rows};
use luarm_schema::{
    TableDef, Time,
    tables::{CoverageInfo, LossInfo},
};
use luarm_store::{Cell, Evidence, Reader, RowSink};
use serde_json::Value as Json;

use crate::cli::Answering;

/// Rows of an answer that can be proven.
const MOST: usize = 100_000;

/// What is to be proven.
pub(super) struct Asked<'a> {
    pub(super) answering: &'a Answering,
    pub(super) statements: &'a [String],
    pub(super) host: Option<&'a str>,
    pub(super) span: &'a [String],
}

/// An answer, kept.
#[derive(Default)]
struct Kept {
    columns: Vec<String>,
    rows: Vec<Vec<Json>>,
}

impl RowSink for Kept {
    fn columns(&mut self, names: &[String]) -> io::Result<()> {
        self.columns = names.to_vec();
        Ok(())
    }

    fn row(&mut self, cells: &[Cell<'_>]) -> io::Result<()> {
        if self.rows.len() == MOST {
            return Err(io::Error::other(format!("an answer of more than {MOST} rows is not proven")));
        }
        self.rows.push(cells.iter().map(json).collect());
        Ok(())
    }
}

fn json(cell: &Cell<'_>) -> Json {
    match cell {
        Cell::Null => Json::Null,
        Cell::Integer(n) => (*n).into(),
        Cell::Real(x) => format!("{x:?}").into(),
        Cell::Text(text) => (*text).into(),
        Cell::Blob(bytes) => luarm_chain::encode(bytes).into(),
    }
}

fn cell(json: &Json) -> Cell<'_> {
    match json {
        Json::Number(n) => n.as_i64().map_or(Cell::Null, Cell::Integer),
        Json::String(text) => Cell::Text(text),
        _ => Cell::Null,
    }
}

/// Asks, prints the answer, and writes it into the file with what proves it.
pub(super) fn run(asked: &Asked<'_>, file: &Path, format: Format) -> anyhow::Result<ExitCode> {
    let [statement] = asked.statements else {
        bail!("one answer is proven at a time: give -e once, with one statement");
    };
    let Answering::Store(located) = asked.answering else {
        bail!("an answer is proven where the store can be read: name it by --store or --data");
    };
    let mut reader = Reader::open(&located.store)?;
    let host = asked.host.map(|name| reader.use_host(name)).transpose()?.map(|host| host.number);
    let mut kept = Kept::default();
    reader.query(statement.trim().trim_end_matches(';'), &mut kept)?;
    let span = span(asked.span, &kept)?;
    let mut more = Vec::new();
    if let Some((from, to)) = span {
        for (table, end) in [(CoverageInfo::TABLE, "destroyed"), (LossInfo::TABLE, "until")] {
            more.extend(observed(&mut reader, table, end, from, to)?);
        }
    }
    let names: Vec<&str> = kept.columns.iter().map(String::as_str).collect();
    let rows: Vec<Vec<Cell<'_>>> = kept.rows.iter().map(|row| row.iter().map(cell).collect()).collect();
    let stdout = io::stdout();
    let terminal = io::IsTerminal::is_terminal(&stdout);
    write_rows(luarm_hunt::Options { format, terminal }, &mut stdout.lock(), &names, &rows)?;
    drop((names, rows));
    let named =
        Named { statement: statement.clone(), columns: kept.columns, rows: kept.rows, host, more, span };
    let proven = proven::prove(&mut Evidence::open(&located.store)?, named)?;
    fs::write(file, proven.text()).with_context(|| format!("cannot write {}", file.display()))?;
    Ok(ExitCode::SUCCESS)
}

/// The time that is meant: as it was given, or from the first to the last `created` of the answer.
fn span(given: &[String], kept: &Kept) -> anyhow::Result<Option<(Time, Time)>> {
    if let [from, to] = given {
        let parse = |text: &String| {
            text.parse::<Day>()
                .map(|Day(time)| time)
                .or_else(|_| Time::parse(text))
                .with_context(|| "--span takes two instants, each as \"YYYY-MM-DD HH:MM:SS\"".to_owned())
        };
        return Ok(Some((parse(from)?, parse(to)?)));
    }
    let Some(at) = kept.columns.iter().position(|name| name == "created") else { return Ok(None) };
    let times = kept.rows.iter().filter_map(|row| Time::parse(row.get(at)?.as_str()?).ok());
    let (mut first, mut last) = (None, None);
    for time in times {
        first = Some(first.map_or(time, |first: Time| first.min(time)));
        last = Some(last.map_or(time, |last: Time| last.max(time)));
    }
    Ok(first.zip(last))
}

/// A day alone: its first instant.
struct Day(Time);

impl std::str::FromStr for Day {
    type Err = luarm_schema::TimeError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Time::parse(&format!("{text} 00:00:00")).map(Day)
    }
}

/// The rows that tell what was observed in that time, and what was lost.
fn observed(
    reader: &mut Reader,
    table: &'static TableDef,
    end: &str,
    from: Time,
    to: Time,
) -> anyhow::Result<Vec<(i64, &'static TableDef, i64)>> {
    let sql = format!(
        "SELECT host, {} FROM {} WHERE created <= '{to}' AND ({end} IS NULL OR {end} >= '{from}')",
        table.key, table.name
    );
    let mut kept = Kept::default();
    reader.query(&sql, &mut kept)?;
    let number = |row: &Vec<Json>, at: usize| row.get(at).and_then(Json::as_i64);
    Ok(kept.rows.iter().filter_map(|row| Some((number(row, 0)?, table, number(row, 1)?))).collect())
}
