//! One line per value, as the `mysql` client does after `\G`.

use std::{
    io::{self, Write},
    time::Duration,
};

use luarm_store::{Cell, RowSink};
use unicode_width::UnicodeWidthStr;

use super::{Printer, visible, write_summary, write_visible};

pub(super) struct Vertical<'w> {
    out: &'w mut dyn Write,
    /// The names, each with the blanks before it.
    names: Vec<String>,
    rows: u64,
    text: String,
}

impl<'w> Vertical<'w> {
    pub(super) fn new(out: &'w mut dyn Write) -> Self {
        Vertical { out, names: Vec::new(), rows: 0, text: String::new() }
    }
}

impl RowSink for Vertical<'_> {
    fn columns(&mut self, names: &[String]) -> io::Result<()> {
        let mut shown = Vec::new();
        for name in names {
            let mut text = String::new();
            visible::push(&mut text, name);
            shown.push(text);
        }
        let widest = shown.iter().map(|n| n.width()).max().unwrap_or(0);
        self.names = shown.into_iter().map(|n| format!("{}{n}", " ".repeat(widest - n.width()))).collect();
        Ok(())
    }

    fn row(&mut self, cells: &[Cell<'_>]) -> io::Result<()> {
        const STARS: &str = "***************************";
        self.rows += 1;
        writeln!(self.out, "{STARS} {}. row {STARS}", self.rows)?;
        for (name, cell) in self.names.iter().zip(cells) {
            self.text.clear();
            write_visible(&mut self.text, cell);
            writeln!(self.out, "{name}: {}", self.text)?;
        }
        Ok(())
    }
}

impl Printer for Vertical<'_> {
    fn finish(&mut self, rows: u64, elapsed: Duration) -> io::Result<()> {
        write_summary(self.out, rows, elapsed)
    }
}
