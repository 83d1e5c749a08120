//! The commands, one file each.

pub(crate) mod agent;
pub(crate) mod canary;
pub(crate) mod doctor;
pub(crate) mod enroll;
pub(crate) mod manual;
pub(crate) mod run;
pub(crate) mod server;
pub(crate) mod sql;
pub(crate) mod status;
pub(crate) mod sync;
pub(crate) mod verify;
