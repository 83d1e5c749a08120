//! The store against real files: what was acknowledged is there, once, whatever happens.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod accounts;
mod append;
mod cluster;
mod console;
mod crash;
mod encrypted;
mod evidence;
mod faults;
mod fixture;
mod full_disk;
mod hangs;
mod ledger;
mod opening;
mod places;
mod reading;
mod refusal;
mod registry;
mod retention;
mod same;
mod servers;
mod spool;
