//! luarm: recorder.
