//! What rows come of what observations.

mod anything;
mod endpoints;
mod names;
mod processes;
mod restart;
mod scene;
