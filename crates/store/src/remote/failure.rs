//! What an engine may say instead of an answer, by what can be done about it.

use crate::{StoreError, StoreUrl, error::Trouble};

/// What kind of failure it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Class {
    /// A trouble of the store.
    Trouble(Trouble),
    /// The row itself was refused, or would have been changed.
    Row,
    /// A row with the same key is there already.
    Doubled,
    /// The statement was interrupted by the user.
    Interrupted,
    /// The object exists already.
    Exists,
    /// The statement was not understood, or anything else.
    Other,
}

/// What is said of a row that is longer than [`crate::Reader::open_bounded`] lets it be. The connection is of no use then: the rest is on its way.
pub(crate) const TOO_LONG: &str = "a row of the answer is longer than can be taken here";

/// An engine's error.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) class: Class,
    /// The engine's words, one line.
    pub(crate) detail: String,
}

impl Failure {
    pub(crate) fn new(class: Class, detail: impl std::fmt::Display) -> Self {
        let detail = detail.to_string();
        let detail = if detail.contains(['\n', '\r']) {
            detail.split(['\n', '\r']).map(str::trim).filter(|l| !l.is_empty()).collect::<Vec<_>>().join("; ")
        } else {
            detail
        };
        Failure { class, detail }
    }

    pub(crate) fn trouble(trouble: Trouble, detail: impl std::fmt::Display) -> Self {
        Self::new(Class::Trouble(trouble), detail)
    }

    pub(crate) fn is(&self, trouble: Trouble) -> bool {
        self.class == Class::Trouble(trouble)
    }

    /// Whether it may be over by itself.
    pub(crate) fn is_transient(&self) -> bool {
        matches!(self.class, Class::Trouble(trouble) if trouble.is_transient())
    }

    /// As an error of the store, which `action` was attempted on.
    pub(crate) fn of(self, action: &'static str, url: &StoreUrl) -> StoreError {
        let trouble = match self.class {
            Class::Trouble(trouble) => trouble,
            Class::Row | Class::Doubled | Class::Interrupted | Class::Exists | Class::Other => Trouble::Other,
        };
        StoreError::Database { action, url: url.clone(), trouble, detail: self.detail }
    }
}
