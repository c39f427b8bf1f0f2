//! The protocol Chat Completions of OpenAI, and every server that is compatible with it.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::{Asked, Parameter, Path, report};
use crate::decode::{Grammar, Progress, arguments, count, malformed, object};
use crate::failure::LIMIT;
use crate::history::{Entry, Piece, name};
use crate::{Arguments, ModelError, Stop, Usage};

/// Where thinking and text stand in the answer; calls follow.
const THINKING: u64 = 0;
const TEXT: u64 = 1;
const CALLS: u64 = 2;

/// The fields in which compatible servers write what a model thinks.
const THINKING_FIELDS: [&str; 2] = ["reasoning_content", "reasoning"];

pub(super) fn path() -> Path {
    Path::new("v1", &["chat", "completions"])
}

pub(super) fn body(asked: &Asked<'_>) -> Value {
    let conversation = asked.conversation;
    let mut messages = Vec::new();
    if let Some(system) = asked.system() {
        messages.push(json!({"role": "system", "content": system}));
    }
    for entry in asked.entries {
        match entry {
            // Templates of local models want user and assistant to take turns.
            Entry::User(texts) => {
                messages.push(json!({"role": "user", "content": texts.join("\n\n")}));
            }
            Entry::Assistant { pieces, results } => {
                messages.push(assistant(pieces));
                messages.extend(results.iter().map(|result| {
                    json!({
                        "role": "tool",
                        "tool_call_id": result.id,
                        "content": result.content,
                    })
                }));
            }
        }
    }
    let mut body = json!({
        "model": asked.target.origin.model,
        "stream": true,
        "messages": messages,
    });
    let limit = if asked.takes(Parameter::CompletionLimit) {
        "max_completion_tokens"
    } else {
        LIMIT
    };
    body[limit] = json!(conversation.max_output);
    if asked.takes(Parameter::StreamUsage) {
        body["stream_options"] = json!({"include_usage": true});
    }
    let tools = functions(asked);
    if !tools.is_empty() {
        body["tools"] = Value::Array(tools);
    }
    if let Some(key) = asked.cache_key() {
        body["prompt_cache_key"] = json!(key);
    }
    if let Some(effort) = asked.effort() {
        body["reasoning_effort"] = json!(effort);
    }
    if let Some(temperature) = asked.temperature() {
        body["temperature"] = json!(temperature);
    }
    if let Some(top_p) = asked.top_p() {
        body["top_p"] = json!(top_p);
    }
    body
}

/// The tools in the form that Ollama has taken over.
pub(super) fn functions(asked: &Asked<'_>) -> Vec<Value> {
    let tools = asked.conversation.tools.iter().map(|tool| {
        json!({
            "type": "function",
            "function": {
                "name": name(&tool.name),
                "description": tool.description,
                "parameters": tool.parameters,
            },
        })
    });
    tools.collect()
}

fn assistant(pieces: &[Piece<'_>]) -> Value {
    let mut message = json!({"role": "assistant", "content": null});
    let mut texts = Vec::new();
    let mut calls = Vec::new();
    for piece in pieces {
        match piece {
            Piece::Text(text) => texts.push(*text),
            Piece::Call(call) => calls.push(json!({
                "id": call.id,
                "type": "function",
                "function": {"name": call.name, "arguments": call.text},
            })),
            Piece::Opaque(payload) => {
                for (field, value) in payload.as_object().into_iter().flatten() {
                    message[field] = value.clone();
                }
            }
        }
    }
    if !texts.is_empty() {
        message["content"] = json!(texts.join("\n\n"));
    }
    if !calls.is_empty() {
        message["tool_calls"] = Value::Array(calls);
    }
    message
}

pub(super) fn grammar() -> Box<dyn Grammar> {
    Box::new(Chat::default())
}

#[derive(Default)]
struct Chat {
    calls: BTreeMap<u64, Pending>,
    thinking: Option<(&'static str, String)>,
    refusal: String,
    stop: Option<Stop>,
    ended: bool,
}

/// A call whose arguments are still coming.
#[derive(Default)]
struct Pending {
    id: String,
    name: String,
    arguments: String,
}

impl Grammar for Chat {
    fn read(&mut self, message: &str, progress: &mut Progress) -> Result<(), ModelError> {
        if message.trim() == "[DONE]" {
            return self.done(progress);
        }
        let chunk = object(message)?;
        if !chunk["error"].is_null() {
            progress.refused();
            return Err(progress.error(report(&chunk)));
        }
        used(&chunk["usage"], progress);
        let choices = chunk["choices"].as_array();
        let first = |choice: &&Value| choice["index"].as_u64().unwrap_or_default() == 0;
        if let Some(choice) = choices.and_then(|all| all.iter().find(first)) {
            self.delta(&choice["delta"], progress);
            if let Some(reason) = choice["finish_reason"].as_str() {
                self.stop = Some(stop(reason));
            }
        }
        Ok(())
    }

    fn document(&mut self, document: &Value, progress: &mut Progress) -> Result<(), ModelError> {
        let choices = document["choices"].as_array().into_iter().flatten();
        for choice in choices {
            progress.unseen(&choice["message"].to_string(), false);
        }
        let reason = document["choices"][0]["finish_reason"].as_str();
        self.stop = Some(stop(reason.unwrap_or_default()));
        used(&document["usage"], progress);
        self.ended = true;
        Ok(())
    }

    fn stop(&self) -> Option<Stop> {
        self.stop.clone().filter(|_| self.ended)
    }

    fn terminal(&self) -> &'static str {
        "[DONE]"
    }
}

impl Chat {
    fn delta(&mut self, delta: &Value, progress: &mut Progress) {
        let word = |name: &str| delta[name].as_str().unwrap_or_default();
        for field in THINKING_FIELDS {
            let text = word(field);
            let (chosen, so_far) = self.thinking.get_or_insert((field, String::new()));
            if so_far.is_empty() {
                *chosen = field;
            }
            // Some servers write the same into both fields.
            if *chosen == field && !text.is_empty() {
                progress.unseen(text, true);
                so_far.push_str(text);
            }
        }
        progress.text(TEXT, word("content"));
        progress.unseen(word("refusal"), false);
        self.refusal.push_str(word("refusal"));
        for call in delta["tool_calls"].as_array().into_iter().flatten() {
            self.call(call, progress);
        }
    }

    fn call(&mut self, call: &Value, progress: &mut Progress) {
        let id = call["id"].as_str().unwrap_or_default();
        let last = self.calls.last_key_value();
        let index = call["index"].as_u64().unwrap_or_else(|| match last {
            // Without an index a new id begins a new call.
            Some((index, pending)) if id.is_empty() || pending.id == id => *index,
            Some((index, _)) => index + 1,
            None => 0,
        });
        let pending = self.calls.entry(index).or_default();
        if pending.id.is_empty() {
            id.clone_into(&mut pending.id);
        }
        let function = &call["function"];
        if pending.name.is_empty() {
            function["name"]
                .as_str()
                .unwrap_or_default()
                .clone_into(&mut pending.name);
        }
        let text = match &function["arguments"] {
            Value::Null => String::new(),
            Value::String(text) => text.clone(),
            object => arguments(object).text().to_owned(),
        };
        progress.unseen(&text, false);
        pending.arguments.push_str(&text);
    }

    /// The stream is over; what was collected is complete.
    fn done(&mut self, progress: &mut Progress) -> Result<(), ModelError> {
        if self.stop.is_none() {
            return Err(malformed("it ended without a finish_reason"));
        }
        if let Some((field, thinking)) = self.thinking.take().filter(|(_, text)| !text.is_empty()) {
            progress.opaque(THINKING, json!({field: thinking}));
        }
        for (index, call) in std::mem::take(&mut self.calls) {
            let given = Arguments::from_text(call.arguments);
            progress.call(CALLS.saturating_add(index), &call.id, &call.name, given);
        }
        if !self.refusal.is_empty() {
            self.stop = Some(Stop::Refused(std::mem::take(&mut self.refusal)));
        }
        self.ended = true;
        Ok(())
    }
}

fn stop(reason: &str) -> Stop {
    match reason {
        "stop" => Stop::End,
        "tool_calls" | "function_call" => Stop::ToolCalls,
        "length" => Stop::OutputCut,
        other => Stop::Refused(other.to_owned()),
    }
}

fn used(usage: &Value, progress: &mut Progress) {
    if !usage.is_object() {
        return;
    }
    let prompt = count(&usage["prompt_tokens"]).unwrap_or_default();
    let details = &usage["prompt_tokens_details"];
    let cache_read = count(&details["cached_tokens"]).unwrap_or_default();
    let cache_write = count(&details["cache_write_tokens"]).unwrap_or_default();
    let reasoning = &usage["completion_tokens_details"]["reasoning_tokens"];
    progress.usage(Usage {
        input: prompt
            .saturating_sub(cache_read)
            .saturating_sub(cache_write),
        cache_read,
        cache_write,
        output: count(&usage["completion_tokens"]).unwrap_or_default(),
        reasoning: count(reasoning).unwrap_or_default(),
        estimated: false,
    });
}
