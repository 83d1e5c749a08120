//! A batch as bytes, for a spool and for the network.
//!
//! The bytes say themselves which tables and columns they hold, by name, so that a reader of another version understands them or says what it
//! does not understand: a column that it does not know and that holds a value, a table that it does not know. A column that the writer did not know
//! is NULL, where it may be.
//!
//! ```text
//! version   1 byte: 1
//! id        zigzag
//! tables    count, then for each: name, columns of beginnings, columns of ends; columns are a count, then for each name and kind
//! rows      count, then for each: place in `tables`, 1 if it has ended or 0, values of its beginning, values of its end if it has one
//! ends      count, then for each: place in `tables`, key (zigzag, less the key before), values
//! ```
//!
//! Counts, lengths and places are LEB128 varints of at most 64 bits. Values are a bitmap of those that are not NULL, then these: integers and
//! instants (microseconds) as zigzag of the difference to the last one in the same column, doubles as 8 bytes, little-endian, texts as a length and
//! UTF-8.

mod read;
mod write;

pub use read::decode;
pub use write::encode;

use crate::Kind;

/// What [`encode`] writes first.
pub const VERSION: u8 = 1;

/// What a batch may take in memory, bytes, by [`decode`]'s own reckoning.
pub const MOST_MEMORY: usize = 64 << 20;

/// The longest name of a table or column, bytes.
const LONGEST_NAME: usize = 64;
/// The most tables, and the most columns of one.
const MOST_NAMES: usize = 256;

/// Why bytes are no batch.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// Written in a way that is not known here.
    #[error("the batch has format version {0}, and this luarm reads version {VERSION}: update it first")]
    Version(u8),
    /// It ends before its time.
    #[error("the batch is cut after {0} bytes")]
    Cut(usize),
    /// Bytes follow its end.
    #[error("{0} bytes follow the batch")]
    Trailing(usize),
    /// A count, a name or a value that no writer writes.
    #[error("the batch is malformed: {0}")]
    Malformed(&'static str),
    /// A table that is not known here has rows.
    #[error("the batch has rows of table {0:?}, which this luarm does not know: update it first")]
    UnknownTable(String),
    /// A column that is not known here has values.
    #[error(
        "the batch has values in column {table}.{column}, which this luarm does not know: update it first"
    )]
    UnknownColumn {
        /// The table.
        table: String,
        /// The column.
        column: String,
    },
    /// A column that may not be NULL is not in the batch, or holds what its column does not.
    #[error("the batch has no sound row or end for table {table}: {detail}")]
    Misfit {
        /// The table.
        table: &'static str,
        /// What is wrong.
        detail: String,
    },
    /// It would take too much memory.
    #[error("the batch takes more than {MOST_MEMORY} bytes of memory")]
    TooLarge,
}

fn kind_tag(kind: Kind) -> u8 {
    match kind {
        Kind::Big | Kind::Int | Kind::Small => b'i',
        Kind::Real => b'r',
        Kind::Text | Kind::Name => b's',
        Kind::Time => b't',
    }
}

#[cfg(test)]
mod tests;
