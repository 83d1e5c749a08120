//! What rows come of what observations.

mod anything;
mod scene;
