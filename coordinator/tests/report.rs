//! The publisher against the simulator: exactly once in effect, in order, whatever happens.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "report/crash.rs"]
mod crash;
#[path = "report/publish.rs"]
mod publish;
#[path = "report/refused.rs"]
mod refused;
#[path = "report/scene.rs"]
mod scene;
