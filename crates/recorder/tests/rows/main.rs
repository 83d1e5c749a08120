//! What rows come of what observations.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod accounts;
mod anything;
mod canary;
mod clocks;
mod conditions;
mod digests;
mod endpoints;
mod names;
mod oversight;
mod privileges;
mod processes;
mod restart;
mod scene;
mod sessions;
