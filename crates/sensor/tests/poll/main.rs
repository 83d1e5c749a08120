//! The polling sensor, on this machine and on a made-up /proc. Rounds happen only when the tests ask for them, so that nothing here depends on
//! how fast anything is.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod endpoints;
mod processes;
mod puppet;
mod tree;
mod user;
mod watched;
