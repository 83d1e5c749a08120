//! The agent's side: joining a server, and delivering to it.
//!
//! ```text
//! recorder ──Batch──▶ outbox (spool on disk) ──▶ courier ──▶ server
//!                        ▲ forgets what is acknowledged │
//!                        └──────────────────────────────┘
//! ```
//!
//! A batch is in the spool until the server says that it has it. When a connection ends, for whatever reason, the courier asks anew which batch the
//! server has last, and goes on with the next one: what was sent twice the server stores once.

mod backoff;
pub(crate) mod connect;
mod courier;
pub(crate) mod join;
mod outbox;

pub use self::{
    connect::ServerUrl,
    courier::{Courier, Events, LinkState, Plan},
    join::join,
    outbox::Outbox,
};
