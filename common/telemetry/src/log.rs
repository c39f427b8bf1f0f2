//! Logs to standard error, redacted line by line; spans to a receiver, if there is one.

use std::io::{self, Write};

use opentelemetry_sdk::trace::SdkTracerProvider;
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::fmt::{self, MakeWriter};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Layer as _, Registry};

use crate::trace::{self, TraceOptions};

/// How a line looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// For people.
    Human,
    /// One JSON object per line.
    Json,
}

/// How to log.
#[derive(Debug, Clone)]
pub struct Options {
    /// How a line looks.
    pub format: Format,
    /// `info`, or directives such as `warn,patchfleet_agent=debug`.
    pub filter: String,
    /// Which program part is logging.
    pub service: String,
    /// Where traces go, if they are wanted.
    pub traces: Option<TraceOptions>,
}

/// Logging can't be started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The filter is not one.
    #[error("log filter `{filter}`: {reason}")]
    Filter {
        /// What was given.
        filter: String,
        /// Why not.
        reason: String,
    },
    /// Traces can't be sent to where they are to go.
    #[error("traces: {0}")]
    Traces(String),
    /// Logging was started before in this process.
    #[error("logging was started before")]
    StartedBefore,
}

/// Logging that runs.
#[derive(Debug)]
pub struct Telemetry {
    service: String,
    traces: Option<SdkTracerProvider>,
}

impl Telemetry {
    /// Starts logging for the whole process; once.
    ///
    /// # Errors
    /// When the filter is not one, or logging was started before.
    pub fn start(options: Options) -> Result<Self, StartError> {
        let filter = EnvFilter::try_new(&options.filter).map_err(|error| StartError::Filter {
            filter: options.filter.clone(),
            reason: error.to_string(),
        })?;
        let service = options.service;
        let traces = options.traces.as_ref();
        let traces = traces.map(|traces| trace::provider(&service, traces));
        let traces = traces.transpose()?;
        let spans = traces.as_ref().map(|provider| {
            tracing_opentelemetry::layer()
                .with_tracer(trace::tracer(provider))
                .with_location(false)
                .with_threads(false)
                .with_tracked_inactivity(false)
                .with_filter(filter_fn(|it| it.is_span() && it.target() == trace::TARGET))
        });
        let lines = fmt::layer().with_writer(Redacted);
        let lines = match options.format {
            Format::Human => lines.with_ansi(false).boxed(),
            Format::Json => lines.json().boxed(),
        };
        Registry::default()
            .with(lines.with_filter(filter))
            .with(spans)
            .try_init()
            .map_err(|_| StartError::StartedBefore)?;
        tracing::debug!(service, "logging started");
        Ok(Self { service, traces })
    }

    /// Says that the process ends, and waits until the last spans are sent. Lines are written as
    /// they come, so nothing of them is left behind.
    pub fn shutdown(self) {
        if let Some(Err(error)) = self.traces.map(|provider| provider.shutdown()) {
            tracing::warn!(%error, "the last spans can't be sent");
        }
        tracing::debug!(service = self.service, "logging ends");
    }
}

/// Makes writers that redact.
struct Redacted;

/// Collects one event, which the subscriber may write in pieces, and writes it redacted.
struct Line(Vec<u8>);

impl<'a> MakeWriter<'a> for Redacted {
    type Writer = Line;

    fn make_writer(&'a self) -> Line {
        Line(Vec::new())
    }
}

impl Write for Line {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        let text = String::from_utf8_lossy(&self.0);
        // There is nobody to tell that the log can't be written.
        let _ = io::stderr()
            .lock()
            .write_all(patchfleet_guard::redact(&text).as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bad_filter_is_named() {
        let options = Options {
            format: Format::Human,
            filter: "patchfleet=loud".to_owned(),
            service: "test".to_owned(),
            traces: None,
        };
        let error = Telemetry::start(options).unwrap_err().to_string();
        assert!(
            error.starts_with("log filter `patchfleet=loud`: "),
            "{error}"
        );
    }
}
