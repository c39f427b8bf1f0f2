//! The session with agents: real gRPC over the loopback, a real SQLite store, mock agents.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "dispatch/attempts.rs"]
mod attempts;
#[path = "dispatch/fleet.rs"]
mod fleet;
#[path = "dispatch/follow_ups.rs"]
mod follow_ups;
#[path = "dispatch/lanes.rs"]
mod lanes;
#[path = "dispatch/load.rs"]
mod load;
#[path = "dispatch/long.rs"]
mod long;
#[path = "dispatch/registration.rs"]
mod registration;
#[path = "dispatch/tokens.rs"]
mod tokens;
