//! Reading batches that somebody else wrote.

use super::{LONGEST_NAME, MOST_MEMORY, MOST_NAMES, VERSION, WireError, kind_tag};
use crate::{Batch, Column, End, Role, Row, Source, TableDef, Time, Value, table};

/// What a column of a row takes in memory beside its text.
const COLUMN_BYTES: usize = 32;

/// The batch of these bytes. Memory is taken as rows are found, never as a count promises them, and no more than [`MOST_MEMORY`].
pub fn decode(bytes: &[u8]) -> Result<Batch, WireError> {
    let mut input = Input { bytes, at: 0 };
    let version = input.byte()?;
    if version != VERSION {
        return Err(WireError::Version(version));
    }
    let id = input.zigzag()?;
    let mut tables = Vec::new();
    for _ in 0..input.count(MOST_NAMES, "too many tables")? {
        tables.push(Table::read(&mut input)?);
    }
    let mut memory = MOST_MEMORY;
    let mut batch = Batch { id, ..Batch::default() };
    for _ in 0..input.varint()? {
        let table = place(&mut input, &mut tables)?;
        let ended = match input.byte()? {
            0 => false,
            1 => true,
            _ => return Err(WireError::Malformed("a row is neither open nor ended")),
        };
        let def = table.def()?;
        spend(&mut memory, table.weight)?;
        let begin = table.begin.values(&mut input, &mut memory, def)?;
        let mut row = Row::read(def, &mut table.begin.chosen(&begin)).ok_or_else(|| misfit(def))?;
        if ended {
            let end = table.end.values(&mut input, &mut memory, def)?;
            let end = End::read(def, &mut table.end.chosen(&end)).ok_or_else(|| misfit(def))?;
            row.set_end(end);
        }
        batch.rows.push(row);
    }
    for _ in 0..input.varint()? {
        let table = place(&mut input, &mut tables)?;
        let def = table.def()?;
        if !def.is_interval() {
            return Err(WireError::Misfit { table: def.name, detail: "its rows do not end".to_owned() });
        }
        let key = table.key.wrapping_add(input.zigzag()?);
        table.key = key;
        spend(&mut memory, table.weight)?;
        let end = table.end.values(&mut input, &mut memory, def)?;
        let end = End::read(def, &mut table.end.chosen(&end)).ok_or_else(|| misfit(def))?;
        batch.ends.push((key, end));
    }
    match input.rest() {
        0 => Ok(batch),
        rest => Err(WireError::Trailing(rest)),
    }
}

fn place<'t, 'a>(input: &mut Input<'a>, tables: &'t mut [Table<'a>]) -> Result<&'t mut Table<'a>, WireError> {
    let place = usize::try_from(input.varint()?).unwrap_or(usize::MAX);
    tables.get_mut(place).ok_or(WireError::Malformed("a row of no table"))
}

fn spend(memory: &mut usize, bytes: usize) -> Result<(), WireError> {
    *memory = memory.checked_sub(bytes).ok_or(WireError::TooLarge)?;
    Ok(())
}

fn misfit(def: &'static TableDef) -> WireError {
    WireError::Misfit {
        table: def.name,
        detail: "a value is missing or out of its column's range".to_owned(),
    }
}

/// A table of the batch.
struct Table<'a> {
    name: &'a str,
    /// `None` for one that is not known here; it may be there as long as it has no rows.
    def: Option<&'static TableDef>,
    begin: Columns<'a>,
    end: Columns<'a>,
    key: i64,
    weight: usize,
}

impl<'a> Table<'a> {
    fn read(input: &mut Input<'a>) -> Result<Self, WireError> {
        let name = input.name()?;
        let def = table(name);
        let of = |role| def.map_or(Vec::new(), |d| d.columns.iter().filter(|c| c.role == role).collect());
        let begin = Columns::read(input, of(Role::Begin), name)?;
        let end = Columns::read(input, of(Role::End), name)?;
        let weight = COLUMN_BYTES * def.map_or(0, |d| d.columns.len());
        Ok(Table { name, def, begin, end, key: 0, weight })
    }

    fn def(&self) -> Result<&'static TableDef, WireError> {
        self.def.ok_or_else(|| WireError::UnknownTable(self.name.to_owned()))
    }
}

/// The columns of beginnings, or those of ends.
struct Columns<'a> {
    written: Vec<Written<'a>>,
    /// For each column that is known here, where it stands in `written`.
    places: Vec<Option<usize>>,
}

struct Written<'a> {
    name: &'a str,
    kind: u8,
    known: bool,
    last: i64,
}

impl<'a> Columns<'a> {
    fn read(input: &mut Input<'a>, known: Vec<&'static Column>, table: &str) -> Result<Self, WireError> {
        let mut written: Vec<Written<'a>> = Vec::new();
        for _ in 0..input.count(MOST_NAMES, "too many columns")? {
            let (name, kind) = (input.name()?, input.byte()?);
            if !b"irst".contains(&kind) {
                return Err(WireError::Malformed("a column of no known kind"));
            }
            if written.iter().any(|w| w.name == name) {
                return Err(WireError::Malformed("a column comes twice"));
            }
            written.push(Written { name, kind, known: false, last: 0 });
        }
        let mut places = Vec::with_capacity(known.len());
        for column in known {
            let place = written.iter().position(|w| w.name == column.name);
            if let Some(written) = place.and_then(|place| written.get_mut(place)) {
                if written.kind != kind_tag(column.kind) {
                    return Err(WireError::UnknownColumn {
                        table: table.to_owned(),
                        column: format!("{} of kind {:?}", column.name, char::from(written.kind)),
                    });
                }
                written.known = true;
            }
            places.push(place);
        }
        Ok(Columns { written, places })
    }

    /// The values of one row, as they are written.
    fn written_values(&mut self, input: &mut Input<'a>) -> Result<Vec<Value<'a>>, WireError> {
        let bitmap = input.take(self.written.len().div_ceil(8))?;
        let mut values = Vec::with_capacity(self.written.len());
        for (n, column) in self.written.iter_mut().enumerate() {
            if bitmap[n / 8] & (1 << (n % 8)) == 0 {
                values.push(Value::Null);
                continue;
            }
            values.push(match column.kind {
                b'i' | b't' => {
                    column.last = column.last.wrapping_add(input.zigzag()?);
                    if column.kind == b'i' { Value::Int(column.last) } else { Value::Time(Time(column.last)) }
                }
                b'r' => {
                    let bytes = input.take(8)?.try_into().unwrap_or_default();
                    let x = f64::from_le_bytes(bytes);
                    if !x.is_finite() {
                        return Err(WireError::Malformed("a number that is none"));
                    }
                    Value::Real(x)
                }
                _ => Value::Text(input.text(usize::MAX)?),
            });
        }
        Ok(values)
    }

    /// The values of one row, all of them in columns that are known here.
    fn values(
        &mut self,
        input: &mut Input<'a>,
        memory: &mut usize,
        def: &'static TableDef,
    ) -> Result<Vec<Value<'a>>, WireError> {
        let values = self.written_values(input)?;
        for (value, column) in values.iter().zip(&self.written) {
            if !column.known && *value != Value::Null {
                let (table, column) = (def.name.to_owned(), column.name.to_owned());
                return Err(WireError::UnknownColumn { table, column });
            }
            if let Value::Text(text) = value {
                spend(memory, text.len())?;
            }
        }
        Ok(values)
    }

    fn chosen<'v>(&'v self, values: &'v [Value<'a>]) -> Chosen<'v, 'a> {
        Chosen { values, places: self.places.iter() }
    }
}

/// The values of a row in the order in which they are declared here.
struct Chosen<'v, 'a> {
    values: &'v [Value<'a>],
    places: std::slice::Iter<'v, Option<usize>>,
}

impl Source for Chosen<'_, '_> {
    fn take(&mut self) -> Value<'_> {
        let place = self.places.next().copied().flatten();
        place.and_then(|place| self.values.get(place)).copied().unwrap_or(Value::Null)
    }
}

/// What is left of the bytes.
struct Input<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Input<'a> {
    fn rest(&self) -> usize {
        self.bytes.len() - self.at
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], WireError> {
        let end = self.at.checked_add(length);
        let taken = end.and_then(|end| self.bytes.get(self.at..end));
        let taken = taken.ok_or(WireError::Cut(self.bytes.len()))?;
        self.at += length;
        Ok(taken)
    }

    fn byte(&mut self) -> Result<u8, WireError> {
        self.take(1).map(|bytes| bytes[0])
    }

    fn varint(&mut self) -> Result<u64, WireError> {
        let mut n = 0_u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            let bits = u64::from(byte & 0x7f);
            if shift == 63 && bits > 1 {
                break;
            }
            n |= bits << shift;
            if byte & 0x80 == 0 {
                return Ok(n);
            }
        }
        Err(WireError::Malformed("a number of more than 64 bits"))
    }

    fn zigzag(&mut self) -> Result<i64, WireError> {
        let n = self.varint()?;
        Ok((n >> 1).cast_signed() ^ -(n & 1).cast_signed())
    }

    fn count(&mut self, most: usize, complaint: &'static str) -> Result<usize, WireError> {
        let n = usize::try_from(self.varint()?).unwrap_or(usize::MAX);
        if n > most { Err(WireError::Malformed(complaint)) } else { Ok(n) }
    }

    fn text(&mut self, longest: usize) -> Result<&'a str, WireError> {
        let length = usize::try_from(self.varint()?).unwrap_or(usize::MAX);
        if length > longest {
            return Err(WireError::Malformed("a name is too long"));
        }
        str::from_utf8(self.take(length)?).map_err(|_| WireError::Malformed("a text is not UTF-8"))
    }

    fn name(&mut self) -> Result<&'a str, WireError> {
        let name = self.text(LONGEST_NAME)?;
        let plain = name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
        if plain && !name.is_empty() {
            Ok(name)
        } else {
            Err(WireError::Malformed("a name that no table or column has"))
        }
    }
}
