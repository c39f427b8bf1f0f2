//! Ollama's own protocol: JSON values, one a line.

use serde_json::{Value, json};

use super::{Asked, Path, chat, report};
use crate::decode::{Grammar, LOCAL, Progress, arguments, count, malformed, object};
use crate::history::{Entry, Piece};
use crate::{ModelError, Stop, Usage};

/// Where thinking and text stand in the answer; calls follow.
const THINKING: u64 = 0;
const TEXT: u64 = 1;
const CALLS: u64 = 2;

pub(super) fn path() -> Path {
    Path {
        version: None,
        ..Path::new("", &["api", "chat"])
    }
}

pub(super) fn body(asked: &Asked<'_>) -> Value {
    let conversation = asked.conversation;
    let mut messages = Vec::new();
    if let Some(system) = asked.system() {
        messages.push(json!({"role": "system", "content": system}));
    }
    for entry in asked.entries {
        match entry {
            Entry::User(texts) => {
                messages.push(json!({"role": "user", "content": texts.join("\n\n")}));
            }
            Entry::Assistant { pieces, results } => {
                messages.push(assistant(pieces));
                messages.extend(results.iter().map(|result| {
                    let mut message = json!({
                        "role": "tool",
                        "tool_name": result.name,
                        "content": result.content,
                    });
                    identify(&mut message, "tool_call_id", &result.id);
                    message
                }));
            }
        }
    }
    let mut options = json!({"num_predict": conversation.max_output});
    // Without it Ollama forgets the beginning of what does not fit into a small default.
    if let Some(window) = asked.target.window {
        options["num_ctx"] = json!(window);
    }
    if let Some(temperature) = asked.temperature() {
        options["temperature"] = json!(temperature);
    }
    if let Some(top_p) = asked.top_p() {
        options["top_p"] = json!(top_p);
    }
    let mut body = json!({
        "model": asked.target.origin.model,
        "stream": true,
        "messages": messages,
        "options": options,
    });
    let tools = chat::functions(asked);
    if !tools.is_empty() {
        body["tools"] = Value::Array(tools);
    }
    if let Some(effort) = asked.effort() {
        body["think"] = json!(effort);
    }
    body
}

fn assistant(pieces: &[Piece<'_>]) -> Value {
    let mut message = json!({"role": "assistant", "content": ""});
    let mut texts = Vec::new();
    let mut calls = Vec::new();
    for piece in pieces {
        match piece {
            Piece::Text(text) => texts.push(*text),
            Piece::Call(call) => {
                let function = json!({"name": call.name, "arguments": call.arguments});
                let mut value = json!({"function": function});
                identify(&mut value, "id", &call.id);
                calls.push(value);
            }
            Piece::Opaque(payload) => message["thinking"] = payload["thinking"].clone(),
        }
    }
    message["content"] = json!(texts.join("\n\n"));
    if !calls.is_empty() {
        message["tool_calls"] = Value::Array(calls);
    }
    message
}

/// Sends an id, but for one that was made up because the model gave none.
fn identify(value: &mut Value, field: &str, id: &str) {
    if !id.starts_with(LOCAL) {
        value[field] = json!(id);
    }
}

pub(super) fn grammar() -> Box<dyn Grammar> {
    Box::new(Ollama::default())
}

#[derive(Default)]
struct Ollama {
    thinking: String,
    calls: u64,
    stop: Option<Stop>,
}

impl Grammar for Ollama {
    fn read(&mut self, message: &str, progress: &mut Progress) -> Result<(), ModelError> {
        let line = object(message)?;
        if !line["error"].is_null() {
            progress.refused();
            return Err(progress.error(report(&line)));
        }
        let said = &line["message"];
        let word = |name: &str| said[name].as_str().unwrap_or_default();
        progress.unseen(word("thinking"), true);
        self.thinking.push_str(word("thinking"));
        progress.text(TEXT, word("content"));
        for call in said["tool_calls"].as_array().into_iter().flatten() {
            let function = &call["function"];
            let id = call["id"].as_str().unwrap_or_default();
            let name = function["name"].as_str().unwrap_or_default();
            let given = &function["arguments"];
            progress.unseen(&given.to_string(), false);
            progress.call(CALLS + self.calls, id, name, arguments(given));
            self.calls += 1;
        }
        if line["done"] == true {
            self.done(&line, progress)?;
        }
        Ok(())
    }

    /// It has the form of the only line of a stream.
    fn document(&mut self, document: &Value, progress: &mut Progress) -> Result<(), ModelError> {
        self.read(&document.to_string(), progress)
    }

    fn stop(&self) -> Option<Stop> {
        self.stop.clone()
    }

    fn terminal(&self) -> &'static str {
        "a line with done: true"
    }
}

impl Ollama {
    fn done(&mut self, line: &Value, progress: &mut Progress) -> Result<(), ModelError> {
        let thinking = std::mem::take(&mut self.thinking);
        if !thinking.is_empty() {
            progress.opaque(THINKING, json!({"thinking": thinking}));
        }
        // A count of zero is left out: all of the prompt was in the server's cache.
        progress.usage(Usage {
            input: count(&line["prompt_eval_count"]).unwrap_or_default(),
            output: count(&line["eval_count"]).unwrap_or_default(),
            ..Usage::default()
        });
        self.stop = Some(match line["done_reason"].as_str() {
            None | Some("stop") => Stop::End,
            Some("length") => Stop::OutputCut,
            Some(reason @ ("load" | "unload")) => {
                return Err(malformed(format!(
                    "the server did no more than {reason} the model"
                )));
            }
            Some(other) => Stop::Refused(other.to_owned()),
        });
        Ok(())
    }
}
