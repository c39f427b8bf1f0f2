//! The proxy of the setup phase: tunnels to allowed hosts by CONNECT, in the order
//! parse, compare, resolve, judge, dial, read the TLS handshake, compare again, pass on.
//!
//! A client is refused by status 403 with the reason, or, when the tunnel is there already, by a
//! TLS alert. Absent: decryption, so that what a host serves under another name behind the same
//! certificate can be had (`docs/SECURITY.md`).

use std::convert::Infallible;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Empty, Full};
use hyper::body::Incoming;
use hyper::header::{CONNECTION, CONTENT_TYPE, HeaderValue};
use hyper::service::service_fn;
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use super::AllowList;
use super::address::AddressRules;
use super::client_hello::{self, HelloError};
use super::network::Network;
use super::refusals::{Phase, Reason, Refusals};
use super::socket::{Served, Serving};
use super::splice::{Allowance, Times, splice};
use super::target::{Target, TargetError};
use super::{HostName, NameError};

/// The header field that says why something was refused.
pub(crate) const REASON_HEADER: &str = "x-patchfleet-refused";
/// Most bytes of a request's head.
const MAX_HEAD: usize = 16 * 1024;
/// Most header fields of a request.
const MAX_HEADERS: usize = 64;
/// Most addresses of a host that are tried.
const MAX_ADDRESSES: usize = 4;
/// The TLS alert `access_denied`, fatal: what a client says is then not just "connection reset".
const ACCESS_DENIED: [u8; 7] = [21, 3, 3, 0, 2, 2, 49];

/// The body of an answer.
pub(crate) type Body = UnsyncBoxBody<Bytes, Box<dyn std::error::Error + Send + Sync>>;

/// What one sandbox may do in one phase.
#[derive(Debug, Clone)]
pub struct Policy {
    /// The phase, for the record.
    pub phase: Phase,
    /// The hosts that may be reached.
    pub allow: AllowList,
    /// The addresses that they may have.
    pub addresses: AddressRules,
    /// How much of everything.
    pub limits: Limits,
}

/// Bounds of one sandbox and phase.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// For a request's head, also the next one on a connection that is kept.
    pub head: Duration,
    /// For the first message of a TLS handshake.
    pub hello: Duration,
    /// For resolving a name.
    pub resolve: Duration,
    /// For reaching an address.
    pub dial: Duration,
    /// Of silence on a tunnel.
    pub idle: Duration,
    /// Of a connection or tunnel as a whole.
    pub total: Duration,
    /// Bytes that may leave, all connections together.
    pub bytes_up: u64,
    /// Bytes that may come in, all connections together.
    pub bytes_down: u64,
    /// Most tunnels that are open at once.
    pub tunnels: usize,
    /// Connections at once that are not tunnels; more wait.
    pub connections: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            head: Duration::from_secs(10),
            hello: Duration::from_secs(10),
            resolve: Duration::from_secs(10),
            dial: Duration::from_secs(10),
            idle: Duration::from_mins(1),
            total: Duration::from_mins(30),
            bytes_up: 64 << 20,
            bytes_down: 8 << 30,
            tunnels: 64,
            connections: 256,
        }
    }
}

/// The allow-listing proxy of one sandbox and phase. Dropping it ends all connections.
#[derive(Debug)]
pub struct ConnectProxy {
    served: Served,
    refusals: Refusals,
}

impl ConnectProxy {
    /// Begins to listen at the path of a unix socket, whose folder has to keep other users out.
    ///
    /// # Errors
    /// When the socket can't be made there.
    pub fn bind(socket: &Path, policy: Policy, network: Arc<dyn Network>) -> io::Result<Self> {
        let refusals = Refusals::new(policy.phase);
        let limits = policy.limits;
        let proxy = Arc::new(Proxy {
            network,
            refusals: refusals.clone(),
            tunnels: Arc::new(Semaphore::new(limits.tunnels)),
            up: Allowance::new(limits.bytes_up),
            down: Allowance::new(limits.bytes_down),
            policy,
        });
        let answer = move |stream, serving| serve(Arc::clone(&proxy), stream, serving);
        let served = Served::bind(socket, limits.connections, answer)?;
        Ok(Self { served, refusals })
    }

    /// Path of the unix socket on which the proxy listens.
    pub fn socket(&self) -> &Path {
        self.served.path()
    }

    /// What was refused up to now.
    pub fn refusals(&self) -> &Refusals {
        &self.refusals
    }

    /// Ends the phase: all connections, then the socket.
    pub async fn close(self) -> Refusals {
        self.served.close().await;
        self.refusals
    }
}

/// What all connections of a sandbox share.
pub(super) struct Proxy {
    pub(super) policy: Policy,
    pub(super) network: Arc<dyn Network>,
    pub(super) refusals: Refusals,
    pub(super) tunnels: Arc<Semaphore>,
    pub(super) up: Allowance,
    pub(super) down: Allowance,
}

/// A request that is not answered as asked.
pub(super) struct Refused {
    host: String,
    reason: Reason,
    message: String,
}

impl Refused {
    pub(super) fn new(host: impl Into<String>, reason: Reason, message: impl Into<String>) -> Self {
        Self {
            host: host.into(),
            reason,
            message: message.into(),
        }
    }

    fn target(authority: &str, error: &TargetError) -> Self {
        let reason = match error {
            TargetError::Name(NameError::Address) => Reason::AddressLiteral,
            TargetError::Name(_) | TargetError::NoPort => Reason::InvalidHost,
            TargetError::Port(_) => Reason::PortNotAllowed,
        };
        Self::new(authority, reason, error.to_string())
    }
}

async fn serve(proxy: Arc<Proxy>, stream: UnixStream, serving: Serving) {
    let limits = proxy.policy.limits;
    let service = service_fn(move |request| {
        let (proxy, serving) = (Arc::clone(&proxy), serving.clone());
        async move { Ok::<_, Infallible>(proxy.answer(request, &serving).await) }
    });
    let mut http = hyper::server::conn::http1::Builder::new();
    http.timer(TokioTimer::new())
        .header_read_timeout(limits.head)
        .max_headers(MAX_HEADERS)
        .max_buf_size(MAX_HEAD);
    let connection = http
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    if let Ok(Err(error)) = timeout(limits.total, connection).await {
        tracing::debug!(%error, "a sandbox's connection ended");
    }
}

impl Proxy {
    async fn answer(
        self: Arc<Self>,
        request: Request<Incoming>,
        serving: &Serving,
    ) -> Response<Body> {
        let answered = match *request.method() {
            Method::CONNECT => self.connect(request, serving).await,
            Method::GET | Method::HEAD => self.forward(request, serving).await,
            _ => {
                let host = request.uri().host().unwrap_or("-");
                let message = format!("the method {} is not forwarded", request.method());
                Err(Refused::new(host, Reason::RequestNotAllowed, message))
            }
        };
        answered.unwrap_or_else(|refused| self.refuse(&refused))
    }

    fn refuse(&self, refused: &Refused) -> Response<Body> {
        let status = match refused.reason {
            Reason::Unreachable => StatusCode::BAD_GATEWAY,
            Reason::TooManyTunnels => StatusCode::SERVICE_UNAVAILABLE,
            _ => StatusCode::FORBIDDEN,
        };
        if refused.reason == Reason::Unreachable {
            // An accident, and not what anybody has to allow.
            tracing::info!(
                host = refused.host,
                message = refused.message,
                "host not reached"
            );
        } else {
            self.refusals.record(&refused.host, refused.reason);
        }
        let text = format!("Patchfleet: {} ({})\n", refused.message, refused.reason);
        let body = Full::new(Bytes::from(text)).map_err(|never| match never {});
        let mut response = Response::new(Body::new(body));
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(
            REASON_HEADER,
            HeaderValue::from_static(refused.reason.as_str()),
        );
        headers.insert(
            CONTENT_TYPE,
            HeaderValue::from_static("text/plain; charset=utf-8"),
        );
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
        response
    }

    /// A tunnel: the answer that opens it, and a task that passes on what follows.
    async fn connect(
        self: &Arc<Self>,
        request: Request<Incoming>,
        serving: &Serving,
    ) -> Result<Response<Body>, Refused> {
        // Whole, so that a scheme, a user or a path is seen.
        let authority = request.uri().to_string();
        let target = Target::parse(&authority).map_err(|it| Refused::target(&authority, &it))?;
        let (outside, room) = self.reach(&target.host, 443).await?;
        let tunnel = Tunnel {
            proxy: Arc::clone(self),
            host: target.host,
            outside,
            room,
        };
        let (upgrade, cancel) = (hyper::upgrade::on(request), serving.cancel.clone());
        serving.tracker.spawn(async move {
            cancel.run_until_cancelled(tunnel.run(upgrade)).await;
        });
        Ok(Response::new(Body::new(
            Empty::new().map_err(|never| match never {}),
        )))
    }

    /// A connection to a host: compared with the list, then resolved, judged and dialled.
    pub(super) async fn reach(
        &self,
        host: &HostName,
        port: u16,
    ) -> Result<(TcpStream, OwnedSemaphorePermit), Refused> {
        if !self.policy.allow.contains(host) {
            let message = format!("{host} is not among the hosts that may be reached");
            return Err(Refused::new(host.as_str(), Reason::HostNotAllowed, message));
        }
        let room = Arc::clone(&self.tunnels).try_acquire_owned().map_err(|_| {
            let message = format!("there are {} tunnels already", self.policy.limits.tunnels);
            Refused::new(host.as_str(), Reason::TooManyTunnels, message)
        })?;
        let addresses = self.resolve(host).await?;
        Ok((self.dial(host, &addresses, port).await?, room))
    }

    async fn resolve(&self, host: &HostName) -> Result<Vec<IpAddr>, Refused> {
        let unreachable = |why: String| {
            Refused::new(
                host.as_str(),
                Reason::Unreachable,
                format!("{host} can't be resolved: {why}"),
            )
        };
        let addresses = timeout(self.policy.limits.resolve, self.network.resolve(host)).await;
        let addresses = addresses.map_err(|_| unreachable("no answer in time".to_owned()))?;
        let addresses = addresses.map_err(|error| unreachable(error.to_string()))?;
        if addresses.is_empty() {
            return Err(unreachable("it has no address".to_owned()));
        }
        // One that leads inwards is reason enough to believe none of them.
        match addresses
            .iter()
            .find(|address| !self.policy.addresses.allow(**address))
        {
            Some(address) => {
                let message = format!("{host} has the address {address}, which is not public");
                Err(Refused::new(
                    host.as_str(),
                    Reason::AddressNotPublic,
                    message,
                ))
            }
            None => Ok(addresses),
        }
    }

    async fn dial(
        &self,
        host: &HostName,
        addresses: &[IpAddr],
        port: u16,
    ) -> Result<TcpStream, Refused> {
        let mut failed = "no answer in time".to_owned();
        for address in addresses.iter().take(MAX_ADDRESSES) {
            let connecting = self.network.connect(SocketAddr::new(*address, port));
            match timeout(self.policy.limits.dial, connecting).await {
                Ok(Ok(stream)) => {
                    // A failure costs speed alone.
                    let _ = stream.set_nodelay(true);
                    return Ok(stream);
                }
                Ok(Err(error)) => failed = error.to_string(),
                Err(_) => {}
            }
        }
        let message = format!("{host} can't be reached: {failed}");
        Err(Refused::new(host.as_str(), Reason::Unreachable, message))
    }
}

/// A connection to a host, before the sandbox has said whom it means to talk to.
struct Tunnel {
    proxy: Arc<Proxy>,
    host: HostName,
    outside: TcpStream,
    room: OwnedSemaphorePermit,
}

impl Tunnel {
    async fn run(mut self, upgrade: OnUpgrade) {
        let Ok(upgraded) = upgrade.await else { return };
        let mut inside = TokioIo::new(upgraded);
        if let Err((host, reason)) = self.pass(&mut inside).await {
            self.proxy.refusals.record(&host, reason);
            let hello = self.proxy.policy.limits.hello;
            let _ = timeout(hello, inside.write_all(&ACCESS_DENIED)).await;
        }
        drop(self.room);
    }

    /// Passes everything on once the handshake names the host of the tunnel.
    async fn pass(&mut self, inside: &mut TokioIo<Upgraded>) -> Result<(), (String, Reason)> {
        let limits = self.proxy.policy.limits;
        let of_host = |reason| (self.host.to_string(), reason);
        let read = timeout(limits.hello, client_hello::read(inside)).await;
        let (name, hello) = match read {
            Ok(Ok(read)) => read,
            Ok(Err(HelloError::Ended)) => return Ok(()),
            Ok(Err(_)) => return Err(of_host(Reason::NoServerName)),
            Err(_) => return Err(of_host(Reason::HandshakeTimeout)),
        };
        if name != self.host {
            return Err((name.to_string(), Reason::ServerNameMismatch));
        }
        if !self.proxy.up.take(hello.len()) {
            return Err(of_host(Reason::TooManyBytes));
        }
        match timeout(limits.idle, self.outside.write_all(&hello)).await {
            Ok(Ok(())) => {}
            Ok(Err(_)) => return Ok(()),
            Err(_) => return Err((self.host.to_string(), Reason::TimeLimit)),
        }
        let times = Times {
            total: limits.total,
            idle: limits.idle,
        };
        let (up, down) = (&self.proxy.up, &self.proxy.down);
        let passed = splice((inside, up), (&mut self.outside, down), times).await;
        passed.map_err(|reason| (self.host.to_string(), reason))
    }
}
