//! Reading a request of the Messages interface.

use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::Value;

use crate::model::asked::{
    Asked, CallPart, Message, Part, ResultPart, Role, Sealed, Thinking, read,
};
use crate::model::problem::Problem;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "named so that every other field is unknown")]
struct Request {
    model: String,
    max_tokens: Option<u64>,
    messages: Vec<Written>,
    system: Option<Value>,
    #[serde(default)]
    stream: bool,
    #[serde(default)]
    tools: Vec<Tool>,
    temperature: Option<f64>,
    top_p: Option<f64>,
    top_k: Option<u64>,
    thinking: Option<ThinkingConfig>,
    cache_control: Option<IgnoredAny>,
    container: Option<IgnoredAny>,
    context_management: Option<IgnoredAny>,
    diagnostics: Option<IgnoredAny>,
    inference_geo: Option<IgnoredAny>,
    mcp_servers: Option<IgnoredAny>,
    metadata: Option<IgnoredAny>,
    output_config: Option<IgnoredAny>,
    service_tier: Option<IgnoredAny>,
    speed: Option<IgnoredAny>,
    stop_sequences: Option<Vec<String>>,
    tool_choice: Option<IgnoredAny>,
    user_profile_id: Option<IgnoredAny>,
    workspace_id: Option<IgnoredAny>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    role: String,
    content: Value,
}

/// A tool of the client; those of the server have a type and fields of their own.
#[derive(Deserialize)]
struct Tool {
    name: String,
    r#type: Option<String>,
    input_schema: Option<Value>,
}

#[derive(Deserialize)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
#[expect(dead_code, reason = "named so that every other field is unknown")]
enum ThinkingConfig {
    Enabled {
        budget_tokens: u64,
        display: Option<String>,
    },
    Adaptive {
        display: Option<String>,
    },
    BetweenTools {
        display: Option<String>,
    },
    Disabled {},
}

#[derive(Deserialize)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
#[expect(dead_code, reason = "named so that every other field is unknown")]
enum Block {
    Text {
        text: String,
        cache_control: Option<IgnoredAny>,
        citations: Option<IgnoredAny>,
    },
    Image {
        source: IgnoredAny,
        cache_control: Option<IgnoredAny>,
        transformations: Option<IgnoredAny>,
    },
    Document {
        source: IgnoredAny,
        cache_control: Option<IgnoredAny>,
        citations: Option<IgnoredAny>,
        context: Option<IgnoredAny>,
        title: Option<IgnoredAny>,
    },
    Thinking {
        thinking: String,
        signature: String,
    },
    RedactedThinking {
        data: String,
    },
    ToolUse {
        id: String,
        name: String,
        input: Value,
        cache_control: Option<IgnoredAny>,
        caller: Option<IgnoredAny>,
        toolset_name: Option<IgnoredAny>,
    },
    ToolResult {
        tool_use_id: String,
        content: Option<Value>,
        is_error: Option<bool>,
        cache_control: Option<IgnoredAny>,
        toolset_name: Option<IgnoredAny>,
    },
}

/// Most marks of what is to be cached.
const MAX_CACHE_MARKS: usize = 4;

pub(super) fn request(body: &Value) -> Result<Asked, Problem> {
    let request: Request = read(body, "")?;
    let marks = cache_marks(body);
    if marks > MAX_CACHE_MARKS {
        let words = format!(
            "A maximum of {MAX_CACHE_MARKS} blocks with cache_control may be provided. Found {marks}."
        );
        return Err(Problem::invalid("", words));
    }
    let sampling = [
        ("temperature", request.temperature.is_some()),
        ("top_p", request.top_p.is_some()),
        ("top_k", request.top_k.is_some()),
    ];
    let mut asked = Asked {
        model: request.model,
        stream: request.stream,
        stream_usage: true,
        sealed: true,
        thinking: thinking(request.thinking.as_ref(), request.max_tokens)?,
        system: system(request.system.as_ref())?,
        max_output: request.max_tokens,
        cache_marks: marks > 0,
        sampling: sampling.iter().filter(|it| it.1).map(|it| it.0).collect(),
        ..Asked::default()
    };
    for (at, tool) in request.tools.into_iter().enumerate() {
        let own = tool.r#type.as_deref().is_none_or(|kind| kind == "custom");
        if own && tool.input_schema.is_none() {
            return Err(Problem::missing(&format!("tools.{at}.input_schema")));
        }
        asked.tools.push(tool.name);
    }
    for (at, written) in request.messages.iter().enumerate() {
        // What is said to the model in the middle belongs to no side.
        if written.role == "system" {
            let text = system(Some(&written.content))?;
            asked.system = format!("{}\n{text}", asked.system);
            continue;
        }
        asked.messages.push(message(at, written)?);
    }
    Ok(asked)
}

fn thinking(config: Option<&ThinkingConfig>, max: Option<u64>) -> Result<Thinking, Problem> {
    match config {
        Some(ThinkingConfig::Enabled { budget_tokens, .. }) => {
            let name = "thinking.enabled.budget_tokens";
            if *budget_tokens < 1024 {
                return Err(Problem::invalid(
                    name,
                    "Input should be greater than or equal to 1024",
                ));
            }
            if max.is_some_and(|max| max <= *budget_tokens) {
                let words = "`max_tokens` must be greater than `thinking.budget_tokens`";
                return Err(Problem::invalid("max_tokens", words));
            }
            Ok(Thinking::Enabled)
        }
        Some(ThinkingConfig::Disabled {}) => Ok(Thinking::Off),
        Some(ThinkingConfig::Adaptive { .. } | ThinkingConfig::BetweenTools { .. }) | None => {
            Ok(Thinking::Free)
        }
    }
}

fn cache_marks(value: &Value) -> usize {
    match value {
        Value::Object(fields) => fields
            .iter()
            .map(|(name, value)| match name.as_str() {
                "cache_control" => usize::from(!value.is_null()),
                // What a caller of a tool wrote is no request of caching.
                "input" | "input_schema" => 0,
                _ => cache_marks(value),
            })
            .sum(),
        Value::Array(items) => items.iter().map(cache_marks).sum(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => 0,
    }
}

fn system(value: Option<&Value>) -> Result<String, Problem> {
    let Some(value) = value else {
        return Ok(String::new());
    };
    let parts = parts("system", value)?;
    let message = Message {
        role: Role::User,
        parts,
    };
    if message.text().is_empty() && !value.is_string() {
        return Err(Problem::invalid(
            "system",
            "text content blocks must be non-empty",
        ));
    }
    Ok(message.text())
}

fn message(at: usize, written: &Written) -> Result<Message, Problem> {
    let role = match written.role.as_str() {
        "user" => Role::User,
        "assistant" => Role::Assistant,
        _ => {
            let name = format!("messages.{at}.role");
            return Err(Problem::invalid(
                &name,
                "Input should be 'user', 'assistant' or 'system'",
            ));
        }
    };
    let place = format!("messages.{at}.content");
    let parts = parts(&place, &written.content)?;
    for part in &parts {
        let wrong = match (part, role) {
            (Part::Call(_) | Part::Sealed(_), Role::User) => {
                "`tool_use` and `thinking` blocks can only be in `assistant` messages"
            }
            (Part::Result(_), Role::Assistant) => {
                "`tool_result` blocks can only be in `user` messages"
            }
            _ => continue,
        };
        return Err(Problem::invalid(&place, wrong));
    }
    Ok(Message { role, parts })
}

fn parts(place: &str, content: &Value) -> Result<Vec<Part>, Problem> {
    match content {
        Value::String(text) => Ok(vec![Part::Text(text.clone())]),
        Value::Array(blocks) => {
            let blocks = blocks.iter().enumerate();
            blocks
                .map(|(at, block)| part(&format!("{place}.{at}"), block))
                .collect()
        }
        _ => Err(Problem::invalid(
            place,
            "Input should be a valid string or list",
        )),
    }
}

fn part(place: &str, block: &Value) -> Result<Part, Problem> {
    Ok(match read(block, place)? {
        Block::Text { text, .. } => Part::Text(text),
        Block::Image { .. } | Block::Document { .. } => Part::Other,
        Block::Thinking {
            thinking,
            signature,
        } => Part::Sealed(Sealed {
            seal: signature,
            bound: thinking,
        }),
        Block::RedactedThinking { data } => Part::Sealed(Sealed {
            seal: data,
            bound: String::new(),
        }),
        Block::ToolUse {
            id, name, input, ..
        } => {
            if !input.is_object() {
                let name = format!("{place}.input");
                return Err(Problem::invalid(
                    &name,
                    "Input should be a valid dictionary",
                ));
            }
            let fits = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
            if id.is_empty() || !id.bytes().all(fits) {
                let name = format!("{place}.id");
                let words = "String should match pattern '^[a-zA-Z0-9_-]+$'";
                return Err(Problem::invalid(&name, words));
            }
            Part::Call(CallPart {
                id,
                name,
                signed: false,
            })
        }
        Block::ToolResult {
            tool_use_id,
            content,
            ..
        } => {
            let inner = content
                .as_ref()
                .map(|content| parts(&format!("{place}.content"), content));
            let inner = Message {
                role: Role::User,
                parts: inner.transpose()?.unwrap_or_default(),
            };
            Part::Result(ResultPart {
                id: tool_use_id,
                text: inner.text(),
            })
        }
    })
}
