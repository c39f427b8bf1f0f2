//! An OTLP receiver that keeps what it gets, for tests that ask what was traced.
//!
//! It serves the protocol's own service over gRPC
//! (<https://opentelemetry.io/docs/specs/otlp/#otlpgrpc>); exporters can't tell it from another.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Context as _;
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{
    TraceService, TraceServiceServer,
};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value};
use opentelemetry_proto::tonic::trace::v1 as wire;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Response, Status};

/// How long to wait for what is to come.
const PATIENCE: Duration = Duration::from_mins(1);

/// A span as it arrived. Ids are in hexadecimal digits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Span {
    /// The `service.name` of whoever made it.
    pub service: String,
    /// The trace.
    pub trace_id: String,
    /// Itself.
    pub span_id: String,
    /// What it is a part of; empty for the first of a trace.
    pub parent_id: String,
    /// Its name.
    pub name: String,
    /// How long it took.
    pub took: Duration,
    /// Why it failed, if it did.
    pub error: Option<String>,
    /// What is said of it; numbers and truths as text.
    pub attributes: BTreeMap<String, String>,
}

/// A receiver that runs until it is dropped.
#[derive(Debug)]
pub struct Receiver {
    address: SocketAddr,
    spans: watch::Receiver<Vec<Span>>,
    _server: JoinSet<()>,
}

impl Receiver {
    /// Listens on a free port of the loopback.
    ///
    /// # Errors
    /// When there is none.
    pub async fn start() -> anyhow::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let (kept, spans) = watch::channel(Vec::new());
        let mut server = JoinSet::new();
        server.spawn(async move {
            let serving = Server::builder()
                .add_service(TraceServiceServer::new(Keeper { kept }))
                .serve_with_incoming(TcpIncoming::from(listener));
            if let Err(error) = serving.await {
                tracing::error!(%error, "the OTLP receiver ended");
            }
        });
        Ok(Self {
            address,
            spans,
            _server: server,
        })
    }

    /// What exporters are told.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// All spans so far, in the order of their coming.
    pub fn spans(&self) -> Vec<Span> {
        self.spans.borrow().clone()
    }

    /// Waits until the spans are as wanted, and returns them.
    ///
    /// # Errors
    /// When they are not within a minute.
    pub async fn wait(&self, wanted: impl Fn(&[Span]) -> bool) -> anyhow::Result<Vec<Span>> {
        let mut spans = self.spans.clone();
        let found = tokio::time::timeout(PATIENCE, spans.wait_for(|spans| wanted(spans))).await;
        match found {
            Ok(found) => Ok(found.context("the receiver ended")?.clone()),
            Err(_) => anyhow::bail!("waited in vain; there are {:#?}", self.spans()),
        }
    }
}

struct Keeper {
    kept: watch::Sender<Vec<Span>>,
}

#[tonic::async_trait]
impl TraceService for Keeper {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        let resources = request.into_inner().resource_spans;
        let spans = resources.into_iter().flat_map(spans_of);
        self.kept.send_modify(|kept| kept.extend(spans));
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

fn spans_of(resource: wire::ResourceSpans) -> Vec<Span> {
    let attributes = resource.resource.map(|resource| resource.attributes);
    let mut attributes = texts(attributes.unwrap_or_default());
    let service = attributes.remove("service.name").unwrap_or_default();
    let spans = resource.scope_spans.into_iter().flat_map(|it| it.spans);
    spans.map(|span| span_of(span, service.clone())).collect()
}

fn span_of(span: wire::Span, service: String) -> Span {
    let failed = wire::status::StatusCode::Error as i32;
    let took = span
        .end_time_unix_nano
        .saturating_sub(span.start_time_unix_nano);
    Span {
        service,
        trace_id: hex::encode(span.trace_id),
        span_id: hex::encode(span.span_id),
        parent_id: hex::encode(span.parent_span_id),
        name: span.name,
        took: Duration::from_nanos(took),
        error: span
            .status
            .filter(|status| status.code == failed)
            .map(|status| status.message),
        attributes: texts(span.attributes),
    }
}

fn texts(attributes: Vec<KeyValue>) -> BTreeMap<String, String> {
    let text = |value: Option<AnyValue>| match value.and_then(|value| value.value) {
        Some(any_value::Value::StringValue(text)) => text,
        Some(any_value::Value::IntValue(number)) => number.to_string(),
        Some(any_value::Value::BoolValue(truth)) => truth.to_string(),
        other => format!("{other:?}"),
    };
    let attributes = attributes.into_iter();
    attributes.map(|it| (it.key, text(it.value))).collect()
}
