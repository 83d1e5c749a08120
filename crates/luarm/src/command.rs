//! The commands, one file each.

pub(crate) mod doctor;
pub(crate) mod run;
pub(crate) mod sql;
pub(crate) mod status;
pub(crate) mod sync;
