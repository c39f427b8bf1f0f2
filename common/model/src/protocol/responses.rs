//! The protocol Responses of OpenAI. Nothing is stored at the provider: each request carries all.

use serde_json::{Value, json};

use super::{Asked, Parameter, Path, report};
use crate::decode::{Grammar, Progress, arguments, count, malformed, object};
use crate::history::{Entry, Piece, name};
use crate::{ModelError, Stop, Usage};

/// Places that an item of the output has for its contents.
const PLACES: u64 = 1000;

/// The key of an opaque part that says what the text behind it is.
const PHASE: &str = "phase";

pub(super) fn path() -> Path {
    Path::new("v1", &["responses"])
}

pub(super) fn body(asked: &Asked<'_>) -> Value {
    let conversation = asked.conversation;
    let mut body = json!({
        "model": asked.target.origin.model,
        "max_output_tokens": conversation.max_output,
        "stream": true,
        "store": false,
        "input": input(asked.entries),
    });
    if asked.takes(Parameter::EncryptedReasoning) {
        body["include"] = json!(["reasoning.encrypted_content"]);
    }
    let tools = conversation.tools.iter().map(|tool| {
        json!({
            "type": "function",
            "name": name(&tool.name),
            "description": tool.description,
            "parameters": tool.parameters,
            "strict": false,
        })
    });
    let tools: Vec<_> = tools.collect();
    if !tools.is_empty() {
        body["tools"] = Value::Array(tools);
    }
    if let Some(system) = asked.system() {
        body["instructions"] = json!(system);
    }
    if let Some(key) = asked.cache_key() {
        body["prompt_cache_key"] = json!(key);
    }
    if let Some(effort) = asked.effort() {
        body["reasoning"] = json!({"effort": effort});
    }
    if let Some(temperature) = asked.temperature() {
        body["temperature"] = json!(temperature);
    }
    if let Some(top_p) = asked.top_p() {
        body["top_p"] = json!(top_p);
    }
    body
}

fn input(entries: &[Entry<'_>]) -> Vec<Value> {
    let mut items = Vec::new();
    for entry in entries {
        match entry {
            Entry::User(texts) => {
                let says = |text: &&str| json!({"role": "user", "content": text});
                items.extend(texts.iter().map(says));
            }
            Entry::Assistant { pieces, results } => {
                turn(pieces, &mut items);
                items.extend(results.iter().map(|result| {
                    json!({
                        "type": "function_call_output",
                        "call_id": result.id,
                        "output": result.content,
                    })
                }));
            }
        }
    }
    items
}

fn turn(pieces: &[Piece<'_>], items: &mut Vec<Value>) {
    let is_opaque = |piece: &Piece<'_>| matches!(piece, Piece::Opaque(_));
    // Reasoning without what it led to is refused.
    let end = pieces.iter().rposition(|piece| !is_opaque(piece));
    let mut phase = None;
    for piece in pieces.iter().take(end.map_or(0, |last| last + 1)) {
        match piece {
            Piece::Opaque(payload) if payload.get(PHASE).is_some() => phase = Some(&payload[PHASE]),
            Piece::Opaque(payload) => items.push((*payload).clone()),
            Piece::Text(text) => {
                let mut message = json!({"role": "assistant", "content": text});
                if let Some(phase) = phase.take() {
                    message[PHASE] = phase.clone();
                }
                items.push(message);
            }
            Piece::Call(call) => items.push(json!({
                "type": "function_call",
                "call_id": call.id,
                "name": call.name,
                "arguments": call.text,
            })),
        }
    }
}

pub(super) fn grammar() -> Box<dyn Grammar> {
    Box::new(Responses::default())
}

#[derive(Default)]
struct Responses {
    /// Items came one by one.
    itemized: bool,
    refusal: String,
    stop: Option<Stop>,
}

impl Grammar for Responses {
    fn read(&mut self, message: &str, progress: &mut Progress) -> Result<(), ModelError> {
        if message == "[DONE]" {
            return Ok(());
        }
        let event = object(message)?;
        let index = event["output_index"].as_u64().unwrap_or_default();
        let content = event["content_index"].as_u64().unwrap_or_default();
        let delta = event["delta"].as_str().unwrap_or_default();
        let response = &event["response"];
        match event["type"].as_str().unwrap_or_default() {
            "response.output_text.delta" => progress.text(place(index, content), delta),
            "response.refusal.delta" => {
                progress.unseen(delta, false);
                self.refusal.push_str(delta);
            }
            "response.function_call_arguments.delta" => progress.unseen(delta, false),
            "response.reasoning_summary_text.delta" | "response.reasoning_text.delta" => {
                progress.unseen(delta, true);
            }
            "response.output_item.done" => {
                self.itemized = true;
                self.item(index, &event["item"], progress);
            }
            "response.completed" => {
                self.all(response, progress);
                self.stop = Some(if self.refusal.is_empty() {
                    Stop::End
                } else {
                    Stop::Refused(self.refusal.clone())
                });
            }
            "response.incomplete" => {
                self.all(response, progress);
                self.stop = Some(incomplete(&response["incomplete_details"]["reason"]));
            }
            "response.failed" | "error" => {
                used(&response["usage"], progress);
                progress.refused();
                return Err(progress.error(report(&event)));
            }
            "response.cancelled" => return Err(malformed("the provider cancelled it")),
            _ => {}
        }
        Ok(())
    }

    fn document(&mut self, document: &Value, progress: &mut Progress) -> Result<(), ModelError> {
        for item in document["output"].as_array().into_iter().flatten() {
            progress.unseen(&item.to_string(), item["type"] == "reasoning");
        }
        used(&document["usage"], progress);
        self.stop = Some(match document["status"].as_str() {
            Some("incomplete") => incomplete(&document["incomplete_details"]["reason"]),
            _ => Stop::End,
        });
        Ok(())
    }

    fn stop(&self) -> Option<Stop> {
        self.stop.clone()
    }

    fn terminal(&self) -> &'static str {
        "response.completed"
    }
}

impl Responses {
    /// The response as a whole: what it used, and what some servers say nowhere else. Its items
    /// need not have the numbers that they had in the stream.
    fn all(&mut self, response: &Value, progress: &mut Progress) {
        let items = response["output"].as_array();
        let has_text = progress.started();
        for (index, item) in items.into_iter().flatten().enumerate() {
            let is_known = self.itemized || (has_text && item["type"] == "message");
            if !is_known {
                self.item(index as u64, item, progress);
            }
        }
        used(&response["usage"], progress);
    }

    /// An item, complete; it may have come before.
    fn item(&mut self, index: u64, item: &Value, progress: &mut Progress) {
        let word = |name: &str| item[name].as_str().unwrap_or_default();
        match word("type") {
            "message" => self.message(index, item, progress),
            // An incomplete one was cut by the limit of the output.
            "function_call" if word("status") != "incomplete" => {
                let place = place(index, 0);
                progress.call(
                    place,
                    word("call_id"),
                    word("name"),
                    arguments(&item["arguments"]),
                );
            }
            "reasoning" => {
                // Without its content it is a name of something that the provider has not stored.
                let has = |field: &str| match &item[field] {
                    Value::String(text) => !text.is_empty(),
                    Value::Array(parts) => !parts.is_empty(),
                    _ => false,
                };
                let place = place(index, 0);
                if (has("encrypted_content") || has("content")) && !progress.has(place) {
                    progress.opaque(place, item.clone());
                }
            }
            _ => {}
        }
    }

    fn message(&mut self, index: u64, item: &Value, progress: &mut Progress) {
        let contents = item["content"].as_array();
        for (number, content) in contents.into_iter().flatten().enumerate() {
            let word = |name: &str| content[name].as_str().unwrap_or_default();
            match word("type") {
                "output_text" => progress.whole_text(place(index, number as u64), word("text")),
                "refusal" if self.refusal.is_empty() => {
                    word("refusal").clone_into(&mut self.refusal);
                }
                _ => {}
            }
        }
        let phase = &item[PHASE];
        if phase.is_string() && !progress.has(place(index, 0) - 1) {
            progress.opaque(place(index, 0) - 1, json!({PHASE: phase}));
        }
    }
}

/// The place of a content; the one before an item's first is for what belongs to the item.
fn place(index: u64, content: u64) -> u64 {
    index
        .saturating_mul(PLACES)
        .saturating_add(content.min(PLACES - 2))
        .saturating_add(1)
}

fn incomplete(reason: &Value) -> Stop {
    match reason.as_str() {
        Some("max_output_tokens") => Stop::OutputCut,
        Some(other) => Stop::Refused(other.to_owned()),
        None => Stop::Refused("incomplete without a reason".to_owned()),
    }
}

fn used(usage: &Value, progress: &mut Progress) {
    let Some(output) = count(&usage["output_tokens"]) else {
        return;
    };
    let input = count(&usage["input_tokens"]).unwrap_or_default();
    let details = &usage["input_tokens_details"];
    let cache_read = count(&details["cached_tokens"]).unwrap_or_default();
    let cache_write = count(&details["cache_write_tokens"]).unwrap_or_default();
    let reasoning = &usage["output_tokens_details"]["reasoning_tokens"];
    progress.usage(Usage {
        input: input.saturating_sub(cache_read).saturating_sub(cache_write),
        cache_read,
        cache_write,
        output,
        reasoning: count(reasoning).unwrap_or_default(),
        estimated: false,
    });
}
