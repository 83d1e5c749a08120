//! Between which instants the rows lie that a condition lets pass, as far as it says so in literals.

use luarm_schema::Time;
use sqlparser::ast::{BinaryOperator, DataType, Expr, TimezoneInfo, UnaryOperator, Value};

use super::question::Span;

const DAY: i64 = 86_400_000_000;
/// Microseconds of an hour, a minute and a second.
const CLOCK: [i64; 3] = [3_600_000_000, 60_000_000, 1_000_000];

/// The columns that an instant is derived into, the largest unit first; the letter before it says of which instant.
const PARTS: [&str; 6] = ["year", "month", "day", "hour", "min", "sec"];

/// The span of the rows of one table; `of` says whether a column with that qualifier is that table's.
pub(super) fn span(condition: &Expr, of: &dyn Fn(Option<&str>) -> bool) -> Span {
    let mut bounds = Bounds { of, created: Range::default(), destroyed: Range::default() };
    bounds.conjunction(condition);
    let created = bounds.created.span();
    let destroyed = bounds.destroyed.span();
    // Nothing ends before it began; when what ended later began, nobody knows.
    let until = match (created.until, destroyed.until) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    };
    Span { from: created.from, until }
}

struct Bounds<'o> {
    of: &'o dyn Fn(Option<&str>) -> bool,
    created: Range,
    destroyed: Range,
}

/// What is known of an instant.
#[derive(Default)]
struct Range {
    span: Span,
    parts: [(Option<i64>, Option<i64>); 6],
}

/// A column with an instant, or with a part of one.
#[derive(Clone, Copy)]
enum Column {
    Instant,
    Part(usize),
}

impl Bounds<'_> {
    fn conjunction(&mut self, condition: &Expr) {
        match condition {
            Expr::Nested(inner) => self.conjunction(inner),
            Expr::BinaryOp { left, op: BinaryOperator::And, right } => {
                self.conjunction(left);
                self.conjunction(right);
            }
            Expr::BinaryOp { left, op, right } => {
                self.compare(left, op, right);
                if let Some(turned) = turned(op) {
                    self.compare(right, &turned, left);
                }
            }
            Expr::Between { expr, negated: false, low, high } => {
                self.compare(expr, &BinaryOperator::GtEq, low);
                self.compare(expr, &BinaryOperator::LtEq, high);
            }
            Expr::Like { negated: false, expr, pattern, escape_char: None, .. } => self.like(expr, pattern),
            _ => {}
        }
    }

    fn compare(&mut self, column: &Expr, op: &BinaryOperator, literal: &Expr) {
        let Some((range, column)) = self.column(column) else { return };
        match column {
            Column::Instant => {
                let Some(time) = text(literal).and_then(instant) else { return };
                if matches!(op, BinaryOperator::Gt | BinaryOperator::GtEq | BinaryOperator::Eq) {
                    range.from(time);
                }
                if matches!(op, BinaryOperator::Lt | BinaryOperator::LtEq | BinaryOperator::Eq) {
                    range.until(time);
                }
            }
            Column::Part(part) => {
                let Some(number) = text(literal).and_then(|text| text.parse::<i64>().ok()) else { return };
                let (low, high) = match op {
                    BinaryOperator::Eq => (Some(number), Some(number)),
                    BinaryOperator::GtEq => (Some(number), None),
                    BinaryOperator::Gt => (number.checked_add(1), None),
                    BinaryOperator::LtEq => (None, Some(number)),
                    BinaryOperator::Lt => (None, number.checked_sub(1)),
                    _ => return,
                };
                let known = &mut range.parts[part];
                known.0 = known.0.max(low);
                known.1 = [known.1, high].into_iter().flatten().min();
            }
        }
    }

    /// `created LIKE '2026-11-23%'`: instants are compared as text where they are one.
    fn like(&mut self, column: &Expr, pattern: &Expr) {
        let Some((range, Column::Instant)) = self.column(column) else { return };
        let Some(prefix) = text(pattern).and_then(|pattern| pattern.strip_suffix('%')) else { return };
        // Days alone: what is shorter or longer is cut somewhere inside a number.
        if let (10, Some(time)) = (prefix.len(), instant(prefix)) {
            range.from(time);
            range.until(Time(time.0 + DAY));
        }
    }

    fn column(&mut self, column: &Expr) -> Option<(&mut Range, Column)> {
        let (qualifier, name) = match column {
            Expr::Nested(inner) => return self.column(inner),
            Expr::Identifier(name) => (None, &name.value),
            Expr::CompoundIdentifier(parts) => match parts.as_slice() {
                [.., table, name] => (Some(table.value.as_str()), &name.value),
                _ => return None,
            },
            _ => return None,
        };
        if !(self.of)(qualifier) {
            return None;
        }
        let name = name.to_ascii_lowercase();
        if name == "created" {
            return Some((&mut self.created, Column::Instant));
        }
        if name == "destroyed" {
            return Some((&mut self.destroyed, Column::Instant));
        }
        let part = PARTS.iter().position(|part| name.get(1..) == Some(*part))?;
        match name.as_bytes()[0] {
            b'c' => Some((&mut self.created, Column::Part(part))),
            b'd' => Some((&mut self.destroyed, Column::Part(part))),
            _ => None,
        }
    }
}

impl Range {
    fn from(&mut self, time: Time) {
        self.span.from = self.span.from.max(Some(time));
    }

    fn until(&mut self, time: Time) {
        self.span.until = Some(self.span.until.map_or(time, |known| known.min(time)));
    }

    /// The bounds of the instant and of its parts together: of those, as many as are one number each, and the bounds of the next.
    fn span(mut self) -> Span {
        let mut known = Vec::new();
        for (low, high) in self.parts {
            if let (Some(low), Some(high)) = (low, high)
                && low == high
            {
                known.push(low);
                continue;
            }
            let with = |last: i64| [known.as_slice(), &[last]].concat();
            if let Some(time) = low.and_then(|low| unit(&with(low))) {
                self.from(time.0);
            } else if let Some(time) = unit(&known) {
                self.from(time.0);
            }
            if let Some(time) = high.and_then(|high| unit(&with(high))) {
                self.until(time.1);
            } else if let Some(time) = unit(&known) {
                self.until(time.1);
            }
            return self.span;
        }
        if let Some((from, until)) = unit(&known) {
            self.from(from);
            self.until(until);
        }
        self.span
    }
}

/// When a year, month, day… begins and ends; `None` for what is no such thing.
fn unit(parts: &[i64]) -> Option<(Time, Time)> {
    let year = *parts.first().filter(|year| (1..9999).contains(*year))?;
    let month = parts.get(1).copied();
    let start = |year: i64, month: i64, day: i64| {
        let text = format!("{year:04}-{month:02}-{day:02}");
        Time::parse(&text).ok().filter(|_| text.len() == 10)
    };
    let Some(month) = month else { return Some((start(year, 1, 1)?, start(year + 1, 1, 1)?)) };
    let Some(&day) = parts.get(2) else {
        let next = if month == 12 { (year + 1, 1) } else { (year, month + 1) };
        return Some((start(year, month, 1)?, start(next.0, next.1, 1)?));
    };
    let mut from = start(year, month, day)?;
    let mut length = DAY;
    for (&number, unit) in parts[3..].iter().zip(CLOCK) {
        if !(0..length / unit).contains(&number) {
            return None;
        }
        from = Time(from.0 + number * unit);
        length = unit;
    }
    Some((from, Time(from.0 + length)))
}

/// The same comparison with its sides exchanged.
fn turned(op: &BinaryOperator) -> Option<BinaryOperator> {
    Some(match op {
        BinaryOperator::Eq => BinaryOperator::Eq,
        BinaryOperator::Lt => BinaryOperator::Gt,
        BinaryOperator::LtEq => BinaryOperator::GtEq,
        BinaryOperator::Gt => BinaryOperator::Lt,
        BinaryOperator::GtEq => BinaryOperator::LtEq,
        _ => return None,
    })
}

/// The text of a literal. What stands in double quotes is a literal or a name, and no column has an instant for its name.
fn text(literal: &Expr) -> Option<&str> {
    match literal {
        Expr::Value(value) => match &value.value {
            Value::SingleQuotedString(text) | Value::DoubleQuotedString(text) | Value::Number(text, _) => {
                Some(text)
            }
            _ => None,
        },
        Expr::Identifier(name) if name.quote_style == Some('"') => Some(&name.value),
        Expr::TypedString(typed) => match &typed.value.value {
            Value::SingleQuotedString(text) => {
                Some(text.as_str()).filter(|text| keeps(&typed.data_type, text))
            }
            _ => None,
        },
        Expr::Cast { expr, data_type, .. } => text(expr).filter(|text| keeps(data_type, text)),
        Expr::Nested(expr) | Expr::UnaryOp { op: UnaryOperator::Plus, expr } => text(expr),
        _ => None,
    }
}

/// Whether the type takes nothing away from the text, as a date does from an instant.
fn keeps(data_type: &DataType, text: &str) -> bool {
    match data_type {
        DataType::Timestamp(_, zone) => {
            matches!(zone, TimezoneInfo::None | TimezoneInfo::WithoutTimeZone)
        }
        DataType::Datetime(_) => true,
        _ => !text.contains(':'),
    }
}

/// An instant, written as the tables show it, perhaps less exactly. What is written otherwise does not compare in the same way in each engine.
fn instant(text: &str) -> Option<Time> {
    let plain = text.bytes().all(|byte| byte.is_ascii_digit() || b"-: .".contains(&byte));
    Time::parse(text).ok().filter(|_| plain && text.len() >= 10)
}
