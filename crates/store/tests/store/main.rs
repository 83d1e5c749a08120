//! The store against real files: what was acknowledged is there, once, whatever happens.

mod append;
mod crash;
mod fixture;
mod full_disk;
mod opening;
mod reading;
mod refusal;
