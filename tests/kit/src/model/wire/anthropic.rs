//! Anthropic's Messages.

mod read;

use serde_json::{Value, json};

use super::{Refusal, Wire, frame, plain, then, wait_headers, words};
use crate::model::answer::{Answer, Block, Frame, Thought, pieces};
use crate::model::asked::Asked;
use crate::model::history::Violation;
use crate::model::problem::{Kind, Problem};
use crate::model::script::{Script, Stop, Usage, Wait};

pub(crate) struct Anthropic;

impl Wire for Anthropic {
    fn read(&self, body: &Value, _model: Option<&str>) -> Result<Asked, Problem> {
        read::request(body)
    }

    fn frames(&self, answer: &Answer) -> Vec<Frame> {
        let start = message(answer, json!([]), Value::Null, start_usage(answer));
        let mut frames = vec![
            event("message_start", json!({ "message": start })),
            event("ping", json!({})),
        ];
        let mut blocks = blocks(answer);
        let calls = blocks.split_off(blocks.len() - answer.calls.len());
        for block in blocks {
            frames.extend([block.head, block.pieces, block.tail].concat());
        }
        frames.extend(answer.mix(calls));
        let mut end = json!({ "delta": {
            "stop_reason": stop(answer.stop),
            "stop_sequence": stop_sequence(answer.stop),
            "stop_details": details(answer.stop),
        }});
        if let Some(usage) = answer.reported() {
            end["usage"] = usage_json(&usage);
        }
        let end = event("message_delta", end);
        if answer.reports_twice() {
            frames.push(end.clone());
        }
        frames.extend([end, event("message_stop", json!({}))]);
        frames
    }

    fn whole(&self, answer: &Answer) -> Value {
        let mut content = Vec::new();
        if let Some(thought) = &answer.thought {
            content.push(thinking(thought));
        }
        if answer.shape.unknown_block {
            content.push(json!({ "type": "hologram", "data": "?" }));
        }
        if let Some(text) = &answer.text {
            content.push(json!({ "type": "text", "text": text, "citations": null }));
        }
        content.extend(answer.calls.iter().map(|call| {
            let input = call.arguments.value();
            json!({ "type": "tool_use", "id": call.id, "name": call.name, "input": input })
        }));
        let usage = answer.reported().map(|usage| usage_json(&usage));
        message(answer, json!(content), json!(stop(answer.stop)), usage)
    }

    fn seals(&self, answer: &Answer) -> Vec<String> {
        answer.thought.iter().map(seal).collect()
    }

    fn refusal(&self, problem: &Problem) -> Refusal {
        let (status, _) = kind(problem.kind);
        let mut headers = wait_headers(problem);
        if let Some((Wait::Reset, seconds)) = problem.wait {
            let reset = then(seconds).to_rfc3339_opts(chrono::SecondsFormat::Secs, true);
            headers.extend([
                ("anthropic-ratelimit-requests-limit", "50".to_owned()),
                ("anthropic-ratelimit-requests-remaining", "0".to_owned()),
                ("anthropic-ratelimit-requests-reset", reset),
            ]);
        }
        let body = error(problem);
        Refusal {
            status,
            headers,
            body,
        }
    }

    fn error_frame(&self, problem: &Problem, _answer: &Answer) -> Frame {
        frame(Some("error"), &error(problem))
    }

    fn ping(&self) -> Option<Frame> {
        Some(event("ping", json!({})))
    }

    fn unknown_frame(&self) -> Frame {
        event("hologram_start", json!({ "hologram": { "index": 0 } }))
    }

    fn violation(&self, violation: &Violation) -> Problem {
        let message = match violation {
            Violation::Unanswered { at, ids } => format!(
                "messages.{at}: `tool_use` ids were found without `tool_result` blocks immediately after: {}. \
                 Each `tool_use` block must have a corresponding `tool_result` block in the next message.",
                ids.join(", ")
            ),
            Violation::Orphan { at, id } => format!(
                "messages.{at}: unexpected `tool_use_id` found in `tool_result` blocks: {id}. \
                 Each `tool_result` block must have a corresponding `tool_use` block in the previous message."
            ),
            Violation::SameId { at, .. } => {
                format!("messages.{at}: `tool_use` ids must be unique")
            }
            Violation::EmptyText { .. } => {
                "messages: text content blocks must be non-empty".to_owned()
            }
            Violation::BadSeal { at } => {
                format!("messages.{at}: Invalid `signature` in `thinking` block")
            }
            Violation::SealMissing { at, .. } => format!(
                "messages.{at}: `thinking` or `redacted_thinking` blocks in the latest assistant message \
                 cannot be modified. These blocks must remain as they were in the original response."
            ),
            Violation::ThoughtNotFirst { at } => format!(
                "messages.{at}.content.0.type: Expected `thinking` or `redacted_thinking`, but found `tool_use`. \
                 When `thinking` is enabled, a final `assistant` message must start with a thinking block."
            ),
            other => format!("messages: {}", words(other)),
        };
        Problem::new(Kind::Invalid, message)
    }

    fn models(&self, script: &Script) -> Value {
        let models: Vec<_> = script
            .models
            .iter()
            .map(|model| {
                json!({
                    "type": "model",
                    "id": model.name,
                    "display_name": model.name,
                    "created_at": "2026-01-01T00:00:00Z",
                    "max_input_tokens": model.context,
                    "max_tokens": model.max_output,
                })
            })
            .collect();
        let name = |model: Option<&crate::model::script::Model>| model.map(|it| it.name.clone());
        json!({
            "data": models,
            "has_more": false,
            "first_id": name(script.models.first()),
            "last_id": name(script.models.last()),
        })
    }
}

/// An event, whose data names its type again.
fn event(name: &'static str, mut data: Value) -> Frame {
    data["type"] = name.into();
    frame(Some(name), &data)
}

fn message(answer: &Answer, content: Value, stop: Value, usage: Option<Value>) -> Value {
    let ended = !stop.is_null();
    let mut message = json!({
        "id": answer.id("msg_", 0),
        "type": "message",
        "role": "assistant",
        "model": answer.model,
        "content": content,
        "stop_reason": stop,
        "stop_sequence": ended.then(|| stop_sequence(answer.stop)).flatten(),
        "stop_details": ended.then(|| details(answer.stop)).flatten(),
    });
    if let Some(usage) = usage {
        message["usage"] = usage;
    }
    message
}

/// What is known of the tokens at the start: the input, and a beginning of the output.
fn start_usage(answer: &Answer) -> Option<Value> {
    let usage = answer.reported()?;
    let mut value = usage_json(&Usage {
        output: usage.output.min(1),
        reasoning: 0,
        ..usage
    });
    value["cache_creation"] = json!({
        "ephemeral_5m_input_tokens": usage.cache_write,
        "ephemeral_1h_input_tokens": 0,
    });
    value["service_tier"] = "standard".into();
    Some(value)
}

fn usage_json(usage: &Usage) -> Value {
    json!({
        "input_tokens": usage.input,
        "cache_creation_input_tokens": usage.cache_write,
        "cache_read_input_tokens": usage.cache_read,
        "output_tokens": usage.output,
        "output_tokens_details": { "thinking_tokens": usage.reasoning },
    })
}

fn thinking(thought: &Thought) -> Value {
    if thought.redacted {
        return json!({ "type": "redacted_thinking", "data": seal(thought) });
    }
    json!({ "type": "thinking", "thinking": thought.text, "signature": seal(thought) })
}

fn seal(thought: &Thought) -> String {
    thought.seal(if thought.redacted { "" } else { &thought.text })
}

/// The blocks of the content; those of the calls are the last.
fn blocks(answer: &Answer) -> Vec<Block> {
    let mut blocks = Vec::new();
    let delta = |index: usize, delta: Value| {
        event(
            "content_block_delta",
            json!({ "index": index, "delta": delta }),
        )
    };
    let block = |index: usize, content: Value, pieces: Vec<Frame>| Block {
        head: vec![event(
            "content_block_start",
            json!({ "index": index, "content_block": content }),
        )],
        pieces,
        tail: vec![event("content_block_stop", json!({ "index": index }))],
    };
    if let Some(thought) = &answer.thought {
        let index = answer.number(blocks.len());
        let mut content = thinking(thought);
        let mut deltas = Vec::new();
        if !thought.redacted {
            content["thinking"] = "".into();
            content["signature"] = "".into();
            let texts = pieces(&thought.text).into_iter();
            deltas.extend(
                texts.map(|text| {
                    delta(index, json!({ "type": "thinking_delta", "thinking": text }))
                }),
            );
            let signature = seal(thought);
            deltas.push(delta(
                index,
                json!({ "type": "signature_delta", "signature": signature }),
            ));
        }
        blocks.push(block(index, content, deltas));
    }
    if answer.shape.unknown_block {
        let index = answer.number(blocks.len());
        let content = json!({ "type": "hologram", "data": "?" });
        let pieces = vec![delta(
            index,
            json!({ "type": "hologram_delta", "light": 1 }),
        )];
        blocks.push(block(index, content, pieces));
    }
    if let Some(text) = &answer.text {
        let index = answer.number(blocks.len());
        let texts = pieces(text).into_iter();
        let pieces = texts.map(|text| delta(index, json!({ "type": "text_delta", "text": text })));
        let content = json!({ "type": "text", "text": "", "citations": null });
        blocks.push(block(index, content, pieces.collect()));
    }
    for call in &answer.calls {
        let index = answer.number(blocks.len());
        let text = call.text();
        // The first piece is empty, as it is there.
        let pieces = std::iter::once("").chain(answer.argument_pieces(&text));
        let pieces = pieces.map(|text| {
            delta(
                index,
                json!({ "type": "input_json_delta", "partial_json": text }),
            )
        });
        let content = json!({ "type": "tool_use", "id": call.id, "name": call.name, "input": {} });
        let mut made = block(index, content, pieces.collect());
        if call.unfinished {
            made.tail.clear();
        }
        blocks.push(made);
    }
    blocks
}

fn stop(stop: Stop) -> &'static str {
    match stop {
        Stop::End | Stop::MalformedCall => "end_turn",
        Stop::Calls => "tool_use",
        Stop::MaxTokens => "max_tokens",
        Stop::Context => "model_context_window_exceeded",
        Stop::Refusal | Stop::ContentFilter => "refusal",
        Stop::StopSequence => "stop_sequence",
        Stop::Pause => "pause_turn",
    }
}

fn stop_sequence(stop: Stop) -> Option<&'static str> {
    (stop == Stop::StopSequence).then_some("\n\nHuman:")
}

fn details(stop: Stop) -> Option<Value> {
    let refused = matches!(stop, Stop::Refusal | Stop::ContentFilter);
    refused.then(|| {
        json!({ "type": "refusal", "category": "general_harms", "explanation": "The model declined." })
    })
}

fn kind(kind: Kind) -> (u16, &'static str) {
    match kind {
        Kind::Invalid | Kind::UnknownParameter | Kind::Unsupported | Kind::ContextTooLong => {
            (400, "invalid_request_error")
        }
        Kind::Authentication => (401, "authentication_error"),
        Kind::Quota => (402, "billing_error"),
        Kind::NotFound => (404, "not_found_error"),
        Kind::Conflict => (409, "conflict_error"),
        Kind::TooLarge => (413, "request_too_large"),
        Kind::RateLimit => (429, "rate_limit_error"),
        Kind::Server => (500, "api_error"),
        Kind::Overloaded => (529, "overloaded_error"),
        Kind::Other(status) => (
            status,
            match status {
                ..400 | 400 => "invalid_request_error",
                403 => "permission_error",
                529 => "overloaded_error",
                504 => "timeout_error",
                _ => "api_error",
            },
        ),
    }
}

fn error(problem: &Problem) -> Value {
    let (_, kind) = kind(problem.kind);
    let message = match &problem.parameter {
        Some(name) if problem.kind != Kind::NotFound => format!("{name}: {}", problem.message),
        _ => problem.message.clone(),
    };
    let mut error = json!({ "type": kind, "message": message });
    if let Some((Wait::RetryInfo, seconds)) = problem.wait {
        error["details"] = json!([{ "retryDelay": format!("{}s", plain(seconds)) }]);
    }
    json!({ "type": "error", "error": error, "request_id": "req_simulated" })
}
