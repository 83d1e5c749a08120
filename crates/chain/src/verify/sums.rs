//! Whether the `md5sum` of rows is that of their values, several at a time.

use luarm_schema::canonical::{LANES, md5sums};

use super::rows::{Reading, Said};

/// Bytes of the largest row that waits for others: what is kept of them is bounded.
const LARGEST: usize = 16 << 10;

/// A row that waits for others.
#[derive(Debug, Default)]
struct Waiting {
    said: Option<Said>,
    sum: [u8; 32],
    bytes: Vec<u8>,
}

/// Rows of one table whose `md5sum` is looked at together.
#[derive(Debug, Default)]
pub(super) struct Sums {
    waiting: [Waiting; LANES],
    count: usize,
}

impl Sums {
    /// Takes the row that `reading` took last. Gives those of which it is known by now that it is wrong.
    pub(super) fn take(&mut self, reading: &mut Reading, said: Said, wrong: &mut impl FnMut(Said)) {
        if reading.length() > LARGEST {
            if !reading.is_summed() {
                wrong(said);
            }
            return;
        }
        let place = &mut self.waiting[self.count];
        let Some(sum) = reading.summed(&mut place.bytes) else { return wrong(said) };
        (place.said, place.sum) = (Some(said), sum);
        self.count += 1;
        if self.count == LANES {
            self.flush(wrong);
        }
    }

    /// Gives those of the rest that are wrong.
    pub(super) fn flush(&mut self, wrong: &mut impl FnMut(Said)) {
        if self.count == 0 {
            return;
        }
        // What stands in the places behind is of rows before: it is summed for nothing.
        let bytes: [&[u8]; LANES] = std::array::from_fn(|n| self.waiting[n].bytes.as_slice());
        let sums = md5sums(&bytes);
        for (row, sum) in self.waiting.iter().zip(sums).take(std::mem::take(&mut self.count)) {
            if let Some(said) = row.said.filter(|_| row.sum != sum) {
                wrong(said);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use luarm_schema::{
        Role, Sink, TABLES, Value,
        canonical::{Canonical, md5sum},
    };

    use super::*;

    /// The keys of the rows of `renameinfo` that are told as wrong: given are key, text, and whether the sum is right.
    fn wrong_of(rows: &[(i64, &str, bool)]) -> Vec<i64> {
        let table = TABLES.iter().position(|table| table.name == "renameinfo").unwrap();
        let (mut sums, mut reading, mut wrong) = (Sums::default(), Reading::new(table), Vec::new());
        let mut note = |said: Said| wrong.push(said.key);
        for (key, text, is_right) in rows {
            let begins = TABLES[table].columns.iter().filter(|column| column.role == Role::Begin);
            let begin: Vec<Value<'_>> = begins
                .map(
                    |column| {
                        if column.name == TABLES[table].key { Value::Int(*key) } else { Value::Text(text) }
                    },
                )
                .collect();
            let mut bytes = Canonical::default();
            begin.iter().for_each(|value| bytes.put(*value));
            let mut sum = md5sum(&bytes.0);
            if !is_right {
                sum[31] ^= 1;
            }
            let sum = String::from_utf8_lossy(&sum).into_owned();
            let values = [&[Value::Int(1)], begin.as_slice(), &[Value::Text(&sum), Value::Int(1)]].concat();
            let said = reading.take_unsummed(&values).unwrap();
            sums.take(&mut reading, said, &mut note);
        }
        sums.flush(&mut note);
        wrong.sort_unstable();
        wrong
    }

    #[test]
    fn each_wrong_sum_shows_however_many_rows_come_before_it() {
        let large = "x".repeat(LARGEST + 1);
        for count in [1, LANES - 1, LANES, LANES + 1, 3 * LANES] {
            for wrong in 0..count {
                let text = |n: usize| if n % 7 == 3 { large.as_str() } else { "name" };
                let rows: Vec<_> = (0..count).map(|n| (n as i64, text(n), n != wrong)).collect();
                assert_eq!(wrong_of(&rows), [wrong as i64]);
            }
        }
        assert!(wrong_of(&[(1, "a", true), (2, &large, true)]).is_empty());
    }
}
