//! Traces: one for each task, from the webhook to the pull request, over OTLP.
//!
//! A span is exported when its target is [`TARGET`] and nothing else is: logs stay where they are
//! redacted, and no span lives as long as a stream. Between processes, and through the store, a
//! trace travels as the W3C `traceparent` of its first span
//! (<https://www.w3.org/TR/trace-context/#traceparent-header>), which later ones are children of.

use std::collections::HashMap;
use std::time::{Duration, SystemTime};

use opentelemetry::propagation::TextMapPropagator as _;
use opentelemetry::trace::{Span as _, Status, TraceContextExt as _, Tracer as _};
use opentelemetry::trace::{SpanKind, TracerProvider as _};
use opentelemetry::{Context, KeyValue, global};
use opentelemetry_otlp::{SpanExporter, WithExportConfig as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::{
    BatchConfigBuilder, BatchSpanProcessor, Sampler, SdkTracer, SdkTracerProvider,
};
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt as _;

use crate::log::StartError;

/// The target of spans that are exported.
pub const TARGET: &str = "patchfleet::trace";

/// Who makes the spans.
const SCOPE: &str = "patchfleet";
/// The name of the one header that carries a trace.
const HEADER: &str = "traceparent";
/// How long finished spans wait for others to go with.
const PAUSE: Duration = Duration::from_secs(1);
/// How long the receiver may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// Where traces go.
#[derive(Debug, Clone)]
pub struct TraceOptions {
    /// An OTLP receiver that speaks gRPC, `http://HOST:4317`.
    pub endpoint: String,
    /// The part of tasks that is traced, from 0 to 1. A task is traced whole or not at all.
    pub sample: f64,
}

/// Makes and exports the spans of this process. Has to be called where tokio runs.
pub(crate) fn provider(
    service: &str,
    options: &TraceOptions,
) -> Result<SdkTracerProvider, StartError> {
    let exporter = SpanExporter::builder()
        .with_tonic()
        .with_endpoint(&options.endpoint)
        .with_timeout(PATIENCE)
        .build()
        .map_err(|error| StartError::Traces(error.to_string()))?;
    let batches = BatchConfigBuilder::default().with_scheduled_delay(PAUSE);
    let batches = BatchSpanProcessor::builder(exporter)
        .with_batch_config(batches.build())
        .build();
    let resource = Resource::builder()
        .with_service_name(service.to_owned())
        .with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")))
        .build();
    let sampler = Sampler::TraceIdRatioBased(options.sample);
    let provider = SdkTracerProvider::builder()
        .with_span_processor(batches)
        .with_sampler(Sampler::ParentBased(Box::new(sampler)))
        .with_resource(resource)
        .build();
    global::set_tracer_provider(provider.clone());
    Ok(provider)
}

pub(crate) fn tracer(provider: &SdkTracerProvider) -> SdkTracer {
    provider.tracer(SCOPE)
}

/// Makes the span a child of what was said before, and has its lines of log name the trace, if it
/// has a field `trace_id`. Nothing happens where nothing is traced.
pub fn follow(span: &Span, traceparent: Option<&str>) {
    if let Some(parent) = traceparent.and_then(parse) {
        // A span that is not exported has no parent either.
        let _ = span.set_parent(parent);
    }
    let context = span.context();
    let current = context.span();
    if current.span_context().is_valid() {
        let id = current.span_context().trace_id().to_string();
        span.record("trace_id", id);
    }
}

/// The span as it is passed on; nothing where nothing is traced.
pub fn traceparent(span: &Span) -> Option<String> {
    let mut carrier = HashMap::new();
    TraceContextPropagator::new().inject_context(&span.context(), &mut carrier);
    carrier.remove(HEADER)
}

/// Marks the span as failed. What is said is redacted.
pub fn failed(span: &Span, why: &impl ToString) {
    span.set_status(Status::error(
        patchfleet_guard::redact(&why.to_string()).into_owned(),
    ));
}

/// Exports a span of what is over already, when its beginning was not known to matter.
pub fn record(
    name: &'static str,
    traceparent: Option<&str>,
    (start, end): (SystemTime, SystemTime),
    attributes: &[(&'static str, String)],
) {
    let Some(parent) = traceparent.and_then(parse) else {
        return;
    };
    let attributes = attributes.iter();
    let attributes = attributes.map(|(key, value)| KeyValue::new(*key, value.clone()));
    let tracer = global::tracer(SCOPE);
    let mut span = tracer
        .span_builder(name)
        .with_kind(SpanKind::Internal)
        .with_start_time(start)
        .with_attributes(attributes)
        .start_with_context(&tracer, &parent);
    span.end_with_timestamp(end);
}

fn parse(traceparent: &str) -> Option<Context> {
    let carrier = HashMap::from([(HEADER.to_owned(), traceparent.to_owned())]);
    let context = TraceContextPropagator::new().extract_with_context(&Context::new(), &carrier);
    let valid = context.span().span_context().is_valid();
    valid.then_some(context)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_a_traceparent_is_followed() {
        let good = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        assert!(parse(good).is_some());
        for bad in [
            "",
            "00-0-0-01",
            "00-00000000000000000000000000000000-b7ad6b7169203331-01",
        ] {
            assert!(parse(bad).is_none(), "{bad}");
        }
    }

    #[test]
    fn without_a_receiver_nothing_is_traced() {
        let span =
            tracing::info_span!(target: TARGET, "task_execution", trace_id = tracing::field::Empty);
        follow(
            &span,
            Some("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
        );
        assert_eq!(traceparent(&span), None);
    }
}
