//! Boxes, as the `mysql` client and the seed draw them.

use std::{
    io::{self, Write},
    time::Duration,
};

use luarm_store::{Cell, RowSink};
use unicode_width::UnicodeWidthStr;

use super::{Printer, visible, write_summary, write_visible};

/// Widths are those of the first so many rows, or bytes; the rows that follow are written as they come, with the same widths.
const ROWS: usize = 10_000;
const BYTES: usize = 8 << 20;

/// No column is padded beyond this: one argument list of two megabytes would widen every row to as much.
const WIDEST: usize = 4096;

pub(super) struct Table<'w> {
    out: &'w mut dyn Write,
    columns: Vec<Column>,
    /// The rows that wait for their widths, cell after cell, and how many bytes they have.
    waiting: Vec<Text>,
    bytes: usize,
    /// Whether widths are settled and the head is written.
    begun: bool,
    line: String,
}

struct Column {
    name: String,
    width: usize,
    /// What was in it, apart from NULL: numbers stand to the right.
    numbers: bool,
    texts: bool,
}

/// A cell, ready to be written.
struct Text {
    text: String,
    width: usize,
}

impl<'w> Table<'w> {
    pub(super) fn new(out: &'w mut dyn Write) -> Self {
        Table { out, columns: Vec::new(), waiting: Vec::new(), bytes: 0, begun: false, line: String::new() }
    }

    /// Settles the widths, and writes the head and what has waited.
    fn begin(&mut self) -> io::Result<()> {
        self.begun = true;
        self.write_border()?;
        self.line.clear();
        for column in &self.columns {
            push_cell(&mut self.line, &column.name, column.name.width(), column.width, false);
        }
        self.write_line()?;
        self.write_border()?;
        for row in std::mem::take(&mut self.waiting).chunks(self.columns.len().max(1)) {
            self.write_row(row)?;
        }
        Ok(())
    }

    fn write_row(&mut self, row: &[Text]) -> io::Result<()> {
        self.line.clear();
        for (column, cell) in self.columns.iter().zip(row) {
            push_cell(&mut self.line, &cell.text, cell.width, column.width, column.numbers && !column.texts);
        }
        self.write_line()
    }

    fn write_line(&mut self) -> io::Result<()> {
        self.line.push_str("|\n");
        self.out.write_all(self.line.as_bytes())
    }

    fn write_border(&mut self) -> io::Result<()> {
        self.line.clear();
        for column in &self.columns {
            self.line.push('+');
            self.line.extend(std::iter::repeat_n('-', column.width + 2));
        }
        self.line.push_str("+\n");
        self.out.write_all(self.line.as_bytes())
    }
}

impl RowSink for Table<'_> {
    fn columns(&mut self, names: &[String]) -> io::Result<()> {
        for name in names {
            let mut text = String::new();
            visible::push(&mut text, name);
            self.columns.push(Column {
                width: text.width().min(WIDEST),
                name: text,
                numbers: false,
                texts: false,
            });
        }
        Ok(())
    }

    fn row(&mut self, cells: &[Cell<'_>]) -> io::Result<()> {
        let mut row = Vec::with_capacity(cells.len());
        for cell in cells {
            let mut text = String::new();
            write_visible(&mut text, cell);
            row.push(Text { width: text.width(), text });
        }
        if self.begun {
            return self.write_row(&row);
        }
        for ((column, cell), text) in self.columns.iter_mut().zip(cells).zip(&row) {
            column.width = column.width.max(text.width).min(WIDEST);
            match cell {
                Cell::Null => {}
                Cell::Integer(_) | Cell::Real(_) => column.numbers = true,
                Cell::Text(_) | Cell::Blob(_) => column.texts = true,
            }
            self.bytes += text.text.len() + size_of::<Text>();
        }
        self.waiting.append(&mut row);
        if self.waiting.len() >= ROWS * self.columns.len() || self.bytes >= BYTES {
            self.begin()?;
        }
        Ok(())
    }
}

impl Printer for Table<'_> {
    fn finish(&mut self, rows: u64, elapsed: Duration) -> io::Result<()> {
        if rows > 0 {
            if !self.begun {
                self.begin()?;
            }
            self.write_border()?;
        }
        write_summary(self.out, rows, elapsed)
    }
}

fn push_cell(line: &mut String, text: &str, width: usize, column: usize, right: bool) {
    let blanks = std::iter::repeat_n(' ', column.saturating_sub(width));
    line.push_str("| ");
    if right {
        line.extend(blanks);
        line.push_str(text);
    } else {
        line.push_str(text);
        line.extend(blanks);
    }
    line.push(' ');
}
