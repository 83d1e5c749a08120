//! Comma-separated values: RFC 4180, with a line feed at the end of each line.

use std::{
    io::{self, Write},
    time::Duration,
};

use luarm_store::{Cell, RowSink};

use super::{Printer, visible, write_plain};

pub(super) struct Csv<'w> {
    out: &'w mut dyn Write,
    terminal: bool,
    line: String,
    shown: String,
}

impl<'w> Csv<'w> {
    pub(super) fn new(out: &'w mut dyn Write, terminal: bool) -> Self {
        Csv { out, terminal, line: String::new(), shown: String::new() }
    }

    fn push_text(&mut self, text: &str) {
        let text = if self.terminal {
            self.shown.clear();
            visible::push(&mut self.shown, text);
            &self.shown
        } else {
            text
        };
        if !text.is_empty() && !text.contains(['"', ',', '\n', '\r']) {
            self.line.push_str(text);
            return;
        }
        self.line.push('"');
        for (n, part) in text.split('"').enumerate() {
            if n > 0 {
                self.line.push_str("\"\"");
            }
            self.line.push_str(part);
        }
        self.line.push('"');
    }

    fn write_line(&mut self) -> io::Result<()> {
        self.line.push('\n');
        let result = self.out.write_all(self.line.as_bytes());
        self.line.clear();
        result
    }
}

impl RowSink for Csv<'_> {
    fn columns(&mut self, names: &[String]) -> io::Result<()> {
        for (n, name) in names.iter().enumerate() {
            if n > 0 {
                self.line.push(',');
            }
            self.push_text(name);
        }
        self.write_line()
    }

    fn row(&mut self, cells: &[Cell<'_>]) -> io::Result<()> {
        for (n, cell) in cells.iter().enumerate() {
            if n > 0 {
                self.line.push(',');
            }
            match cell {
                Cell::Text(text) => self.push_text(text),
                other => write_plain(&mut self.line, other),
            }
        }
        self.write_line()
    }
}

impl Printer for Csv<'_> {
    fn finish(&mut self, _: u64, _: Duration) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn csv(rows: &[Vec<Option<String>>], terminal: bool) -> String {
        let mut out = Vec::new();
        let mut printer = Csv::new(&mut out, terminal);
        for row in rows {
            let cells: Vec<Cell<'_>> =
                row.iter().map(|c| c.as_deref().map_or(Cell::Null, Cell::Text)).collect();
            printer.row(&cells).unwrap();
        }
        String::from_utf8(out).unwrap()
    }

    /// A reader after RFC 4180 that tells an empty text from nothing.
    fn read(text: &str) -> Vec<Vec<Option<String>>> {
        let mut rows = Vec::new();
        let mut row = Vec::new();
        let mut rest = text;
        while !rest.is_empty() {
            let cell;
            if let Some(mut quoted) = rest.strip_prefix('"') {
                let mut content = String::new();
                loop {
                    let (before, after) = quoted.split_once('"').unwrap();
                    content.push_str(before);
                    match after.strip_prefix('"') {
                        Some(more) => {
                            content.push('"');
                            quoted = more;
                        }
                        None => {
                            rest = after;
                            break;
                        }
                    }
                }
                cell = Some(content);
            } else {
                let end = rest.find([',', '\n']).unwrap();
                cell = (end > 0).then(|| rest[..end].to_owned());
                rest = &rest[end..];
            }
            row.push(cell);
            if rest.starts_with('\n') {
                rows.push(std::mem::take(&mut row));
            }
            rest = &rest[1..];
        }
        rows
    }

    #[test]
    fn nothing_and_empty_are_told_apart() {
        let row = vec![None, Some(String::new()), Some("a,b".to_owned()), Some("c\"d\n".to_owned())];
        assert_eq!(csv(&[row], false), ",\"\",\"a,b\",\"c\"\"d\n\"\n");
    }

    #[test]
    fn a_terminal_gets_nothing_active() {
        assert_eq!(csv(&[vec![Some("\x1b[2J\n,".to_owned())]], true), "\"\\x1b[2J\\n,\"\n");
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(
            rows in prop::collection::vec(prop::collection::vec(prop::option::of("[a-c\",\r\n \\PC\u{1b}]{0,8}"), 1..5), 0..6)
        ) {
            prop_assert_eq!(read(&csv(&rows, false)), rows);
        }
    }
}
