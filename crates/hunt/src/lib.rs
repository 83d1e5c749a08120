//! The SQL console: what the analyst types, and how answers look.
//!
//! It looks as the seed's console does (the `mysql` client's): statements end with `;`, `\g` or `\G`; answers are boxes with
//! `N rows in set (0.00 sec)` beneath. Nothing here can write: the source refuses (`luarm_store::Source`).

mod client;
mod complete;
mod console;
mod coverage;
mod error;
mod interactive;
mod print;
mod split;

pub use console::{Console, Options, Outcome, write_rows};
pub use coverage::{Observed, observed};
pub use error::HuntError;
pub use print::Format;
pub use split::{Splitter, Statement};
