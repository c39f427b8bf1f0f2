//! One door for every call that leaves the process: retry, circuit breaker, health.
//!
//! A [`Remote`] stands for one thing that can be away. Its calls are tried again while that may
//! help, and not made at all while it is known to be away. Absent: fallbacks, which only the
//! caller can know. What goes away inside the process is seen by [`watch`].

mod breaker;
mod health;
mod remote;
mod stage;

pub use breaker::CircuitState;
pub use health::{CircuitHealth, Health, Severity};
pub use remote::{CallError, Failure, FailureKind, Policy, Remote};
pub use stage::{StageEnded, watch, watch_endless};
