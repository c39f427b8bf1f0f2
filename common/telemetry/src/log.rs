//! Logs to standard error, one event a line, redacted and unable to act on a terminal; spans to a receiver, if there is one.

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
        let lines = fmt::layer().with_writer(Lines(options.format));
        let lines = match options.format {
            Format::Human => lines.with_ansi(false).boxed(),
            Format::Json => lines.json().boxed(),
        };
        Registry::default()
            .with(lines.with_filter(filter))
            .with(spans)
            .try_init()
            .map_err(|_| StartError::StartedBefore)?;
        // A panic is a line of log like any other: what it quotes may come from outside.
        std::panic::set_hook(Box::new(|panic| tracing::error!(%panic, "a panic")));
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

/// Makes a writer for each event.
struct Lines(Format);

/// Collects one event, which the subscriber may write in pieces, and writes it as one line.
struct Line {
    format: Format,
    bytes: Vec<u8>,
}

impl<'a> MakeWriter<'a> for Lines {
    type Writer = Line;

    fn make_writer(&'a self) -> Line {
        Line {
            format: self.0,
            bytes: Vec::new(),
        }
    }
}

/// An event as it is written: without secrets, and with whatever its message and fields contain
/// on one line.
fn finished(format: Format, event: &str) -> String {
    let event = event.strip_suffix('\n').unwrap_or(event);
    let event = patchfleet_guard::redact(event);
    let event = match format {
        Format::Human => patchfleet_guard::visible_line(&event),
        Format::Json => patchfleet_guard::visible_json(&event),
    };
    format!("{event}\n")
}

impl Write for Line {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        let event = finished(self.format, &String::from_utf8_lossy(&self.bytes));
        // There is nobody to tell that the log can't be written.
        let _ = io::stderr().lock().write_all(event.as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    /// Keeps what one layer wrote.
    #[derive(Clone, Default)]
    struct Kept(Arc<Mutex<Vec<u8>>>);

    impl Write for Kept {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// An event whose message and fields hold what would act on a terminal, as it is written.
    fn logged(format: Format) -> String {
        let kept = Kept::default();
        let writer = kept.clone();
        let lines = fmt::layer().with_writer(move || writer.clone());
        let lines = match format {
            Format::Human => lines.with_ansi(false).boxed(),
            Format::Json => lines.json().boxed(),
        };
        let bad = "x\u{1b}]0;pwned\u{7}\u{9b}2J\u{202e}\u{85}\n2026-11-25T00:00:00Z  INFO forged";
        tracing::subscriber::with_default(Registry::default().with(lines), || {
            let span = tracing::info_span!("work", title = bad);
            let _entered = span.enter();
            tracing::info!(error = %bad, debug = ?bad, "message {bad}");
        });
        let text = String::from_utf8(kept.0.lock().unwrap().clone()).unwrap();
        finished(format, &text)
    }

    #[test]
    fn an_event_is_one_line_that_does_nothing_to_a_terminal() {
        for format in [Format::Human, Format::Json] {
            let text = logged(format);
            assert_eq!(text.lines().count(), 1, "{format:?}: {text:?}");
            let line = text.strip_suffix('\n').unwrap();
            let acts = |c: char| c.is_control() || matches!(c, '\u{202e}' | '\u{2028}');
            assert!(!line.contains(acts), "{format:?}: {line:?}");
        }
    }

    #[test]
    fn a_line_of_json_keeps_its_meaning() {
        let line: serde_json::Value = serde_json::from_str(&logged(Format::Json)).unwrap();
        let error = line["fields"]["error"].as_str().unwrap();
        assert!(error.contains("\u{9b}2J\u{202e}"), "{error:?}");
    }

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
