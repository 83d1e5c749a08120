//! The analyst's side: joining a server as one who asks, and asking it.
//!
//! An analyst has a certificate of his own, in a directory of his own. He can ask whatever a store can be asked, and nothing else; the server sets limits,
//! and logs each question.

mod remote;

use std::path::Path;

pub use self::remote::Remote;
use crate::{
    LinkError,
    agent::{self, ServerUrl},
    identity::{Facts, Identity, Kind},
    token::Token,
};

/// Joins a server as the analyst that the token is for. Key and certificate are kept in the data directory.
pub fn join(url: &ServerUrl, token: &Token, data: &Path) -> Result<Facts, LinkError> {
    agent::join::join_as(Kind::Analyst, url, token, data, ("", ""))
}

/// What is known of the analyst who joined with this data directory.
pub fn facts(data: &Path) -> Result<Facts, LinkError> {
    load(data).map(|identity| identity.facts().clone())
}

fn load(data: &Path) -> Result<Identity, LinkError> {
    Identity::find_as(data, Kind::Analyst)?.ok_or_else(|| LinkError::NoAnalyst { data: data.to_owned() })
}
