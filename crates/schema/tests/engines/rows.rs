//! Rows that an adversary would like to see stored.

use luarm_schema::{Column, Kind, Row, Sink, TableDef, Time, Value, canonical::Canonical};

/// Rows of one table.
pub(crate) enum Rows {
    /// Rows as the recorder makes them.
    Real(Vec<Row>),
    /// Values of each stored column, one row after the other, whatever they mean.
    Hostile(Vec<Vec<Cell>>),
}

/// A value that owns what it has.
#[derive(Debug, Clone)]
pub(crate) enum Cell {
    Null,
    Int(i64),
    Real(f64),
    Text(String),
    Time(Time),
}

impl Rows {
    pub(crate) fn len(&self) -> usize {
        match self {
            Rows::Real(rows) => rows.len(),
            Rows::Hostile(rows) => rows.len(),
        }
    }

    /// Puts each row, and then calls `end`.
    pub(crate) fn put<S: Sink>(&self, sink: &mut S, mut end: impl FnMut(&mut S)) {
        match self {
            Rows::Real(rows) => {
                let mut digested = Canonical::default();
                for row in rows {
                    row.stored(1, 7, sink, &mut digested);
                    end(sink);
                }
            }
            Rows::Hostile(rows) => {
                for row in rows {
                    for cell in row {
                        sink.put(match cell {
                            Cell::Null => Value::Null,
                            Cell::Int(n) => Value::Int(*n),
                            Cell::Real(x) => Value::Real(*x),
                            Cell::Text(s) => Value::Text(s),
                            Cell::Time(t) => Value::Time(*t),
                        });
                    }
                    end(sink);
                }
            }
        }
    }
}

/// Rows of the table, the same in each run; every edge of each kind is in every column at least once.
pub(crate) fn hostile(table: &'static TableDef) -> Rows {
    let mut chance = Chance(0x5eed);
    let mut texts = texts();
    // As much as an index takes, and nothing in it that an engine could compress.
    texts
        .push((0..650).map(|_| char::from_u32(0x1_0000 + chance.below(0x10_0000) as u32).unwrap()).collect());
    let rows = (0..300).map(|n| {
        let cell = |(place, column): (usize, &'static Column)| {
            // Each column goes through its edges from another place, and then on by chance.
            let turn = if n < 100 { n + place } else { chance.below(1 << 20) };
            match column.name {
                "host" => Cell::Int(i64::from(i32::MAX)),
                name if name == table.key => Cell::Int(i64::MIN + (n as i64) * (1 << 54)),
                _ if column.null && turn % 7 == 3 => Cell::Null,
                _ => value(column.kind, turn, &texts, &mut chance),
            }
        };
        table.stored().enumerate().map(cell).collect()
    });
    Rows::Hostile(rows.collect())
}

fn value(kind: Kind, turn: usize, texts: &[String], chance: &mut Chance) -> Cell {
    fn pick<T: Copy>(from: &[T], turn: usize) -> T {
        from[turn % from.len()]
    }
    match kind {
        Kind::Big => {
            Cell::Int(pick(&[0, i64::MIN, i64::MAX, -1, 1 << 53, (1 << 53) + 1, i64::from(u32::MAX)], turn))
        }
        Kind::Int => Cell::Int(pick(&[0, i64::from(i32::MIN), i64::from(i32::MAX), -1, 65_535], turn)),
        Kind::Small => Cell::Int(pick(&[0, i64::from(i16::MIN), i64::from(i16::MAX)], turn)),
        Kind::Real => {
            Cell::Real(pick(&[0.0, 0.1 + 0.2, -1e-300, f64::MAX, f64::MIN_POSITIVE, 1.0 / 3.0, 99.9], turn))
        }
        Kind::Time => {
            const DAY: i64 = 86_400_000_000;
            let leap = 951_782_400_000_000;
            let edges = [
                0,
                -1,
                1,
                946_684_800_000_000,
                -946_684_800_000_001,
                leap,
                leap + DAY - 1,
                -11_676_096_000_000_000,
            ];
            let far = [Time::FIRST.0, Time::LAST.0, i64::MIN, i64::MAX];
            let some = chance.below(1 << 40) as i64 * 3_000 - (1 << 40);
            Cell::Time(Time(pick(&[&edges[..], &far, &[some]].concat(), turn)))
        }
        Kind::Name => Cell::Text(match turn % 5 {
            0 => "dana.basefreak.nl".to_owned(),
            1 => "dana.basefreak.nl  ".to_owned(),
            2 => "\u{1f427}".repeat(256),
            _ => short(&texts[turn % texts.len()], 1024),
        }),
        Kind::Text => match turn % 2 {
            0 => Cell::Text(short(&texts[turn / 2 % texts.len()], 2600)),
            _ => Cell::Text(chance.text()),
        },
    }
}

/// At most so many bytes of it: what every engine holds in any column.
fn short(text: &str, bytes: usize) -> String {
    text.chars()
        .scan(0, |length, c| {
            *length += c.len_utf8();
            (*length <= bytes).then_some(c)
        })
        .collect()
}

fn texts() -> Vec<String> {
    let mut texts: Vec<String> = [
        "",
        " ",
        "NULL",
        "\\N",
        "\\",
        "\\\\",
        "\\0",
        "\\x00",
        "\\x5cx41",
        "\\.",
        "\n\\.\n",
        "\t",
        "\r\n",
        "\n",
        "\n\n\n",
        "a\\",
        "a\\\n",
        "a\\\tb",
        "'",
        "''",
        "\"",
        "\"quoted\"",
        "`",
        "'); DROP TABLE psinfo; --",
        "$1",
        "%s",
        "\u{1a}",
        "\u{1}\u{7f}\u{8}\u{1b}[31m",
        "é",
        "e\u{301}",
        "\u{1f427}",
        "\u{10ffff}",
        "\u{feff}",
        "\u{202e}exe.txt",
        "trailing ",
        "trailing",
        "TRAILING",
        "./x\n79.125.109.171\n0\n0",
        "perl\n-e\nprint \"a\\x0a\"",
        "one",
        "one\n",
        "\nempty first",
        "a\n\nb",
        "ſ",
        "ß",
        "İ",
    ]
    .map(str::to_owned)
    .into();
    texts.push("long \\ \t ".repeat(230));
    texts
}

/// Numbers that look like chance and are the same in each run (splitmix64).
pub(crate) struct Chance(u64);

impl Chance {
    pub(crate) fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) % limit as u64) as usize
    }

    /// A text of up to 60 characters, half of them special somewhere.
    fn text(&mut self) -> String {
        const SPECIAL: &[u8] = b"\\\\\\\t\n\r'\"`x0NnbZ \x1a\x01%_;,.{}()$/";
        (0..self.below(60))
            .map(|_| match self.below(4) {
                0 | 1 => char::from(SPECIAL[self.below(SPECIAL.len())]),
                2 => char::from(32 + self.below(95) as u8),
                _ => char::from_u32(1 + self.below(0x10_ffff) as u32).unwrap_or('\u{fffd}'),
            })
            .collect()
    }
}
