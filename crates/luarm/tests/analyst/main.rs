//! Analysts who ask through a server, each test with a server process and stores of its own: what they get, and where it ends.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[path = "../support/mod.rs"]
mod support;

mod answers;
mod endings;
mod limited;
mod recorded;
mod scene;
mod streams;
mod sync;
mod terminal;
