//! The gateway: the only way of a coding command line to its model.
//!
//! It is no proxy that a client could send elsewhere: a request has a path of the short list, and
//! goes to the configured address with the configured key. Nothing that the client says of itself
//! as a credential goes on, and nothing of the key comes back: redirects are refused, errors are
//! redacted, headers are picked, and the key is masked in every body. What one sandbox may send
//! and receive is bounded, all its requests together.
//!
//! Each call of a model is reserved before it is sent, at the most that it can use, and settled with
//! what its answer says, which is read while it passes. Invariant: whatever was sent is settled, also
//! when its client, its answer or the draft ended in the middle. Absent: trying again, which is the
//! client's own business, each try a call of its own; and any change of what is asked or answered.

mod call;
mod call_log;
mod exchange;
mod mask;
mod metered;
mod record;
mod refusal;
mod request;
mod route;
mod upstream;

use std::convert::Infallible;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper::header::{ACCEPT_ENCODING, CONTENT_LENGTH, HeaderValue};
use hyper::http::request::Parts;
use hyper::service::service_fn;
use hyper::{HeaderMap, Method, Request, Response, Uri};
use hyper_util::rt::{TokioIo, TokioTimer};
use patchfleet_proxy::Proxies;
use tokio::net::UnixStream;
use tokio::sync::{Semaphore, oneshot};
use tokio::time::timeout;
use tokio_util::task::TaskTracker;

use crate::model::Budgets;
use crate::sandbox::egress::{
    Allowance, Body, Served, Serving, normalized, retain, strip_hop_by_hop, strip_host,
};
use call::Accounts;
pub(crate) use call_log::CallLog;
use exchange::{Exchange, HeadSender, away};
use metered::{Metered, TooMuch};
pub(crate) use record::{ModelRecord, ModelUse};
use refusal::{Reason, Refused};
use request::Asked;
use route::{Purpose, Route};
pub(crate) use upstream::{Credential, ModelUpstream};

/// For a request's head, and for its body.
const HEAD: Duration = Duration::from_secs(10);
/// For reaching the upstream, with its TLS handshake.
const CONNECT: Duration = Duration::from_secs(5);
/// Connections at once; more wait.
const MAX_CONNECTIONS: usize = 64;
/// Requests at once that are read and not sent yet: each may be as large as the limit.
const MAX_READ: usize = 8;
/// How long the end of a draft waits until it is durable what its last calls used. They are settled
/// also afterwards.
const SETTLING: Duration = Duration::from_secs(10);

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
pub(crate) struct ModelLimits {
    /// Bytes of one request.
    pub(crate) request: usize,
    /// Bytes of all requests together.
    pub(crate) bytes_up: u64,
    /// Bytes of all answers together.
    pub(crate) bytes_down: u64,
    /// For the head of an answer, and of silence in it: a model that does not stream thinks before
    /// it.
    pub(crate) answer: Duration,
    /// Of a connection as a whole.
    pub(crate) total: Duration,
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

/// A model's server as an agent reaches it. Cheap to clone; each sandbox gets a [`Gateway`] to it.
#[derive(Debug, Clone)]
pub(crate) struct Model {
    client: reqwest::Client,
    upstream: Arc<ModelUpstream>,
    limits: ModelLimits,
}

/// The gateway of one sandbox. Dropping it ends all connections.
#[derive(Debug)]
pub(crate) struct Gateway {
    served: Served,
    exchanges: TaskTracker,
    record: ModelRecord,
}

impl Gateway {
    /// Begins to listen at the path of a unix socket, whose folder has to keep other users out; calls go
    /// into the log, where there is one.
    ///
    /// # Errors
    /// When the socket can't be made.
    pub(crate) fn bind(
        socket: &Path,
        model: Model,
        budgets: Budgets,
        log: Option<CallLog>,
    ) -> io::Result<Self> {
        let record = ModelRecord::default();
        let exchanges = TaskTracker::new();
        let sandbox = Arc::new(OfSandbox {
            up: Allowance::new(model.limits.bytes_up),
            down: Allowance::new(model.limits.bytes_down),
            room: Semaphore::new(MAX_READ),
            accounts: Accounts {
                budgets,
                base: model.upstream.url().clone(),
                record: record.clone(),
                log,
            },
            exchanges: exchanges.clone(),
            model,
        });
        let answer = move |stream, _: Serving| serve(Arc::clone(&sandbox), stream);
        let served = Served::bind(socket, MAX_CONNECTIONS, answer)?;
        Ok(Self {
            served,
            exchanges,
            record,
        })
    }

    /// Path of the unix socket on which the gateway listens.
    pub(crate) fn socket(&self) -> &Path {
        self.served.path()
    }

    /// The record of the sandbox's requests, while it runs.
    pub(crate) fn record(&self) -> ModelRecord {
        self.record.clone()
    }

    /// Ends all connections, then the socket, and settles what was under way; what the sandbox did
    /// with it.
    pub(crate) async fn close(self) -> ModelUse {
        self.served.close().await;
        self.exchanges.close();
        if timeout(SETTLING, self.exchanges.wait()).await.is_err() {
            tracing::warn!("the last calls of a model are settled when the coordinator answers");
        }
        self.record.all()
    }
}

/// A model for one sandbox.
struct OfSandbox {
    model: Model,
    up: Allowance,
    down: Allowance,
    room: Semaphore,
    accounts: Accounts,
    exchanges: TaskTracker,
}

/// A request that was read.
struct Heard {
    head: Parts,
    body: Bytes,
    route: Route,
}

impl Model {
    /// A model that is reached through the host's proxies.
    ///
    /// # Errors
    /// When the host's certificates can't be read.
    pub(crate) fn new(
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
        async move { Ok::<_, Infallible>(sandbox.answer(request).await) }
    });
    let mut http = hyper::server::conn::http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(HEAD);
    // Whatever ends a connection early ends it for the client alone.
    let _ = timeout(total, http.serve_connection(TokioIo::new(stream), service)).await;
}

impl OfSandbox {
    async fn answer(self: Arc<Self>, request: Request<Incoming>) -> Response<Body> {
        // By this a command line looks whether there is a network.
        if request.method() == Method::HEAD && request.uri() == "/" {
            return Response::new(full(Bytes::new()));
        }
        let protocol = route::protocol(request.uri().path());
        let refused = match self.forward(request).await {
            Ok(response) => return response,
            Err(refused) => refused,
        };
        self.accounts.record.refused(&refused.message);
        refused.response(protocol)
    }

    async fn forward(
        self: &Arc<Self>,
        request: Request<Incoming>,
    ) -> Result<Response<Body>, Refused> {
        let route = route::route(request.method(), request.uri())?;
        if self.up.is_used_up() || self.down.is_used_up() {
            return Err(self.too_many());
        }
        // Never closed, so that a permit is always had.
        let room = self.room.acquire().await;
        let heard = self.read(request, route).await?;
        let (client, answer) = oneshot::channel();
        let sandbox = Arc::clone(self);
        self.exchanges
            .spawn(async move { sandbox.exchange(heard, client).await });
        let answer = answer.await;
        drop(room);
        answer.unwrap_or_else(|_| Err(away("the request was given up")))
    }

    /// Reads a request whole: what it costs at most has to be known before it is sent.
    async fn read(&self, request: Request<Incoming>, route: Route) -> Result<Heard, Refused> {
        let (head, body) = request.into_parts();
        let body = Metered::new(body, self.up.clone());
        let read = Limited::new(body, self.model.limits.request).collect();
        let read = timeout(self.model.limits.answer, read).await;
        let late = || Refused::new(Reason::Malformed, "the request did not come in time");
        let body = read.map_err(|_| late())?;
        let body = body.map_err(|error| self.not_read(&*error))?.to_bytes();
        Ok(Heard { head, body, route })
    }

    /// Reserves what a request can use, sends it and passes its answer on.
    async fn exchange(self: Arc<Self>, heard: Heard, client: HeadSender) {
        let Heard { head, body, route } = heard;
        let protocol = route::protocol(head.uri.path());
        let call = async {
            let Purpose::Call { model } = route.purpose.clone() else {
                return Ok(None);
            };
            let asked = Asked::read(protocol, model, &body)?;
            let reserving = self
                .accounts
                .reserve(&asked, (protocol, route.path.as_str(), &body));
            reserving.await.map(Some)
        };
        let call = match call.await {
            Ok(call) => call,
            Err(refused) => return exchange::answer(client, Err(refused)),
        };
        let request = match self.outward(head, &route.path, body) {
            Ok(request) if !client.is_closed() => request,
            outward => {
                if let Some(call) = call {
                    call.free(None).await;
                }
                let refused = outward.err();
                return exchange::answer(client, Err(refused.unwrap_or_else(|| away("given up"))));
            }
        };
        let exchange = Exchange {
            request,
            call,
            open: self.accounts.record.begin_request(),
        };
        exchange.run(&self, client).await;
    }

    /// The request as the upstream gets it.
    fn outward(
        &self,
        mut head: Parts,
        path: &str,
        body: Bytes,
    ) -> Result<reqwest::Request, Refused> {
        let uri = format!("{}{path}", self.model.upstream.base()).parse::<Uri>();
        head.uri = uri.map_err(|error| away(format!("the model's address is none: {error}")))?;
        head.extensions = hyper::http::Extensions::new();
        strip_hop_by_hop(&mut head.headers);
        strip_host(&mut head.headers);
        let is_credential = |name: &str| CREDENTIALS.iter().any(|word| name.contains(word));
        retain(&mut head.headers, |name| {
            !is_credential(name) && name != "x-real-ip" && name != "via"
        });
        // The body's own.
        head.headers.remove(CONTENT_LENGTH);
        head.headers
            .insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        let shown = self.model.upstream.show(&mut head.headers);
        shown.map_err(|error| away(error.to_string()))?;
        let request = Request::from_parts(head, reqwest::Body::from(body));
        let request = reqwest::Request::try_from(request);
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
            .map(|(name, _)| normalized(name))
            .collect();
        retain(headers, |name| {
            let is_passed = PASSED.contains(&name) || name.contains("ratelimit");
            is_passed && !unsafe_names.iter().any(|it| it == name)
        });
    }

    /// Why a request did not get its answer, without the upstream's address or headers.
    fn not_sent(error: &reqwest::Error) -> Refused {
        tracing::warn!(%error, "the model's server can't be reached");
        away("the model's server can't be reached")
    }

    /// Why a request can't be read.
    fn not_read(&self, error: &(dyn std::error::Error + Send + Sync + 'static)) -> Refused {
        if error.is::<LengthLimitError>() {
            let most = self.model.limits.request;
            return Refused::new(Reason::TooMuch, format!("a request may have {most} bytes"));
        }
        if error.is::<TooMuch>() {
            return self.too_many();
        }
        Refused::new(Reason::Malformed, "the request broke off")
    }

    fn too_many(&self) -> Refused {
        let ModelLimits {
            bytes_up,
            bytes_down,
            ..
        } = self.model.limits;
        Refused::new(
            Reason::TooMuch,
            format!(
                "all requests together may have {bytes_up} bytes, and all answers {bytes_down}"
            ),
        )
    }
}

fn full(bytes: Bytes) -> Body {
    Body::new(Full::new(bytes).map_err(|never| match never {}))
}

#[cfg(test)]
mod tests;
