//! A statement as `queryinfo` keeps it: whole up to a bound.

use sha2::{Digest, Sha256};

use crate::token::hex;

/// The most bytes of a statement that are kept.
pub const MOST: usize = 64 << 10;
/// The most bytes of an error that are kept.
pub const MOST_ERROR: usize = 4 << 10;

/// What is kept of a statement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Statement {
    /// Its first bytes, [`MOST`] at the most, cut between two characters.
    pub text: String,
    /// How many bytes it has.
    pub bytes: u64,
    /// SHA-256 of the whole in hexadecimal, where it has more.
    pub sha256: Option<String>,
}

impl Statement {
    /// What is kept of that one.
    pub fn of(sql: &str) -> Self {
        let text = &sql[..sql.floor_char_boundary(MOST)];
        let sha256 = (text.len() < sql.len()).then(|| hex(&Sha256::digest(sql.as_bytes())));
        Statement { text: text.to_owned(), bytes: sql.len() as u64, sha256 }
    }
}

/// What is kept of an error.
pub fn error(message: &str) -> String {
    message[..message.floor_char_boundary(MOST_ERROR)].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_statement_is_whole_up_to_the_bound_and_told_beyond() {
        let whole = Statement::of(&"x".repeat(MOST));
        assert_eq!((whole.text.len(), whole.bytes, whole.sha256), (MOST, MOST as u64, None));
        let long = Statement::of(&"ä".repeat(MOST));
        assert_eq!((long.text.len(), long.bytes), (MOST, 2 * MOST as u64));
        assert_eq!(long.sha256.unwrap().len(), 64);
        let odd = Statement::of(&format!("x{}", "ä".repeat(MOST)));
        assert_eq!(odd.text.len(), MOST - 1);
    }
}
