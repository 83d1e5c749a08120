//! What a statement asks about: which tables it reads, and of which span of time it wants to know.
//!
//! Wherever that cannot be told for sure the answer is the wider one: a table that is only mentioned counts as read, and a span without bounds that
//! can be read off the statement is the whole recorded life.

use std::{collections::BTreeMap, ops::ControlFlow, thread};

use luarm_schema::{Dialect, TABLES, Time, coverage};
use sqlparser::{
    ast::{
        Expr, Join, JoinConstraint, JoinOperator, ObjectName, Select, Statement, TableFactor, TableWithJoins,
        Visit, Visitor,
    },
    dialect::{Dialect as Syntax, MySqlDialect, PostgreSqlDialect, SQLiteDialect},
    parser::Parser,
};

use super::bounds;

/// Longer statements are not taken apart.
const LONGEST: usize = 16 << 10;
/// A statement may nest as deep as it is long.
const STACK: usize = 64 << 20;

/// A span of time; `None` where it has no bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Span {
    pub(super) from: Option<Time>,
    pub(super) until: Option<Time>,
}

impl Span {
    /// What holds both.
    pub(super) fn hull(self, other: Span) -> Span {
        let both = |a: Option<Time>, b: Option<Time>, of: fn(Time, Time) -> Time| Some(of(a?, b?));
        Span { from: both(self.from, other.from, Time::min), until: both(self.until, other.until, Time::max) }
    }

    /// What is in both.
    fn narrowed(self, other: Span) -> Span {
        Span {
            from: self.from.max(other.from),
            until: match (self.until, other.until) {
                (Some(a), Some(b)) => Some(a.min(b)),
                (a, b) => a.or(b),
            },
        }
    }
}

/// The tables that a statement reads, of those that events fill, and the span that it asks about of each.
pub(super) type Question = BTreeMap<&'static str, Span>;

/// What the statement asks about; empty for one that reads no table which events fill, or that asks how it would be answered.
pub(super) fn question(sql: &str, dialect: Option<Dialect>) -> Question {
    let first = sql.split(|c: char| !c.is_ascii_alphabetic()).find(|word| !word.is_empty());
    let about_itself = ["explain", "show", "describe", "desc", "pragma", "analyze"];
    if first.is_some_and(|word| about_itself.iter().any(|w| word.eq_ignore_ascii_case(w))) {
        return Question::new();
    }
    let mut mentioned = Question::new();
    for word in sql.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_')) {
        if let Some(table) = filled(word) {
            mentioned.insert(table, Span::default());
        }
    }
    if mentioned.is_empty() || sql.len() > LONGEST {
        return mentioned;
    }
    parsed(sql, dialect).filter(|question| !question.is_empty()).unwrap_or(mentioned)
}

/// The table of that name, or whose rows the store keeps under it, if events fill it.
fn filled(name: &str) -> Option<&'static str> {
    let name = name.to_ascii_lowercase();
    let name = name.strip_suffix("_stored").unwrap_or(&name);
    let table = TABLES.iter().find(|table| table.name == name)?;
    (!coverage::classes(table).is_empty()).then_some(table.name)
}

/// What it asks about by the syntax of the engine; where that is not known, by all in which it can be read.
fn parsed(sql: &str, dialect: Option<Dialect>) -> Option<Question> {
    // MySQL has an OR and an XOR that the parser takes for something that binds closer.
    let mysql = dialect.is_none_or(|known| known == Dialect::Mysql);
    if mysql && (sql.contains("||") || sql.to_ascii_lowercase().contains("xor")) {
        return None;
    }
    let read = || {
        let mut all: Option<Question> = None;
        for one in Dialect::ALL.into_iter().filter(|one| dialect.is_none_or(|known| known == *one)) {
            let syntax: &dyn Syntax = match one {
                Dialect::Sqlite => &SQLiteDialect {},
                Dialect::Mysql => &MySqlDialect {},
                Dialect::Postgres => &PostgreSqlDialect {},
            };
            let Ok(statements) = Parser::parse_sql(syntax, sql) else { continue };
            let question = walk(&statements);
            match &mut all {
                Some(all) => question.into_iter().for_each(|(table, span)| add(all, table, span)),
                None => all = Some(question),
            }
        }
        all
    };
    let thread = thread::Builder::new().stack_size(STACK).name("question".to_owned());
    thread::scope(|scope| thread.spawn_scoped(scope, read).ok()?.join().ok().flatten())
}

fn add(question: &mut Question, table: &'static str, span: Span) {
    question.entry(table).and_modify(|known| *known = known.hull(span)).or_insert(span);
}

fn walk(statements: &[Statement]) -> Question {
    let mut reads = Reads::default();
    for statement in statements {
        // It never breaks off.
        let _ = statement.visit(&mut reads);
    }
    for (table, named) in reads.named {
        if reads.spanned.get(table) != Some(&named) {
            reads.question.insert(table, Span::default());
        }
    }
    reads.question
}

/// Each place where a table is named, and the spans of those that stand in the FROM of a SELECT.
#[derive(Default)]
struct Reads {
    named: BTreeMap<&'static str, usize>,
    spanned: BTreeMap<&'static str, usize>,
    question: Question,
}

impl Visitor for Reads {
    type Break = ();

    fn pre_visit_relation(&mut self, relation: &ObjectName) -> ControlFlow<()> {
        if let Some(table) = table_of(relation) {
            *self.named.entry(table).or_default() += 1;
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_select(&mut self, select: &Select) -> ControlFlow<()> {
        let mut sources = Vec::new();
        let mut conditions: Vec<&Expr> = select.selection.iter().collect();
        for from in &select.from {
            gather(from, &mut sources, &mut conditions);
        }
        let only = sources.len() == 1 && select.from.len() == 1 && select.from[0].joins.is_empty();
        for (table, alias) in sources {
            let of = |qualifier: Option<&str>| match qualifier {
                Some(qualifier) => qualifier.eq_ignore_ascii_case(&alias),
                None => only,
            };
            let spans = conditions.iter().map(|condition| bounds::span(condition, &of));
            add(&mut self.question, table, spans.fold(Span::default(), Span::narrowed));
            *self.spanned.entry(table).or_default() += 1;
        }
        ControlFlow::Continue(())
    }
}

/// The tables of a FROM, each with the name that its columns go by there, and the conditions that all rows have to meet.
fn gather<'q>(
    from: &'q TableWithJoins,
    sources: &mut Vec<(&'static str, String)>,
    conditions: &mut Vec<&'q Expr>,
) {
    let factors = std::iter::once(&from.relation).chain(from.joins.iter().map(|join| &join.relation));
    for factor in factors {
        if let TableFactor::Table { name, alias, .. } = factor
            && let Some(table) = table_of(name)
        {
            let last = name.0.last().and_then(|part| part.as_ident()).map(|ident| ident.value.clone());
            let alias = alias.as_ref().map(|alias| alias.name.value.clone()).or(last);
            sources.push((table, alias.unwrap_or_default()));
        }
    }
    for Join { join_operator, .. } in &from.joins {
        if let JoinOperator::Join(JoinConstraint::On(on)) | JoinOperator::Inner(JoinConstraint::On(on)) =
            join_operator
        {
            // An outer join beside it would let rows pass that do not meet it.
            if from.joins.iter().all(|join| is_inner(&join.join_operator)) {
                conditions.push(on);
            }
        }
    }
}

fn is_inner(join: &JoinOperator) -> bool {
    matches!(join, JoinOperator::Join(_) | JoinOperator::Inner(_) | JoinOperator::CrossJoin(_))
}

fn table_of(name: &ObjectName) -> Option<&'static str> {
    filled(&name.0.last()?.as_ident()?.value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(sql: &str, dialect: Option<Dialect>) -> String {
        let bound =
            |time: Option<Time>| time.map_or("*".to_owned(), |time| time.to_string()[..19].to_owned());
        let question = question(sql, dialect);
        let parts = question
            .iter()
            .map(|(table, span)| format!("{table} {}..{}", bound(span.from), bound(span.until)));
        parts.collect::<Vec<_>>().join(", ")
    }

    fn check(sql: &str, wanted: &str) {
        for dialect in Dialect::ALL {
            assert_eq!(asked(sql, Some(dialect)), wanted, "{sql} in {dialect:?}");
        }
        assert_eq!(asked(sql, None), wanted, "{sql}");
    }

    #[test]
    fn tables_and_spans_are_read_off_a_statement() {
        let day = "2026-11-23 00:00:00..2026-11-24 00:00:00";
        for (sql, wanted) in [
            ("select 1", ""),
            ("select * from coverageinfo", ""),
            ("explain select * from netinfo", ""),
            ("select count(*) from netinfo", "netinfo *..*"),
            ("SELECT * FROM NetInfo where username='nobody'", "netinfo *..*"),
            (
                "select * from netinfo where cyear=2026 and cmonth = '11' and cday=23",
                &format!("netinfo {day}"),
            ),
            (
                "select * from psinfo where cyear = 2026 and cmonth = 12",
                "psinfo 2026-12-01 00:00:00..2027-01-01 00:00:00",
            ),
            ("select * from psinfo where cyear >= 2025", "psinfo 2025-01-01 00:00:00..*"),
            ("select * from psinfo where dyear < 2025", "psinfo *..2025-01-01 00:00:00"),
            (
                "select * from fileinfo f where f.created >= '2026-11-23' and '2026-11-24 00:00:00' > f.created and f.pid = 1",
                &format!("fileinfo {day}"),
            ),
            (
                "select * from fileinfo where created between '2026-11-23' and '2026-11-24'",
                &format!("fileinfo {day}"),
            ),
            ("select * from fileinfo where created like '2026-11-23 10:0%'", "fileinfo *..*"),
            ("select * from fileinfo where created like '2026-11-23%'", &format!("fileinfo {day}")),
            // A row that ended later may have begun at any time.
            ("select * from fileinfo where destroyed > '2026-11-23'", "fileinfo *..*"),
            ("select * from fileinfo where destroyed <= '2026-11-23'", "fileinfo *..2026-11-23 00:00:00"),
            // What is not sure does not narrow.
            ("select * from fileinfo where created > '2026-11-23' or pid = 5", "fileinfo *..*"),
            ("select * from fileinfo where not created > '2026-11-23'", "fileinfo *..*"),
            ("select * from fileinfo where created > lower('2026-11-23')", "fileinfo *..*"),
            ("select * from fileinfo where created > '2026-11-23T10:00'", "fileinfo *..*"),
            (
                "select * from fileinfo where (created > '2026-11-23 10:00')",
                "fileinfo 2026-11-23 10:00:00..*",
            ),
            (
                "select n.pid from netinfo n join psinfo p on n.psentity = p.psentity where n.created > '2026-11-23'",
                "netinfo 2026-11-23 00:00:00..*, psinfo *..*",
            ),
            (
                "select n.pid from netinfo n join psinfo p on p.created < '2026-11-23'",
                "netinfo *..*, psinfo *..2026-11-23 00:00:00",
            ),
            (
                "select n.pid from netinfo n left join psinfo p on p.created < '2026-11-23'",
                "netinfo *..*, psinfo *..*",
            ),
            (
                "select pid from netinfo where created > '2026-11-23' union select pid from netinfo where created > '2026-11-22'",
                "netinfo 2026-11-22 00:00:00..*",
            ),
            (
                "select pid from psinfo where created > '2026-11-23' and pid in (select pid from psinfo)",
                "psinfo *..*",
            ),
            (
                "with x as (select * from netinfo where created < '2026-11-23') select count(*) from x",
                "netinfo *..2026-11-23 00:00:00",
            ),
            (
                "select (select max(pid) from renameinfo where created > '2026-11-23') as n",
                "renameinfo 2026-11-23 00:00:00..*",
            ),
        ] {
            check(sql, wanted);
        }
    }

    #[test]
    fn each_engine_is_read_in_its_own_way() {
        let sql = "select * from netinfo where pid = 5 || 1 and created > '2026-11-23'";
        assert_eq!(asked(sql, Some(Dialect::Mysql)), "netinfo *..*");
        assert_eq!(asked(sql, None), "netinfo *..*");
        let sql = "select * from netinfo where created > timestamp '2026-11-23' and created < '2026-11-24'::timestamp";
        assert_eq!(asked(sql, Some(Dialect::Postgres)), "netinfo 2026-11-23 00:00:00..2026-11-24 00:00:00");
        let sql = "select * from netinfo where created > \"2026-11-23\"";
        assert_eq!(asked(sql, Some(Dialect::Mysql)), "netinfo 2026-11-23 00:00:00..*");
    }

    #[test]
    fn what_cannot_be_parsed_is_read_by_its_words() {
        check("select from where netinfo created > '2026-11-23'", "netinfo *..*");
        let deep = format!("select * from psinfo where pid = {}1", "1 + ".repeat(3000));
        check(&deep, "psinfo *..*");
        let nested = format!("select * from psinfo where pid = {}1{}", "(".repeat(5000), ")".repeat(5000));
        check(&nested, "psinfo *..*");
        let long = format!("select * from psinfo where created > '2026-11-23' -- {}", "x".repeat(LONGEST));
        check(&long, "psinfo *..*");
    }
}
