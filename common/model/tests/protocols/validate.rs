//! What the providers demand of a request, as strict as they are.

use std::collections::BTreeSet;

use patchfleet_model::Protocol;
use serde_json::Value;

/// Whether a provider would take the request.
pub(crate) fn accepts(protocol: Protocol, body: &Value) -> Result<(), String> {
    match protocol {
        Protocol::Anthropic => anthropic(body),
        Protocol::Responses => responses(body),
        Protocol::Chat => chat(body, false),
        Protocol::Ollama => chat(body, true),
        Protocol::Gemini => gemini(body),
    }
}

fn ensure(holds: bool, what: impl FnOnce() -> String) -> Result<(), String> {
    if holds { Ok(()) } else { Err(what()) }
}

fn only(value: &Value, allowed: &[&str]) -> Result<(), String> {
    let fields = value
        .as_object()
        .ok_or_else(|| format!("no object: {value}"))?;
    let unknown = fields
        .keys()
        .find(|field| !allowed.contains(&field.as_str()));
    ensure(unknown.is_none(), || {
        format!("unknown field {unknown:?} in {value}")
    })
}

fn list<'a>(value: &'a Value, field: &str) -> &'a [Value] {
    value[field].as_array().map_or(&[], Vec::as_slice)
}

fn is_id(id: &Value) -> bool {
    let valid = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
    id.as_str()
        .is_some_and(|id| !id.is_empty() && id.len() <= 64 && id.bytes().all(valid))
}

fn is_text(text: &Value) -> bool {
    text.as_str().is_some_and(|text| !text.trim().is_empty())
}

/// A call's id, which no call had before.
fn fresh(id: &Value, all: &mut BTreeSet<String>) -> Result<String, String> {
    ensure(is_id(id), || format!("bad id {id}"))?;
    let id = id.as_str().unwrap_or_default().to_owned();
    ensure(all.insert(id.clone()), || format!("id {id} twice"))?;
    Ok(id)
}

fn anthropic(body: &Value) -> Result<(), String> {
    ensure(body["max_tokens"].is_u64(), || {
        "max_tokens is required".into()
    })?;
    let mut ids = BTreeSet::new();
    let mut open: Vec<String> = Vec::new();
    let mut breakpoints = usize::from(body.to_string().contains("\"system\""));
    breakpoints += usize::from(!list(body, "tools").is_empty());
    let messages = list(body, "messages");
    for (number, message) in messages.iter().enumerate() {
        let expected = if number % 2 == 0 { "user" } else { "assistant" };
        ensure(message["role"] == expected, || {
            format!("{number} is not {expected}'s")
        })?;
        let content = list(message, "content");
        ensure(!content.is_empty(), || format!("{number} is empty"))?;
        let answered: Vec<_> = content
            .iter()
            .filter(|block| block["type"] == "tool_result")
            .collect();
        ensure(answered.len() == open.len(), || {
            format!("{number}: {open:?} want results")
        })?;
        let first = content.iter().take(open.len());
        let mut given: Vec<_> = first
            .filter_map(|block| block["tool_use_id"].as_str())
            .collect();
        given.sort_unstable();
        open.sort_unstable();
        ensure(given == open, || {
            format!("{number}: results {given:?} of {open:?}")
        })?;
        open.clear();
        for block in content {
            breakpoints += usize::from(block["cache_control"].is_object());
            anthropic_block(block, expected, &mut ids, &mut open)?;
        }
        let last = content
            .last()
            .map_or("", |block| block["type"].as_str().unwrap_or_default());
        ensure(!last.contains("thinking"), || {
            format!("{number} ends with thinking")
        })?;
    }
    ensure(breakpoints <= 4, || format!("{breakpoints} breakpoints"))?;
    ensure(messages.len() % 2 == 1, || {
        "the last message is not the user's".into()
    })
}

fn anthropic_block(
    block: &Value,
    role: &str,
    ids: &mut BTreeSet<String>,
    open: &mut Vec<String>,
) -> Result<(), String> {
    match (block["type"].as_str().unwrap_or_default(), role) {
        ("text", _) => {
            only(block, &["type", "text", "cache_control"])?;
            ensure(is_text(&block["text"]), || "an empty text block".into())
        }
        ("thinking", "assistant") => {
            only(block, &["type", "thinking", "signature"])?;
            ensure(block["signature"] == "c2ln", || {
                format!("bad signature: {block}")
            })
        }
        ("tool_use", "assistant") => {
            only(block, &["type", "id", "name", "input"])?;
            ensure(block["input"].is_object(), || format!("no object: {block}"))?;
            ensure(is_id(&block["name"]), || format!("bad name: {block}"))?;
            open.push(fresh(&block["id"], ids)?);
            Ok(())
        }
        ("tool_result", "user") => {
            let fields = [
                "type",
                "tool_use_id",
                "content",
                "is_error",
                "cache_control",
            ];
            only(block, &fields)?;
            let says = is_text(&block["content"]);
            ensure(block["is_error"] != true || says, || {
                format!("an empty error: {block}")
            })
        }
        (other, _) => Err(format!("{role} has a block {other:?}")),
    }
}

fn responses(body: &Value) -> Result<(), String> {
    ensure(body["store"] == false, || "stored".into())?;
    let mut ids = BTreeSet::new();
    let mut open = BTreeSet::new();
    let items = list(body, "input");
    ensure(
        items.first().is_some_and(|item| item["role"] == "user"),
        || "first".into(),
    )?;
    for (number, item) in items.iter().enumerate() {
        let kind = item["type"].as_str().unwrap_or("message");
        // What belongs to the model's turn may stand among its calls.
        ensure(open.is_empty() || item["role"] != "user", || {
            format!("{kind} before results")
        })?;
        match kind {
            "message" => {
                only(item, &["type", "role", "content", "phase"])?;
                ensure(is_text(&item["content"]), || format!("empty: {item}"))?;
            }
            "reasoning" => {
                ensure(item["encrypted_content"] == "Z0FB", || {
                    format!("foreign: {item}")
                })?;
                let next = items.get(number + 1);
                let led_to = next.is_some_and(|next| {
                    next["role"] == "assistant"
                        || next["type"] == "function_call"
                        || next["type"] == "reasoning"
                });
                ensure(led_to, || "reasoning without what follows it".into())?;
            }
            "function_call" => {
                only(item, &["type", "call_id", "name", "arguments"])?;
                ensure(is_id(&item["name"]), || format!("bad name: {item}"))?;
                let text = item["arguments"].as_str().unwrap_or_default();
                let object =
                    serde_json::from_str::<Value>(text).is_ok_and(|value| value.is_object());
                ensure(object, || format!("bad arguments: {item}"))?;
                open.insert(fresh(&item["call_id"], &mut ids)?);
            }
            "function_call_output" => {
                only(item, &["type", "call_id", "output"])?;
                let id = item["call_id"].as_str().unwrap_or_default();
                ensure(open.remove(id), || format!("no call for {item}"))?;
                ensure(item["output"].is_string(), || format!("no output: {item}"))?;
            }
            other => return Err(format!("unknown item {other}")),
        }
    }
    ensure(open.is_empty(), || format!("unanswered: {open:?}"))
}

fn chat(body: &Value, is_ollama: bool) -> Result<(), String> {
    let mut ids = BTreeSet::new();
    // Ollama answers in order, so that ids may lack.
    let mut open: Vec<Value> = Vec::new();
    let mut said = false;
    let mut last = "";
    for message in list(body, "messages") {
        let role = message["role"].as_str().unwrap_or_default();
        ensure(role != "system" || !said, || "a late system message".into())?;
        ensure(open.is_empty() || role == "tool", || {
            format!("{role} before results")
        })?;
        ensure(said || role != "assistant", || {
            "the assistant speaks first".into()
        })?;
        ensure(role != last || role == "tool", || format!("{role} twice"))?;
        match role {
            "system" => {}
            "user" => {
                only(message, &["role", "content"])?;
                ensure(is_text(&message["content"]), || "an empty user".into())?;
                said = true;
            }
            "assistant" => assistant(message, is_ollama, &mut ids, &mut open)?,
            "tool" => {
                let fields = ["role", "content", "tool_call_id", "tool_name"];
                only(message, &fields[..if is_ollama { 4 } else { 3 }])?;
                let expected = if is_ollama {
                    &message["tool_name"]
                } else {
                    &message["tool_call_id"]
                };
                let at = open.iter().position(|open| open == expected);
                let at = at.ok_or_else(|| format!("no call for {message}"))?;
                ensure(!is_ollama || at == 0, || "results out of order".into())?;
                open.remove(at);
                ensure(message["content"].is_string(), || "no content".into())?;
            }
            other => return Err(format!("unknown role {other}")),
        }
        last = role;
    }
    ensure(open.is_empty(), || format!("unanswered: {open:?}"))?;
    ensure(last != "assistant", || "the assistant speaks last".into())
}

fn assistant(
    message: &Value,
    is_ollama: bool,
    ids: &mut BTreeSet<String>,
    open: &mut Vec<Value>,
) -> Result<(), String> {
    let thinking = if is_ollama {
        "thinking"
    } else {
        "reasoning_content"
    };
    only(message, &["role", "content", "tool_calls", thinking])?;
    let calls = list(message, "tool_calls");
    let said = is_text(&message["content"]);
    ensure(said || !calls.is_empty(), || format!("empty: {message}"))?;
    for call in calls {
        let function = &call["function"];
        ensure(is_id(&function["name"]), || format!("bad name: {call}"))?;
        if is_ollama {
            ensure(function["arguments"].is_object(), || {
                format!("no object: {call}")
            })?;
            open.push(function["name"].clone());
            continue;
        }
        let text = function["arguments"].as_str().unwrap_or_default();
        let object = serde_json::from_str::<Value>(text).is_ok_and(|value| value.is_object());
        ensure(object, || format!("bad arguments: {call}"))?;
        fresh(&call["id"], ids)?;
        open.push(call["id"].clone());
    }
    Ok(())
}

fn gemini(body: &Value) -> Result<(), String> {
    let contents = list(body, "contents");
    let mut open: Vec<Value> = Vec::new();
    for (number, content) in contents.iter().enumerate() {
        let expected = if number % 2 == 0 { "user" } else { "model" };
        ensure(content["role"] == expected, || {
            format!("{number} is not {expected}'s")
        })?;
        let parts = list(content, "parts");
        ensure(!parts.is_empty(), || format!("{number} is empty"))?;
        let answers = parts.iter().filter_map(|part| part.get("functionResponse"));
        let answers: Vec<_> = answers.map(|answer| answer["name"].clone()).collect();
        ensure(answers == open, || {
            format!("{number}: {answers:?} answer {open:?}")
        })?;
        open.clear();
        for part in parts {
            let signature = &part["thoughtSignature"];
            if let Some(call) = part.get("functionCall") {
                ensure(call["args"].is_object(), || format!("no object: {call}"))?;
                // Gemini 3 wants one on the first call of a step.
                let signed = signature == "c2ln" || signature == "skip_thought_signature_validator";
                ensure(signed || !open.is_empty(), || format!("unsigned: {part}"))?;
                open.push(call["name"].clone());
            } else if part.get("functionResponse").is_none() {
                let empty = !is_text(&part["text"]);
                ensure(!empty || signature == "c2ln", || {
                    format!("an empty part: {part}")
                })?;
            }
        }
    }
    ensure(open.is_empty(), || format!("unanswered: {open:?}"))?;
    ensure(contents.len() % 2 == 1, || {
        "the last content is not the user's".into()
    })
}
