//! Logs, traces and metrics: one start, one shutdown.
//!
//! Every line of log is redacted before it is written. Metrics are a value that is handed on, not
//! a global; traces go to an OTLP receiver when there is one.

mod log;
mod metrics;
pub mod trace;

pub use log::{Format, Options, StartError, Telemetry};
pub use metrics::{Metrics, TEXT_FORMAT};
