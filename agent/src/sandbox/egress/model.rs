//! The way to a model in the work phase: a reverse proxy with one fixed upstream.
//!
//! It is no proxy that a client could send elsewhere: a request has a path of the short list, and
//! goes to the configured address with the configured key. Nothing that the client says of itself
//! as a credential goes on, and nothing of the key comes back: redirects are refused, errors are
//! redacted, headers are picked, and the key is masked in every body.

use std::convert::Infallible;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper::header::{ACCEPT_ENCODING, AUTHORIZATION, CONTENT_ENCODING, CONTENT_TYPE, HeaderValue};
use hyper::service::service_fn;
use hyper::{HeaderMap, Method, Request, Response, StatusCode, Uri};
use hyper_util::rt::{TokioIo, TokioTimer};
use patchfleet_proxy::Proxies;
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::json;
use tokio::net::UnixStream;
use tokio::time::timeout;
use url::Url;

use super::connect::{Body, REASON_HEADER};
use super::headers::{retain, strip_hop_by_hop, strip_host};
use super::mask::{KeyMask, Masked};
use super::socket::{Served, Serving};

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
/// Largest request, and largest error that is passed on.
const MAX_REQUEST: usize = 32 << 20;
const MAX_ERROR: usize = 64 << 10;
/// For a request's head.
const HEAD: Duration = Duration::from_secs(10);
/// For reaching the upstream, with its TLS handshake.
const CONNECT: Duration = Duration::from_secs(5);
/// For the head of an answer, and of silence in it: a model that does not stream thinks before it.
const ANSWER: Duration = Duration::from_mins(10);
/// Of a connection as a whole.
const TOTAL: Duration = Duration::from_hours(1);
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

/// How the upstream is shown the key.
#[derive(Debug, Clone)]
pub enum Credential {
    /// The key goes in the header `x-api-key`.
    ApiKey(SecretString),
    /// The key goes in the header `authorization`, as a bearer token.
    Bearer(SecretString),
    /// The upstream wants no key.
    None,
}

/// A model's address and key.
#[derive(Debug, Clone)]
pub struct ModelUpstream {
    base: String,
    credential: Credential,
}

/// An upstream that can't be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ModelUpstreamError {
    /// Not HTTP, or more than a base.
    #[error(
        "`{0}` is not a model's address; write `https://HOST`, with a path where the interface has one"
    )]
    NotBase(Url),
    /// The key would go over the network in the clear.
    #[error("`{0}` is not encrypted: a key goes only to `https` addresses and to this host itself")]
    NotEncrypted(Url),
    /// The key can't stand in a header.
    #[error("the model's key has characters that no header can have, such as a line end")]
    Key,
}

impl ModelUpstream {
    /// An upstream below whose address the interface's paths are.
    ///
    /// # Errors
    /// When the address is no base of one, or the key would be readable on the way.
    pub fn new(base: &Url, credential: Credential) -> Result<Self, ModelUpstreamError> {
        let is_base = matches!(base.scheme(), "http" | "https")
            && base.has_host()
            && base.query().is_none()
            && base.fragment().is_none()
            && base.username().is_empty()
            && base.password().is_none();
        if !is_base {
            return Err(ModelUpstreamError::NotBase(base.clone()));
        }
        let is_here = match base.host() {
            Some(url::Host::Domain(name)) => name == "localhost",
            Some(url::Host::Ipv4(address)) => address.is_loopback(),
            Some(url::Host::Ipv6(address)) => address.is_loopback(),
            None => false,
        };
        let has_key = !matches!(credential, Credential::None);
        if base.scheme() == "http" && has_key && !is_here {
            return Err(ModelUpstreamError::NotEncrypted(base.clone()));
        }
        let upstream = Self {
            base: base.as_str().trim_end_matches('/').to_owned(),
            credential,
        };
        upstream.show(&mut HeaderMap::new())?;
        Ok(upstream)
    }

    fn key(&self) -> &str {
        match &self.credential {
            Credential::ApiKey(key) | Credential::Bearer(key) => key.expose_secret(),
            Credential::None => "",
        }
    }

    /// Adds the key to a request.
    fn show(&self, headers: &mut HeaderMap) -> Result<(), ModelUpstreamError> {
        let (name, value) = match &self.credential {
            Credential::ApiKey(key) => ("x-api-key", key.expose_secret().to_owned()),
            Credential::Bearer(key) => (
                AUTHORIZATION.as_str(),
                format!("Bearer {}", key.expose_secret()),
            ),
            Credential::None => return Ok(()),
        };
        let mut value = HeaderValue::try_from(value).map_err(|_| ModelUpstreamError::Key)?;
        value.set_sensitive(true);
        headers.insert(name, value);
        Ok(())
    }
}

/// The reverse proxy of one sandbox. Dropping it ends all connections.
#[derive(Debug)]
pub struct ModelProxy {
    served: Served,
}

impl ModelProxy {
    /// Begins to listen at the path of a unix socket, whose folder has to keep other users out.
    ///
    /// # Errors
    /// When the socket can't be made, or the host's certificates can't be read.
    pub fn bind(socket: &Path, upstream: ModelUpstream, proxies: &Proxies) -> io::Result<Self> {
        let model = Arc::new(Model {
            client: client(proxies)?,
            upstream,
        });
        let answer = move |stream, _: Serving| serve(Arc::clone(&model), stream);
        Ok(Self {
            served: Served::bind(socket, MAX_CONNECTIONS, answer)?,
        })
    }

    /// Path of the unix socket on which the proxy listens.
    pub fn socket(&self) -> &Path {
        self.served.path()
    }

    /// Ends all connections, then the socket.
    pub async fn close(self) {
        self.served.close().await;
    }
}

struct Model {
    client: reqwest::Client,
    upstream: ModelUpstream,
}

/// A request that is not answered by the upstream.
struct Refused {
    status: StatusCode,
    reason: &'static str,
    message: String,
}

fn client(proxies: &Proxies) -> io::Result<reqwest::Client> {
    // A redirect would take the key along to wherever it leads.
    let client = proxies.client().redirect(reqwest::redirect::Policy::none());
    let client = client.connect_timeout(CONNECT).read_timeout(ANSWER);
    client.build().map_err(io::Error::other)
}

async fn serve(model: Arc<Model>, stream: UnixStream) {
    let service = service_fn(move |request| {
        let model = Arc::clone(&model);
        async move { Ok::<_, Infallible>(model.answer(request).await.unwrap_or_else(refusal)) }
    });
    let mut http = hyper::server::conn::http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(HEAD);
    // Whatever ends a connection early ends it for the client alone.
    let _ = timeout(TOTAL, http.serve_connection(TokioIo::new(stream), service)).await;
}

impl Model {
    async fn answer(&self, request: Request<Incoming>) -> Result<Response<Body>, Refused> {
        if request.method() == Method::HEAD && request.uri() == "/" {
            return Ok(Response::new(full(Bytes::new())));
        }
        let outward = self.outward(request)?;
        let answered = timeout(ANSWER, self.client.execute(outward)).await;
        let answered =
            answered.map_err(|_| away("the model does not answer in time".to_owned()))?;
        let response = Response::from(answered.map_err(not_sent)?);
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
        let mask = KeyMask::new(self.upstream.key().as_bytes());
        let body = if status.is_success() {
            Body::new(Masked::new(body, mask))
        } else {
            full(error_text(body, mask).await)
        };
        Ok(Response::from_parts(head, body))
    }

    /// The request as the upstream gets it.
    fn outward(&self, request: Request<Incoming>) -> Result<reqwest::Request, Refused> {
        let (mut head, body) = request.into_parts();
        let path = path(&head.method, &head.uri)?;
        let uri = format!("{}{path}", self.upstream.base).parse::<Uri>();
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
        let shown = self.upstream.show(&mut head.headers);
        shown.map_err(|error| away(error.to_string()))?;
        let body = reqwest::Body::wrap(Limited::new(body, MAX_REQUEST));
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
        let key = self.upstream.key().as_bytes();
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

/// Why a request did not get its answer, without the upstream's address or headers.
fn not_sent(error: reqwest::Error) -> Refused {
    let error = error.without_url();
    let mut source: Option<&(dyn std::error::Error + 'static)> = Some(&error);
    while let Some(error) = source {
        if error.is::<LengthLimitError>() {
            let message = format!("a request may have {MAX_REQUEST} bytes");
            return Refused {
                status: StatusCode::PAYLOAD_TOO_LARGE,
                reason: "too_many_bytes",
                message,
            };
        }
        source = error.source();
    }
    tracing::warn!(%error, "the model's server can't be reached");
    away("the model's server can't be reached".to_owned())
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

/// An error in the form that clients of all these interfaces read.
fn refusal(refused: Refused) -> Response<Body> {
    tracing::info!(
        reason = refused.reason,
        message = refused.message,
        "model request refused"
    );
    let error =
        json!({"type": refused.reason, "message": format!("Patchfleet: {}", refused.message)});
    let text = json!({"type": "error", "error": error}).to_string();
    let mut response = Response::new(full(Bytes::from(text)));
    *response.status_mut() = refused.status;
    let headers = response.headers_mut();
    headers.insert(REASON_HEADER, HeaderValue::from_static(refused.reason));
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}
