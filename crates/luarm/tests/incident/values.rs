//! Rows as lists of values, in one order.

use serde_json::Value;

use crate::support::Row;

/// Rows as sorted lists of their values.
pub fn values(rows: &[Row], columns: &[&str]) -> Vec<Vec<Value>> {
    let mut all: Vec<Vec<Value>> =
        rows.iter().map(|row| columns.iter().map(|&column| row[column].clone()).collect()).collect();
    sort(&mut all);
    all
}

fn sort(rows: &mut [Vec<Value>]) {
    rows.sort_by_cached_key(|row| row.iter().map(Value::to_string).collect::<Vec<_>>());
}

/// What is expected, likewise.
pub fn expected<const N: usize>(rows: impl IntoIterator<Item = [Value; N]>) -> Vec<Vec<Value>> {
    let mut all: Vec<_> = rows.into_iter().map(Vec::from).collect();
    sort(&mut all);
    all
}
