//! What a process says of the remotes it depends on.

use chrono::{DateTime, Utc};
use serde::Serialize;

use crate::breaker::CircuitState;

/// How bad an error is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Expected now and then; it was tried again and worked.
    Low,
    /// The caller was refused, for a reason of its own.
    Medium,
    /// Tried again to no avail.
    High,
    /// The remote is away: the circuit opened.
    Critical,
}

/// A remote's health.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Health {
    /// The remote's name.
    pub remote: String,
    /// Its circuit breaker.
    pub circuit_breaker: CircuitHealth,
    /// Errors since the process started.
    pub total_errors: u64,
    /// How bad the last error was.
    pub last_severity: Option<Severity>,
}

/// A circuit breaker's health.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CircuitHealth {
    /// Where it stands.
    pub state: CircuitState,
    /// When the remote failed last.
    pub last_failure_time: Option<DateTime<Utc>>,
}
