//! Reading a request of the Chat Completions interface.

use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::Value;

use crate::model::asked::{Asked, CallPart, Message, Part, ResultPart, Role, read};
use crate::model::problem::Problem;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "named so that every other field is unknown")]
struct Request {
    model: String,
    messages: Vec<Value>,
    stream: Option<bool>,
    stream_options: Option<StreamOptions>,
    tools: Option<Vec<Tool>>,
    max_tokens: Option<u64>,
    max_completion_tokens: Option<u64>,
    temperature: Option<f64>,
    top_p: Option<f64>,
    top_logprobs: Option<u64>,
    logprobs: Option<bool>,
    frequency_penalty: Option<f64>,
    presence_penalty: Option<f64>,
    logit_bias: Option<IgnoredAny>,
    n: Option<u64>,
    audio: Option<IgnoredAny>,
    metadata: Option<IgnoredAny>,
    modalities: Option<IgnoredAny>,
    moderation: Option<IgnoredAny>,
    parallel_tool_calls: Option<bool>,
    prediction: Option<IgnoredAny>,
    prompt_cache_key: Option<String>,
    prompt_cache_options: Option<IgnoredAny>,
    prompt_cache_retention: Option<IgnoredAny>,
    reasoning_effort: Option<String>,
    response_format: Option<IgnoredAny>,
    safety_identifier: Option<IgnoredAny>,
    seed: Option<i64>,
    service_tier: Option<IgnoredAny>,
    stop: Option<IgnoredAny>,
    store: Option<bool>,
    tool_choice: Option<IgnoredAny>,
    user: Option<String>,
    verbosity: Option<String>,
    web_search_options: Option<IgnoredAny>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "named so that every other field is unknown")]
struct StreamOptions {
    include_usage: Option<bool>,
    include_obfuscation: Option<bool>,
}

#[derive(Deserialize)]
struct Tool {
    function: Option<Function>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "named so that every other field is unknown")]
struct Function {
    name: String,
    description: Option<String>,
    parameters: Option<Value>,
    strict: Option<bool>,
}

#[derive(Deserialize)]
#[serde(tag = "role", rename_all = "snake_case", deny_unknown_fields)]
#[expect(dead_code, reason = "named so that every other field is unknown")]
enum Written {
    #[serde(alias = "developer")]
    System {
        content: Value,
        name: Option<String>,
    },
    User {
        content: Value,
        name: Option<String>,
    },
    Assistant {
        content: Option<Value>,
        name: Option<String>,
        refusal: Option<String>,
        audio: Option<IgnoredAny>,
        tool_calls: Option<Vec<Call>>,
        /// Compatible servers take their thoughts back in one of these.
        reasoning_content: Option<String>,
        reasoning: Option<String>,
    },
    Tool {
        content: Value,
        tool_call_id: String,
    },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Call {
    id: String,
    r#type: String,
    function: CallFunction,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "named so that every other field is unknown")]
struct CallFunction {
    name: String,
    arguments: String,
}

#[derive(Deserialize)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
#[expect(dead_code, reason = "named so that every other field is unknown")]
enum Content {
    Text {
        text: String,
        prompt_cache_breakpoint: Option<IgnoredAny>,
    },
    Refusal {
        refusal: String,
    },
    ImageUrl {
        image_url: IgnoredAny,
    },
}

pub(super) fn request(body: &Value) -> Result<Asked, Problem> {
    let request: Request = read(body, "")?;
    let stream = request.stream.unwrap_or_default();
    if request.stream_options.is_some() && !stream {
        let words = "The 'stream_options' parameter is only allowed when 'stream' is enabled.";
        return Err(Problem::unsupported("stream_options", words));
    }
    if request.n.is_some_and(|n| n != 1) {
        return Err(Problem::unsupported("n", "the simulator gives one choice"));
    }
    let sampling = [
        ("temperature", request.temperature.is_some()),
        ("top_p", request.top_p.is_some()),
        ("top_logprobs", request.top_logprobs.is_some()),
        ("logprobs", request.logprobs == Some(true)),
        ("frequency_penalty", request.frequency_penalty.is_some()),
        ("presence_penalty", request.presence_penalty.is_some()),
        ("logit_bias", request.logit_bias.is_some()),
        // A model without sampling parameters is one that reasons, and counts its thoughts in.
        ("max_tokens", request.max_tokens.is_some()),
    ];
    let options = request.stream_options;
    let mut asked = Asked {
        model: request.model,
        stream,
        stream_usage: options.and_then(|it| it.include_usage).unwrap_or_default(),
        max_output: request.max_completion_tokens.or(request.max_tokens),
        sampling: sampling.iter().filter(|it| it.1).map(|it| it.0).collect(),
        ..Asked::default()
    };
    let tools = request.tools.into_iter().flatten();
    let functions = tools.filter_map(|tool| tool.function);
    asked.tools = functions.map(|function| function.name).collect();
    for (at, message) in request.messages.iter().enumerate() {
        push(&mut asked, &format!("messages[{at}]"), message)?;
    }
    Ok(asked)
}

/// Adds a message; the results of tools make one message of the user, with what is said next.
fn push(asked: &mut Asked, place: &str, message: &Value) -> Result<(), Problem> {
    let made = match read(message, place)? {
        Written::System { content, .. } => {
            asked.system = format!("{}\n{}", asked.system, text(place, &content)?);
            return Ok(());
        }
        Written::User { content, .. } => {
            let part = Part::Text(text(place, &content)?);
            if let Some(last) = asked.messages.last_mut()
                && last.role == Role::User
                && matches!(last.parts.last(), Some(Part::Result(_)))
            {
                last.parts.push(part);
                return Ok(());
            }
            Message {
                role: Role::User,
                parts: vec![part],
            }
        }
        Written::Assistant {
            content,
            tool_calls,
            ..
        } => Message {
            role: Role::Assistant,
            parts: said(place, content.as_ref(), tool_calls.unwrap_or_default())?,
        },
        Written::Tool {
            content,
            tool_call_id,
        } => {
            let part = Part::Result(ResultPart {
                id: tool_call_id,
                text: text(place, &content)?,
            });
            if let Some(last) = asked.messages.last_mut()
                && last.role == Role::User
                && matches!(last.parts.last(), Some(Part::Result(_)))
            {
                last.parts.push(part);
                return Ok(());
            }
            Message {
                role: Role::User,
                parts: vec![part],
            }
        }
    };
    asked.messages.push(made);
    Ok(())
}

fn said(place: &str, content: Option<&Value>, calls: Vec<Call>) -> Result<Vec<Part>, Problem> {
    let mut parts = Vec::new();
    if let Some(content) = content.filter(|content| !content.is_null()) {
        let text = text(place, content)?;
        // Beside calls an empty text is usual.
        if !text.is_empty() || calls.is_empty() {
            parts.push(Part::Text(text));
        }
    }
    for call in calls {
        if call.r#type != "function" {
            return Err(Problem::invalid(
                &format!("{place}.tool_calls"),
                "expected 'function'",
            ));
        }
        parts.push(Part::Call(CallPart {
            id: call.id,
            name: call.function.name,
            signed: false,
        }));
    }
    Ok(parts)
}

fn text(place: &str, content: &Value) -> Result<String, Problem> {
    let place = format!("{place}.content");
    match content {
        Value::String(text) => Ok(text.clone()),
        Value::Array(parts) => {
            let mut text = String::new();
            for (at, part) in parts.iter().enumerate() {
                match read(part, &format!("{place}[{at}]"))? {
                    Content::Text { text: more, .. } => text.push_str(&more),
                    Content::Refusal { refusal } => text.push_str(&refusal),
                    Content::ImageUrl { .. } => text.push_str("(image)"),
                }
            }
            Ok(text)
        }
        _ => Err(Problem::invalid(
            &place,
            "expected a string or a list of parts",
        )),
    }
}
