//! Logs to standard error, redacted line by line.

use std::io::{self, Write};

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

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
    /// Logging was started before in this process.
    #[error("logging was started before")]
    StartedBefore,
}

/// Logging that runs.
#[derive(Debug)]
pub struct Telemetry {
    service: String,
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
        let builder = tracing_subscriber::fmt()
            .with_env_filter(filter)
            .with_writer(Redacted);
        let started = match options.format {
            Format::Human => builder.with_ansi(false).try_init(),
            Format::Json => builder.json().try_init(),
        };
        started.map_err(|_| StartError::StartedBefore)?;
        tracing::debug!(service = options.service, "logging started");
        Ok(Self {
            service: options.service,
        })
    }

    /// Says that the process ends. Lines are written as they come, so nothing is left behind.
    pub fn shutdown(self) {
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
        };
        let error = Telemetry::start(options).unwrap_err().to_string();
        assert!(
            error.starts_with("log filter `patchfleet=loud`: "),
            "{error}"
        );
    }
}
