//! What is refused: why, to whom, how often. Each kind is told in the log once for each peer, and again when it has grown tenfold.

use std::{
    collections::HashMap,
    fmt,
    sync::{Mutex, PoisonError},
};

use luarm_chain::link::Flaw;
use luarm_store::StoreError;
use tonic::{Code, Status};

/// So many peers are told apart.
const MOST: usize = 4096;

/// The kind of what is refused because the store failed.
pub(super) const STORE_FAILED: &str = "store-failed";

/// A call, a batch or a connection that was refused.
#[derive(Debug)]
pub(super) struct Refusal {
    /// One word for the log and the counters.
    pub kind: &'static str,
    /// What gRPC calls it.
    pub code: Code,
    /// What is told to the peer.
    pub message: String,
    /// What is told to our log instead, where it is not for the peer.
    pub inside: Option<String>,
    /// The number of the batch that is expected, where that is the matter.
    pub next: Option<i64>,
}

impl Refusal {
    pub(super) fn new(kind: &'static str, code: Code, message: impl Into<String>) -> Self {
        Refusal { kind, code, message: message.into(), inside: None, next: None }
    }

    /// Something failed here that is no matter of the peer's.
    #[expect(clippy::needless_pass_by_value, reason = "errors are mapped with it")]
    pub(super) fn failed(error: impl ToString) -> Self {
        let message = "the server failed; its log says more";
        Refusal { inside: Some(error.to_string()), ..Refusal::new("failed", Code::Internal, message) }
    }

    /// The store failed: the peer may try again, and its words are for our log.
    pub(super) fn store(error: &StoreError) -> Self {
        match error {
            StoreError::Gap { last, got } => {
                let message = format!("batch {got} cannot follow batch {last}: send {}", last + 1);
                Refusal { next: Some(last + 1), ..Refusal::new("gap", Code::OutOfRange, message) }
            }
            StoreError::Conflict { id } => {
                let message =
                    format!("another batch is stored as batch {id}: what is stored is not replaced");
                Refusal::new("conflict", Code::AlreadyExists, message)
            }
            StoreError::Flaw { flaw, .. } => {
                let kind = match flaw {
                    Flaw::Unsealed => "unsealed",
                    Flaw::Digest => "digest",
                    Flaw::Signature => "signature",
                    Flaw::Keyless => "keyless",
                    Flaw::Restart => "restart",
                };
                Refusal::new(kind, Code::InvalidArgument, error.to_string())
            }
            StoreError::Unsigned { .. } => Refusal::new("unsound", Code::InvalidArgument, error.to_string()),
            error => {
                let message = "the store cannot take batches now";
                let inside = Some(format!("the store failed: {error}"));
                Refusal { inside, ..Refusal::new(STORE_FAILED, Code::Unavailable, message) }
            }
        }
    }

    pub(super) fn status(self) -> Status {
        let mut status = Status::new(self.code, self.message);
        if let Some(next) = self.next
            && let Ok(value) = next.to_string().parse()
        {
            status.metadata_mut().insert("luarm-next", value);
        }
        status
    }
}

/// Counters of refusals.
#[derive(Debug, Default)]
pub struct Refusals(Mutex<HashMap<(&'static str, String), u64>>);

impl Refusals {
    /// Counts one, and tells of it if it is the first of its kind from that peer, or the tenth, the hundredth…
    pub(super) fn count(&self, kind: &'static str, peer: &dyn fmt::Display, message: &str) {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut peer = peer.to_string();
        if counts.len() >= MOST && !counts.contains_key(&(kind, peer.clone())) {
            peer = "others".to_owned();
        }
        let count = counts.entry((kind, peer.clone())).or_default();
        *count += 1;
        let count = *count;
        drop(counts);
        if count == 1 {
            tracing::warn!("refused {peer}: {message}");
        } else if count >= 10 && 10_u64.pow(count.ilog10()) == count {
            tracing::warn!("refused {peer} {count} times by now ({kind}): {message}");
        }
    }

    /// Counts a refusal, and gives what is told to the peer.
    pub(super) fn refuse(&self, peer: &dyn fmt::Display, refusal: Refusal) -> Status {
        self.count(refusal.kind, peer, refusal.inside.as_ref().unwrap_or(&refusal.message));
        refusal.status()
    }

    /// How often each kind was refused, in the order of their names.
    pub fn totals(&self) -> Vec<(&'static str, u64)> {
        let counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut totals = std::collections::BTreeMap::new();
        for ((kind, _), count) in counts.iter() {
            *totals.entry(*kind).or_default() += count;
        }
        totals.into_iter().collect()
    }
}
