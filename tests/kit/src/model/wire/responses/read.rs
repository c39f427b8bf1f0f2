//! Reading a request of the Responses interface.

use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::Value;

use super::REASONING;
use crate::model::asked::{Asked, CallPart, Message, Part, ResultPart, Role, Sealed, read};
use crate::model::problem::Problem;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "named so that every other field is unknown")]
struct Request {
    model: String,
    input: Value,
    instructions: Option<String>,
    max_output_tokens: Option<u64>,
    stream: Option<bool>,
    store: Option<bool>,
    include: Option<Vec<String>>,
    tools: Option<Vec<Tool>>,
    temperature: Option<f64>,
    top_p: Option<f64>,
    top_logprobs: Option<u64>,
    previous_response_id: Option<String>,
    conversation: Option<Value>,
    background: Option<bool>,
    context_management: Option<IgnoredAny>,
    max_tool_calls: Option<IgnoredAny>,
    metadata: Option<IgnoredAny>,
    moderation: Option<IgnoredAny>,
    parallel_tool_calls: Option<IgnoredAny>,
    prompt: Option<IgnoredAny>,
    prompt_cache_key: Option<String>,
    prompt_cache_options: Option<IgnoredAny>,
    prompt_cache_retention: Option<IgnoredAny>,
    reasoning: Option<IgnoredAny>,
    safety_identifier: Option<IgnoredAny>,
    service_tier: Option<IgnoredAny>,
    stream_options: Option<IgnoredAny>,
    text: Option<IgnoredAny>,
    tool_choice: Option<IgnoredAny>,
    truncation: Option<String>,
    user: Option<IgnoredAny>,
    access_programs: Option<IgnoredAny>,
    client_metadata: Option<IgnoredAny>,
}

#[derive(Deserialize)]
struct Tool {
    r#type: String,
    name: Option<String>,
    parameters: Option<Value>,
}

#[derive(Deserialize)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
#[expect(dead_code, reason = "named so that every other field is unknown")]
enum Item {
    Message {
        role: String,
        content: Value,
        id: Option<String>,
        status: Option<String>,
        phase: Option<String>,
    },
    FunctionCall {
        call_id: String,
        name: String,
        arguments: String,
        id: Option<String>,
        status: Option<String>,
        namespace: Option<IgnoredAny>,
        caller: Option<IgnoredAny>,
        r#async: Option<bool>,
    },
    FunctionCallOutput {
        call_id: String,
        output: Value,
        id: Option<String>,
        status: Option<String>,
        name: Option<IgnoredAny>,
        namespace: Option<IgnoredAny>,
        caller: Option<IgnoredAny>,
    },
    Reasoning {
        /// Clients leave it out where nothing is stored under it.
        id: Option<String>,
        summary: Vec<Value>,
        content: Option<Value>,
        encrypted_content: Option<String>,
        status: Option<String>,
    },
}

#[derive(Deserialize)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
#[expect(dead_code, reason = "named so that every other field is unknown")]
enum Content {
    InputText {
        text: String,
        prompt_cache_breakpoint: Option<IgnoredAny>,
    },
    OutputText {
        text: String,
        annotations: Option<IgnoredAny>,
        logprobs: Option<IgnoredAny>,
    },
    Refusal {
        refusal: String,
    },
    InputImage {
        image_url: Option<IgnoredAny>,
        file_id: Option<IgnoredAny>,
        detail: Option<IgnoredAny>,
    },
}

/// Longest id of a call.
const MAX_ID: usize = 64;

pub(super) fn request(body: &Value) -> Result<Asked, Problem> {
    let request: Request = read(body, "")?;
    let kept = [
        (
            "previous_response_id",
            request.previous_response_id.is_some(),
        ),
        ("conversation", request.conversation.is_some()),
        ("background", request.background == Some(true)),
    ];
    if let Some((name, _)) = kept.iter().find(|it| it.1) {
        let words =
            format!("the simulator keeps no responses, so `{name}` has nothing to refer to");
        return Err(Problem::unsupported(name, words));
    }
    let sampling = [
        ("temperature", request.temperature.is_some()),
        ("top_p", request.top_p.is_some()),
        ("top_logprobs", request.top_logprobs.is_some()),
    ];
    let include = request.include.unwrap_or_default();
    let mut asked = Asked {
        model: request.model,
        stream: request.stream.unwrap_or_default(),
        stream_usage: true,
        sealed: include.iter().any(|it| it == "reasoning.encrypted_content"),
        system: request.instructions.unwrap_or_default(),
        max_output: request.max_output_tokens,
        sampling: sampling.iter().filter(|it| it.1).map(|it| it.0).collect(),
        ..Asked::default()
    };
    for (at, tool) in request.tools.into_iter().flatten().enumerate() {
        if tool.r#type != "function" {
            continue;
        }
        let (Some(name), Some(_)) = (tool.name, tool.parameters) else {
            return Err(Problem::missing(&format!("tools[{at}].name or parameters")));
        };
        asked.tools.push(name);
    }
    match &request.input {
        Value::String(text) => asked.messages.push(Message {
            role: Role::User,
            parts: vec![Part::Text(text.clone())],
        }),
        Value::Array(items) => {
            for (at, item) in items.iter().enumerate() {
                push(&mut asked, &format!("input[{at}]"), item)?;
            }
        }
        _ => {
            return Err(Problem::invalid(
                "input",
                "expected a string or a list of items",
            ));
        }
    }
    Ok(asked)
}

/// Adds an item to the message that it belongs to: those of the model make one message, outputs
/// another.
fn push(asked: &mut Asked, place: &str, item: &Value) -> Result<(), Problem> {
    let mut item = item.clone();
    if let Value::Object(fields) = &mut item
        && fields.contains_key("role")
    {
        fields.entry("type").or_insert_with(|| "message".into());
    }
    let (role, part) = match read(&item, place)? {
        Item::Message { role, content, .. } => {
            let text = content_text(&format!("{place}.content"), &content)?;
            match role.as_str() {
                "system" | "developer" => {
                    asked.system = format!("{}\n{text}", asked.system);
                    return Ok(());
                }
                "user" => (Role::User, Part::Text(text)),
                "assistant" => (Role::Assistant, Part::Text(text)),
                _ => {
                    let words =
                        "supported values are 'assistant', 'system', 'developer' and 'user'";
                    return Err(Problem::invalid(&format!("{place}.role"), words));
                }
            }
        }
        Item::FunctionCall { call_id, name, .. } => {
            id(place, &call_id)?;
            let call = CallPart {
                id: call_id,
                name,
                signed: false,
            };
            (Role::Assistant, Part::Call(call))
        }
        Item::FunctionCallOutput {
            call_id, output, ..
        } => {
            id(place, &call_id)?;
            let result = ResultPart {
                id: call_id,
                text: content_text(&format!("{place}.output"), &output)?,
            };
            (Role::User, Part::Result(result))
        }
        Item::Reasoning {
            id,
            encrypted_content,
            ..
        } => {
            let seal = encrypted_content.ok_or_else(|| {
                let id = id.unwrap_or_default();
                let words = format!(
                    "Item with id '{id}' not found. Items are not persisted when `store` is set to false; \
                     send `encrypted_content`"
                );
                Problem::invalid(place, words)
            })?;
            (
                Role::Assistant,
                Part::Sealed(Sealed {
                    seal,
                    bound: REASONING.to_owned(),
                }),
            )
        }
    };
    place_part(&mut asked.messages, role, part);
    Ok(())
}

fn place_part(messages: &mut Vec<Message>, role: Role, part: Part) {
    let fits = |last: &Message| {
        // What a user says after results is in the same message; another saying is not.
        let said = last.parts.iter().any(|part| matches!(part, Part::Text(_)));
        last.role == role && (role == Role::Assistant || !said)
    };
    if !messages.last().is_some_and(fits) {
        messages.push(Message::new(role));
    }
    if let Some(last) = messages.last_mut() {
        last.parts.push(part);
    }
}

fn id(place: &str, id: &str) -> Result<(), Problem> {
    if id.is_empty() || id.len() > MAX_ID {
        let words = format!(
            "expected a string of 1 to {MAX_ID} characters, got {}",
            id.len()
        );
        return Err(Problem::invalid(&format!("{place}.call_id"), words));
    }
    Ok(())
}

fn content_text(place: &str, content: &Value) -> Result<String, Problem> {
    let Value::Array(parts) = content else {
        let words = "expected a string or a list of parts";
        return match content.as_str() {
            Some(text) => Ok(text.to_owned()),
            None => Err(Problem::invalid(place, words)),
        };
    };
    let mut text = String::new();
    for (at, part) in parts.iter().enumerate() {
        match read(part, &format!("{place}[{at}]"))? {
            Content::InputText { text: more, .. } | Content::OutputText { text: more, .. } => {
                text.push_str(&more);
            }
            Content::Refusal { refusal } => text.push_str(&refusal),
            Content::InputImage { .. } => text.push_str("(image)"),
        }
    }
    Ok(text)
}
