//! Anthropic's Messages.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::{Asked, Parameter, Path, report};
use crate::decode::{Grammar, Progress, arguments, count, malformed, object};
use crate::history::{Answered, Entry, Piece, name};
use crate::{Arguments, ModelError, Stop, Usage};

pub(super) fn path() -> Path {
    Path::new("v1", &["messages"])
}

pub(super) fn body(asked: &Asked<'_>) -> Value {
    let conversation = asked.conversation;
    let caches = asked.takes(Parameter::CacheControl);
    let mut body = json!({
        "model": asked.target.origin.model,
        "max_tokens": conversation.max_output,
        "stream": true,
        "messages": messages(asked.entries, caches),
    });
    let tools = conversation.tools.iter().map(|tool| {
        json!({
            "name": name(&tool.name),
            "description": tool.description,
            "input_schema": tool.parameters,
        })
    });
    let mut tools: Vec<_> = tools.collect();
    if let Some(last) = tools.last_mut() {
        breakpoint(last, caches);
        body["tools"] = Value::Array(tools);
    }
    if let Some(system) = asked.system() {
        let mut system = json!({"type": "text", "text": system});
        breakpoint(&mut system, caches);
        body["system"] = json!([system]);
    }
    if let Some(effort) = asked.effort() {
        body["thinking"] = json!({"type": "adaptive"});
        body["output_config"] = json!({"effort": effort});
    }
    if let Some(temperature) = asked.temperature() {
        body["temperature"] = json!(temperature);
    }
    if let Some(top_p) = asked.top_p() {
        body["top_p"] = json!(top_p);
    }
    body
}

/// The prefix up to here is kept by the provider's prompt cache.
fn breakpoint(block: &mut Value, caches: bool) {
    if caches {
        block["cache_control"] = json!({"type": "ephemeral"});
    }
}

fn messages(entries: &[Entry<'_>], caches: bool) -> Vec<Value> {
    let mut messages: Vec<Value> = Vec::new();
    for entry in entries {
        match entry {
            Entry::User(texts) => say(
                &mut messages,
                "user",
                texts.iter().map(|text| text_block(text)),
            ),
            Entry::Assistant { pieces, results } => {
                say(&mut messages, "assistant", blocks(pieces));
                if !results.is_empty() {
                    say(&mut messages, "user", results.iter().map(result_block));
                }
            }
        }
    }
    // The last user's message, and the one that was the last of the request before: a turn may
    // have more blocks than the provider looks back from a breakpoint.
    let users = messages
        .iter_mut()
        .rev()
        .filter(|message| message["role"] == "user");
    for message in users.take(2) {
        if let Some(last) = message["content"]
            .as_array_mut()
            .and_then(|all| all.last_mut())
        {
            breakpoint(last, caches);
        }
    }
    messages
}

/// Adds blocks to the last message if it is of the same role, else a message.
fn say(messages: &mut Vec<Value>, role: &str, blocks: impl IntoIterator<Item = Value>) {
    let same = messages.last_mut().filter(|last| last["role"] == role);
    match same.and_then(|last| last["content"].as_array_mut()) {
        Some(content) => content.extend(blocks),
        None => {
            let content: Vec<_> = blocks.into_iter().collect();
            messages.push(json!({"role": role, "content": content}));
        }
    }
}

fn text_block(text: &str) -> Value {
    json!({"type": "text", "text": text})
}

fn result_block(result: &Answered<'_>) -> Value {
    let mut block = json!({"type": "tool_result", "tool_use_id": result.id});
    if !result.content.is_empty() {
        block["content"] = json!(result.content);
    }
    if result.is_error {
        block["is_error"] = json!(true);
    }
    block
}

/// The blocks of a turn.
fn blocks(pieces: &[Piece<'_>]) -> Vec<Value> {
    let is_opaque = |piece: &Piece<'_>| matches!(piece, Piece::Opaque(_));
    // A message must not end with thinking.
    let end = pieces.iter().rposition(|piece| !is_opaque(piece));
    let pieces = pieces.iter().take(end.map_or(0, |last| last + 1));
    let block = |piece: &Piece<'_>| match piece {
        Piece::Text(text) => text_block(text),
        Piece::Opaque(payload) => (*payload).clone(),
        Piece::Call(call) => json!({
            "type": "tool_use",
            "id": call.id,
            "name": call.name,
            "input": call.arguments,
        }),
    };
    pieces.map(block).collect()
}

pub(super) fn grammar() -> Box<dyn Grammar> {
    Box::new(Messages::default())
}

/// What a stream is in the middle of.
#[derive(Default)]
struct Messages {
    blocks: BTreeMap<u64, Block>,
    usage: Usage,
    stop: Option<Stop>,
    ended: bool,
}

enum Block {
    Text,
    Thinking(Value),
    Call {
        id: String,
        name: String,
        input: Value,
        text: String,
    },
    /// Whole when it starts.
    Redacted(Value),
    Unknown,
}

impl Grammar for Messages {
    fn read(&mut self, message: &str, progress: &mut Progress) -> Result<(), ModelError> {
        let event = object(message)?;
        let place = event["index"].as_u64().unwrap_or_default();
        match event["type"].as_str().unwrap_or_default() {
            "message_start" => self.used(&event["message"]["usage"], progress),
            "content_block_start" => self.start(place, &event["content_block"], progress),
            "content_block_delta" => self.delta(place, &event["delta"], progress)?,
            "content_block_stop" => self.finish(place, progress),
            "message_delta" => {
                let delta = &event["delta"];
                if let Some(reason) = delta["stop_reason"].as_str() {
                    self.stop = Some(stop(reason, &delta["stop_details"]));
                }
                self.used(&event["usage"], progress);
            }
            "message_stop" if self.stop.is_none() => {
                return Err(malformed("it ended without a stop_reason"));
            }
            "message_stop" => {
                let unfinished = self
                    .blocks
                    .values()
                    .any(|block| matches!(block, Block::Call { .. }));
                if unfinished && self.stop == Some(Stop::ToolCalls) {
                    return Err(malformed("a call of a tool has no end"));
                }
                self.ended = true;
            }
            "error" => {
                progress.refused();
                return Err(progress.error(report(&event)));
            }
            // `ping`, and what a later version brings.
            _ => {}
        }
        Ok(())
    }

    fn document(&mut self, document: &Value, progress: &mut Progress) -> Result<(), ModelError> {
        for block in document["content"].as_array().into_iter().flatten() {
            let is_thinking = block["type"] != "text" && block["type"] != "tool_use";
            progress.unseen(&block.to_string(), is_thinking);
        }
        let reason = document["stop_reason"].as_str().unwrap_or_default();
        self.stop = Some(stop(reason, &document["stop_details"]));
        self.used(&document["usage"], progress);
        self.ended = true;
        Ok(())
    }

    fn stop(&self) -> Option<Stop> {
        self.stop.clone().filter(|_| self.ended)
    }

    fn terminal(&self) -> &'static str {
        "message_stop"
    }
}

impl Messages {
    /// Figures are cumulative: a later one replaces an earlier one, a missing one does not.
    fn used(&mut self, usage: &Value, progress: &mut Progress) {
        if !usage.is_object() {
            return;
        }
        let update = |field: &mut u64, value: &Value| {
            if let Some(tokens) = count(value) {
                *field = tokens;
            }
        };
        update(&mut self.usage.input, &usage["input_tokens"]);
        update(
            &mut self.usage.cache_read,
            &usage["cache_read_input_tokens"],
        );
        update(
            &mut self.usage.cache_write,
            &usage["cache_creation_input_tokens"],
        );
        update(&mut self.usage.output, &usage["output_tokens"]);
        let thinking = &usage["output_tokens_details"]["thinking_tokens"];
        update(&mut self.usage.reasoning, thinking);
        progress.usage(self.usage);
    }

    fn start(&mut self, place: u64, block: &Value, progress: &mut Progress) {
        let word = |name: &str| block[name].as_str().unwrap_or_default().to_owned();
        let block = match block["type"].as_str().unwrap_or_default() {
            "text" => {
                progress.text(place, &word("text"));
                Block::Text
            }
            "thinking" => {
                progress.unseen(&word("thinking"), true);
                Block::Thinking(block.clone())
            }
            "redacted_thinking" => {
                progress.unseen(&word("data"), true);
                Block::Redacted(block.clone())
            }
            "tool_use" => Block::Call {
                id: word("id"),
                name: word("name"),
                input: block["input"].clone(),
                text: String::new(),
            },
            _ => Block::Unknown,
        };
        self.blocks.insert(place, block);
    }

    fn delta(
        &mut self,
        place: u64,
        delta: &Value,
        progress: &mut Progress,
    ) -> Result<(), ModelError> {
        let Some(block) = self.blocks.get_mut(&place) else {
            return Err(malformed(format!(
                "a piece belongs to block {place}, which did not start"
            )));
        };
        let word = |name: &str| delta[name].as_str().unwrap_or_default();
        match (delta["type"].as_str().unwrap_or_default(), block) {
            ("text_delta", Block::Text) => progress.text(place, word("text")),
            ("thinking_delta", Block::Thinking(payload)) => {
                progress.unseen(word("thinking"), true);
                append(&mut payload["thinking"], word("thinking"));
            }
            ("signature_delta", Block::Thinking(payload)) => {
                append(&mut payload["signature"], word("signature"));
            }
            ("input_json_delta", Block::Call { text, .. }) => {
                progress.unseen(word("partial_json"), false);
                text.push_str(word("partial_json"));
            }
            _ => {}
        }
        Ok(())
    }

    fn finish(&mut self, place: u64, progress: &mut Progress) {
        match self.blocks.remove(&place) {
            Some(Block::Thinking(payload) | Block::Redacted(payload)) => {
                progress.opaque(place, payload);
            }
            Some(Block::Call {
                id,
                name,
                input,
                text,
            }) => {
                let given = if text.trim().is_empty() {
                    arguments(&input)
                } else {
                    Arguments::from_text(text)
                };
                progress.call(place, &id, &name, given);
            }
            Some(Block::Text | Block::Unknown) | None => {}
        }
    }
}

fn append(text: &mut Value, more: &str) {
    let so_far = text.as_str().unwrap_or_default();
    *text = Value::String(format!("{so_far}{more}"));
}

fn stop(reason: &str, details: &Value) -> Stop {
    match reason {
        "end_turn" | "stop_sequence" => Stop::End,
        "tool_use" => Stop::ToolCalls,
        "max_tokens" => Stop::OutputCut,
        "model_context_window_exceeded" => Stop::ContextFull,
        "pause_turn" => Stop::Paused,
        other => {
            let why = details["explanation"].as_str();
            let why = why.or_else(|| details["category"].as_str());
            Stop::Refused(why.unwrap_or(other).to_owned())
        }
    }
}
