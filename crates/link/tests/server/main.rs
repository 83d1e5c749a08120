//! A server and clients that mean it no good: real sockets, real certificates, a real store.
#![expect(clippy::unwrap_used, reason = "a step that fails fails the test")]

mod chain;
mod connections;
mod deliveries;
mod enrolment;
mod inquiry;
mod intruder;
mod journal;
mod scene;
mod seals;
