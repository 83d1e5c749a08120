//! One change to a store, and where it has to be found.

use luarm_chain::verify::Change;
use luarm_schema::{
    Column, Dialect, Role, TABLES, TableDef,
    canonical::{Canonical, md5sum},
    tables::BatchInfo,
};

use super::history::{BATCHES, Dice, HOSTS, Own};

/// A stored row.
#[derive(Debug, Clone)]
pub(super) struct Known {
    pub(super) table: &'static TableDef,
    pub(super) values: Vec<Own>,
}

impl Known {
    fn int(&self, name: &str) -> Option<i64> {
        let at = self.table.stored().position(|column| column.name == name)?;
        match &self.values[at] {
            Own::Int(n) => Some(*n),
            _ => None,
        }
    }

    pub(super) fn host(&self) -> i64 {
        self.int("host").unwrap()
    }

    pub(super) fn key(&self) -> i64 {
        self.int(self.table.key).unwrap()
    }

    fn batch(&self) -> i64 {
        self.int("batch").unwrap()
    }

    fn dbatch(&self) -> Option<i64> {
        self.int("dbatch")
    }

    fn is_ledger(&self) -> bool {
        self.table.name == BatchInfo::TABLE.name
    }

    /// The `md5sum` of the row with these values.
    fn sum(&self, values: &[Own]) -> String {
        let mut bytes = Canonical::default();
        for (column, value) in self.table.stored().zip(values) {
            if column.role == Role::Begin {
                luarm_schema::Sink::put(&mut bytes, value.value());
            }
        }
        String::from_utf8(md5sum(&bytes.0).to_vec()).unwrap()
    }
}

/// Where a change has to be found: one of these batches, this table, one of these keys, one of these kinds.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) table: &'static str,
    pub(super) keys: Vec<i64>,
    pub(super) batches: Vec<i64>,
    pub(super) kinds: Vec<Change>,
}

/// A change, how it is undone, and where it has to be found.
#[derive(Debug)]
pub(super) struct Tampering {
    pub(super) what: String,
    pub(super) sql: Vec<String>,
    /// Stored table, column of the key, host and key of all rows that are not what they were; `None` for all rows.
    pub(super) touched: Option<Vec<(String, &'static str, i64, i64)>>,
    pub(super) places: Vec<Place>,
    /// The most findings that it may give.
    pub(super) most: usize,
}

/// Makes changes to a store with these rows.
pub(super) struct Tamperer<'a> {
    pub(super) dialect: Dialect,
    pub(super) rows: &'a [Known],
    pub(super) dice: Dice,
}

impl Tamperer<'_> {
    fn stored(&self, table: &TableDef) -> String {
        self.dialect.stored_name(table)
    }

    fn touch(&self, row: &Known, key: i64) -> (String, &'static str, i64, i64) {
        (self.stored(row.table), row.table.key, row.host(), key)
    }

    fn update(&self, row: &Known, set: &str) -> String {
        format!(
            "UPDATE {} SET {set} WHERE host = {} AND {} = {}",
            self.stored(row.table),
            row.host(),
            row.table.key,
            row.key()
        )
    }

    /// A row of any table, each as likely as the others.
    fn row(&mut self, fits: impl Fn(&Known) -> bool) -> Known {
        let fitting: Vec<&Known> = self.rows.iter().filter(|row| fits(row)).collect();
        let tables: Vec<&TableDef> = TABLES
            .iter()
            .copied()
            .filter(|table| fitting.iter().any(|row| row.table.name == table.name))
            .collect();
        let table = *self.dice.one(&tables);
        let of: Vec<&Known> = fitting.into_iter().filter(|row| row.table.name == table.name).collect();
        (*self.dice.one(&of)).clone()
    }

    pub(super) fn next(&mut self) -> Tampering {
        match self.dice.roll(20) {
            0..=8 => self.value(),
            9 => self.key(),
            10 => self.delete(),
            11 => self.insert(),
            12 => self.swap_batches(),
            13 => self.take_end(),
            14..=16 => self.proof(),
            17 => self.swap_numbers(),
            18 => self.delete_ledger(),
            _ => self.cut(),
        }
    }

    fn bytes(&self, bytes: &[u8]) -> String {
        let digits: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        if self.dialect == Dialect::Postgres { format!("'\\x{digits}'") } else { format!("X'{digits}'") }
    }

    fn other(&mut self, column: &Column, now: &Own) -> Own {
        loop {
            let value = match column.role {
                _ if column.null && *now != Own::Null && self.dice.roll(4) == 0 => Own::Null,
                Role::Host => Own::Int(1 + self.dice.roll(HOSTS as usize + 1) as i64),
                Role::Batch | Role::EndBatch => Own::Int(self.dice.roll(BATCHES as usize + 3) as i64),
                Role::Md5 => Own::Text(format!("{:032x}", self.dice.roll(1 << 30))),
                _ if matches!(column.name, "digest" | "nextkey" | "publickey") => {
                    let byte = self.dice.roll(200) as u8;
                    Own::Text(luarm_chain::encode(&[byte; 32]))
                }
                _ if column.name == "signature" => {
                    Own::Text(luarm_chain::encode(&[self.dice.roll(100) as u8; 64]))
                }
                _ => Own::any(&mut self.dice, column.kind),
            };
            if value != *now {
                return value;
            }
        }
    }

    /// Another value in any column of any row.
    fn value(&mut self) -> Tampering {
        let row = self.row(|_| true);
        let columns: Vec<(usize, &'static Column)> = row.table.stored().enumerate().collect();
        let (at, column) = loop {
            let (at, column) = *self.dice.one(&columns);
            if column.name != row.table.key && !(column.role == Role::Host && row.is_ledger()) {
                break (at, column);
            }
        };
        let other = self.other(column, &row.values[at]);
        let mut set = format!("{} = {}", column.name, other.sql());
        let mut values = row.values.clone();
        values[at] = other.clone();
        let resummed = column.role == Role::Begin && self.dice.roll(2) == 0;
        if resummed {
            set += &format!(", md5sum = '{}'", row.sum(&values));
        }
        let mut batches = vec![row.batch()];
        batches.extend(row.dbatch());
        if let (Role::Batch | Role::EndBatch, Own::Int(n)) = (column.role, &other) {
            batches.push(*n);
        }
        let mut touched = vec![self.touch(&row, row.key())];
        if let (Role::Host, Own::Int(host)) = (column.role, &other) {
            let (table, key, ..) = touched[0].clone();
            touched.push((table, key, *host, row.key()));
        }
        let kinds = match column.role {
            _ if row.is_ledger() => vec![Change::LedgerChanged, Change::SignatureWrong, Change::NotSealed],
            Role::Begin if resummed && row.dbatch() == Some(row.batch()) => {
                vec![Change::RowChanged, Change::EndChanged]
            }
            Role::Begin | Role::Md5 => vec![Change::RowChanged],
            Role::End | Role::EndBatch => vec![Change::EndChanged, Change::EndAdded, Change::EndRemoved],
            Role::Batch => vec![Change::RowMoved],
            Role::Host => vec![Change::RowMoved],
            Role::Derived(_) => unreachable!(),
        };
        let place = Place { table: row.table.name, keys: vec![row.key()], batches, kinds };
        Tampering {
            what: format!(
                "{}.{} of {} from {:?} to {}, {resummed}",
                row.table.name,
                column.name,
                row.key(),
                row.values[at],
                other.sql()
            ),
            sql: vec![self.update(&row, &set)],
            touched: Some(touched),
            places: vec![place],
            most: 4,
        }
    }

    fn key(&mut self) -> Tampering {
        let row = self.row(|row| !row.is_ledger());
        let other = row.key() + 500_000;
        let kinds = vec![Change::RowDeleted, Change::RowInserted];
        let mut batches = vec![row.batch()];
        batches.extend(row.dbatch());
        Tampering {
            what: format!("key of {} {}", row.table.name, row.key()),
            sql: vec![self.update(&row, &format!("{} = {other}", row.table.key))],
            touched: Some(vec![self.touch(&row, row.key()), self.touch(&row, other)]),
            places: [row.key(), other]
                .map(|key| Place {
                    table: row.table.name,
                    keys: vec![key],
                    batches: batches.clone(),
                    kinds: kinds.clone(),
                })
                .into(),
            most: 4,
        }
    }

    fn delete(&mut self) -> Tampering {
        let row = self.row(|row| !row.is_ledger());
        let sql = format!(
            "DELETE FROM {} WHERE host = {} AND {} = {}",
            self.stored(row.table),
            row.host(),
            row.table.key,
            row.key()
        );
        Tampering {
            what: format!("deleted {} {}", row.table.name, row.key()),
            sql: vec![sql],
            touched: Some(vec![self.touch(&row, row.key())]),
            places: vec![Place {
                table: row.table.name,
                keys: vec![row.key()],
                batches: vec![row.batch()],
                kinds: vec![Change::RowDeleted],
            }],
            most: 2,
        }
    }

    fn insert(&mut self) -> Tampering {
        let row = self.row(|row| !row.is_ledger());
        let key = row.key() + 700_000;
        let columns: Vec<&'static Column> = row.table.stored().collect();
        let mut values = row.values.clone();
        let at = columns.iter().position(|column| column.name == row.table.key).unwrap();
        values[at] = Own::Int(key);
        let at = columns.iter().position(|column| column.role == Role::Md5).unwrap();
        values[at] = Own::Text(row.sum(&values));
        let names: Vec<&str> = columns.iter().map(|column| column.name).collect();
        let literals: Vec<String> = values.iter().map(Own::sql).collect();
        let sql = format!(
            "INSERT INTO {} ({}) VALUES ({})",
            self.stored(row.table),
            names.join(", "),
            literals.join(", ")
        );
        Tampering {
            what: format!("inserted {} {key}", row.table.name),
            sql: vec![sql],
            touched: Some(vec![self.touch(&row, key)]),
            places: vec![Place {
                table: row.table.name,
                keys: vec![key],
                batches: vec![row.batch()],
                kinds: vec![Change::RowInserted],
            }],
            most: 1,
        }
    }

    fn swap_batches(&mut self) -> Tampering {
        let one = self.row(|row| !row.is_ledger());
        let other =
            self.row(|row| !row.is_ledger() && row.host() == one.host() && row.batch() != one.batch());
        let place = |row: &Known| Place {
            table: row.table.name,
            keys: vec![row.key()],
            batches: vec![row.batch()],
            kinds: vec![Change::RowMoved],
        };
        Tampering {
            what: format!(
                "swapped batches of {} {} and {} {}",
                one.table.name,
                one.key(),
                other.table.name,
                other.key()
            ),
            sql: vec![
                self.update(&one, &format!("batch = {}", other.batch())),
                self.update(&other, &format!("batch = {}", one.batch())),
            ],
            touched: Some(vec![self.touch(&one, one.key()), self.touch(&other, other.key())]),
            places: vec![place(&one), place(&other)],
            most: 2,
        }
    }

    fn take_end(&mut self) -> Tampering {
        let row = self.row(|row| row.dbatch().is_some());
        let columns = row.table.columns.iter().filter(|c| matches!(c.role, Role::End | Role::EndBatch));
        let set: Vec<String> = columns.map(|column| format!("{} = NULL", column.name)).collect();
        Tampering {
            what: format!("took the end of {} {}", row.table.name, row.key()),
            sql: vec![self.update(&row, &set.join(", "))],
            touched: Some(vec![self.touch(&row, row.key())]),
            places: vec![Place {
                table: row.table.name,
                keys: vec![row.key()],
                batches: row.dbatch().into_iter().collect(),
                kinds: vec![Change::EndRemoved],
            }],
            most: 1,
        }
    }

    fn batch(&mut self) -> (i64, i64) {
        (1 + self.dice.roll(HOSTS as usize) as i64, 1 + self.dice.roll(BATCHES as usize) as i64)
    }

    /// What is kept beside a batch.
    fn proof(&mut self) -> Tampering {
        let (host, batch) = self.batch();
        let at = format!("WHERE host = {host} AND batch = {batch}");
        let mut touched = vec![("luarmproof".to_owned(), "batch", host, batch)];
        let noise =
            |dice: &mut Dice, length: usize| (0..length).map(|_| dice.roll(256) as u8).collect::<Vec<u8>>();
        let columns: [(&str, usize); 5] =
            [("manifest", 90), ("root", 32), ("refused", 2), ("receipt", 64), ("signer", 32)];
        let change = match self.dice.roll(10) {
            n @ 0..=4 => {
                let (column, length) = columns[n];
                let bytes = noise(&mut self.dice, length);
                format!("UPDATE luarmproof SET {column} = {} {at}", self.bytes(&bytes))
            }
            n @ (5 | 6) => {
                let column = ["manifest", "receipt"][n - 5];
                format!("UPDATE luarmproof SET {column} = NULL {at}")
            }
            7 => format!("UPDATE luarmproof SET received = received + 1 {at}"),
            8 => {
                touched.push(("luarmproof".to_owned(), "batch", host, batch + 1000));
                format!("UPDATE luarmproof SET batch = batch + 1000 {at}")
            }
            _ => format!("DELETE FROM luarmproof {at}"),
        };
        let kinds =
            vec![Change::ProofChanged, Change::ProofMissing, Change::ReceiptWrong, Change::ReceiptMissing];
        Tampering {
            what: format!("host {host}: {change}"),
            sql: vec![change],
            touched: Some(touched),
            places: vec![Place { table: "luarmproof", keys: vec![batch], batches: vec![batch], kinds }],
            most: 4,
        }
    }

    fn swap_numbers(&mut self) -> Tampering {
        let (host, one) = self.batch();
        let other = 1 + one % BATCHES;
        let table = self.stored(BatchInfo::TABLE);
        let number = |from: i64, to: i64| {
            format!("UPDATE {table} SET batchid = {to} WHERE host = {host} AND batchid = {from}")
        };
        let place = |batch| Place {
            table: BatchInfo::TABLE.name,
            keys: vec![batch],
            batches: vec![batch],
            kinds: vec![Change::LedgerChanged],
        };
        Tampering {
            what: format!("host {host}: swapped batches {one} and {other}"),
            sql: vec![number(one, 4000), number(other, one), number(4000, other)],
            touched: Some([one, other].map(|batch| (table.clone(), "batchid", host, batch)).into()),
            places: vec![place(one), place(other)],
            most: 3,
        }
    }

    fn delete_ledger(&mut self) -> Tampering {
        let (host, batch) = self.batch();
        let table = self.stored(BatchInfo::TABLE);
        Tampering {
            what: format!("host {host}: deleted batch {batch} from the ledger"),
            sql: vec![format!("DELETE FROM {table} WHERE host = {host} AND batchid = {batch}")],
            touched: Some(vec![(table, "batchid", host, batch)]),
            places: vec![Place {
                table: BatchInfo::TABLE.name,
                keys: vec![batch],
                batches: vec![batch],
                kinds: vec![Change::BatchMissing],
            }],
            most: 2,
        }
    }

    /// Batches are gone, with all that they did: the last ones, or one in between.
    fn cut(&mut self) -> Tampering {
        let (host, batch) = self.batch();
        let is_tail = batch > 1 && self.dice.roll(2) == 0;
        let which = |column: &str| {
            if is_tail { format!("{column} >= {batch}") } else { format!("{column} = {batch}") }
        };
        let mut sql = vec![format!("DELETE FROM luarmproof WHERE host = {host} AND {}", which("batch"))];
        for table in TABLES {
            let stored = self.stored(table);
            sql.push(format!("DELETE FROM {stored} WHERE host = {host} AND {}", which("batch")));
            if table.is_interval() {
                let ends = table.columns.iter().filter(|c| matches!(c.role, Role::End | Role::EndBatch));
                let set: Vec<String> = ends.map(|column| format!("{} = NULL", column.name)).collect();
                sql.push(format!(
                    "UPDATE {stored} SET {} WHERE host = {host} AND {}",
                    set.join(", "),
                    which("dbatch")
                ));
            }
        }
        let is_tail = is_tail || batch == BATCHES;
        Tampering {
            what: format!("host {host}: cut {}", which("batch")),
            sql,
            touched: None,
            places: vec![Place {
                table: BatchInfo::TABLE.name,
                keys: vec![batch],
                batches: vec![batch],
                kinds: vec![if is_tail { Change::TailCut } else { Change::BatchMissing }],
            }],
            most: if is_tail { 1 } else { 1000 },
        }
    }
}
