//! The way of a request: protocol, key, form, model, history, turn, answer.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::Router;
use axum::body::{Body, Bytes, to_bytes};
use axum::extract::{ConnectInfo, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::Response;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::answer::{self, Answer};
use super::asked::{self, Asked};
use super::book::{Book, RequestRecord};
use super::cache::Prompt;
use super::connection::{Connection, Door};
use super::deliver::{self, Step};
use super::history::{self, Issued, Rules};
use super::problem::{Kind, Problem};
use super::route::{self, Operation, Route};
use super::script::{Fault, Script, Usage};
use super::wire::{self, Framing, Protocol};

/// More than any provider takes.
const MAX_BODY: usize = 64 * 1024 * 1024;
/// What Anthropic takes, and the simulator for all.
const MAX_REQUEST: usize = 32 * 1024 * 1024;

pub(crate) struct Shared {
    pub(crate) script: Script,
    pub(crate) book: Mutex<Book>,
    /// Counts changes of the book, for those who wait for one.
    pub(crate) changed: watch::Sender<u64>,
    pub(crate) door: Door,
    /// True while answers wait to be released.
    pub(crate) is_paused: watch::Sender<bool>,
    pub(crate) stop: CancellationToken,
    pub(crate) tasks: TaskTracker,
}

impl Shared {
    pub(crate) fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self, change: impl FnOnce(&mut Book)) {
        change(&mut self.book());
        self.changed.send_modify(|count| *count += 1);
    }
}

pub(crate) fn router(shared: Arc<Shared>) -> Router {
    Router::new().fallback(answer).with_state(shared)
}

async fn answer(
    State(shared): State<Arc<Shared>>,
    ConnectInfo(connection): ConnectInfo<Connection>,
    request: Request,
) -> Response {
    let (parts, body) = request.into_parts();
    let Ok(body) = to_bytes(body, MAX_BODY).await else {
        return plain(StatusCode::PAYLOAD_TOO_LARGE, "the request is too large\n");
    };
    if let Some(response) = without_model(&shared, &parts) {
        return response;
    }
    let Some(route) = route::find(&parts) else {
        let words = format!(
            "the model simulator has no {} {}\n",
            parts.method,
            parts.uri.path()
        );
        return plain(StatusCode::NOT_FOUND, &words);
    };
    let model_call = Call {
        shared,
        connection,
        protocol: route.protocol,
        path: parts.uri.path().to_owned(),
        in_array: route.is_array(),
    };
    model_call.answer(&route, &parts, &body).await
}

/// What is not asked of a model: whether there is a server, and what it has counted.
fn without_model(shared: &Shared, parts: &Parts) -> Option<Response> {
    match parts.uri.path() {
        "/" => Some(plain(StatusCode::OK, "Ollama is running")),
        "/_simulator/state" => {
            let state = shared.book().state.clone();
            let body = serde_json::to_string(&state).unwrap_or_default();
            Some(reply(StatusCode::OK, "application/json", &[], body.into()))
        }
        "/api/version" => {
            let body = json!({ "version": "0.99.0" }).to_string();
            Some(reply(StatusCode::OK, "application/json", &[], body.into()))
        }
        _ => None,
    }
}

/// A request to a protocol.
struct Call {
    shared: Arc<Shared>,
    connection: Connection,
    protocol: Protocol,
    path: String,
    /// A refusal stands in an array, as an answer would.
    in_array: bool,
}

impl Call {
    async fn answer(self, route: &Route, parts: &Parts, body: &Bytes) -> Response {
        if let Err(problem) = key(self.protocol, parts, &self.shared.script.key) {
            return self.refuse(&problem);
        }
        let script = &self.shared.script;
        match &route.operation {
            Operation::Models => json_reply(&self.protocol.wire().models(script)),
            Operation::Model(name) => match wire::model(self.protocol, script, name) {
                Some(model) => json_reply(&model),
                None => self.refuse(&unknown_model(name)),
            },
            Operation::Show => {
                let body: Value = serde_json::from_slice(body).unwrap_or_default();
                let name = body["model"].as_str().or(body["name"].as_str());
                let name = name.unwrap_or_default();
                match wire::show(script, name) {
                    Some(shown) => json_reply(&shown),
                    None => self.refuse(&unknown_model(name)),
                }
            }
            Operation::Count { model } => match self.count(body, model.as_deref()) {
                Ok(counted) => json_reply(&counted),
                Err(problem) => self.refuse(&problem),
            },
            Operation::Generate { model, stream } => {
                let wanted = Wanted {
                    model: model.as_deref(),
                    stream: *stream,
                    framing: route.framing,
                };
                self.generate(&wanted, body).await
            }
            Operation::NotAllowed => {
                plain(StatusCode::METHOD_NOT_ALLOWED, "this is answered to POST\n")
            }
        }
    }

    fn count(&self, body: &Bytes, model: Option<&str>) -> Result<Value, Problem> {
        let body = json_of(body)?;
        let asked = self.protocol.wire().read(&body, model)?;
        self.model(&asked)?;
        let tokens = asked::tokens(&body);
        Ok(match self.protocol {
            Protocol::Gemini => json!({ "totalTokens": tokens }),
            Protocol::Responses => {
                json!({ "object": "response.input_tokens", "input_tokens": tokens })
            }
            Protocol::Anthropic | Protocol::Chat | Protocol::Ollama => {
                json!({ "input_tokens": tokens })
            }
        })
    }

    async fn generate(self, wanted: &Wanted<'_>, bytes: &Bytes) -> Response {
        let mut record = RequestRecord {
            protocol: self.protocol,
            path: self.path.clone(),
            model: wanted.model.unwrap_or_default().to_owned(),
            stream: wanted.stream.unwrap_or_default(),
            hash: String::new(),
            bytes_in: bytes.len() as u64,
            bytes_out: 0,
            status: None,
            turn: None,
            fault: None,
            refused: None,
            billed: Usage::default(),
            ended: false,
        };
        let body = json_of(bytes);
        if let Ok(body) = &body {
            record.hash = answer::hash(&self.path, body);
        }
        let hash = record.hash.clone();
        let place = self.shared.book().arrived(record);
        let prepared = body.and_then(|body| self.prepare(wanted, &body, bytes.len(), place, &hash));
        let prepared = match prepared {
            Ok(prepared) => prepared,
            Err(problem) => {
                let response = self.refuse(&problem);
                self.shared.note(|book| {
                    book.state.refused += 1;
                    let record = &mut book.state.requests[place];
                    record.refused = Some(problem.message);
                    record.status = Some(response.status().as_u16());
                });
                return response;
            }
        };
        // Whoever waits for the request sees it also while its answer waits.
        self.shared.note(|_| {});
        let mut is_paused = self.shared.is_paused.subscribe();
        // An error means that the sender is gone, and it lives as long as this server.
        let _ = is_paused.wait_for(|is_paused| !is_paused).await;
        let response = self.perform(wanted, prepared, place).await;
        self.shared.note(|book| {
            let status = response.as_ref().map(|response| response.status().as_u16());
            book.state.requests[place].status = status;
        });
        match response {
            Some(response) => response,
            None => {
                self.connection.reset();
                std::future::pending().await
            }
        }
    }

    /// Reads and judges a request, and takes the turn that answers it.
    fn prepare(
        &self,
        wanted: &Wanted<'_>,
        body: &Value,
        length: usize,
        place: usize,
        hash: &str,
    ) -> Result<Prepared, Problem> {
        if length > MAX_REQUEST {
            return Err(Problem::new(
                Kind::TooLarge,
                "Request exceeds the maximum size",
            ));
        }
        let mut asked = self.protocol.wire().read(body, wanted.model)?;
        asked.stream = wanted.stream.unwrap_or(asked.stream);
        let tokens = asked::tokens(body);
        let mut book = self.shared.book();
        let record = &mut book.state.requests[place];
        record.model.clone_from(&asked.model);
        record.stream = asked.stream;
        self.judge(&asked, tokens, &mut book)?;
        let taken = book.take(&self.shared.script, &asked, hash)?;
        let input = self.input(&asked, body, tokens, &mut book);
        let answer = Answer::of(&taken.turn, &asked, hash, input);
        let record = &mut book.state.requests[place];
        record.turn = Some(taken.number);
        record.fault.clone_from(&taken.turn.fault);
        let in_stream = |fault: &Fault| !fault.is_whole() || (asked.stream && fault.is_in_stream());
        if taken.turn.fault.as_ref().is_none_or(in_stream) {
            book.bill(place, &answer.usage);
            let seals = self.protocol.wire().seals(&answer);
            for call in &answer.calls {
                let model = asked.model.clone();
                let seals = seals.clone();
                book.issue(self.protocol, &call.id, Issued { model, seals });
            }
        }
        Ok(Prepared {
            context: self.context(&asked),
            stream: asked.stream,
            fault: taken.turn.fault,
            answer,
        })
    }

    /// Whether a model's server would take the request.
    fn judge(&self, asked: &Asked, tokens: u64, book: &mut Book) -> Result<(), Problem> {
        let model = self.model(asked)?;
        if self.protocol == Protocol::Anthropic && asked.max_output.is_none() {
            return Err(Problem::missing("max_tokens"));
        }
        if let Some(max) = asked
            .max_output
            .filter(|max| *max > model.max_output || *max == 0)
        {
            let words = format!(
                "{max} is no possible maximum of output tokens for {}, which allows 1 to {}",
                model.name, model.max_output
            );
            return Err(Problem::invalid(max_name(self.protocol), words));
        }
        if !model.sampling
            && let Some(name) = asked.sampling.first()
        {
            let words =
                format!("Unsupported parameter: '{name}' is not supported with this model.");
            return Err(Problem::unsupported(name, words));
        }
        if !model.tools && !asked.tools.is_empty() {
            let words = format!("{} does not support tools", model.name);
            return Err(Problem::unsupported("tools", words));
        }
        if tokens > model.context {
            return Err(Problem::too_long(tokens, model.context));
        }
        if let Some(window) = asked.window.filter(|window| tokens > *window) {
            let words = format!(
                "silent cut: a prompt of {tokens} tokens for a window of {window} (num_ctx)"
            );
            book.state.failures.push(words);
        }
        let rules = Rules {
            alternate: !self.shared.script.merge_roles && self.protocol != Protocol::Responses,
            signed: self.protocol == Protocol::Gemini && model.wants_signatures(),
        };
        history::check(asked, rules, book.issued(self.protocol))
            .map_err(|violation| self.protocol.wire().violation(&violation))
    }

    /// The input by class: read from a cache is what an earlier prompt had, and Anthropic writes the
    /// rest if it is told to cache.
    fn input(&self, asked: &Asked, body: &Value, tokens: u64, book: &mut Book) -> Usage {
        let marked = self.protocol == Protocol::Anthropic && asked.cache_marks;
        let model = self.shared.script.model(&asked.model);
        let cached = model.is_some_and(|model| model.cache)
            && (marked || self.protocol != Protocol::Anthropic);
        let prompt = Prompt {
            protocol: self.protocol,
            model: &asked.model,
            conversation: &asked.first_text(),
            tokens,
        };
        let cache_read = if cached {
            book.cache.read(&prompt, body)
        } else {
            0
        };
        let rest = tokens - cache_read;
        let cache_write = if cached && marked { rest } else { 0 };
        Usage {
            input: rest - cache_write,
            cache_read,
            cache_write,
            ..Usage::default()
        }
    }

    fn model(&self, asked: &Asked) -> Result<&super::script::Model, Problem> {
        let model = self.shared.script.model(&asked.model);
        model.ok_or_else(|| unknown_model(&asked.model))
    }

    fn context(&self, asked: &Asked) -> u64 {
        let model = self.shared.script.model(&asked.model);
        model.map_or(0, |model| model.context)
    }

    /// Does what the turn says; nothing comes of it when the connection is to be reset.
    async fn perform(&self, wanted: &Wanted<'_>, it: Prepared, place: usize) -> Option<Response> {
        let answer = &it.answer;
        let wire = self.protocol.wire();
        let fault = it.fault.as_ref();
        match fault {
            Some(Fault::Reset) => return None,
            Some(Fault::RefuseConnections { seconds }) => {
                self.refuse_connections(*seconds).await;
            }
            Some(Fault::Html) => {
                let page = "<html><head><title>502 Bad Gateway</title></head><body>\
                            <center><h1>502 Bad Gateway</h1></center></body></html>\n";
                let status = StatusCode::BAD_GATEWAY;
                return Some(reply(status, "text/html", &[], page.into()));
            }
            _ => {}
        }
        let problem = fault.and_then(|fault| Problem::of(fault, &answer.model, it.context));
        if let Some(problem) = &problem
            && !(it.stream && fault.is_some_and(Fault::is_in_stream))
        {
            return Some(self.refuse(problem));
        }
        let shape = &answer.shape;
        let (steps, content_type) = if it.stream {
            let mut frames = wire.frames(answer);
            if let Some(problem) = &problem {
                // Half of the content has come by then.
                frames.truncate((frames.len() / 2).max(1));
                frames.push(wire.error_frame(problem, answer));
            }
            let steps = deliver::stream(wire, wanted.framing, frames, shape, fault);
            (steps, wanted.framing.content_type())
        } else {
            let body = wire.whole(answer).to_string();
            (deliver::whole(body, shape, fault), "application/json")
        };
        let content_type = shape.content_type.as_deref().unwrap_or(content_type);
        let mut headers = Vec::new();
        if let Some(name) = self.protocol.request_id_header() {
            headers.push((name, answer.id("req_", 0)));
        }
        if shape.gzip {
            headers.push(("content-encoding", "gzip".to_owned()));
        }
        let body = self.body(steps, place);
        Some(reply(StatusCode::OK, content_type, &headers, body))
    }

    /// Closes the door, which resets this connection too, and opens it when the time has come: in a
    /// task of its own, as this one ends with its connection.
    async fn refuse_connections(&self, seconds: f64) {
        let shared = Arc::clone(&self.shared);
        let span = std::time::Duration::try_from_secs_f64(seconds).unwrap_or_default();
        self.shared.tasks.spawn(async move {
            shared.door.close().await;
            let sleep = tokio::time::sleep(span);
            let _ = shared.stop.run_until_cancelled(sleep).await;
            shared.door.open();
        });
        std::future::pending::<()>().await;
    }

    /// A body that takes its steps, and counts what it sends.
    fn body(&self, steps: Vec<Step>, place: usize) -> Body {
        let shared = Arc::clone(&self.shared);
        let state = (shared, steps.into_iter(), None::<Step>);
        let stream = futures::stream::unfold(state, move |(shared, mut steps, again)| async move {
            let mut waited = again.is_some();
            let mut step = again.or_else(|| steps.next());
            loop {
                let (bytes, again) = match step {
                    None => {
                        shared.note(|book| book.state.requests[place].ended = true);
                        return None;
                    }
                    Some(Step::Send(bytes)) => (bytes, None),
                    Some(Step::Wait(span)) => {
                        tokio::time::sleep(span).await;
                        waited = true;
                        step = steps.next();
                        continue;
                    }
                    Some(Step::Repeat(bytes, span)) => {
                        tokio::time::sleep(span).await;
                        (bytes.clone(), Some(Step::Repeat(bytes, span)))
                    }
                    Some(Step::Forever) => std::future::pending().await,
                    Some(Step::Break) => {
                        // Lets what came before reach the wire first.
                        tokio::task::yield_now().await;
                        let error = std::io::Error::other("cut on command");
                        return Some((Err(error), (shared, Vec::new().into_iter(), None)));
                    }
                };
                if !waited {
                    // Each piece leaves on its own.
                    tokio::task::yield_now().await;
                }
                shared.note(|book| {
                    let sent = bytes.len() as u64;
                    book.state.bytes_out += sent;
                    book.state.requests[place].bytes_out += sent;
                });
                return Some((Ok::<Bytes, std::io::Error>(bytes), (shared, steps, again)));
            }
        });
        Body::from_stream(stream)
    }

    fn refuse(&self, problem: &Problem) -> Response {
        let mut refusal = self.protocol.wire().refusal(problem);
        if let Some(name) = self.protocol.request_id_header() {
            refusal.headers.push((name, "req_simulated".to_owned()));
        }
        let status =
            StatusCode::from_u16(refusal.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let body = if self.in_array {
            json!([refusal.body]).to_string()
        } else {
            refusal.body.to_string()
        };
        reply(status, "application/json", &refusal.headers, body.into())
    }
}

/// What the path says of an answer.
struct Wanted<'a> {
    model: Option<&'a str>,
    stream: Option<bool>,
    framing: Framing,
}

/// A request that a turn answers.
struct Prepared {
    answer: Answer,
    fault: Option<Fault>,
    stream: bool,
    context: u64,
}

fn json_of(bytes: &Bytes) -> Result<Value, Problem> {
    serde_json::from_slice(bytes)
        .map_err(|error| Problem::invalid("", format!("the body is no JSON: {error}")))
}

fn unknown_model(name: &str) -> Problem {
    Problem {
        parameter: Some("model".to_owned()),
        ..Problem::new(Kind::NotFound, format!("model '{name}' not found"))
    }
}

fn max_name(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Anthropic => "max_tokens",
        Protocol::Responses => "max_output_tokens",
        Protocol::Chat => "max_completion_tokens",
        Protocol::Gemini => "generationConfig.maxOutputTokens",
        Protocol::Ollama => "options.num_predict",
    }
}

/// Looks for the key where the protocol has it; Ollama needs none, but a wrong one is refused.
fn key(protocol: Protocol, parts: &Parts, key: &str) -> Result<(), Problem> {
    let headers = &parts.headers;
    let bearer = || text(headers, "authorization").and_then(|it| it.strip_prefix("Bearer "));
    let in_query = || {
        let query = parts.uri.query().unwrap_or_default();
        let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
        pairs.find(|(name, _)| *name == "key").map(|(_, key)| key)
    };
    let (given, words) = match protocol {
        Protocol::Anthropic => {
            if text(headers, "anthropic-version").is_none() {
                let words = "anthropic-version: header is required";
                return Err(Problem::new(Kind::Invalid, words));
            }
            (
                text(headers, "x-api-key").or_else(bearer),
                "x-api-key header is required",
            )
        }
        Protocol::Responses | Protocol::Chat => (
            bearer(),
            "You didn't provide an API key in an Authorization header.",
        ),
        Protocol::Gemini => (
            text(headers, "x-goog-api-key").or_else(in_query),
            "API key is missing (x-goog-api-key)",
        ),
        Protocol::Ollama => (Some(bearer().unwrap_or(key)), ""),
    };
    match given {
        Some(given) if given == key => Ok(()),
        Some(_) => Err(Problem::new(
            Kind::Authentication,
            "API key not valid. Please pass a valid API key.",
        )),
        // Google takes a caller without a key for one without a right.
        None if protocol == Protocol::Gemini => Err(Problem::new(Kind::Other(403), words)),
        None => Err(Problem::new(Kind::Authentication, words)),
    }
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

fn plain(status: StatusCode, words: &str) -> Response {
    reply(
        status,
        "text/plain; charset=utf-8",
        &[],
        words.to_owned().into(),
    )
}

fn json_reply(value: &Value) -> Response {
    let body = value.to_string();
    reply(StatusCode::OK, "application/json", &[], body.into())
}

fn reply(
    status: StatusCode,
    content_type: &str,
    headers: &[(&'static str, String)],
    body: Body,
) -> Response {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    // The script may hold what is no header; then there is none.
    if let Ok(value) = HeaderValue::from_str(content_type) {
        response.headers_mut().insert(header::CONTENT_TYPE, value);
    }
    for (name, value) in headers {
        if let Ok(value) = HeaderValue::from_str(value) {
            response.headers_mut().insert(*name, value);
        }
    }
    response
}
