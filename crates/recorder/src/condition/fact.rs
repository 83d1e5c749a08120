//! Rows of `factinfo`.

use luarm_schema::{
    End, Row, Time, Word,
    tables::{FactInfo, FactInfoEnd},
};
use luarm_sensor::condition::Fact;

use super::State;

/// The values of a row.
#[derive(PartialEq)]
pub(super) struct FactState {
    fact: Word,
    value: String,
}

impl From<&Fact> for FactState {
    fn from(fact: &Fact) -> Self {
        Self { fact: Word::Borrowed(fact.name), value: fact.value.clone() }
    }
}

impl State for FactState {
    type Key = Word;

    fn key(&self) -> Self::Key {
        self.fact.clone()
    }

    fn row(&self, number: i64, created: Time, origin: Word) -> Row {
        let (fact, value) = (self.fact.clone(), self.value.clone());
        FactInfo { factid: number, fact, value, origin, created, end: None }.into()
    }

    fn of(row: &Row) -> Option<Self> {
        let Row::FactInfo(row) = row else { return None };
        Some(Self { fact: row.fact.clone(), value: row.value.clone() })
    }

    fn end(destroyed: Time, ended: Word) -> End {
        End::FactInfo(FactInfoEnd { destroyed, ended })
    }
}
