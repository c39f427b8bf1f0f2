//! The cache of prompts that a provider keeps: what a request repeats from its start is read from it.
//!
//! Read is the longest start that a request shares with an earlier one to the same model, so that
//! a client that changes the start of its prompts is seen to pay for it.

use std::collections::HashMap;

use serde_json::Value;

use super::wire::Protocol;

/// The newest prompt of each conversation, by protocol and model.
#[derive(Debug, Default)]
pub(crate) struct Cache {
    prompts: HashMap<(Protocol, String), HashMap<String, String>>,
}

/// A prompt and whose it is.
pub(crate) struct Prompt<'a> {
    pub(crate) protocol: Protocol,
    pub(crate) model: &'a str,
    /// The text that the conversation began with.
    pub(crate) conversation: &'a str,
    pub(crate) tokens: u64,
}

impl Cache {
    /// The tokens of a prompt that were there; it is kept in place of its conversation's last one.
    pub(crate) fn read(&mut self, prompt: &Prompt<'_>, body: &Value) -> u64 {
        let text = text(body);
        let key = (prompt.protocol, prompt.model.to_owned());
        let prompts = self.prompts.entry(key).or_default();
        let shared = prompts.values().map(|other| shared(other, &text)).max();
        let (shared, length) = (shared.unwrap_or_default() as u64, text.len().max(1) as u64);
        prompts.insert(prompt.conversation.to_owned(), text);
        prompt.tokens * shared / length
    }
}

/// A prompt in the order in which providers cache it: tools, system, messages.
fn text(body: &Value) -> String {
    const ORDER: [&str; 8] = [
        "tools",
        "system",
        "instructions",
        "systemInstruction",
        "system_instruction",
        "messages",
        "input",
        "contents",
    ];
    let fields = ORDER.iter().filter_map(|name| body.get(name));
    fields.map(|field| unmarked(field).to_string()).collect()
}

/// Without the marks of what is to be cached, which move from request to request.
fn unmarked(value: &Value) -> Value {
    match value {
        Value::Object(fields) => {
            let kept = fields.iter().filter(|(name, _)| *name != "cache_control");
            let kept = kept.map(|(name, value)| (name.clone(), unmarked(value)));
            Value::Object(kept.collect())
        }
        Value::Array(items) => Value::Array(items.iter().map(unmarked).collect()),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => value.clone(),
    }
}

fn shared(one: &str, other: &str) -> usize {
    let pairs = one.bytes().zip(other.bytes());
    pairs.take_while(|(one, other)| one == other).count()
}
