//! Where statements end: at `;`, `\g` or `\G` outside of quotes and comments.

/// One statement, without what ended it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Statement {
    /// The statement's text.
    pub text: String,
    /// Whether it ended with `\G`: one line per value.
    pub vertical: bool,
}

/// Takes lines, gives statements.
#[derive(Debug, Default)]
pub struct Splitter {
    text: String,
    inside: Inside,
    /// Whether `text` has more than blanks and comments.
    significant: bool,
}

/// What surrounds the place that was reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Inside {
    #[default]
    Nothing,
    /// A quoted string or name, until this character. Doubled it stands for itself, which needs no care: the string ends and the next begins.
    Quote(char),
    /// `-- …`, until the line ends.
    LineComment,
    /// `/* … */`.
    Comment,
}

impl Splitter {
    /// Takes whole lines; gives the statements that they complete.
    pub fn push(&mut self, lines: &str) -> Vec<Statement> {
        let mut statements = Vec::new();
        let mut characters = lines.chars().peekable();
        while let Some(c) = characters.next() {
            match self.inside {
                Inside::Nothing => match (c, characters.peek()) {
                    (';', _) => {
                        statements.extend(self.take(false));
                        continue;
                    }
                    ('\\', Some(&end @ ('g' | 'G'))) => {
                        characters.next();
                        statements.extend(self.take(end == 'G'));
                        continue;
                    }
                    ('\\', Some('c')) => {
                        characters.next();
                        self.clear();
                        continue;
                    }
                    ('-', Some('-')) => self.inside = Inside::LineComment,
                    ('/', Some('*')) => {
                        characters.next();
                        self.text.push('/');
                        self.text.push('*');
                        self.inside = Inside::Comment;
                        continue;
                    }
                    ('\'' | '"' | '`', _) => self.enter_quote(c),
                    ('[', _) => self.enter_quote(']'),
                    _ => self.significant |= !c.is_whitespace(),
                },
                Inside::Quote(end) if c == end => self.inside = Inside::Nothing,
                Inside::LineComment if c == '\n' => {
                    self.leave_comment();
                    continue;
                }
                Inside::Comment if c == '*' && characters.peek() == Some(&'/') => {
                    characters.next();
                    self.text.push('*');
                    self.leave_comment();
                    continue;
                }
                _ => {}
            }
            self.text.push(c);
        }
        statements
    }

    /// What is left at the end of the input counts as a statement, even without `;`.
    pub fn end(&mut self) -> Option<Statement> {
        self.take(false)
    }

    /// Whether a statement has begun and not ended.
    pub fn is_open(&self) -> bool {
        self.significant || matches!(self.inside, Inside::Quote(_) | Inside::Comment)
    }

    /// Forgets what has begun.
    pub fn clear(&mut self) {
        *self = Self::default();
    }

    fn enter_quote(&mut self, end: char) {
        self.inside = Inside::Quote(end);
        self.significant = true;
    }

    /// Comments before a statement are not part of it: they would hide the console's own words.
    fn leave_comment(&mut self) {
        self.text.push(if self.inside == Inside::Comment { '/' } else { '\n' });
        self.inside = Inside::Nothing;
        if !self.significant {
            self.text.clear();
        }
    }

    /// The statement that ends here; `None` for blanks and comments only.
    fn take(&mut self, vertical: bool) -> Option<Statement> {
        let Splitter { text, significant, .. } = std::mem::take(self);
        significant.then(|| Statement { text: text.trim().to_owned(), vertical })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn split(text: &str) -> Vec<(String, bool)> {
        let mut splitter = Splitter::default();
        let mut statements = splitter.push(text);
        statements.extend(splitter.end());
        statements.into_iter().map(|s| (s.text, s.vertical)).collect()
    }

    #[test]
    fn statements_end_where_the_seeds_do() {
        for (text, expected) in [
            ("show tables;", vec![("show tables", false)]),
            ("select 1 ; select 2 ;", vec![("select 1", false), ("select 2", false)]),
            (
                "select command from psinfo where username='nobody' \\G;\n",
                vec![("select command from psinfo where username='nobody'", true)],
            ),
            ("select 1\\g select 2", vec![("select 1", false), ("select 2", false)]),
            (
                "select ';', \"a;b\", `c;`, [d;] ; x",
                vec![("select ';', \"a;b\", `c;`, [d;]", false), ("x", false)],
            ),
            ("select 'it''s; \\G';", vec![("select 'it''s; \\G'", false)]),
            ("select 'a\\';", vec![("select 'a\\'", false)]),
            ("select 1 -- no; end 'here\n;", vec![("select 1 -- no; end 'here", false)]),
            ("select /* no; ' */ 1;", vec![("select /* no; ' */ 1", false)]),
            ("select 1 /*/ ; */;", vec![("select 1 /*/ ; */", false)]),
            ("select 3-1, 4/2;", vec![("select 3-1, 4/2", false)]),
            ("wrong 'quote \\c' \\c select 1;", vec![("select 1", false)]),
            ("-- which?\nshow tables;", vec![("show tables", false)]),
            ("/* two */ -- of them\n select /* ; */ 1;", vec![("select /* ; */ 1", false)]),
            (";;  ; -- nothing\n /* at all */ ;", vec![]),
            ("''", vec![("''", false)]),
            ("", vec![]),
        ] {
            let expected: Vec<(String, bool)> =
                expected.into_iter().map(|(t, v)| (t.trim().to_owned(), v)).collect();
            assert_eq!(split(text), expected, "{text}");
        }
    }

    #[test]
    fn a_statement_is_open_until_it_ends() {
        let mut splitter = Splitter::default();
        for (line, open) in [
            ("-- words\n", false),
            ("select 1\n", true),
            ("  , 'a\n", true),
            ("b;'\n", true),
            (";\n", false),
            ("/* a\n", true),
            ("*/\n", false),
        ] {
            splitter.push(line);
            assert_eq!(splitter.is_open(), open, "{line}");
        }
    }

    proptest! {
        #[test]
        fn lines_may_come_one_by_one(lines in prop::collection::vec("[;'\"`/*a \\\\gG\\[\\]-]{0,12}", 0..8)) {
            let whole = lines.join("\n") + "\n";
            let mut splitter = Splitter::default();
            let mut statements: Vec<Statement> = Vec::new();
            for line in &lines {
                statements.extend(splitter.push(&format!("{line}\n")));
            }
            statements.extend(splitter.end());
            let one_by_one: Vec<_> = statements.into_iter().map(|s| (s.text, s.vertical)).collect();
            prop_assert_eq!(split(&whole), one_by_one);
        }

        #[test]
        fn quoted_text_never_ends_a_statement(text in "[^']{0,40}", comment in "[^\n]{0,20}") {
            let statement = format!("select '{text}' -- {comment}\n, 2");
            prop_assert_eq!(split(&format!("{statement}; next")), vec![(statement, false), ("next".to_owned(), false)]);
        }
    }
}
