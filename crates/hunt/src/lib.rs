//! luarm: hunt.
