//! What passes between audited hosts or analysts and their server: gRPC over mutual TLS 1.3, and what they need for it.
//!
//! - [`server`] takes batches from many hosts into one store. A host is who its certificate says, and can only append to its own history.
//! - [`agent`] keeps batches in a spool on disk until a server has stored them, and delivers them: at least once on the wire, exactly once in the store.
//! - [`analyst`] asks a server, which answers out of its store what may be read there.
//! - [`authority`] signs certificates, [`token`] lets a host ask for its first one, [`identity`] is what a host keeps of it.
//! - [`notary`] is the key with which a server signs what it takes in.
//! - [`statement`] is what is kept of a question.
//! - [`packed`] is a batch as it travels. The protocol itself is `proto/link.proto`.
//!
//! Only this crate knows TLS and the protocol. The store's calls block: the server makes them on threads for that.

pub mod agent;
pub mod analyst;
pub mod authority;
mod error;
mod files;
pub mod identity;
pub mod notary;
pub mod packed;
pub mod proto;
pub mod server;
pub mod statement;
mod tls;
pub mod token;

pub use error::LinkError;
