//! What a console says of its questions, each as one line.

use serde::{Deserialize, Serialize};

/// A question to the store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Asked {
    /// The store that is asked, as a URL without secrets; the path of a file is absolute.
    pub store: String,
    /// `queryinfo.kind`.
    pub kind: String,
    /// The host that the tables are limited to.
    pub host: Option<String>,
    /// The statement, or its begin.
    pub statement: String,
    /// How many bytes it has.
    pub bytes: u64,
    /// Its SHA-256, where `statement` is its begin.
    pub sha256: Option<String>,
}

/// How a question ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Ended {
    /// `answered`, `failed` or `interrupted`.
    pub how: How,
    /// Rows that went out.
    pub rows: Option<u64>,
    /// What was said where it failed.
    pub error: Option<String>,
}

/// How an answer ends, as a console knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum How {
    /// Wholly.
    Answered,
    /// With an error.
    Failed,
    /// By whoever asked.
    Interrupted,
}

impl How {
    /// `queryinfo.ended`.
    pub(crate) fn word(self) -> &'static str {
        match self {
            How::Answered => "answered",
            How::Failed => "failed",
            How::Interrupted => "interrupted",
        }
    }
}
