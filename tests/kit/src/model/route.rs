//! Which protocol and which operation a path means.

use axum::http::Method;
use axum::http::request::Parts;

use super::wire::{Framing, Protocol};

/// What is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Operation {
    Models,
    Model(String),
    /// Ollama's description of a model.
    Show,
    Count {
        model: Option<String>,
    },
    Generate {
        /// The model, where the path names it.
        model: Option<String>,
        /// Whether it is a stream, where the path says so.
        stream: Option<bool>,
    },
    /// A path of a protocol, with a method that it does not have.
    NotAllowed,
}

/// A request's destination.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Route {
    pub(crate) protocol: Protocol,
    pub(crate) operation: Operation,
    pub(crate) framing: Framing,
}

impl Route {
    /// Whether the answer is an array of JSON.
    pub(crate) fn is_array(&self) -> bool {
        let streams = matches!(
            self.operation,
            Operation::Generate {
                stream: Some(true),
                ..
            }
        );
        streams && self.framing == Framing::Array
    }
}

/// The route of a request, if its path is one of a protocol.
pub(crate) fn find(parts: &Parts) -> Option<Route> {
    let path = parts.uri.path();
    let query = parts.uri.query().unwrap_or_default();
    if let Some(rest) = path.strip_prefix("/v1beta/") {
        return gemini(&parts.method, rest, query);
    }
    let own = |protocol, operation, framing| {
        Some(Route {
            protocol,
            operation,
            framing,
        })
    };
    let plain = || Operation::Generate {
        model: None,
        stream: None,
    };
    let count = || Operation::Count { model: None };
    let listed = if parts.headers.contains_key("anthropic-version") {
        Protocol::Anthropic
    } else {
        Protocol::Chat
    };
    let get = parts.method == Method::GET;
    let (protocol, operation, framing) = match path {
        "/v1/models" if get => return own(listed, Operation::Models, Framing::Sse),
        "/api/tags" if get => return own(Protocol::Ollama, Operation::Models, Framing::Ndjson),
        "/v1/messages" => (Protocol::Anthropic, plain(), Framing::Sse),
        "/v1/messages/count_tokens" => (Protocol::Anthropic, count(), Framing::Sse),
        "/v1/responses" => (Protocol::Responses, plain(), Framing::Sse),
        "/v1/responses/input_tokens" => (Protocol::Responses, count(), Framing::Sse),
        "/v1/chat/completions" => (Protocol::Chat, plain(), Framing::Sse),
        "/api/chat" => (Protocol::Ollama, plain(), Framing::Ndjson),
        "/api/show" => (Protocol::Ollama, Operation::Show, Framing::Ndjson),
        _ => {
            let name = path.strip_prefix("/v1/models/").filter(|_| get)?;
            return own(listed, Operation::Model(name.to_owned()), Framing::Sse);
        }
    };
    if parts.method != Method::POST {
        return own(protocol, Operation::NotAllowed, framing);
    }
    own(protocol, operation, framing)
}

fn gemini(method: &Method, rest: &str, query: &str) -> Option<Route> {
    let sse = query.split('&').any(|pair| pair == "alt=sse");
    let name = rest.strip_prefix("models/").map(str::to_owned);
    let operation = match name.as_deref().and_then(|name| name.rsplit_once(':')) {
        None if method == Method::GET => match name {
            Some(name) => Operation::Model(name),
            None if rest == "models" => Operation::Models,
            None => return None,
        },
        Some(_) if method != Method::POST => Operation::NotAllowed,
        Some((model, verb)) => {
            let model = Some(model.to_owned());
            match verb {
                "generateContent" => Operation::Generate {
                    model,
                    stream: Some(false),
                },
                "streamGenerateContent" => Operation::Generate {
                    model,
                    stream: Some(true),
                },
                "countTokens" => Operation::Count { model },
                _ => return None,
            }
        }
        None => return None,
    };
    Some(Route {
        protocol: Protocol::Gemini,
        operation,
        framing: if sse { Framing::Sse } else { Framing::Array },
    })
}
