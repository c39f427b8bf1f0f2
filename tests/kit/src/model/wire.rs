//! The protocols: how each reads a request and writes an answer, an error, a sign of life.

mod anthropic;
mod chat;
mod gemini;
mod ollama;
mod responses;

use serde::Serialize;
use serde_json::{Value, json};

use super::answer::{Answer, Frame};
use super::asked::Asked;
use super::history::Violation;
use super::problem::Problem;
use super::script::{Script, Wait};

pub(crate) use ollama::show;

/// A protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Protocol {
    /// Anthropic's Messages.
    Anthropic,
    /// `OpenAI`'s Responses.
    Responses,
    /// `OpenAI`'s Chat Completions, and those of every compatible server.
    Chat,
    /// Gemini's `generateContent`.
    Gemini,
    /// Ollama's chat.
    Ollama,
}

/// How events are told apart in a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Framing {
    /// Server-sent events.
    Sse,
    /// A line of JSON each.
    Ndjson,
    /// An array of JSON.
    Array,
}

impl Framing {
    pub(crate) fn content_type(self) -> &'static str {
        match self {
            Self::Sse => "text/event-stream; charset=utf-8",
            Self::Ndjson => "application/x-ndjson",
            Self::Array => "application/json; charset=utf-8",
        }
    }
}

/// A refusal in a protocol's form.
#[derive(Debug, Clone)]
pub(crate) struct Refusal {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(&'static str, String)>,
    pub(crate) body: Value,
}

/// What differs between protocols.
pub(crate) trait Wire: Sync {
    /// Reads a request; `model` is the one that the path names, if it names one.
    fn read(&self, body: &Value, model: Option<&str>) -> Result<Asked, Problem>;
    /// The events of an answer.
    fn frames(&self, answer: &Answer) -> Vec<Frame>;
    /// An answer in one piece.
    fn whole(&self, answer: &Answer) -> Value;
    /// Sealed parts that belong to the calls of an answer.
    fn seals(&self, answer: &Answer) -> Vec<String>;
    /// A refusal in its form.
    fn refusal(&self, problem: &Problem) -> Refusal;
    /// An error in the middle of a stream.
    fn error_frame(&self, problem: &Problem, answer: &Answer) -> Frame;
    /// Something that means nothing, while nothing else comes; a comment when there is none.
    fn ping(&self) -> Option<Frame>;
    /// An event that no client can know.
    fn unknown_frame(&self) -> Frame;
    /// What the server says of a history that it does not take.
    fn violation(&self, violation: &Violation) -> Problem;
    /// Its list of models.
    fn models(&self, script: &Script) -> Value;
}

impl Protocol {
    pub(crate) fn wire(self) -> &'static dyn Wire {
        match self {
            Self::Anthropic => &anthropic::Anthropic,
            Self::Responses => &responses::Responses,
            Self::Chat => &chat::Chat,
            Self::Gemini => &gemini::Gemini,
            Self::Ollama => &ollama::Ollama,
        }
    }

    /// What its answers carry for support.
    pub(crate) fn request_id_header(self) -> Option<&'static str> {
        match self {
            Self::Anthropic => Some("request-id"),
            Self::Responses | Self::Chat => Some("x-request-id"),
            Self::Gemini | Self::Ollama => None,
        }
    }
}

/// A single model in a protocol's form is one of its list.
pub(crate) fn model(protocol: Protocol, script: &Script, name: &str) -> Option<Value> {
    let only = Script {
        models: vec![script.model(name)?.clone()],
        ..Script::default()
    };
    let list = protocol.wire().models(&only);
    let field = match protocol {
        Protocol::Anthropic | Protocol::Responses | Protocol::Chat => "data",
        Protocol::Gemini | Protocol::Ollama => "models",
    };
    Some(list[field][0].clone())
}

fn frame(event: Option<&'static str>, data: &Value) -> Frame {
    let data = data.to_string();
    Frame { event, data }
}

/// The general headers of waiting; a protocol adds its own for [`Wait::Reset`].
fn wait_headers(problem: &Problem) -> Vec<(&'static str, String)> {
    let retry = problem.should_retry.into_iter();
    let mut headers: Vec<_> = retry
        .map(|retry| ("x-should-retry", retry.to_string()))
        .collect();
    let Some((wait, seconds)) = problem.wait else {
        return headers;
    };
    headers.extend(match wait {
        Wait::RetryAfter => vec![("retry-after", plain(seconds))],
        Wait::RetryAfterMs => vec![("retry-after-ms", plain(seconds * 1000.0))],
        Wait::RetryAfterDate => {
            let then = then(seconds);
            let date = then.format("%a, %d %b %Y %H:%M:%S GMT").to_string();
            vec![("retry-after", date)]
        }
        Wait::None | Wait::Reset | Wait::RetryInfo | Wait::Message => Vec::new(),
    });
    headers
}

/// A moment that many seconds from now.
fn then(seconds: f64) -> chrono::DateTime<chrono::Utc> {
    let span = std::time::Duration::try_from_secs_f64(seconds).unwrap_or_default();
    chrono::Utc::now() + span
}

/// A number without a point where it has none.
fn plain(number: f64) -> String {
    format!("{number}")
}

/// What `OpenAI`, Responses or Chat, says when it refuses.
fn openai_refusal(problem: &Problem) -> Refusal {
    use super::problem::Kind;
    let (status, kind, code) = match problem.kind {
        Kind::Invalid => (400, "invalid_request_error", None),
        Kind::UnknownParameter => (400, "invalid_request_error", Some("unknown_parameter")),
        Kind::Unsupported => (400, "invalid_request_error", Some("unsupported_parameter")),
        Kind::Authentication => (401, "invalid_request_error", Some("invalid_api_key")),
        Kind::NotFound => (404, "invalid_request_error", Some("model_not_found")),
        Kind::ContextTooLong => (
            400,
            "invalid_request_error",
            Some("context_length_exceeded"),
        ),
        Kind::TooLarge => (413, "invalid_request_error", Some("request_too_large")),
        Kind::RateLimit => (429, "requests", Some("rate_limit_exceeded")),
        Kind::Quota => (429, "insufficient_quota", Some("insufficient_quota")),
        Kind::Overloaded => (503, "server_error", Some("server_is_overloaded")),
        Kind::Server => (500, "server_error", Some("server_error")),
        Kind::Conflict => (409, "conflict_error", Some("repeated_request")),
        Kind::Other(status @ 500..) => (status, "server_error", None),
        Kind::Other(status) => (status, "invalid_request_error", None),
    };
    let mut headers = wait_headers(problem);
    if let Some((Wait::Reset, seconds)) = problem.wait {
        headers.extend([
            ("x-ratelimit-limit-requests", "60".to_owned()),
            ("x-ratelimit-remaining-requests", "0".to_owned()),
            ("x-ratelimit-reset-requests", go_duration(seconds)),
        ]);
    }
    Refusal {
        status,
        headers,
        body: json!({ "error": {
            "message": openai_message(problem),
            "type": kind,
            "param": problem.parameter,
            "code": code,
        }}),
    }
}

/// The words of `OpenAI` where they name a parameter.
fn openai_message(problem: &Problem) -> String {
    use super::problem::Kind;
    match (&problem.parameter, problem.kind) {
        (Some(name), Kind::UnknownParameter) => format!("Unknown parameter: '{name}'."),
        (Some(name), Kind::Invalid) if problem.message == "Field required" => {
            format!("Missing required parameter: '{name}'.")
        }
        (Some(name), Kind::Invalid) => format!("Invalid value for '{name}': {}", problem.message),
        (_, Kind::ContextTooLong) => format!(
            "Your input exceeds the context window of this model. Please adjust your input and try again. ({})",
            problem.message
        ),
        _ => problem.message.clone(),
    }
}

/// `OpenAI`'s list of models.
fn openai_models(script: &Script) -> Value {
    let models = script.models.iter().map(|model| {
        json!({ "id": model.name, "object": "model", "created": 1_700_000_000, "owned_by": "simulator" })
    });
    json!({ "object": "list", "data": models.collect::<Vec<_>>() })
}

/// A span as Go writes it: `12ms`, `1.5s`, `6m0s`.
fn go_duration(seconds: f64) -> String {
    if seconds < 1.0 {
        return format!("{}ms", plain((seconds * 1000.0).round()));
    }
    if seconds < 60.0 {
        return format!("{}s", plain(seconds));
    }
    let minutes = (seconds / 60.0).floor();
    format!("{}m{}s", plain(minutes), plain(seconds - minutes * 60.0))
}

/// What all say of a history, where they have no words of their own.
fn words(violation: &Violation) -> String {
    match violation {
        Violation::Empty => "at least one message is required".to_owned(),
        Violation::FirstNotUser => "the first message must use the user role".to_owned(),
        Violation::LastNotUser => {
            "the conversation must end with a user message or a tool result".to_owned()
        }
        Violation::NotAlternating { at } => format!(
            "message {at}: roles must alternate between user and assistant, but two in a row have the same role"
        ),
        Violation::EmptyMessage { at } => format!("message {at}: content must not be empty"),
        Violation::EmptyText { at } => format!("message {at}: text must not be empty"),
        Violation::Unanswered { at, ids } => format!(
            "message {at}: calls without a result directly after them: {}",
            ids.join(", ")
        ),
        Violation::Orphan { at, id } => {
            format!("message {at}: result without a call directly before it: {id}")
        }
        Violation::SameId { at, id } => format!("message {at}: two calls have the id {id}"),
        Violation::ResultsNotFirst { at } => {
            format!("message {at}: results of calls must come before everything else")
        }
        Violation::BadSeal { at } => {
            format!("message {at}: a sealed part is not one that this model gave out")
        }
        Violation::SealMissing { at, id } => {
            format!(
                "message {at}: the sealed part that came with the call {id} is missing or changed"
            )
        }
        Violation::ThoughtNotFirst { at } => {
            format!("message {at}: it has to begin with its thinking, as thinking is enabled")
        }
        Violation::Unsigned { at, name } => {
            format!("message {at}: the call of {name} has no thought signature")
        }
    }
}
