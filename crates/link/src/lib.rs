//! x
#![allow(missing_docs)]
pub mod proto { tonic::include_proto!("luarm.link.v1"); }
