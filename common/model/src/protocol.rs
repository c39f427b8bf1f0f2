//! The protocols: a conversation as a request, and a body as events.
//!
//! One file per protocol, which alone knows its form on the wire: the body of a request, the
//! messages of a stream, the classes of usage and the words of errors. All of it is pure. Absent:
//! connections, waiting and trying again.

mod anthropic;
mod chat;
mod gemini;
mod ollama;
mod responses;

use std::collections::BTreeSet;

use bytes::Bytes;
use http::header::{ACCEPT, ACCEPT_ENCODING, CONTENT_TYPE};
use http::{HeaderName, HeaderValue, Method, Request};
use secrecy::{ExposeSecret as _, SecretString};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use url::Url;

use crate::decode::Decoder;
use crate::failure::Report;
use crate::frames::Frames;
use crate::history::{self, Entry};
use crate::{Conversation, ModelError, Origin};

/// How a provider's server is spoken to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Protocol {
    /// Anthropic's Messages.
    Anthropic,
    /// Responses, of OpenAI.
    #[serde(rename = "openai")]
    Responses,
    /// Chat Completions, of OpenAI and of every server that is compatible with it.
    #[serde(rename = "openai-chat")]
    Chat,
    /// Google's Gemini.
    Gemini,
    /// Ollama's own.
    Ollama,
}

/// An optional part of a request, which some models answer with an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Parameter {
    /// `temperature`.
    Temperature,
    /// `top_p`.
    TopP,
    /// How much the model thinks.
    Effort,
    /// The key that routes requests to the same prompt cache.
    CacheKey,
    /// The breakpoints of the prompt cache.
    CacheControl,
    /// Encrypted reasoning in the answer.
    EncryptedReasoning,
    /// The request for usage at the end of the stream.
    StreamUsage,
    /// The limit of the output by its newer name, `max_completion_tokens`.
    CompletionLimit,
}

/// A model at a server, and what it takes.
#[derive(Debug, Clone)]
pub struct Target {
    /// How the server is spoken to.
    pub protocol: Protocol,
    /// Which model of which provider.
    pub origin: Origin,
    /// The server's address.
    pub base_url: Url,
    /// The key, if the server wants one. It is sent in a header that is never printed.
    pub key: Option<SecretString>,
    /// The optional parameters that the model takes.
    pub takes: BTreeSet<Parameter>,
    /// The model's window in tokens, for servers that have to be told.
    pub window: Option<u64>,
}

impl Protocol {
    /// All protocols.
    pub const ALL: [Self; 5] = [
        Self::Anthropic,
        Self::Responses,
        Self::Chat,
        Self::Gemini,
        Self::Ollama,
    ];

    /// The name in configuration.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Anthropic => "anthropic",
            Self::Responses => "openai",
            Self::Chat => "openai-chat",
            Self::Gemini => "gemini",
            Self::Ollama => "ollama",
        }
    }

    /// The address of the provider's own server.
    pub fn default_base_url(self) -> Url {
        let address = match self {
            Self::Anthropic => "https://api.anthropic.com",
            Self::Responses | Self::Chat => "https://api.openai.com/v1",
            Self::Gemini => "https://generativelanguage.googleapis.com",
            Self::Ollama => "http://127.0.0.1:11434",
        };
        Url::parse(address).expect("the address is a constant")
    }

    /// What a model takes of which nothing is known: the optional parts that its protocol has by
    /// design, and sampling where servers of the user's own are the rule.
    pub fn usual_parameters(self) -> BTreeSet<Parameter> {
        use Parameter as P;
        let parameters: &[Parameter] = match self {
            Self::Anthropic => &[P::CacheControl],
            Self::Responses => &[P::CacheKey, P::EncryptedReasoning],
            Self::Chat => &[P::StreamUsage, P::Temperature, P::TopP],
            Self::Gemini => &[],
            Self::Ollama => &[P::Temperature, P::TopP],
        };
        parameters.iter().copied().collect()
    }
}

impl std::str::FromStr for Protocol {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let found = Self::ALL
            .into_iter()
            .find(|protocol| protocol.name() == name);
        found.ok_or_else(|| {
            let names = Self::ALL.map(Self::name).join(", ");
            format!("`{name}` is no protocol; there are {names}")
        })
    }
}

impl std::fmt::Display for Protocol {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

impl Parameter {
    /// The fields of requests that carry it, its own name first.
    pub(crate) const fn fields(self) -> &'static [&'static str] {
        match self {
            Self::Temperature => &["temperature"],
            Self::TopP => &["top_p", "topP"],
            Self::Effort => &[
                "effort",
                "thinking",
                "reasoning",
                "reasoning_effort",
                "output_config",
                "thinkingConfig",
                "thinking_config",
                "thinkingLevel",
                "thinking_level",
                "think",
            ],
            Self::CacheKey => &["prompt_cache_key"],
            Self::CacheControl => &["cache_control"],
            Self::EncryptedReasoning => &["include"],
            Self::StreamUsage => &["stream_options"],
            Self::CompletionLimit => &["max_completion_tokens"],
        }
    }

    /// True when the text of an error names it: a field that is no ordinary word, or one in quotes.
    pub(crate) fn is_named_in(self, text: &str) -> bool {
        let sentence = match self {
            Self::Effort => "does not support thinking",
            Self::EncryptedReasoning => "Encrypted content is not supported",
            Self::Temperature
            | Self::TopP
            | Self::CacheKey
            | Self::CacheControl
            | Self::StreamUsage
            | Self::CompletionLimit => "",
        };
        let by_sentence = !sentence.is_empty() && text.contains(sentence);
        by_sentence || self.fields().iter().any(|field| has_field(text, field))
    }
}

/// True when a field stands in a text as a word of its own, in quotes if it is an ordinary word.
fn has_field(text: &str, field: &str) -> bool {
    let is_ordinary = field.bytes().all(|byte| byte.is_ascii_lowercase()) && field != "temperature";
    let is_part = |letter: char| letter.is_ascii_alphanumeric() || letter == '_';
    text.match_indices(field).any(|(at, _)| {
        let before = text[..at].chars().next_back();
        let after = text[at + field.len()..].chars().next();
        let quoted = before.is_some_and(|letter| "'`\"".contains(letter));
        let alone = !before.is_some_and(is_part) && !after.is_some_and(is_part);
        alone && (quoted || !is_ordinary)
    })
}

impl Target {
    /// A model of which nothing but its name is known, at the provider's own server.
    pub fn new(protocol: Protocol, origin: Origin) -> Self {
        let base_url = protocol.default_base_url();
        let mut takes = protocol.usual_parameters();
        if protocol == Protocol::Chat {
            // OpenAI's own server; others know the older name better.
            takes.extend([Parameter::CompletionLimit, Parameter::CacheKey]);
        }
        Self {
            protocol,
            origin,
            base_url,
            key: None,
            takes,
            window: None,
        }
    }

    /// The same at another server, which may be of another make.
    #[must_use]
    pub fn at(mut self, base_url: Url) -> Self {
        if base_url.host_str() != self.protocol.default_base_url().host_str() {
            self.takes.remove(&Parameter::CompletionLimit);
            if self.protocol == Protocol::Chat {
                self.takes.remove(&Parameter::CacheKey);
            }
        }
        self.base_url = base_url;
        self
    }

    /// The request for the next turn of a conversation, which is made valid for this model first.
    ///
    /// # Errors
    /// [`ModelError::History`] when the conversation can't be made valid.
    pub fn request(&self, conversation: &Conversation) -> Result<Request<Bytes>, ModelError> {
        let entries = history::entries(conversation, &self.origin)?;
        let asked = Asked {
            target: self,
            conversation,
            entries: &entries,
        };
        let (path, body) = match self.protocol {
            Protocol::Anthropic => (anthropic::path(), anthropic::body(&asked)),
            Protocol::Responses => (responses::path(), responses::body(&asked)),
            Protocol::Chat => (chat::path(), chat::body(&asked)),
            Protocol::Gemini => (gemini::path(&self.origin.model), gemini::body(&asked)),
            Protocol::Ollama => (ollama::path(), ollama::body(&asked)),
        };
        let url = address(&self.base_url, &path);
        let mut request = Request::builder()
            .method(Method::POST)
            .uri(url.as_str())
            .header(CONTENT_TYPE, "application/json")
            .header(
                ACCEPT,
                "text/event-stream, application/x-ndjson, application/json",
            )
            .header(ACCEPT_ENCODING, "identity");
        if self.protocol == Protocol::Anthropic {
            request = request.header("anthropic-version", "2023-06-01");
        }
        if let Some((name, value)) = self.credentials()? {
            request = request.header(name, value);
        }
        let body = Bytes::from(body.to_string());
        request.body(body).map_err(|error| ModelError::Rejected {
            why: format!("no request can be made of it: {error}"),
        })
    }

    /// The header with the key.
    fn credentials(&self) -> Result<Option<(HeaderName, HeaderValue)>, ModelError> {
        let Some(key) = &self.key else {
            return Ok(None);
        };
        let key = key.expose_secret();
        let (name, value) = match self.protocol {
            Protocol::Anthropic => ("x-api-key", key.to_owned()),
            Protocol::Gemini => ("x-goog-api-key", key.to_owned()),
            Protocol::Responses | Protocol::Chat | Protocol::Ollama => {
                ("authorization", format!("Bearer {key}"))
            }
        };
        let value = HeaderValue::from_str(&value);
        let mut value = value.map_err(|_| ModelError::Authentication {
            why: "the configured key has characters that no key has, a line end perhaps".into(),
        })?;
        value.set_sensitive(true);
        Ok(Some((HeaderName::from_static(name), value)))
    }

    /// The decoder of the answer to a request of so many bytes.
    pub fn decoder(&self, sent: usize) -> Decoder {
        let origin = self.origin.clone();
        let (frames, grammar) = match self.protocol {
            Protocol::Anthropic => (Frames::events(), anthropic::grammar()),
            Protocol::Responses => (Frames::events(), responses::grammar()),
            Protocol::Chat => (Frames::events(), chat::grammar()),
            Protocol::Gemini => (Frames::events(), gemini::grammar()),
            Protocol::Ollama => (Frames::lines(), ollama::grammar()),
        };
        Decoder::new(frames, grammar, origin, sent as u64)
    }
}

/// A conversation, valid for the model that it goes to.
struct Asked<'a> {
    target: &'a Target,
    conversation: &'a Conversation,
    entries: &'a [Entry<'a>],
}

impl Asked<'_> {
    fn takes(&self, parameter: Parameter) -> bool {
        self.target.takes.contains(&parameter)
    }

    /// Sampling parameters that are set and taken.
    fn temperature(&self) -> Option<f64> {
        let set = self.conversation.sampling.temperature;
        set.filter(|_| self.takes(Parameter::Temperature))
    }

    fn top_p(&self) -> Option<f64> {
        let set = self.conversation.sampling.top_p;
        set.filter(|_| self.takes(Parameter::TopP))
    }

    fn effort(&self) -> Option<&'static str> {
        let set = self.conversation.sampling.effort;
        set.filter(|_| self.takes(Parameter::Effort))
            .map(crate::Effort::word)
    }

    fn cache_key(&self) -> Option<&str> {
        let set = self.conversation.cache_key.as_deref();
        set.filter(|_| self.takes(Parameter::CacheKey))
    }

    fn system(&self) -> Option<&str> {
        let system = self.conversation.system.as_str();
        (!system.trim().is_empty()).then_some(system)
    }
}

/// What a provider says in the error of a body, whatever its status.
pub(crate) fn report(body: &Value) -> Report {
    // Gemini's errors come in a list now and then.
    let body = body.get(0).unwrap_or(body);
    let error = match &body["error"] {
        Value::Null if body["response"]["error"].is_object() => &body["response"]["error"],
        Value::Null => body,
        Value::String(message) => {
            return Report {
                message: message.clone(),
                ..Report::default()
            };
        }
        error => error,
    };
    let word = |name: &str| error[name].as_str().map(str::to_owned);
    let mut report = Report {
        words: ["code", "type", "status"]
            .into_iter()
            .filter_map(word)
            .collect(),
        message: word("message")
            .or_else(|| word("detail"))
            .unwrap_or_default(),
        parameter: word("param"),
        status: error["code"]
            .as_u64()
            .and_then(|code| u16::try_from(code).ok()),
        ..Report::default()
    };
    gemini::details(&error["details"], &mut report);
    report
}

/// The address of a path at a server. A base that names no version of the interface gets the
/// protocol's own.
fn address(base: &Url, path: &Path) -> Url {
    let mut url = base.clone();
    let is_version = |segment: &str| {
        let digits = segment.strip_prefix('v');
        digits.is_some_and(|rest| rest.starts_with(|first: char| first.is_ascii_digit()))
    };
    let has_version = url
        .path_segments()
        .is_some_and(|mut all| all.any(is_version));
    if let Ok(mut segments) = url.path_segments_mut() {
        segments.pop_if_empty();
        segments.extend(path.version.filter(|_| !has_version));
        segments.extend(&path.segments);
    }
    url.set_query(path.query);
    url
}

/// Where a protocol's requests go.
struct Path {
    version: Option<&'static str>,
    segments: Vec<String>,
    query: Option<&'static str>,
}

impl Path {
    fn new(version: &'static str, segments: &[&str]) -> Self {
        Self {
            version: Some(version),
            segments: segments
                .iter()
                .map(|segment| (*segment).to_owned())
                .collect(),
            query: None,
        }
    }
}
