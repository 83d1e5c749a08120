//! JSON: an array of objects, or an object per line.

use std::{
    collections::HashSet,
    io::{self, Write},
    time::Duration,
};

use luarm_store::{Cell, RowSink};

use super::{Printer, visible, write_plain};

pub(super) struct Json<'w> {
    out: &'w mut dyn Write,
    /// Whether the objects stand in an array.
    array: bool,
    /// The names, each as it stands before its value.
    names: Vec<String>,
    rows: u64,
    line: String,
}

impl<'w> Json<'w> {
    pub(super) fn array(out: &'w mut dyn Write) -> Self {
        Json { out, array: true, names: Vec::new(), rows: 0, line: String::new() }
    }

    pub(super) fn lines(out: &'w mut dyn Write) -> Self {
        Json { array: false, ..Json::array(out) }
    }
}

impl RowSink for Json<'_> {
    /// Columns of the same name are told apart by a number: a reader would keep only one of them.
    fn columns(&mut self, names: &[String]) -> io::Result<()> {
        let mut seen = HashSet::new();
        for name in names {
            let mut unique = name.clone();
            let mut n = 1;
            while !seen.insert(unique.clone()) {
                n += 1;
                unique = format!("{name}_{n}");
            }
            let mut key = String::new();
            push_string(&mut key, &unique);
            key.push(':');
            self.names.push(key);
        }
        Ok(())
    }

    fn row(&mut self, cells: &[Cell<'_>]) -> io::Result<()> {
        self.line.clear();
        self.line.push_str(match (self.array, self.rows) {
            (false, _) => "{",
            (true, 0) => "[\n{",
            (true, _) => ",\n{",
        });
        for (n, (name, cell)) in self.names.iter().zip(cells).enumerate() {
            if n > 0 {
                self.line.push(',');
            }
            self.line.push_str(name);
            match cell {
                Cell::Null => self.line.push_str("null"),
                Cell::Real(x) if !x.is_finite() => self.line.push_str("null"),
                Cell::Integer(_) | Cell::Real(_) => write_plain(&mut self.line, cell),
                Cell::Text(text) => push_string(&mut self.line, text),
                Cell::Blob(_) => {
                    self.line.push('"');
                    write_plain(&mut self.line, cell);
                    self.line.push('"');
                }
            }
        }
        self.line.push('}');
        if !self.array {
            self.line.push('\n');
        }
        self.rows += 1;
        self.out.write_all(self.line.as_bytes())
    }
}

impl Printer for Json<'_> {
    fn finish(&mut self, _: u64, _: Duration) -> io::Result<()> {
        match (self.array, self.rows) {
            (false, _) => Ok(()),
            (true, 0) => self.out.write_all(b"[]\n"),
            (true, _) => self.out.write_all(b"\n]\n"),
        }
    }
}

/// A JSON string in which everything that could act on a terminal is `\uXXXX`: for its reader it is the same text.
fn push_string(out: &mut String, text: &str) {
    use std::fmt::Write as _;
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if visible::is_active(c) => {
                for unit in c.encode_utf16(&mut [0; 2]) {
                    let _ = write!(out, "\\u{unit:04x}");
                }
            }
            c => out.push(c),
        }
    }
    out.push('"');
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn json(names: &[&str], rows: &[Vec<Cell<'_>>], array: bool) -> String {
        let mut out = Vec::new();
        let mut printer = Json { array, ..Json::array(&mut out) };
        let names: Vec<String> = names.iter().map(|&n| n.to_owned()).collect();
        printer.columns(&names).unwrap();
        for row in rows {
            printer.row(row).unwrap();
        }
        printer.finish(rows.len() as u64, Duration::ZERO).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn values_keep_their_kind() {
        let row = vec![
            Cell::Integer(i64::MAX),
            Cell::Real(1.0),
            Cell::Null,
            Cell::Text("a\"b"),
            Cell::Blob(b"\x00\xff"),
        ];
        let names = ["n", "x", "n", "n", "b"];
        assert_eq!(
            json(&names, &[row.clone(), row], false),
            "{\"n\":9223372036854775807,\"x\":1.0,\"n_2\":null,\"n_3\":\"a\\\"b\",\"b\":\"0x00FF\"}\n"
                .repeat(2)
        );
        assert_eq!(json(&["a"], &[], true), "[]\n");
        assert_eq!(json(&["a"], &[], false), "");
        assert_eq!(json(&["x"], &[vec![Cell::Real(f64::INFINITY)]], false), "{\"x\":null}\n");
    }

    proptest! {
        #[test]
        fn texts_are_read_back_and_nothing_active_is_written(texts in prop::collection::vec(any::<String>(), 1..6)) {
            let rows: Vec<_> = texts.iter().map(|t| vec![Cell::Text(t)]).collect();
            let written = json(&["text"], &rows, true);
            prop_assert!(!written.chars().any(|c| c != '\n' && visible::is_active(c)));
            let read: Vec<serde_json::Value> = serde_json::from_str(&written).unwrap();
            let read: Vec<String> = read.iter().map(|o| o["text"].as_str().unwrap().to_owned()).collect();
            prop_assert_eq!(read, texts);
        }
    }
}
