//! A conversation with a model, in a form that belongs to no provider.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// Everything that a model is sent with one request.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Conversation {
    /// The instructions that stand before all messages. Empty means none.
    pub system: String,
    /// The tools that the model may call.
    pub tools: Vec<Tool>,
    /// What was said, oldest first.
    pub messages: Vec<Message>,
    /// The most tokens that the answer may have, thinking included. It is always sent, because
    /// without it no upper bound of the price exists.
    pub max_output: u32,
    /// Sampling parameters; sent as far as the model takes them.
    #[serde(default)]
    pub sampling: Sampling,
    /// Requests with the same key share a prefix; a provider that routes by it finds its prompt
    /// cache again. The id of the task serves.
    #[serde(default)]
    pub cache_key: Option<String>,
}

/// A tool that the model may call.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Tool {
    /// Its name: letters, digits, `_` and `-`, at most 64 of them.
    pub name: String,
    /// What it does and when to use it, for the model.
    pub description: String,
    /// The JSON Schema of its arguments; an object.
    pub parameters: Value,
}

/// Optional sampling parameters. An absent one is left to the provider.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Sampling {
    /// The randomness of the choice of tokens.
    pub temperature: Option<f64>,
    /// The share of the probability mass that tokens are chosen from.
    pub top_p: Option<f64>,
    /// How much the model thinks before it answers.
    pub effort: Option<Effort>,
}

/// How much a model thinks before it answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Effort {
    /// Little, for simple work.
    Low,
    /// Some.
    Medium,
    /// Much, for hard work.
    High,
}

impl Effort {
    /// The word that providers have for it.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Low => "low",
            Self::Medium => "medium",
            Self::High => "high",
        }
    }
}

/// One entry of a conversation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Message {
    /// What the user says.
    User(String),
    /// What the model answered, with the results of the tools that it called.
    Assistant(Turn),
}

/// An answer of the model together with the results of its tool calls.
///
/// Both are one value, so that neither masking nor compaction can separate a call from its
/// result. A call without a result is sent with a result that says so.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Turn {
    /// What the model said, in its order.
    pub parts: Vec<Part>,
    /// The results of its calls, in any order.
    #[serde(default)]
    pub results: Vec<ToolResult>,
}

/// A piece of an answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Part {
    /// Text for people.
    Text(String),
    /// The call of a tool.
    ToolCall(ToolCall),
    /// What only its own provider understands.
    Opaque(Opaque),
}

/// The call of a tool, complete.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ToolCall {
    /// Its id, unique within its turn. A provider that gives none gets one from its adapter.
    pub id: String,
    /// The tool's name. It may be one that does not exist.
    pub name: String,
    /// What it is called with.
    pub arguments: Arguments,
}

/// The arguments of a call: the model's own text, and what it means.
///
/// Text that is no JSON object is kept as it is, so that the model can be told what is wrong with
/// it; it is never taken for arguments.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
pub struct Arguments {
    text: String,
    parsed: Result<Map<String, Value>, String>,
}

/// The result of a tool call.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ToolResult {
    /// The id of the call that it answers.
    pub call_id: String,
    /// What the model is shown.
    pub content: String,
    /// True when the call failed.
    pub is_error: bool,
}

/// A part that goes back to the model it came from unchanged, and to no other: thinking with its
/// signature, encrypted reasoning.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Opaque {
    /// Where it came from.
    pub origin: Origin,
    /// The part in the form of its protocol.
    pub payload: Value,
}

/// A model at a provider.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Origin {
    /// The provider's name, as configured.
    pub provider: String,
    /// The model's name, as the provider knows it.
    pub model: String,
}

impl Conversation {
    /// A conversation that consists of one question, without tools.
    pub fn question(system: impl Into<String>, text: impl Into<String>, max_output: u32) -> Self {
        Self {
            system: system.into(),
            tools: Vec::new(),
            messages: vec![Message::User(text.into())],
            max_output,
            sampling: Sampling::default(),
            cache_key: None,
        }
    }
}

impl Turn {
    /// The calls of the turn, in order.
    pub fn calls(&self) -> impl Iterator<Item = &ToolCall> {
        calls(&self.parts)
    }

    /// The result of a call, if it has one.
    pub fn result(&self, call_id: &str) -> Option<&ToolResult> {
        self.results.iter().find(|result| result.call_id == call_id)
    }
}

/// The calls among parts, in order.
pub(crate) fn calls(parts: &[Part]) -> impl Iterator<Item = &ToolCall> {
    parts.iter().filter_map(|part| match part {
        Part::ToolCall(call) => Some(call),
        Part::Text(_) | Part::Opaque(_) => None,
    })
}

impl Arguments {
    /// Arguments in the model's own words. Nothing at all means no arguments.
    pub fn from_text(text: impl Into<String>) -> Self {
        let text = text.into();
        let parsed = if text.trim().is_empty() {
            Ok(Map::new())
        } else {
            match serde_json::from_str(&text) {
                Ok(Value::Object(object)) => Ok(object),
                Ok(_) => Err("the arguments are JSON, but not an object".to_owned()),
                Err(error) => Err(format!("the arguments are not JSON: {error}")),
            }
        };
        Self { text, parsed }
    }

    /// The object, when the text is one.
    ///
    /// # Errors
    /// A sentence that says what is wrong with the text, for the model.
    pub fn object(&self) -> Result<&Map<String, Value>, &str> {
        self.parsed.as_ref().map_err(String::as_str)
    }

    /// The text of the model.
    pub fn text(&self) -> &str {
        &self.text
    }
}

impl From<String> for Arguments {
    fn from(text: String) -> Self {
        Self::from_text(text)
    }
}

impl From<Arguments> for String {
    fn from(arguments: Arguments) -> Self {
        arguments.text
    }
}

impl From<Map<String, Value>> for Arguments {
    fn from(object: Map<String, Value>) -> Self {
        Self {
            text: Value::Object(object.clone()).to_string(),
            parsed: Ok(object),
        }
    }
}

impl std::fmt::Display for Origin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.provider, self.model)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_an_object_or_say_what_they_are_instead() {
        let object = Arguments::from_text(r#"{"path": "a.rs"}"#);
        assert_eq!(object.object().unwrap()["path"], "a.rs");
        assert!(Arguments::from_text(" ").object().unwrap().is_empty());
        let list = Arguments::from_text("[1]");
        assert_eq!(
            list.object(),
            Err("the arguments are JSON, but not an object")
        );
        let cut = Arguments::from_text(r#"{"path": "a"#);
        assert!(cut.object().unwrap_err().contains("not JSON"));
        assert_eq!(cut.text(), r#"{"path": "a"#);
    }

    #[test]
    fn a_conversation_survives_being_stored() {
        let call = ToolCall {
            id: "c1".into(),
            name: "read_file".into(),
            arguments: Arguments::from_text("{\"path\": \"a"),
        };
        let origin = Origin {
            provider: "anthropic".into(),
            model: "m".into(),
        };
        let payload = serde_json::json!({"type": "thinking", "signature": "s"});
        let mut conversation = Conversation::question("be brief", "hello", 100);
        conversation.messages.push(Message::Assistant(Turn {
            parts: vec![
                Part::Opaque(Opaque { origin, payload }),
                Part::Text("hi".into()),
                Part::ToolCall(call),
            ],
            results: vec![ToolResult {
                call_id: "c1".into(),
                content: "no".into(),
                is_error: true,
            }],
        }));
        let stored = serde_json::to_string(&conversation).unwrap();
        let back: Conversation = serde_json::from_str(&stored).unwrap();
        assert_eq!(back, conversation);
    }
}
