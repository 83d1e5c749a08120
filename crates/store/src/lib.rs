//! luarm: store.
