//! Completion with the tab key: tables, columns, keywords, hosts.

use luarm_schema::TABLES;
use rustyline::{
    Context, Helper, completion::Completer, highlight::Highlighter, hint::Hinter, validate::Validator,
};

const KEYWORDS: [&str; 49] = [
    "and",
    "as",
    "asc",
    "between",
    "by",
    "case",
    "count",
    "cross",
    "desc",
    "describe",
    "distinct",
    "else",
    "end",
    "except",
    "exists",
    "exit",
    "explain",
    "from",
    "glob",
    "group",
    "having",
    "help",
    "in",
    "inner",
    "intersect",
    "is",
    "join",
    "left",
    "like",
    "limit",
    "max",
    "min",
    "not",
    "null",
    "offset",
    "on",
    "or",
    "order",
    "quit",
    "select",
    "show",
    "sum",
    "tables",
    "then",
    "union",
    "use",
    "using",
    "when",
    "where",
];

/// What the line editor asks.
pub(crate) struct Completion {
    /// Names of the hosts in the store.
    pub(crate) hosts: Vec<String>,
}

impl Completion {
    /// Where the word at the end of `line` begins, and what it may become.
    fn candidates(&self, line: &str) -> (usize, Vec<String>) {
        let part = |c: char| c.is_alphanumeric() || matches!(c, '_' | '.' | '-');
        let start =
            line.rfind(|c| !part(c)).map_or(0, |at| at + line[at..].chars().next().map_or(1, char::len_utf8));
        let word = &line[start..];
        if let Some((table, column)) = word.rsplit_once('.')
            && let Some(table) = luarm_schema::table(&table.to_ascii_lowercase())
        {
            let columns = table.columns.iter().map(|c| c.name);
            return (word.len() - column.len() + start, matching(column, columns));
        }
        let before = line[..start].split_whitespace().next_back().unwrap_or("").to_ascii_lowercase();
        let tables = TABLES.iter().map(|t| t.name);
        let found = match before.as_str() {
            "use" => matching(word, self.hosts.iter().map(String::as_str)),
            "from" | "join" | "describe" | "desc" => matching(word, tables),
            _ if word.is_empty() => Vec::new(),
            _ => matching(word, tables.chain(named_columns(line)).chain(KEYWORDS)),
        };
        (start, found)
    }
}

/// The columns of the tables that a line names; of all tables where it names none yet.
fn named_columns(line: &str) -> impl Iterator<Item = &'static str> {
    let named = |name: &str| line.split(|c: char| !c.is_alphanumeric()).any(|w| w.eq_ignore_ascii_case(name));
    let some = TABLES.iter().any(|t| named(t.name));
    let tables: Vec<_> = TABLES.iter().filter(|t| !some || named(t.name)).collect();
    tables.into_iter().flat_map(|t| t.columns).map(|c| c.name)
}

/// Those that begin as the word does, in the case of the word.
fn matching<'n>(word: &str, names: impl Iterator<Item = &'n str>) -> Vec<String> {
    let upper =
        word.len() > 1 && word.chars().all(|c| !c.is_lowercase()) && word.chars().any(char::is_uppercase);
    let begins = |name: &str| name.get(..word.len()).is_some_and(|start| start.eq_ignore_ascii_case(word));
    let mut found: Vec<String> =
        names.filter(|n| begins(n)).map(|n| if upper { n.to_uppercase() } else { n.to_owned() }).collect();
    found.sort_unstable();
    found.dedup();
    found
}

impl Completer for Completion {
    type Candidate = String;

    fn complete(&self, line: &str, at: usize, _: &Context<'_>) -> rustyline::Result<(usize, Vec<String>)> {
        Ok(self.candidates(&line[..at]))
    }
}

impl Hinter for Completion {
    type Hint = String;
}

impl Highlighter for Completion {}
impl Validator for Completion {}
impl Helper for Completion {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_completed_by_what_stands_before() {
        let completion = Completion { hosts: vec!["alpha".to_owned(), "beta-2".to_owned()] };
        for (line, start, expected) in [
            ("sel", 0, vec!["select"]),
            ("SEL", 0, vec!["SELECT"]),
            ("select * from psi", 14, vec!["psinfo"]),
            ("describe net", 9, vec!["netinfo", "netint", "netroute"]),
            ("use be", 4, vec!["beta-2"]),
            ("select netinfo.destf", 15, vec!["destfqdn"]),
            ("select * from netinfo where destf", 28, vec!["destfqdn"]),
            ("select \u{e9}'", 10, vec![]),
            ("", 0, vec![]),
        ] {
            assert_eq!(
                completion.candidates(line),
                (start, expected.iter().map(|&e| e.to_owned()).collect()),
                "{line}"
            );
        }
    }
}
