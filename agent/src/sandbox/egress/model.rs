//! The way to a model in the work phase: a reverse proxy with one fixed upstream.
//!
//! It is no proxy that a client could send elsewhere: a request has a path of the short list, and
//! goes to the configured address with the configured key. Nothing that the client says of itself
//! as a credential goes on, and nothing of the key comes back: redirects are refused, errors are
//! redacted, headers are picked, and the key is masked in every body. What one sandbox may send
//! and receive is bounded, all its requests together.

mod metered;
mod record;
mod upstream;

use std::convert::Infallible;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper::header::{ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_TYPE, HeaderValue};
use hyper::service::service_fn;
use hyper::{HeaderMap, Method, Request, Response, StatusCode, Uri};
use hyper_util::rt::{TokioIo, TokioTimer};
use patchfleet_proxy::Proxies;
use serde_json::json;
use tokio::net::UnixStream;
use tokio::time::timeout;

use super::connect::{Body, REASON_HEADER};
use super::headers::{retain, strip_hop_by_hop, strip_host};
use super::mask::{KeyMask, Masked};
use super::socket::{Served, Serving};
use super::splice::Allowance;
use metered::{Metered, TooMuch};
pub use record::{ModelRecord, ModelUse};
pub use upstream::{Credential, ModelUpstream, ModelUpstreamError, is_this_host};

/// What is forwarded. `HEAD /`, by which a command line looks whether there is a network, is
/// answered here.
const PATHS: &[&str] = &[
    "/v1/messages",
    "/v1/messages/count_tokens",
    "/v1/responses",
    "/v1/chat/completions",
];
/// The only query that a usual client has.
const QUERY: &str = "beta=true";
/// Largest error that is passed on.
const MAX_ERROR: usize = 64 << 10;
/// For a request's head.
const HEAD: Duration = Duration::from_secs(10);
/// For reaching the upstream, with its TLS handshake.
const CONNECT: Duration = Duration::from_secs(5);
/// Connections at once; more wait.
const MAX_CONNECTIONS: usize = 64;

/// Words of header fields that carry credentials or choose an account.
const CREDENTIALS: &[&str] = &[
    "auth",
    "api-key",
    "apikey",
    "token",
    "secret",
    "cookie",
    "credential",
    "password",
    "signature",
    "organization",
    "project",
    "goog",
    "amz",
];

/// How much one sandbox may have of its model.
#[derive(Debug, Clone, Copy)]
pub struct ModelLimits {
    /// Bytes of one request.
    pub request: usize,
    /// Bytes of all requests together.
    pub bytes_up: u64,
    /// Bytes of all answers together.
    pub bytes_down: u64,
    /// For the head of an answer, and of silence in it: a model that does not stream thinks before
    /// it.
    pub answer: Duration,
    /// Of a connection as a whole.
    pub total: Duration,
}

impl Default for ModelLimits {
    fn default() -> Self {
        Self {
            request: 32 << 20,
            bytes_up: 1 << 30,
            bytes_down: 1 << 30,
            answer: Duration::from_mins(10),
            total: Duration::from_hours(1),
        }
    }
}

/// A model as an agent reaches it. Cheap to clone; each sandbox gets a [`ModelProxy`] to it.
#[derive(Debug, Clone)]
pub struct Model {
    client: reqwest::Client,
    upstream: Arc<ModelUpstream>,
    limits: ModelLimits,
}

/// The reverse proxy of one sandbox. Dropping it ends all connections.
#[derive(Debug)]
pub struct ModelProxy {
    served: Served,
    record: ModelRecord,
}

impl ModelProxy {
    /// Begins to listen at the path of a unix socket, whose folder has to keep other users out.
    ///
    /// # Errors
    /// When the socket can't be made.
    pub fn bind(socket: &Path, model: Model) -> io::Result<Self> {
        let record = ModelRecord::default();
        let sandbox = Arc::new(OfSandbox {
            up: Allowance::new(model.limits.bytes_up),
            down: Allowance::new(model.limits.bytes_down),
            record: record.clone(),
            model,
        });
        let answer = move |stream, _: Serving| serve(Arc::clone(&sandbox), stream);
        let served = Served::bind(socket, MAX_CONNECTIONS, answer)?;
        Ok(Self { served, record })
    }

    /// Path of the unix socket on which the proxy listens.
    pub fn socket(&self) -> &Path {
        self.served.path()
    }

    /// The record of the sandbox's requests, while it runs.
    pub fn record(&self) -> ModelRecord {
        self.record.clone()
    }

    /// Ends all connections, then the socket; what the sandbox did with it.
    pub async fn close(self) -> ModelUse {
        self.served.close().await;
        self.record.all()
    }
}

/// A model for one sandbox.
struct OfSandbox {
    model: Model,
    up: Allowance,
    down: Allowance,
    record: ModelRecord,
}

/// A request that is not answered by the upstream.
struct Refused {
    status: StatusCode,
    reason: &'static str,
    message: String,
}

impl Model {
    /// A model that is reached through the host's proxies.
    ///
    /// # Errors
    /// When the host's certificates can't be read.
    pub fn new(
        upstream: ModelUpstream,
        limits: ModelLimits,
        proxies: &Proxies,
    ) -> io::Result<Self> {
        // A redirect would take the key along to wherever it leads.
        let client = proxies.client().redirect(reqwest::redirect::Policy::none());
        let client = client.connect_timeout(CONNECT).read_timeout(limits.answer);
        Ok(Self {
            client: client.build().map_err(io::Error::other)?,
            upstream: Arc::new(upstream),
            limits,
        })
    }
}

async fn serve(sandbox: Arc<OfSandbox>, stream: UnixStream) {
    let total = sandbox.model.limits.total;
    let service = service_fn(move |request| {
        let sandbox = Arc::clone(&sandbox);
        async move {
            let answered = sandbox.answer(request).await;
            let refused = |refused| sandbox.refuse(refused);
            Ok::<_, Infallible>(answered.unwrap_or_else(refused))
        }
    });
    let mut http = hyper::server::conn::http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(HEAD);
    // Whatever ends a connection early ends it for the client alone.
    let _ = timeout(total, http.serve_connection(TokioIo::new(stream), service)).await;
}

impl OfSandbox {
    async fn answer(&self, request: Request<Incoming>) -> Result<Response<Body>, Refused> {
        if request.method() == Method::HEAD && request.uri() == "/" {
            return Ok(Response::new(full(Bytes::new())));
        }
        let outward = self.outward(request)?;
        if self.up.is_used_up() || self.down.is_used_up() {
            return Err(self.too_many());
        }
        let open = self.record.begin_request();
        let Model { client, limits, .. } = &self.model;
        let answered = timeout(limits.answer, client.execute(outward)).await;
        let answered =
            answered.map_err(|_| away("the model does not answer in time".to_owned()))?;
        let answered = answered.map_err(|error| self.not_sent(error));
        let response = Response::from(answered?);
        let status = response.status();
        let (mut head, body) = response.into_parts();
        head.extensions = hyper::http::Extensions::new();
        self.pick(&mut head.headers);
        if status.is_redirection() || status.is_informational() {
            return Err(away(format!(
                "the model's server answers {status}, which is not followed"
            )));
        }
        if head
            .headers
            .remove(CONTENT_ENCODING)
            .is_some_and(|it| it != "identity")
        {
            return Err(away(
                "the model's server compresses what was to be plain".to_owned(),
            ));
        }
        let mask = KeyMask::new(self.model.upstream.key().as_bytes());
        let body = if status.is_success() {
            let body = Metered::new(Masked::new(body, mask), self.down.clone());
            // The request is open as long as its answer is.
            Body::new(body.map_frame(move |frame| {
                let _open = &open;
                frame
            }))
        } else {
            full(error_text(body, mask).await)
        };
        Ok(Response::from_parts(head, body))
    }

    /// The request as the upstream gets it.
    fn outward(&self, request: Request<Incoming>) -> Result<reqwest::Request, Refused> {
        let (mut head, body) = request.into_parts();
        let path = path(&head.method, &head.uri)?;
        let uri = format!("{}{path}", self.model.upstream.base).parse::<Uri>();
        head.uri = uri.map_err(|error| away(format!("the model's address is none: {error}")))?;
        head.extensions = hyper::http::Extensions::new();
        strip_hop_by_hop(&mut head.headers);
        strip_host(&mut head.headers);
        let is_credential = |name: &str| CREDENTIALS.iter().any(|word| name.contains(word));
        retain(&mut head.headers, |name| {
            !is_credential(name) && name != "x-real-ip" && name != "via"
        });
        head.headers
            .insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        let shown = self.model.upstream.show(&mut head.headers);
        shown.map_err(|error| away(error.to_string()))?;
        let body = Metered::new(body, self.up.clone());
        let body = reqwest::Body::wrap(Limited::new(body, self.model.limits.request));
        let request = reqwest::Request::try_from(Request::from_parts(head, body));
        request.map_err(|error| away(error.without_url().to_string()))
    }

    /// Keeps the fields that clients act on, and none that holds the key or names the account.
    fn pick(&self, headers: &mut HeaderMap) {
        const PASSED: &[&str] = &[
            "content-type",
            "content-encoding",
            "date",
            "retry-after",
            "retry-after-ms",
            "request-id",
            "x-request-id",
            "x-should-retry",
        ];
        let key = self.model.upstream.key().as_bytes();
        let holds_key = |value: &HeaderValue| {
            !key.is_empty() && value.as_bytes().windows(key.len()).any(|part| part == key)
        };
        let unsafe_names: Vec<String> = headers
            .iter()
            .filter(|(_, value)| holds_key(value))
            .map(|(name, _)| super::headers::normalized(name))
            .collect();
        retain(headers, |name| {
            let is_passed = PASSED.contains(&name) || name.contains("ratelimit");
            is_passed && !unsafe_names.iter().any(|it| it == name)
        });
    }

    /// Why a request did not get its answer, without the upstream's address or headers.
    fn not_sent(&self, error: reqwest::Error) -> Refused {
        let error = error.without_url();
        let mut source: Option<&(dyn std::error::Error + 'static)> = Some(&error);
        while let Some(error) = source {
            if error.is::<LengthLimitError>() {
                let most = self.model.limits.request;
                return too_large(format!("a request may have {most} bytes"));
            }
            if error.is::<TooMuch>() {
                return self.too_many();
            }
            source = error.source();
        }
        tracing::warn!(%error, "the model's server can't be reached");
        away("the model's server can't be reached".to_owned())
    }

    fn too_many(&self) -> Refused {
        let ModelLimits {
            bytes_up,
            bytes_down,
            ..
        } = self.model.limits;
        too_large(format!(
            "all requests together may have {bytes_up} bytes, and all answers {bytes_down}"
        ))
    }

    /// Answers a request that is not the upstream's to answer, in the form that clients of all
    /// these interfaces read.
    fn refuse(&self, refused: Refused) -> Response<Body> {
        let Refused {
            status,
            reason,
            message,
        } = refused;
        tracing::info!(reason, message, "model request refused");
        self.record.refused(&message);
        let error = json!({"type": reason, "message": format!("Patchfleet: {message}")});
        let text = json!({"type": "error", "error": error}).to_string();
        let mut response = Response::new(full(Bytes::from(text)));
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(REASON_HEADER, HeaderValue::from_static(reason));
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        response
    }
}

/// The path and query to forward, when they may be.
fn path(method: &Method, uri: &Uri) -> Result<String, Refused> {
    let refused = |message: String| Refused {
        status: StatusCode::FORBIDDEN,
        reason: "request_not_allowed",
        message,
    };
    if uri.authority().is_some() || method == Method::CONNECT {
        return Err(refused("this address only leads to the model".to_owned()));
    }
    if method != Method::POST || !PATHS.contains(&uri.path()) {
        return Err(refused(format!(
            "{method} {} is not forwarded to the model",
            uri.path()
        )));
    }
    match uri.query() {
        None => Ok(uri.path().to_owned()),
        Some(QUERY) => Ok(format!("{}?{QUERY}", uri.path())),
        Some(_) => Err(refused(format!(
            "the query of {} is not forwarded to the model",
            uri.path()
        ))),
    }
}

fn away(message: String) -> Refused {
    Refused {
        status: StatusCode::BAD_GATEWAY,
        reason: "upstream_unreachable",
        message,
    }
}

fn too_large(message: String) -> Refused {
    Refused {
        status: StatusCode::PAYLOAD_TOO_LARGE,
        reason: "too_many_bytes",
        message,
    }
}

/// An error's text, bounded, without the key and what looks like one.
async fn error_text(body: reqwest::Body, mut mask: KeyMask) -> Bytes {
    let read = timeout(HEAD, Limited::new(body, MAX_ERROR).collect()).await;
    let Ok(Ok(read)) = read else {
        return Bytes::new();
    };
    let mut bytes = mask.push(&read.to_bytes());
    bytes.extend(mask.finish());
    let text = String::from_utf8_lossy(&bytes).into_owned();
    Bytes::from(patchfleet_guard::redact(&text).into_owned())
}

fn full(bytes: Bytes) -> Body {
    Body::new(Full::new(bytes).map_err(|never| match never {}))
}
