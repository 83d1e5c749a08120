//! What rows come of what observations.

mod anything;
mod endpoints;
mod processes;
mod restart;
mod scene;
