//! The words that the console itself understands; everything else is SQL.

use crate::HuntError;

/// What a statement asks of the console.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Word<'a> {
    /// `show tables`
    ShowTables,
    /// `show databases`, `show hosts`
    ShowHosts,
    /// `describe TABLE`, `desc TABLE`, `show columns from TABLE`
    Describe(&'a str),
    /// `use HOST`
    Use(&'a str),
    /// `use *`
    UseAll,
    /// `help`, `?`
    Help,
    /// `quit`, `exit`
    Quit,
}

const SHOW: &str = "show tables | show databases | show columns from TABLE";

pub(crate) const HELP: &str = "\
Statements end with ; or \\g, or with \\G for one line per value. They are SQL (the store's own) and only read.
  show tables           the tables
  describe TABLE        the columns of a table (also: desc TABLE, show columns from TABLE)
  show databases        the audited computers (also: show hosts)
  use HOST              limit the tables to what one of them recorded, by name or machine id; `use *` for all
  \\c                    forget the statement that was begun
  help                  this
  quit                  leave (also: exit, \\q, Ctrl-D)
Ctrl-C ends a running query. Instants are UTC; docs/tables.md explains every column.
";

/// The console's word in this statement, if it begins with one.
pub(crate) fn parse(statement: &str) -> Option<Result<Word<'_>, HuntError>> {
    let words: Vec<&str> = statement.split_whitespace().collect();
    let (first, rest) = words.split_first()?;
    let is = |word: &str, meant: &str| word.eq_ignore_ascii_case(meant);
    let usage = |usage| Err(HuntError::Usage { given: statement.to_owned(), usage });
    Some(match (first.to_ascii_lowercase().as_str(), rest) {
        ("show", [what]) if is(what, "tables") => Ok(Word::ShowTables),
        ("show", [what]) if is(what, "databases") || is(what, "hosts") => Ok(Word::ShowHosts),
        ("show", [what, of, table]) if is(what, "columns") && (is(of, "from") || is(of, "in")) => {
            Ok(Word::Describe(unquoted(table)))
        }
        ("show", _) => usage(SHOW),
        ("describe" | "desc", [table]) => Ok(Word::Describe(unquoted(table))),
        ("describe" | "desc", _) => usage("describe TABLE"),
        ("use", ["*"]) => Ok(Word::UseAll),
        ("use", [host]) => Ok(Word::Use(unquoted(host))),
        ("use", _) => usage("use HOST, or use * for all"),
        ("help" | "?" | "\\h" | "\\?", []) => Ok(Word::Help),
        ("quit" | "exit" | "\\q", []) => Ok(Word::Quit),
        _ => return None,
    })
}

fn unquoted(name: &str) -> &str {
    ['`', '"', '\''].iter().find_map(|&q| name.strip_prefix(q)?.strip_suffix(q)).unwrap_or(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_known_in_any_case() {
        for (statement, word) in [
            ("show tables", Word::ShowTables),
            ("SHOW\n  Tables", Word::ShowTables),
            ("show databases", Word::ShowHosts),
            ("describe netinfo", Word::Describe("netinfo")),
            ("DESC `psinfo`", Word::Describe("psinfo")),
            ("show columns from psinfo", Word::Describe("psinfo")),
            ("use alpha", Word::Use("alpha")),
            ("use *", Word::UseAll),
            ("help", Word::Help),
            ("\\q", Word::Quit),
            ("EXIT", Word::Quit),
        ] {
            assert_eq!(parse(statement).unwrap().unwrap(), word, "{statement}");
        }
    }

    #[test]
    fn sql_is_left_to_the_store_and_half_words_are_explained() {
        for sql in ["select 1", "explain select 1", "pragma table_info(psinfo)", "", "quit now", "showtables"]
        {
            assert!(parse(sql).is_none(), "{sql}");
        }
        for half in ["show", "show processlist", "describe", "desc a b", "use", "use a b"] {
            let message = parse(half).unwrap().unwrap_err().to_string();
            assert!(message.contains(half), "{message}");
        }
    }
}
