//! Logs and metrics: one start, one shutdown.
//!
//! Every line of log is redacted before it is written. Metrics are a value that is handed on, not
//! a global. Absent: traces over the network.

mod log;
mod metrics;

pub use log::{Format, Options, StartError, Telemetry};
pub use metrics::Metrics;
