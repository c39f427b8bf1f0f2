//! The model simulator as clients see it: every fault and form of bytes in every protocol, what it
//! refuses, what it counts.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "model_simulator/calls.rs"]
mod calls;
#[path = "model_simulator/client.rs"]
mod client;
#[path = "model_simulator/errors.rs"]
mod errors;
#[path = "model_simulator/sample.rs"]
mod sample;
#[path = "model_simulator/script.rs"]
mod script;
#[path = "model_simulator/strict.rs"]
mod strict;
#[path = "model_simulator/transport.rs"]
mod transport;
