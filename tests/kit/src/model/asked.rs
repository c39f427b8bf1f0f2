//! A request as every protocol means it, once its own words are read.

use serde::de::DeserializeOwned;
use serde_json::Value;

use super::problem::Problem;

/// What is asked for.
#[derive(Debug, Clone, Default)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a field of what is sent"
)]
pub(crate) struct Asked {
    pub(crate) model: String,
    pub(crate) stream: bool,
    /// A stream says what it used.
    pub(crate) stream_usage: bool,
    /// Reasoning is wanted in its sealed form.
    pub(crate) sealed: bool,
    pub(crate) thinking: Thinking,
    pub(crate) system: String,
    pub(crate) messages: Vec<Message>,
    /// Names of the tools that are offered.
    pub(crate) tools: Vec<String>,
    pub(crate) max_output: Option<u64>,
    /// The window that the request asks for.
    pub(crate) window: Option<u64>,
    /// What of the prompt is to be cached is marked.
    pub(crate) cache_marks: bool,
    /// Sampling parameters that are set.
    pub(crate) sampling: Vec<&'static str>,
}

/// Whether the model is to think.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Thinking {
    /// Thoughts of earlier turns are ignored.
    Off,
    /// As the model likes.
    #[default]
    Free,
    /// A turn with calls has to begin with its thoughts.
    Enabled,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    User,
    Assistant,
}

#[derive(Debug, Clone)]
pub(crate) struct Message {
    pub(crate) role: Role,
    pub(crate) parts: Vec<Part>,
}

#[derive(Debug, Clone)]
pub(crate) enum Part {
    Text(String),
    Call(CallPart),
    Result(ResultPart),
    Sealed(Sealed),
    /// An image or a document.
    Other,
}

#[derive(Debug, Clone)]
pub(crate) struct CallPart {
    pub(crate) id: String,
    pub(crate) name: String,
    /// Has a signature or what stands in for one.
    pub(crate) signed: bool,
}

#[derive(Debug, Clone)]
pub(crate) struct ResultPart {
    pub(crate) id: String,
    pub(crate) text: String,
}

/// A part that only the model's server can read, sent back by the client.
#[derive(Debug, Clone)]
pub(crate) struct Sealed {
    pub(crate) seal: String,
    /// What the seal was made for.
    pub(crate) bound: String,
}

impl Asked {
    /// The text that a conversation is known by.
    pub(crate) fn first_text(&self) -> String {
        self.messages
            .iter()
            .find(|message| message.role == Role::User)
            .map(Message::text)
            .unwrap_or_default()
    }

    /// The newest text of the user.
    pub(crate) fn last_text(&self) -> String {
        let users = self.messages.iter().rev();
        users
            .filter(|message| message.role == Role::User)
            .map(Message::text)
            .find(|text| !text.is_empty())
            .unwrap_or_default()
    }

    /// The results that came last.
    pub(crate) fn last_results(&self) -> impl Iterator<Item = &str> {
        let parts = self.messages.last().map(|message| message.parts.as_slice());
        parts
            .unwrap_or_default()
            .iter()
            .filter_map(|part| match part {
                Part::Result(result) => Some(result.text.as_str()),
                Part::Text(_) | Part::Call(_) | Part::Sealed(_) | Part::Other => None,
            })
    }
}

impl Message {
    pub(crate) fn new(role: Role) -> Self {
        let parts = Vec::new();
        Self { role, parts }
    }

    pub(crate) fn text(&self) -> String {
        let texts = self.parts.iter().filter_map(|part| match part {
            Part::Text(text) => Some(text.as_str()),
            Part::Call(_) | Part::Result(_) | Part::Sealed(_) | Part::Other => None,
        });
        texts.collect::<Vec<_>>().join("\n")
    }

    pub(crate) fn calls(&self) -> impl Iterator<Item = &CallPart> {
        self.parts.iter().filter_map(|part| match part {
            Part::Call(call) => Some(call),
            Part::Text(_) | Part::Result(_) | Part::Sealed(_) | Part::Other => None,
        })
    }

    pub(crate) fn results(&self) -> impl Iterator<Item = &ResultPart> {
        self.parts.iter().filter_map(|part| match part {
            Part::Result(result) => Some(result),
            Part::Text(_) | Part::Call(_) | Part::Sealed(_) | Part::Other => None,
        })
    }

    pub(crate) fn seals(&self) -> impl Iterator<Item = &Sealed> {
        self.parts.iter().filter_map(|part| match part {
            Part::Sealed(sealed) => Some(sealed),
            Part::Text(_) | Part::Call(_) | Part::Result(_) | Part::Other => None,
        })
    }
}

/// Reads a part of a request, strictly; `at` is its place, empty for the request itself.
pub(crate) fn read<T: DeserializeOwned>(value: &Value, at: &str) -> Result<T, Problem> {
    serde_path_to_error::deserialize(value).map_err(|error| {
        let inner = match error.path().to_string() {
            path if path == "." => String::new(),
            path => path,
        };
        let mut place = join(at, &inner);
        let message = error.into_inner().to_string();
        let quoted = |text: &str| text.split('`').nth(1).unwrap_or_default().to_owned();
        if message.starts_with("unknown field") {
            let name = quoted(&message);
            if !place.ends_with(&name) {
                place = join(&place, &name);
            }
            return Problem::unknown_parameter(&place);
        }
        if message.starts_with("missing field") {
            return Problem::missing(&join(&place, &quoted(&message)));
        }
        Problem::invalid(&place, message)
    })
}

fn join(left: &str, right: &str) -> String {
    match (left, right) {
        ("", only) | (only, "") => only.to_owned(),
        (left, right) => format!("{left}.{right}"),
    }
}

/// The tokens of a request by the simulator's own measure: a quarter of its characters' bytes.
pub(crate) fn tokens(body: &Value) -> u64 {
    fn bytes(value: &Value) -> u64 {
        match value {
            Value::String(text) => text.len() as u64,
            Value::Array(items) => items.iter().map(bytes).sum(),
            Value::Object(fields) => fields
                .iter()
                .map(|(name, value)| name.len() as u64 + bytes(value))
                .sum(),
            Value::Null | Value::Bool(_) | Value::Number(_) => 1,
        }
    }
    bytes(body).div_ceil(4)
}
