//! Running statements, one after the other.

use std::{
    fmt,
    io::{BufRead, Write},
    time::Instant,
};

use luarm_schema::{TABLES, reference};
use luarm_store::{Cell, QueryError, Source};

use crate::{
    Format, HuntError, Splitter, Statement,
    client::{self, Word},
    coverage, print,
};

/// How a console behaves.
#[derive(Debug, Clone, Copy, Default)]
pub struct Options {
    /// How answers look.
    pub format: Format,
    /// Whether answers go to a terminal, so that captured strings must not reach it as they are, in any format.
    pub terminal: bool,
}

/// Writes an answer that does not come from a store.
pub fn write_rows<'r, R: AsRef<[Cell<'r>]>>(
    options: Options,
    out: &mut dyn Write,
    names: &[&str],
    rows: impl IntoIterator<Item = R>,
) -> Result<(), HuntError> {
    let begun = Instant::now();
    let names: Vec<String> = names.iter().map(|&n| n.to_owned()).collect();
    let mut printer = print::printer(options.format, out, options.terminal);
    let mut count = 0;
    printer.columns(&names).map_err(HuntError::Output)?;
    for row in rows {
        printer.row(row.as_ref()).map_err(HuntError::Output)?;
        count += 1;
    }
    printer.finish(count, begun.elapsed()).map_err(HuntError::Output)
}

/// Whether there is anything left to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The next statement may come.
    Continue,
    /// The user wants to leave, or the one who read the answers has gone.
    Quit,
}

/// Answers statements from one source.
pub struct Console {
    pub(crate) source: Box<dyn Source>,
    options: Options,
    /// The host that `use` chose.
    host: Option<String>,
    /// Takes what is said beside answers for programs; `None` if nothing is to be said of coverage at all.
    remarks: Option<Box<dyn Write + Send>>,
}

impl Console {
    /// A console on that store, or on the server that reads one.
    pub fn new(source: impl Into<Box<dyn Source>>, options: Options) -> Self {
        Console { source: source.into(), options, host: None, remarks: None }
    }

    /// From now on, whoever asks about a span with a gap in what was observed, or about one in which something was lost, is told so in one line: beneath an
    /// answer for people, and in `remarks` (standard error) beside one for programs.
    pub fn with_coverage(self, remarks: impl Write + Send + 'static) -> Self {
        Console { remarks: Some(Box::new(remarks)), ..self }
    }

    /// Limits the tables to one host, by its name or machine id, as `use HOST` does.
    pub fn use_host(&mut self, name: &str) -> Result<(), HuntError> {
        self.host = Some(self.source.use_host(name)?.name);
        Ok(())
    }

    /// Runs every statement in a text; the last needs no `;`. Stops at the first error.
    pub fn text(&mut self, text: &str, out: &mut dyn Write) -> Result<Outcome, HuntError> {
        self.script(text.as_bytes(), out)
    }

    /// Runs every statement of an input; the last needs no `;`. Stops at the first error.
    pub fn script(&mut self, mut input: impl BufRead, out: &mut dyn Write) -> Result<Outcome, HuntError> {
        let mut splitter = Splitter::default();
        let mut line = String::new();
        loop {
            line.clear();
            let read = input.read_line(&mut line).map_err(HuntError::Input)?;
            let statements =
                if read > 0 { self.line(&mut splitter, &line) } else { Vec::from_iter(splitter.end()) };
            for statement in statements {
                if self.statement(&statement, out)? == Outcome::Quit {
                    return Ok(Outcome::Quit);
                }
            }
            if read == 0 {
                return Ok(Outcome::Continue);
            }
        }
    }

    /// The statements that a line completes. A line that is one of the console's own words needs no `;`.
    pub(crate) fn line(&self, splitter: &mut Splitter, line: &str) -> Vec<Statement> {
        let word = line.trim();
        if !splitter.is_open() && !word.ends_with(';') && matches!(client::parse(word), Some(Ok(_))) {
            return vec![Statement { text: word.to_owned(), vertical: false }];
        }
        splitter.push(line)
    }

    /// Runs one statement.
    pub fn statement(&mut self, statement: &Statement, out: &mut dyn Write) -> Result<Outcome, HuntError> {
        let result = match client::parse(&statement.text) {
            Some(word) => word.and_then(|word| self.word(word, statement.vertical, out)),
            None => self.query(&statement.text, statement.vertical, out),
        };
        let result = result.and_then(|outcome| out.flush().map_err(HuntError::Output).map(|()| outcome));
        match result {
            Err(error) if error.is_broken_pipe() => Ok(Outcome::Quit),
            other => other,
        }
    }

    fn word(&mut self, word: Word<'_>, vertical: bool, out: &mut dyn Write) -> Result<Outcome, HuntError> {
        match word {
            Word::ShowTables => {
                let mut tables: Vec<&str> = TABLES.iter().map(|t| t.name).collect();
                tables.sort_unstable();
                let rows = tables.iter().map(|&name| vec![Cell::Text(name)]);
                let title = format!("Tables_in_{}", self.title()?);
                self.answer(&[&title], rows, vertical, out)?;
            }
            Word::ShowHosts => {
                let hosts = self.source.hosts()?;
                let rows = hosts.iter().map(|h| vec![Cell::Text(&h.name), Cell::Text(&h.machine_id)]);
                self.answer(&["Database", "machineid"], rows, vertical, out)?;
            }
            Word::Describe(name) => {
                let table = luarm_schema::table(&name.to_ascii_lowercase());
                let table = table.ok_or_else(|| HuntError::NoTable { name: name.to_owned() })?;
                let rows = reference::describe(table).into_iter().map(|c| {
                    let [field, type_name, null, key, extra] =
                        [c.field, c.type_name, c.null, c.key, c.extra].map(Cell::Text);
                    vec![field, type_name, null, key, Cell::Null, extra]
                });
                self.answer(&["Field", "Type", "Null", "Key", "Default", "Extra"], rows, vertical, out)?;
            }
            Word::Use(name) => self.use_host(name)?,
            Word::UseAll => {
                self.source.use_all()?;
                self.host = None;
            }
            Word::Help => out.write_all(client::HELP.as_bytes()).map_err(HuntError::Output)?,
            Word::Quit => return Ok(Outcome::Quit),
        }
        Ok(Outcome::Continue)
    }

    /// What stands for the seed's database name: the host that is used, or the only one.
    fn title(&mut self) -> Result<String, HuntError> {
        if let Some(host) = &self.host {
            return Ok(host.clone());
        }
        let mut hosts = self.source.hosts()?;
        Ok(if hosts.len() == 1 { hosts.remove(0).name } else { "luarm".to_owned() })
    }

    fn query(&mut self, sql: &str, vertical: bool, out: &mut dyn Write) -> Result<Outcome, HuntError> {
        let begun = Instant::now();
        let mut printer = print::printer(self.format(vertical), out, self.options.terminal);
        let rows = self.source.query(sql, &mut *printer)?;
        printer.finish(rows, begun.elapsed()).map_err(HuntError::Output)?;
        drop(printer);
        self.remark(sql, vertical, out)?;
        Ok(Outcome::Continue)
    }

    /// Says what the answer cannot know.
    fn remark(&mut self, sql: &str, vertical: bool, out: &mut dyn Write) -> Result<(), HuntError> {
        let format = self.format(vertical);
        let Some(remarks) = &mut self.remarks else { return Ok(()) };
        let Some(line) = coverage::line(&mut *self.source, sql) else { return Ok(()) };
        if matches!(format, Format::Table | Format::Vertical) {
            return writeln!(out, "{line}").map_err(HuntError::Output);
        }
        // The answer is whole whether anybody can hear this or not.
        out.flush().map_err(HuntError::Output)?;
        let _ = writeln!(remarks, "{line}").and_then(|()| remarks.flush());
        Ok(())
    }

    /// Prints rows that the console itself knows.
    fn answer<'r>(
        &self,
        names: &[&str],
        rows: impl Iterator<Item = Vec<Cell<'r>>>,
        vertical: bool,
        out: &mut dyn Write,
    ) -> Result<(), HuntError> {
        write_rows(Options { format: self.format(vertical), ..self.options }, out, names, rows)
    }

    /// `\G` asks for lines where the answer is for people; programs get what they asked for.
    fn format(&self, vertical: bool) -> Format {
        match self.options.format {
            Format::Table if vertical => Format::Vertical,
            format => format,
        }
    }
}

impl fmt::Debug for Console {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Console")
            .field("source", &self.source)
            .field("host", &self.host)
            .finish_non_exhaustive()
    }
}

impl HuntError {
    /// Whether a running query was interrupted by the user.
    pub(crate) fn is_interrupt(&self) -> bool {
        matches!(self, HuntError::Query(QueryError::Interrupted))
    }
}
