//! Google's Gemini, by `streamGenerateContent`.

use serde_json::{Map, Value, json};

use super::{Asked, Path, report};
use crate::decode::{Grammar, LOCAL, Progress, arguments, count, malformed, object};
use crate::failure::{Report, duration};
use crate::history::{Answered, Call, Entry, Piece, name};
use crate::{ModelError, Stop, Usage};

/// The signature of a thought, which stands beside the part that it led to.
const SIGNATURE: &str = "thoughtSignature";

/// The documented stand-in for the signature of a call that another model made.
const NO_SIGNATURE: &str = "skip_thought_signature_validator";

pub(super) fn path(model: &str) -> Path {
    let model = model.strip_prefix("models/").unwrap_or(model);
    let method = format!("{model}:streamGenerateContent");
    Path {
        query: Some("alt=sse"),
        ..Path::new("v1beta", &["models", &method])
    }
}

pub(super) fn body(asked: &Asked<'_>) -> Value {
    let conversation = asked.conversation;
    let signed = wants_signatures(&asked.target.origin.model);
    let mut generation = json!({"maxOutputTokens": conversation.max_output});
    if let Some(temperature) = asked.temperature() {
        generation["temperature"] = json!(temperature);
    }
    if let Some(top_p) = asked.top_p() {
        generation["topP"] = json!(top_p);
    }
    if let Some(effort) = asked.effort() {
        generation["thinkingConfig"] = json!({"thinkingLevel": effort.to_ascii_uppercase()});
    }
    let mut body = json!({
        "contents": contents(asked.entries, signed),
        "generationConfig": generation,
    });
    if let Some(system) = asked.system() {
        body["systemInstruction"] = json!({"parts": [{"text": system}]});
    }
    let tools = conversation.tools.iter().map(|tool| {
        json!({
            "name": name(&tool.name),
            "description": tool.description,
            "parametersJsonSchema": tool.parameters,
        })
    });
    let tools: Vec<_> = tools.collect();
    if !tools.is_empty() {
        body["tools"] = json!([{"functionDeclarations": tools}]);
    }
    body
}

/// True for models that refuse the call of a step without its signature: Gemini 3 and later.
fn wants_signatures(model: &str) -> bool {
    let model = model.strip_prefix("models/").unwrap_or(model);
    !["gemini-1", "gemini-2", "gemma"]
        .iter()
        .any(|older| model.starts_with(older))
}

fn contents(entries: &[Entry<'_>], signed: bool) -> Vec<Value> {
    let mut contents: Vec<Value> = Vec::new();
    for entry in entries {
        match entry {
            Entry::User(texts) => {
                say(
                    &mut contents,
                    texts.iter().map(|text| json!({"text": text})).collect(),
                );
            }
            Entry::Assistant { pieces, results } => {
                contents.push(json!({"role": "model", "parts": parts(pieces, signed)}));
                if !results.is_empty() {
                    say(&mut contents, results.iter().map(response).collect());
                }
            }
        }
    }
    contents
}

/// Adds what the user says to what the user says already.
fn say(contents: &mut Vec<Value>, parts: Vec<Value>) {
    let same = contents.last_mut().filter(|last| last["role"] == "user");
    match same.and_then(|last| last["parts"].as_array_mut()) {
        Some(last) => last.extend(parts),
        None => contents.push(json!({"role": "user", "parts": parts})),
    }
}

fn parts(pieces: &[Piece<'_>], signed: bool) -> Vec<Value> {
    let mut parts = Vec::new();
    let mut signature: Option<&Value> = None;
    let mut calls = 0;
    for piece in pieces {
        let mut part = match piece {
            Piece::Opaque(payload) if payload.get("text").is_some() => (*payload).clone(),
            Piece::Opaque(payload) => {
                signature = Some(&payload[SIGNATURE]);
                continue;
            }
            Piece::Text(text) => json!({"text": text}),
            Piece::Call(call) => json!({"functionCall": function_call(call)}),
        };
        if let Some(signature) = signature.take() {
            part[SIGNATURE] = signature.clone();
        }
        if matches!(piece, Piece::Call(_)) {
            calls += 1;
            if signed && calls == 1 && part[SIGNATURE].is_null() {
                part[SIGNATURE] = json!(NO_SIGNATURE);
            }
        }
        parts.push(part);
    }
    parts
}

fn function_call(call: &Call) -> Value {
    let mut value = json!({"name": call.name, "args": call.arguments});
    identify(&mut value, &call.id);
    value
}

fn response(result: &Answered<'_>) -> Value {
    let field = if result.is_error { "error" } else { "output" };
    let mut value = json!({"name": result.name, "response": {field: result.content}});
    identify(&mut value, &result.id);
    json!({"functionResponse": value})
}

/// Sends an id, but for one that was made up because the model gave none.
fn identify(value: &mut Value, id: &str) {
    if !id.starts_with(LOCAL) {
        value["id"] = json!(id);
    }
}

/// What the details of an error say: how long to wait, which limit, which reason.
pub(super) fn details(details: &Value, report: &mut Report) {
    for detail in details.as_array().into_iter().flatten() {
        if let Some(delay) = detail["retryDelay"].as_str() {
            report.wait = duration(delay);
        }
        report
            .words
            .extend(detail["reason"].as_str().map(str::to_owned));
        for violation in detail["violations"].as_array().into_iter().flatten() {
            let id = violation["quotaId"].as_str().unwrap_or_default();
            report.exhausted |= id.contains("PerDay");
        }
    }
    report.exhausted |= report.message.contains("limit: 0");
}

pub(super) fn grammar() -> Box<dyn Grammar> {
    Box::new(Gemini::default())
}

#[derive(Default)]
struct Gemini {
    stop: Option<Stop>,
}

impl Grammar for Gemini {
    fn read(&mut self, message: &str, progress: &mut Progress) -> Result<(), ModelError> {
        let chunk = object(message)?;
        if !chunk["error"].is_null() || chunk.get(0).is_some() {
            progress.refused();
            return Err(progress.error(report(&chunk)));
        }
        used(&chunk["usageMetadata"], progress);
        let candidate = &chunk["candidates"][0];
        for part in candidate["content"]["parts"]
            .as_array()
            .into_iter()
            .flatten()
        {
            read_part(part, progress);
        }
        if let Some(reason) = candidate["finishReason"].as_str() {
            if matches!(reason, "MALFORMED_FUNCTION_CALL" | "UNEXPECTED_TOOL_CALL") {
                progress.unlucky();
            }
            self.stop = Some(stop(reason, candidate)?);
        }
        if let Some(reason) = chunk["promptFeedback"]["blockReason"].as_str() {
            self.stop = Some(Stop::Refused(format!("the prompt was blocked: {reason}")));
        }
        Ok(())
    }

    /// It has the form of a piece of a stream.
    fn document(&mut self, document: &Value, progress: &mut Progress) -> Result<(), ModelError> {
        self.read(&document.to_string(), progress)
    }

    fn stop(&self) -> Option<Stop> {
        self.stop.clone()
    }

    /// Usage may follow behind the finish reason, and there is no other end than the body's.
    fn is_complete(&self) -> bool {
        false
    }

    fn terminal(&self) -> &'static str {
        "a finishReason"
    }
}

fn read_part(part: &Value, progress: &mut Progress) {
    let signature = part
        .get(SIGNATURE)
        .filter(|signature| signature.is_string());
    let text = part["text"].as_str();
    if let Some(text) = text.filter(|_| part["thought"] == true) {
        progress.unseen(text, true);
        if signature.is_some() {
            progress.opaque(progress.next_place(), part.clone());
        }
        return;
    }
    let call = &part["functionCall"];
    let says_something = call.is_object() || text.is_some_and(|text| !text.is_empty());
    match signature {
        Some(signature) if says_something => {
            let place = progress.next_place();
            progress.opaque(place, json!({SIGNATURE: signature}));
        }
        Some(_) if text.is_some() => {
            progress.opaque(progress.next_place(), part.clone());
        }
        _ => {}
    }
    if call.is_object() {
        let word = |name: &str| call[name].as_str().unwrap_or_default();
        progress.unseen(&call["args"].to_string(), false);
        let place = progress.next_place();
        progress.call(place, word("id"), word("name"), arguments(&call["args"]));
    } else if let Some(text) = text {
        let place = progress.text_place();
        progress.text(place, text);
    }
}

fn stop(reason: &str, candidate: &Value) -> Result<Stop, ModelError> {
    let words = candidate["finishMessage"].as_str();
    Ok(match reason {
        "STOP" => Stop::End,
        "MAX_TOKENS" => Stop::OutputCut,
        "MALFORMED_FUNCTION_CALL" | "UNEXPECTED_TOOL_CALL" => {
            let words = words.unwrap_or("the model wrote a call that is none");
            return Err(malformed(format!("{reason}: {words}")));
        }
        other => Stop::Refused(words.unwrap_or(other).to_owned()),
    })
}

fn used(usage: &Value, progress: &mut Progress) {
    if usage.as_object().is_none_or(Map::is_empty) {
        return;
    }
    let tokens = |field: &str| count(&usage[field]).unwrap_or_default();
    let cache_read = tokens("cachedContentTokenCount");
    let prompt = tokens("promptTokenCount").saturating_sub(cache_read);
    let reasoning = tokens("thoughtsTokenCount");
    progress.usage(Usage {
        input: prompt.saturating_add(tokens("toolUsePromptTokenCount")),
        cache_read,
        cache_write: 0,
        output: tokens("candidatesTokenCount").saturating_add(reasoning),
        reasoning,
        estimated: false,
    });
}
