//! One request to a provider, and its answer.
//!
//! A [`Client`] makes each call once: what may be tried again is decided above it, by
//! [`Retrying`](crate::Retrying), and a budget has its place between the two. The one thing that it
//! does twice is a request whose optional parameter the model refused: the parameter is left out,
//! and remembered. Invariants: no call outlasts its time, none outlives its caller's patience by
//! more than a moment, and the key is sent to the provider alone, never along a redirection.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use chrono::Utc;
use http::{HeaderMap, Request, StatusCode};
use patchfleet_guard::{redact, register_secret};
use patchfleet_proxy::Proxies;
use reqwest::Response;
use secrecy::ExposeSecret as _;
use serde_json::Value;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_util::sync::CancellationToken;

use crate::body::{Encoding, Kind, page};
use crate::decode::{Decoder, malformed};
use crate::failure::{Advice, LIMIT, Report};
use crate::no_answer::{NoAnswer, away, chain};
use crate::protocol::{Parameter, Protocol, Target, report};
use crate::{Answer, Broken, Conversation, Event, Model, ModelError, Origin, Usage};

/// Longest time for making a connection, as the official clients have it.
const CONNECT: Duration = Duration::from_secs(5);

/// The most bytes of the body of an error.
const LONGEST_ERROR: usize = 256 * 1024;

/// How patient a client is, and how it gets there.
#[derive(Debug, Clone)]
pub struct Settings {
    /// How long one request may take until its last byte.
    pub timeout: Duration,
    /// How long a stream that has begun may be silent.
    pub idle: Duration,
    /// The proxies between here and the provider.
    pub proxies: Proxies,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            timeout: Duration::from_mins(10),
            // Some models think for minutes without a byte.
            idle: Duration::from_mins(5),
            proxies: Proxies::default(),
        }
    }
}

type Observer = Arc<dyn Fn(&Event) + Send + Sync>;

/// A model at a provider, asked over HTTP. Cheap to clone; clones share connections and what they
/// learned of the model's parameters.
#[derive(Clone)]
pub struct Client {
    shared: Arc<Shared>,
    observer: Option<Observer>,
}

struct Shared {
    target: Target,
    http: reqwest::Client,
    settings: Settings,
    learned: Mutex<Learned>,
}

/// What the model's refusals taught.
struct Learned {
    takes: BTreeSet<Parameter>,
    /// Each parameter is changed once at most.
    changed: BTreeSet<Parameter>,
}

/// A client can't be made.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// The address is none of a server's.
    #[error("`{0}` is no address of a provider: write http://… or https://…")]
    Address(String),
    /// The HTTP client can't be made.
    #[error("no HTTP client can be made: {0}")]
    Http(String),
}

impl Client {
    /// Makes a client; nothing is asked yet.
    ///
    /// # Errors
    /// [`SetupError`] when the address can't be used.
    pub fn new(target: Target, settings: Settings) -> Result<Self, SetupError> {
        if !matches!(target.base_url.scheme(), "http" | "https") {
            return Err(SetupError::Address(target.base_url.to_string()));
        }
        if let Some(key) = &target.key {
            register_secret(key.expose_secret());
            let local = ["localhost", "127.0.0.1", "[::1]"];
            let host = target.base_url.host_str().unwrap_or_default();
            if target.base_url.scheme() == "http" && !local.contains(&host) {
                tracing::warn!(host, "the key of a provider is sent without encryption");
            }
        }
        let builder = settings.proxies.client();
        let builder = builder.redirect(reqwest::redirect::Policy::none());
        let http = builder.connect_timeout(CONNECT).build();
        let http = http.map_err(|error| SetupError::Http(chain(&error)))?;
        let learned = Learned {
            takes: target.takes.clone(),
            changed: BTreeSet::new(),
        };
        Ok(Self {
            shared: Arc::new(Shared {
                target,
                http,
                settings,
                learned: Mutex::new(learned),
            }),
            observer: None,
        })
    }

    /// Has every event of a stream shown as it arrives.
    #[must_use]
    pub fn observed(mut self, observer: impl Fn(&Event) + Send + Sync + 'static) -> Self {
        self.observer = Some(Arc::new(observer));
        self
    }

    /// The model, with the parameters that it is known to take by now.
    pub fn target(&self) -> Target {
        let mut target = self.shared.target.clone();
        target.takes.clone_from(&self.learned().takes);
        target
    }

    fn learned(&self) -> MutexGuard<'_, Learned> {
        self.shared
            .learned
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes note of a parameter that was refused; true when a request without it is another one.
    fn learn(&self, parameter: &str) -> bool {
        let mut learned = self.learned();
        if parameter == LIMIT && self.shared.target.protocol == Protocol::Chat {
            let limit = Parameter::CompletionLimit;
            return learned.changed.insert(limit) && learned.takes.insert(limit);
        }
        let refused = learned.takes.iter().copied();
        let refused = refused
            .into_iter()
            .find(|taken| taken.fields().contains(&parameter));
        refused.is_some_and(|refused| {
            learned.changed.insert(refused) && learned.takes.remove(&refused)
        })
    }

    async fn once(
        &self,
        conversation: &Conversation,
        cancel: &CancellationToken,
    ) -> Result<Answer, Broken> {
        let target = self.target();
        let request = target.request(conversation)?;
        if cancel.is_cancelled() {
            return Err(ModelError::Cancelled.into());
        }
        let limit = self.shared.settings.timeout;
        let deadline = Instant::now() + limit;
        let sent = request.body().len();
        let response = self.send(request, deadline, cancel).await;
        let response = response.map_err(|it| target.unanswered(it, sent))?;
        let headers = response.headers().clone();
        let status = response.status();
        let advice = Advice::of(&headers, Utc::now());
        let encoding = Encoding::of(&headers).map_err(|error| {
            let lost = NoAnswer::lost(error);
            target.unanswered(lost, sent)
        })?;
        let mut reader = Reader {
            response,
            deadline,
            limit,
            idle: self.shared.settings.idle,
            cancel,
            encoding,
        };
        let ended = if status == StatusCode::OK {
            self.stream(&mut reader, &target, sent).await
        } else {
            let body = reader.all().await.map_err(tried)?;
            Err(Broken::new(refusal(status, &headers, &body, &target)))
        };
        ended.map_err(|mut broken| {
            broken.tries = 1;
            broken.advice = broken.advice.or(advice.again);
            if let ModelError::RateLimited { after } | ModelError::Overloaded { after } =
                &mut broken.error
            {
                *after = after.or(advice.wait);
            }
            broken
        })
    }

    async fn send(
        &self,
        request: Request<Bytes>,
        deadline: Instant,
        cancel: &CancellationToken,
    ) -> Result<Response, NoAnswer> {
        let request = reqwest::Request::try_from(request);
        let request = request.map_err(|error| NoAnswer::failed(&error))?;
        tokio::select! {
            biased;
            () = cancel.cancelled() => Err(NoAnswer::lost(ModelError::Cancelled)),
            answered = timeout_at(deadline, self.shared.http.execute(request)) => match answered {
                Ok(Ok(response)) => Ok(response),
                Ok(Err(error)) => Err(NoAnswer::failed(&error)),
                Err(_) => Err(NoAnswer::timed_out(self.shared.settings.timeout)),
            },
        }
    }

    /// Reads the stream, or finds out that it is none.
    async fn stream(
        &self,
        reader: &mut Reader<'_>,
        target: &Target,
        sent: usize,
    ) -> Result<Answer, Broken> {
        let is_lines = target.protocol == Protocol::Ollama;
        let mut decoder = target.decoder(sent);
        let mut start = Vec::new();
        let mut kind = Kind::Unknown;
        // Why the rest did not come.
        let mut lost = None;
        while !decoder.is_complete() {
            match reader.next().await {
                Ok(Some(bytes)) if kind == Kind::Stream => self.push(&mut decoder, &bytes),
                Ok(Some(bytes)) => {
                    start.extend_from_slice(&bytes);
                    kind = Kind::of(&start, is_lines);
                    if kind == Kind::Stream {
                        self.push(&mut decoder, &std::mem::take(&mut start));
                    } else if start.len() > LONGEST_ERROR {
                        break;
                    }
                }
                Ok(None) => break,
                Err(error) => {
                    lost = Some(error);
                    break;
                }
            }
        }
        match kind {
            Kind::Html => Err(lost.unwrap_or_else(|| malformed(page(&start))).into()),
            Kind::Document => {
                let error = lost.unwrap_or_else(|| document(&start, target));
                Err(Broken {
                    usage_so_far: used(decoder, &start),
                    ..error.into()
                })
            }
            Kind::Stream | Kind::Unknown => {
                if let Some(error) = lost {
                    decoder.fail(error);
                }
                decoder.end()
            }
        }
    }

    fn push(&self, decoder: &mut Decoder, bytes: &[u8]) {
        for event in decoder.push(bytes) {
            if let Some(observer) = &self.observer {
                observer(&event);
            }
        }
    }
}

#[async_trait]
impl Model for Client {
    fn origin(&self) -> &Origin {
        &self.shared.target.origin
    }

    async fn answer(
        &self,
        conversation: &Conversation,
        cancel: &CancellationToken,
    ) -> Result<Answer, Broken> {
        let mut tries = 0;
        loop {
            tries += 1;
            let answered = self.once(conversation, cancel).await;
            let Err(mut broken) = answered else {
                return answered;
            };
            if let ModelError::Unsupported { parameter } = &broken.error
                && self.learn(parameter)
            {
                tracing::info!(model = %self.origin(), parameter, "the model does not take it");
                continue;
            }
            if broken.tries > 0 {
                broken.tries = tries;
            }
            return Err(broken);
        }
    }
}

/// The body of a response, piece by piece.
struct Reader<'a> {
    response: Response,
    deadline: Instant,
    /// How long all of it may take.
    limit: Duration,
    idle: Duration,
    cancel: &'a CancellationToken,
    encoding: Encoding,
}

impl Reader<'_> {
    /// The next piece, decoded; nothing at the end.
    async fn next(&mut self) -> Result<Option<Vec<u8>>, ModelError> {
        let until = self.deadline.min(Instant::now() + self.idle);
        let chunk = tokio::select! {
            biased;
            () = self.cancel.cancelled() => return Err(ModelError::Cancelled),
            chunk = timeout_at(until, self.response.chunk()) => chunk,
        };
        let chunk = chunk.map_err(|_| {
            if until < self.deadline {
                let transport = format!("the stream was silent for {:?}", self.idle);
                ModelError::Away { transport }
            } else {
                ModelError::TimedOut { limit: self.limit }
            }
        })?;
        let Some(chunk) = chunk.map_err(|error| away(&error))? else {
            return Ok(None);
        };
        let mut bytes = Vec::with_capacity(chunk.len());
        self.encoding
            .push(&chunk, |piece| bytes.extend_from_slice(piece))?;
        Ok(Some(bytes))
    }

    /// The body of an error, as far as it is worth reading. What is missing does not matter.
    async fn all(&mut self) -> Result<Vec<u8>, ModelError> {
        let mut body = Vec::new();
        while body.len() < LONGEST_ERROR {
            match timeout(CONNECT, self.next()).await {
                Ok(Ok(Some(bytes))) => body.extend_from_slice(&bytes),
                Ok(Err(ModelError::Cancelled)) => return Err(ModelError::Cancelled),
                Ok(Ok(None) | Err(_)) | Err(_) => break,
            }
        }
        Ok(body)
    }
}

/// A failure after the request was sent.
fn tried(error: ModelError) -> Broken {
    Broken {
        tries: 1,
        ..Broken::new(error)
    }
}

/// The error of a response whose status is none of success.
pub(crate) fn refusal(
    status: StatusCode,
    headers: &HeaderMap,
    body: &[u8],
    target: &Target,
) -> ModelError {
    if status.is_redirection() {
        let to = headers
            .get(http::header::LOCATION)
            .and_then(|to| to.to_str().ok());
        let to = redact(to.unwrap_or("elsewhere")).into_owned();
        return ModelError::Rejected {
            why: format!(
                "it redirects to {to} ({}); if that is right, make it the `url`",
                status.as_u16()
            ),
        };
    }
    if status.is_success() {
        return malformed(format!("its status is {status}"));
    }
    let mut report = said(body);
    report.status = Some(status.as_u16());
    report.wait = Advice::of(headers, Utc::now()).wait.or(report.wait);
    report.error(&target.origin.model, &target.takes)
}

/// An answer that is one JSON document where a stream was asked for.
fn document(body: &[u8], target: &Target) -> ModelError {
    let value = serde_json::from_slice::<Value>(body).unwrap_or_default();
    let has_error = !value["error"].is_null() || !value[0]["error"].is_null();
    if has_error {
        return said(body).error(&target.origin.model, &target.takes);
    }
    malformed("a JSON document came instead of a stream; check `url` and `provider`")
}

/// What a document used that came instead of a stream: it was generated and is paid for.
fn used(mut decoder: Decoder, body: &[u8]) -> Usage {
    decoder.document(body);
    match decoder.end() {
        Ok(answer) => answer.usage,
        Err(broken) => broken.usage_so_far,
    }
}

/// What the body of an error says, with secrets masked: some providers repeat the key.
fn said(body: &[u8]) -> Report {
    let mut report = match serde_json::from_slice::<Value>(body) {
        Ok(value) if value.is_object() || value.is_array() => report(&value),
        _ if Kind::of(body, false) == Kind::Html => Report {
            message: page(body),
            ..Report::default()
        },
        _ => Report {
            message: String::from_utf8_lossy(body).into_owned(),
            ..Report::default()
        },
    };
    report.message = redact(&report.message).into_owned();
    report
}
