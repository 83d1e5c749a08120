//! A store with sealed batches of several hosts, with rows of all tables.

use luarm_chain::{Head, KeyFile, Notary, Sealer, SigningKey, VerifyingKey};
use luarm_schema::{
    Batch, End, Kind, Role, Row, STORE_MADE, Source, TABLES, TableDef, Time, Value,
    tables::{BatchInfo, HostInfo},
};
use luarm_store::{HostIdentity, Ledger, StoreUrl};

use crate::fixture::*;

pub(super) const HOSTS: i64 = 3;
pub(super) const BATCHES: i64 = 10;

/// Numbers that only look random, the same each time.
pub(super) struct Dice(u64);

impl Dice {
    pub(super) fn new(seed: u64) -> Self {
        Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub(super) fn roll(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as usize % sides
    }

    pub(super) fn one<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        &of[self.roll(of.len())]
    }
}

/// A value of its own.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Own {
    Null,
    Int(i64),
    Real(f64),
    Text(String),
    Time(Time),
}

impl Own {
    pub(super) fn of(value: Value<'_>) -> Self {
        match value {
            Value::Null => Own::Null,
            Value::Int(n) => Own::Int(n),
            Value::Real(x) => Own::Real(x),
            Value::Text(text) => Own::Text(text.to_owned()),
            Value::Time(time) => Own::Time(time),
        }
    }

    pub(super) fn value(&self) -> Value<'_> {
        match self {
            Own::Null => Value::Null,
            Own::Int(n) => Value::Int(*n),
            Own::Real(x) => Value::Real(*x),
            Own::Text(text) => Value::Text(text),
            Own::Time(time) => Value::Time(*time),
        }
    }

    pub(super) fn sql(&self) -> String {
        match self {
            Own::Null => "NULL".to_owned(),
            Own::Int(n) => n.to_string(),
            Own::Real(x) => format!("{x:?}"),
            Own::Text(text) => format!("'{}'", text.replace('\'', "''")),
            Own::Time(time) => format!("'{time}'"),
        }
    }

    /// Any value of the kind.
    pub(super) fn any(dice: &mut Dice, kind: Kind) -> Self {
        match kind {
            Kind::Big | Kind::Int | Kind::Small => Own::Int(dice.roll(30_000) as i64),
            Kind::Real => Own::Real(dice.roll(1_000_000) as f64 / 7.0),
            Kind::Text | Kind::Name => {
                let length = 1 + dice.roll(30);
                Own::Text(
                    (0..length)
                        .map(|_| *dice.one(&['a', 'é', '/', ' ', '\'', '1', '漢', '"']))
                        .collect::<String>()
                        + "x",
                )
            }
            Kind::Time => Own::Time(at(dice.roll(1_000_000_000) as i64 * 1_000 + 7)),
        }
    }
}

/// Gives values of its own back.
struct Owned<'a>(std::slice::Iter<'a, Own>);

impl Source for Owned<'_> {
    fn take(&mut self) -> Value<'_> {
        self.0.next().map_or(Value::Null, Own::value)
    }
}

pub(super) fn machine(host: i64) -> String {
    format!("{host:032x}")
}

fn values(dice: &mut Dice, table: &TableDef, role: Role) -> Vec<Own> {
    let columns = table.columns.iter().filter(|column| column.role == role);
    let value = |column: &luarm_schema::Column| match column.null && role == Role::Begin && dice.roll(3) == 0
    {
        true => Own::Null,
        false => Own::any(dice, column.kind),
    };
    columns.map(value).collect()
}

/// A row of that table with that key.
fn row(dice: &mut Dice, table: &'static TableDef, host: i64, key: i64) -> Row {
    if table.name == HostInfo::TABLE.name {
        return crate::fixture::host(&machine(host), &format!("host{host}"), key);
    }
    let mut values = values(dice, table, Role::Begin);
    let begins: Vec<_> = table.columns.iter().filter(|column| column.role == Role::Begin).collect();
    let at = begins.iter().position(|column| column.name == table.key).unwrap();
    values[at] = Own::Int(key);
    Row::read(table, &mut Owned(values.iter()))
        .unwrap_or_else(|| panic!("no row of {}: {values:?}", table.name))
}

fn end(dice: &mut Dice, table: &'static TableDef) -> End {
    let mut values = values(dice, table, Role::End);
    values[0] = Own::Time(at(5_000_000_000_000));
    End::read(table, &mut Owned(values.iter())).unwrap()
}

/// The batches of a host: in each of them of every table a row that lasts, one that has ended, and the end of an earlier one.
fn batches(dice: &mut Dice, host: i64) -> Vec<Batch> {
    let tables: Vec<&'static TableDef> = TABLES
        .iter()
        .copied()
        .filter(|table| {
            table.name != BatchInfo::TABLE.name && STORE_MADE.iter().all(|made| made.name != table.name)
        })
        .collect();
    let mut lasting: Vec<(&'static TableDef, i64)> = Vec::new();
    let mut next = 1_000_000 * host;
    let mut key = || {
        next += 1;
        next
    };
    let mut all = Vec::new();
    for id in 1..=BATCHES {
        let (mut rows, mut ends) = (Vec::new(), Vec::new());
        if id > 1 {
            for n in (0..lasting.len()).rev() {
                if dice.roll(3) == 0 {
                    let (table, key) = lasting.swap_remove(n);
                    ends.push((key, end(dice, table)));
                }
            }
        }
        for table in &tables {
            if id > 1 && (table.name == HostInfo::TABLE.name || dice.roll(3) == 0) {
                continue;
            }
            let key_of_lasting = key();
            rows.push(row(dice, table, host, key_of_lasting));
            if table.is_interval() {
                lasting.push((table, key_of_lasting));
                let mut whole = row(dice, table, host, key());
                whole.set_end(end(dice, table));
                rows.push(whole);
            }
        }
        if id == 4 {
            // The engine refuses a key that is there, and there is nothing to end.
            rows.push(row(dice, luarm_schema::tables::RenameInfo::TABLE, host, first_rename(&all)));
            ends.push((999, end(dice, luarm_schema::tables::MountInfo::TABLE)));
        }
        all.push(batch(id, rows, ends));
    }
    all
}

fn first_rename(batches: &[Batch]) -> i64 {
    let mut rows = batches.iter().flat_map(|batch| &batch.rows);
    rows.find_map(|row| matches!(row, Row::RenameInfo(_)).then(|| row.key())).unwrap()
}

/// Fills the store; gives the server's key.
pub(super) fn populate(url: &StoreUrl, seed: u64) -> VerifyingKey {
    let key = SigningKey::from_bytes(&[9; 32]);
    let mut ledger = Ledger::open(url).unwrap();
    ledger.notarize(Notary::new(key.clone()));
    let mut dice = Dice::new(seed);
    for host in 1..=HOSTS {
        let identity = HostIdentity::enrolled(&machine(host), &format!("host{host}"));
        let keys = tempfile::tempdir().unwrap();
        let file = KeyFile::open(&keys.path().join("key")).unwrap();
        let (mut sealer, _) = Sealer::open(file, &machine(host), 0, None).unwrap();
        for mut batch in batches(&mut dice, host) {
            sealer.seal(&mut batch).unwrap();
            let stored = ledger.append(&identity, &batch).unwrap();
            assert_eq!(stored.refused.len(), usize::from(batch.id == 4), "{:?}", stored.refused);
        }
    }
    key.verifying_key()
}

/// A head as it is read again.
pub(super) fn kept(head: &Head) -> Head {
    Head::read(&head.text()).unwrap()
}
