//! The store against real files: what was acknowledged is there, once, whatever happens.

mod append;
mod fixture;
