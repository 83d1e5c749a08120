//! The console against a real store: how answers look, what programs get, and how it behaves at a terminal.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod coverage;
mod fixture;
mod looks;
mod memory;
mod scripts;
mod terminal;
