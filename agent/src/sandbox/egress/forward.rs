//! Plain requests: `GET http://host/…` to port 80 of an allowed host, without a body.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body_util::Empty;
use hyper::body::{Body as _, Frame, Incoming};
use hyper::header::{HOST, HeaderValue};
use hyper::http::uri::Scheme;
use hyper::{Request, Response, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::timeout;

use super::connect::{Body, Proxy, Refused};
use super::headers::{size, strip_hop_by_hop, strip_host};
use super::refusals::{Reason, Refusals};
use super::socket::Serving;
use super::splice::Allowance;
use super::{HostName, NameError};

impl Proxy {
    /// Fetches from an allowed host over a connection of its own.
    pub(super) async fn forward(
        self: &Arc<Self>,
        request: Request<Incoming>,
        serving: &Serving,
    ) -> Result<Response<Body>, Refused> {
        let host = plain_host(request.uri())?;
        let refused = |reason, message: &str| Refused::new(host.as_str(), reason, message);
        if !request.body().is_end_stream() {
            return Err(refused(
                Reason::RequestNotAllowed,
                "a request with a body is not forwarded",
            ));
        }
        let (stream, room) = self.reach(&host, 80).await?;
        let outward = outward(request, &host);
        if !self
            .up
            .take(size(outward.headers()) + outward.uri().to_string().len())
        {
            return Err(refused(
                Reason::TooManyBytes,
                "too much was sent in this phase",
            ));
        }
        let unreachable = |error: &dyn std::fmt::Display| {
            refused(
                Reason::Unreachable,
                &format!("{host} does not answer: {error}"),
            )
        };
        let shaken = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await;
        let (mut sender, connection) = shaken.map_err(|error| unreachable(&error))?;
        let cancel = serving.cancel.clone();
        serving.tracker.spawn(async move {
            cancel.run_until_cancelled(connection).await;
        });
        let response = timeout(self.policy.limits.idle, sender.send_request(outward)).await;
        let response = response.map_err(|_| unreachable(&"no answer in time"))?;
        let mut response = response.map_err(|error| unreachable(&error))?;
        if response.status() == StatusCode::SWITCHING_PROTOCOLS {
            return Err(unreachable(&"it changes the protocol"));
        }
        strip_hop_by_hop(response.headers_mut());
        let (allowance, refusals) = (self.down.clone(), self.refusals.clone());
        let host = host.to_string();
        Ok(response.map(|body| {
            Body::new(Counted {
                body,
                allowance,
                refusals,
                host,
                _room: room,
            })
        }))
    }
}

/// The host of a request in absolute form; its port has to be that of HTTP.
fn plain_host(uri: &Uri) -> Result<HostName, Refused> {
    let asked = uri
        .authority()
        .map_or_else(|| uri.path().to_owned(), ToString::to_string);
    let refused = |reason, message: &str| Err(Refused::new(asked.clone(), reason, message));
    if uri.scheme() != Some(&Scheme::HTTP) {
        let message = "only CONNECT and requests for `http://HOST/…` are answered";
        return refused(Reason::RequestNotAllowed, message);
    }
    // With a user or a malformed port the parts would not make up the whole again.
    let (host, port) = (uri.host().unwrap_or_default(), uri.port_u16());
    if asked != host && port.is_none_or(|port| asked != format!("{host}:{port}")) {
        return refused(Reason::InvalidHost, "write the address as `http://HOST/…`");
    }
    if port.is_some_and(|port| port != 80) {
        return refused(Reason::PortNotAllowed, "plain requests reach port 80 only");
    }
    HostName::parse(host).or_else(|error| {
        let reason = match error {
            NameError::Address => Reason::AddressLiteral,
            _ if host.starts_with('[') => Reason::AddressLiteral,
            _ => Reason::InvalidHost,
        };
        refused(reason, &error.to_string())
    })
}

/// The request as the host gets it: origin form, the judged host, nothing of this connection.
fn outward(request: Request<Incoming>, host: &HostName) -> Request<Empty<Bytes>> {
    let (mut head, _) = request.into_parts();
    let path = head.uri.path_and_query().map_or("/", |path| path.as_str());
    head.uri = path.parse().unwrap_or_else(|_| Uri::from_static("/"));
    strip_hop_by_hop(&mut head.headers);
    strip_host(&mut head.headers);
    let host = HeaderValue::from_str(host.as_str()).expect("a host name is plain ASCII");
    head.headers.insert(HOST, host);
    Request::from_parts(head, Empty::new())
}

/// A response's body, counted against what may come in.
struct Counted {
    body: Incoming,
    allowance: Allowance,
    refusals: Refusals,
    host: String,
    _room: OwnedSemaphorePermit,
}

impl hyper::body::Body for Counted {
    type Data = Bytes;
    type Error = Box<dyn std::error::Error + Send + Sync>;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let polled = std::task::ready!(Pin::new(&mut self.body).poll_frame(cx));
        let bytes = match &polled {
            Some(Ok(frame)) => frame.data_ref().map_or(0, Bytes::len),
            _ => 0,
        };
        if !self.allowance.take(bytes) {
            self.refusals.record(&self.host, Reason::TooManyBytes);
            return Poll::Ready(Some(Err("too much was received in this phase".into())));
        }
        Poll::Ready(polled.map(|frame| frame.map_err(Into::into)))
    }
}
