//! What was measured, for people: printed as it comes, and kept as a dated copy.

use std::{
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use clap::ValueEnum;
use luarm_schema::Time;

use crate::Part;

/// The text so far, and the goals that were looked at.
#[derive(Default)]
pub(crate) struct Report {
    text: String,
    goals: Vec<Goal>,
}

/// What was wanted, and what came.
struct Goal {
    name: String,
    wanted: String,
    got: String,
    verdict: String,
}

/// A bound on a figure.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Bound {
    AtMost(f64),
    AtLeast(f64),
}

impl Report {
    fn print(&mut self, text: &str) {
        print!("{text}");
        self.text.push_str(text);
    }

    /// Begins a section.
    pub(crate) fn heading(&mut self, title: &str) {
        self.print(&format!("\n## {title}\n"));
    }

    /// A paragraph.
    pub(crate) fn say(&mut self, text: &str) {
        self.print(&format!("{text}\n"));
    }

    /// A table; the first row is its head.
    pub(crate) fn table(&mut self, rows: &[Vec<String>]) {
        let columns = rows.first().map_or(0, Vec::len);
        let width = |c: usize| rows.iter().map(|row| row[c].chars().count()).max().unwrap_or(0);
        let widths: Vec<usize> = (0..columns).map(width).collect();
        let mut text = String::new();
        for (n, row) in rows.iter().enumerate() {
            for (cell, width) in row.iter().zip(&widths) {
                let _ = write!(text, "| {cell:width$} ");
            }
            text.push_str("|\n");
            if n == 0 {
                for width in &widths {
                    let _ = write!(text, "|{:-<1$}", "", width + 2);
                }
                text.push_str("|\n");
            }
        }
        self.print(&format!("\n{text}\n"));
    }

    /// Holds a figure against a goal.
    pub(crate) fn goal(&mut self, name: impl Into<String>, bound: Bound, got: f64, unit: &str) {
        let (wanted, met, by) = match bound {
            Bound::AtMost(most) => (format!("≤ {most}{unit}"), got <= most, got - most),
            Bound::AtLeast(least) => (format!("≥ {least}{unit}"), got >= least, least - got),
        };
        let verdict = if met { "met".to_owned() } else { format!("missed by {by:.3}{unit}") };
        self.goals.push(Goal { name: name.into(), wanted, got: format!("{got:.3}{unit}"), verdict });
    }

    /// Prints how the goals fared.
    pub(crate) fn goals(&mut self) {
        if self.goals.is_empty() {
            return;
        }
        let head = ["goal", "wanted", "got", "verdict"].map(str::to_owned).to_vec();
        let rows = self.goals.drain(..).map(|g| vec![g.name, g.wanted, g.got, g.verdict]);
        let table: Vec<Vec<String>> = std::iter::once(head).chain(rows).collect();
        self.heading("Goals (medians)");
        self.table(&table);
    }

    /// Writes the copy into that directory, under today's date and the names of the parts, if it was not everything.
    pub(crate) fn keep(&self, dir: &Path, parts: &[Part]) -> anyhow::Result<PathBuf> {
        let today: String = Time::now().to_string().chars().take(10).collect();
        fs::create_dir_all(dir).with_context(|| format!("cannot make {}", dir.display()))?;
        let names = parts.iter().filter_map(ValueEnum::to_possible_value);
        let suffix: String = names.map(|name| format!("-{}", name.get_name())).collect();
        let path = dir.join(format!("{today}{suffix}.md"));
        fs::write(&path, format!("# Measurements of {today}\n\n{}", self.text.trim_start()))
            .with_context(|| format!("cannot write {}", path.display()))?;
        Ok(path)
    }
}
