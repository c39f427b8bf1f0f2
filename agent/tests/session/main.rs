//! The agent's session, over real gRPC with a stub coordinator, real git and a GitHub simulator.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod endings;
mod fitness;
mod registration;
mod reports;
mod scene;
mod waiting;
mod work;
