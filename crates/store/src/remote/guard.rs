//! What a reading connection is given to run.
//!
//! Beneath it stand two more walls: the statement runs alone in a transaction that the engine itself keeps from writing, and the account's grants
//! (`luarm server grant` makes one that can only select). This one turns away what is not about rows: settings, locks, files of the server.

use crate::QueryError;

/// What a statement may begin with.
const FIRST: [&str; 9] =
    ["select", "with", "explain", "show", "describe", "desc", "values", "table", "analyze"];

/// Looks at a statement.
pub(crate) fn check(sql: &str, dialect: Syntax) -> Result<Found, QueryError> {
    let mut words = Words { rest: sql, dialect };
    let refused = |what: &str| Err(QueryError::Refused(what.to_owned()));
    let (mut first, mut any) = (None, false);
    while let Some(token) = words.next() {
        any = true;
        let word = match token {
            Token::Executable => return refused("a comment that the server would run"),
            // A query may stand in parentheses.
            Token::Other => continue,
            Token::Word(word) | Token::Name(word) if is_closed(word) => {
                return refused("who may deliver is not what happened");
            }
            Token::Name(_) => continue,
            Token::Word(word) => word.to_ascii_lowercase(),
        };
        match &first {
            None => {
                if !FIRST.contains(&word.as_str()) {
                    return Err(QueryError::Refused(format!("the statement begins with {word:?}")));
                }
                first = Some(word);
            }
            Some(_) if word == "into" => return refused("the statement writes its answer somewhere (INTO)"),
            Some(_) => {}
        }
    }
    Ok(if any { Found::Statement } else { Found::Nothing })
}

/// Whether it is a table of who may deliver.
fn is_closed(name: &str) -> bool {
    name.get(..6).is_some_and(|start| start.eq_ignore_ascii_case("luarm_"))
}

/// What there is in a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Found {
    /// Blanks and comments.
    Nothing,
    /// A statement, perhaps.
    Statement,
}

/// How strings and comments are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Syntax {
    /// `\'` within strings, `#` comments, `/*! */` is run.
    Mysql,
    /// `$tag$ … $tag$`, nested comments, `E'\''`.
    Postgres,
}

enum Token<'a> {
    Word(&'a str),
    /// A quoted name, or a string where that is written with the same marks.
    Name(&'a str),
    /// `/*!` or `/*M!`
    Executable,
    Other,
}

/// The words of a statement outside strings, quoted names and comments.
struct Words<'a> {
    rest: &'a str,
    dialect: Syntax,
}

impl<'a> Words<'a> {
    fn skip(&mut self, bytes: usize) {
        self.rest = self.rest.get(bytes..).unwrap_or_default();
    }

    fn skip_line(&mut self) {
        let end = self.rest.find('\n').map_or(self.rest.len(), |at| at + 1);
        self.skip(end);
    }

    /// `--` begins a comment; in MySQL only before a blank: without one it is two signs.
    fn begins_line_comment(&self) -> bool {
        let Some(after) = self.rest.strip_prefix("--") else {
            return false;
        };
        let blank = |c: char| c.is_ascii_whitespace() || c.is_ascii_control();
        self.dialect == Syntax::Postgres || after.chars().next().is_none_or(blank)
    }

    fn next(&mut self) -> Option<Token<'a>> {
        loop {
            let first = self.rest.chars().next()?;
            let mysql = self.dialect == Syntax::Mysql;
            match first {
                c if c.is_whitespace() => self.skip(c.len_utf8()),
                '-' if self.begins_line_comment() => self.skip_line(),
                '#' if mysql => self.skip_line(),
                '/' if self.rest.starts_with("/*") => {
                    if mysql && (self.rest.starts_with("/*!") || self.rest.starts_with("/*M!")) {
                        return Some(Token::Executable);
                    }
                    self.comment();
                }
                '\'' | '"' | '`' => {
                    let text = self.rest;
                    self.quoted(first, mysql && first != '`');
                    let inside = text.len() - self.rest.len();
                    let name = text.get(1..inside.saturating_sub(1)).filter(|_| first != '\'');
                    return Some(name.map_or(Token::Other, Token::Name));
                }
                'e' | 'E' if !mysql && self.rest[1..].starts_with('\'') => {
                    self.skip(1);
                    self.quoted('\'', true);
                    return Some(Token::Other);
                }
                '$' if !mysql && self.dollar() => return Some(Token::Other),
                c if c.is_alphanumeric() || c == '_' || c == '$' => {
                    let end = self
                        .rest
                        .find(|c: char| !(c.is_alphanumeric() || c == '_' || c == '$'))
                        .unwrap_or(self.rest.len());
                    let word = &self.rest[..end];
                    self.skip(end);
                    return Some(Token::Word(word));
                }
                c => {
                    self.skip(c.len_utf8());
                    return Some(Token::Other);
                }
            }
        }
    }

    fn comment(&mut self) {
        let mut depth = 0_u32;
        loop {
            if self.rest.starts_with("/*") && (depth == 0 || self.dialect == Syntax::Postgres) {
                depth += 1;
                self.skip(2);
            } else if self.rest.starts_with("*/") {
                depth -= 1;
                self.skip(2);
                if depth == 0 {
                    return;
                }
            } else {
                let Some(c) = self.rest.chars().next() else {
                    return;
                };
                self.skip(c.len_utf8());
            }
        }
    }

    fn quoted(&mut self, quote: char, backslash: bool) {
        self.skip(1);
        while let Some(c) = self.rest.chars().next() {
            self.skip(c.len_utf8());
            if backslash && c == '\\' {
                let next = self.rest.chars().next().map_or(0, char::len_utf8);
                self.skip(next);
            } else if c == quote {
                return;
            }
        }
    }

    /// `$tag$ … $tag$`; `false` where it is none.
    fn dollar(&mut self) -> bool {
        let Some(end) = self.rest[1..].find('$') else {
            return false;
        };
        let tag = &self.rest[..end + 2];
        if !tag[1..=end].chars().all(|c| c.is_alphanumeric() || c == '_') {
            return false;
        }
        let after = &self.rest[tag.len()..];
        let skipped = after.find(tag).map_or(self.rest.len(), |at| 2 * tag.len() + at);
        self.skip(skipped);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_asks_passes() {
        for sql in [
            "select 1",
            " -- what\n SELECT 'into' from netinfo",
            "/* x */ with a as (select 1) select * from a",
            "(select 1) union (select 2)",
            "explain select 1",
            "show tables",
            "select \"into\", 'it''s into', '\\' into '",
            "select `into` from t",
        ] {
            assert!(matches!(check(sql, Syntax::Mysql), Ok(Found::Statement)), "{sql}");
        }
        for sql in [
            "select $$ into $$",
            "select $a$ $$ into $a$",
            "select /* /* */ into */ 1",
            "select E'\\' into '",
            "select 1--1 into",
        ] {
            assert!(matches!(check(sql, Syntax::Postgres), Ok(Found::Statement)), "{sql}");
        }
        for sql in ["", " \n", "--", "--\t", "-- only words", "/* nothing */"] {
            assert!(matches!(check(sql, Syntax::Mysql), Ok(Found::Nothing)), "{sql}");
        }
    }

    #[test]
    fn what_does_something_else_is_turned_away() {
        for sql in [
            "delete from netinfo",
            "SET tx_read_only = 0",
            "set statement tx_read_only=0 for delete from netinfo",
            "commit",
            "/*!50000 drop table x */",
            "select 1 /*M! into outfile '/tmp/x' */",
            "select 1 into outfile '/tmp/x'",
            "select 'a\\'' into dumpfile '/tmp/x'",
            "select 1--1 into outfile '/tmp/x'",
            "select 1--\u{a0}1 into outfile '/tmp/x'",
            "select 1 INTO @x",
            "do sleep(1)",
            "(delete from x)",
            "begin",
            "select hash from luarm_token",
            "select hash from x.`LUARM_token`",
        ] {
            assert!(matches!(check(sql, Syntax::Mysql), Err(QueryError::Refused(_))), "{sql}");
        }
        for sql in
            ["select 'a\\' into x", "select * into x from t", "do $$ begin end $$", "copy x to program 'id'"]
        {
            assert!(matches!(check(sql, Syntax::Postgres), Err(QueryError::Refused(_))), "{sql}");
        }
    }
}
