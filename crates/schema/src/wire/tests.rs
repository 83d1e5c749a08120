//! Every table there and back, and bytes that no writer wrote.

use proptest::prelude::*;

use super::*;
use crate::{Batch, Column, End, Role, Row, Source, TABLES, TableDef, Time, Value, tables::RenameInfo};

/// Values for columns, out of any bytes: the same bytes give the same values.
struct Wild<'a> {
    columns: std::vec::IntoIter<&'static Column>,
    chance: &'a mut Chance,
    /// Whether numbers are of any size and values NULL, which not every column takes.
    wide: bool,
    text: String,
}

struct Chance(u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb) ^ (z >> 31)
    }

    fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }
}

impl Source for Wild<'_> {
    fn take(&mut self) -> Value<'_> {
        let column = self.columns.next().unwrap();
        if self.wide && column.null && self.chance.below(3) == 0 {
            return Value::Null;
        }
        match column.kind {
            Kind::Big | Kind::Int | Kind::Small if self.wide => Value::Int(self.chance.next() as i64),
            Kind::Big | Kind::Int | Kind::Small => Value::Int(self.chance.below(32_768) as i64),
            Kind::Real => Value::Real((self.chance.next() as i64) as f64 / 7.0),
            Kind::Time => Value::Time(Time(self.chance.next() as i64).storable()),
            Kind::Text | Kind::Name => {
                let length = self.chance.below(40);
                let chars = ['a', '\0', '\n', '\u{10ffff}', 'é', '\\', '\''];
                self.text = (0..length).map(|_| chars[self.chance.below(7) as usize]).collect();
                Value::Text(&self.text)
            }
        }
    }
}

fn wild<'a>(table: &TableDef, role: Role, chance: &'a mut Chance, wide: bool) -> Wild<'a> {
    let columns: Vec<_> = table.columns.iter().filter(|c| c.role == role).collect();
    Wild { columns: columns.into_iter(), chance, wide, text: String::new() }
}

/// A batch with rows of every table, open and ended, and ends of every table whose rows end.
fn anything(seed: u64) -> Batch {
    let mut chance = Chance(seed);
    let mut batch = Batch { id: chance.next() as i64, ..Batch::default() };
    for _ in 0..2 {
        for table in TABLES {
            let wide = chance.below(4) > 0;
            let row = Row::read(table, &mut wild(table, Role::Begin, &mut chance, wide))
                .or_else(|| Row::read(table, &mut wild(table, Role::Begin, &mut chance, false)));
            let mut row = row.unwrap();
            if !table.is_interval() {
                batch.rows.push(row);
                continue;
            }
            let end = |chance: &mut Chance| {
                End::read(table, &mut wild(table, Role::End, chance, wide))
                    .or_else(|| End::read(table, &mut wild(table, Role::End, chance, false)))
                    .unwrap()
            };
            if chance.below(2) == 0 {
                let end = end(&mut chance);
                assert!(row.set_end(end));
            }
            batch.rows.push(row);
            batch.ends.push((chance.next() as i64, end(&mut chance)));
        }
    }
    batch
}

fn rename(name: &str) -> Row {
    RenameInfo {
        renameid: 5,
        psentity: 6,
        username: "nobody".into(),
        loginname: None,
        pid: 7,
        application: name.to_owned(),
        oldapplication: String::new(),
        auid: None,
        session: None,
        created: Time(0),
        end: None,
    }
    .into()
}

/// Bytes with one text in place of another of the same length.
fn replaced(bytes: &[u8], old: &str, new: &str) -> Vec<u8> {
    assert_eq!(old.len(), new.len());
    let at = bytes.windows(old.len()).position(|w| w == old.as_bytes()).unwrap();
    [&bytes[..at], new.as_bytes(), &bytes[at + old.len()..]].concat()
}

proptest! {
    #[test]
    fn every_table_comes_back_as_it_was(seed: u64) {
        let batch = anything(seed);
        let bytes = encode(&batch);
        prop_assert_eq!(decode(&bytes).unwrap(), batch);
    }

    #[test]
    fn any_bytes_are_a_batch_or_an_error(bytes: Vec<u8>) {
        let _ = decode(&[&[VERSION], &bytes[..]].concat());
    }

    #[test]
    fn a_flipped_bit_is_a_batch_or_an_error(seed in 0..8_u64, at: prop::sample::Index, bit in 0..8_u8) {
        let mut bytes = encode(&anything(seed));
        let at = at.index(bytes.len());
        bytes[at] ^= 1 << bit;
        let _ = decode(&bytes);
    }
}

#[test]
fn a_cut_batch_is_told_from_a_whole_one() {
    let bytes = encode(&anything(1));
    for length in 0..bytes.len() {
        assert!(decode(&bytes[..length]).is_err(), "{length} bytes of {}", bytes.len());
    }
    assert_eq!(decode(&[&bytes[..], b"x"].concat()), Err(WireError::Trailing(1)));
}

#[test]
fn another_version_is_named() {
    assert_eq!(decode(&[9, 0, 0, 0, 0]), Err(WireError::Version(9)));
}

#[test]
fn what_is_not_known_is_named_unless_it_is_empty() {
    let batch = Batch { id: 1, rows: vec![rename("x")], ends: Vec::new(), ..Batch::default() };
    let bytes = encode(&batch);
    let error = decode(&replaced(&bytes, "renameinfo", "rumourinfo")).unwrap_err();
    assert_eq!(error, WireError::UnknownTable("rumourinfo".to_owned()));
    let error = decode(&replaced(&bytes, "username", "nickname")).unwrap_err();
    let (table, column) = ("renameinfo".to_owned(), "nickname".to_owned());
    assert_eq!(error, WireError::UnknownColumn { table, column });
    // A column that the writer has and we do not is no matter while it is NULL, nor is one that we have and may leave NULL.
    assert_eq!(decode(&replaced(&bytes, "loginname", "birthname")).unwrap(), batch);
}

#[test]
fn memory_is_bounded_whatever_the_bytes_promise() {
    let text = "x".repeat(MOST_MEMORY / 4);
    let rows = std::iter::repeat_with(|| rename(&text));
    let batch = |n| Batch { id: 1, rows: rows.take(n).collect(), ends: Vec::new(), ..Batch::default() };
    assert!(decode(&encode(&batch(3))).is_ok());
    assert_eq!(decode(&encode(&batch(4))), Err(WireError::TooLarge));
    // Counts without anything behind them.
    for tail in
        [&b"\x02\0\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"[..], b"\x02\0\0\xff\xff\xff\xff\xff\xff\x7f"]
    {
        assert!(decode(&[&[VERSION], tail].concat()).is_err());
    }
}
