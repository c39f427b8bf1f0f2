//! `OpenAI`'s Responses.

mod read;

use serde_json::{Value, json};

use super::{Refusal, Wire, frame, openai_models, openai_refusal, words};
use crate::model::answer::{Answer, Block, CallOut, Frame, Thought, pieces};
use crate::model::asked::Asked;
use crate::model::history::Violation;
use crate::model::problem::{Kind, Problem};
use crate::model::script::{Script, Stop};

/// What encrypted reasoning is sealed for. Its item's id is not a part of it: clients that have nothing
/// stored leave the id out.
const REASONING: &str = "reasoning";

pub(crate) struct Responses;

impl Wire for Responses {
    fn read(&self, body: &Value, _model: Option<&str>) -> Result<Asked, Problem> {
        read::request(body)
    }

    fn frames(&self, answer: &Answer) -> Vec<Frame> {
        let begun = response(answer, "in_progress", &[]);
        let mut frames = vec![
            event("response.created", json!({ "response": begun })),
            event("response.in_progress", json!({ "response": begun })),
        ];
        let mut blocks = blocks(answer);
        let calls = blocks.split_off(blocks.len() - answer.calls.len());
        for block in blocks {
            frames.extend([block.head, block.pieces, block.tail].concat());
        }
        frames.extend(answer.mix(calls));
        let (name, status) = match status(answer.stop) {
            "failed" => ("response.failed", "failed"),
            "incomplete" => ("response.incomplete", "incomplete"),
            _ => ("response.completed", "completed"),
        };
        let mut ended = response(answer, status, &items(answer));
        if let Some(usage) = usage(answer) {
            ended["usage"] = usage.clone();
            if answer.reports_twice() {
                let mut early = begun;
                early["usage"] = usage;
                frames.push(event("response.in_progress", json!({ "response": early })));
            }
        }
        frames.push(event(name, json!({ "response": ended })));
        number(frames)
    }

    fn whole(&self, answer: &Answer) -> Value {
        let mut whole = response(answer, status(answer.stop), &items(answer));
        if let Some(usage) = usage(answer) {
            whole["usage"] = usage;
        }
        whole
    }

    fn seals(&self, answer: &Answer) -> Vec<String> {
        let thought = answer.thought.iter().filter(|_| answer.sealed);
        thought.map(|thought| thought.seal(REASONING)).collect()
    }

    fn refusal(&self, problem: &Problem) -> Refusal {
        openai_refusal(problem)
    }

    fn error_frame(&self, problem: &Problem, answer: &Answer) -> Frame {
        let refusal = openai_refusal(problem).body;
        let error = &refusal["error"];
        let code = match problem.kind {
            Kind::Server | Kind::Other(_) => "server_error".into(),
            _ => error["code"].clone(),
        };
        let mut failed = response(answer, "failed", &[]);
        failed["error"] = json!({ "code": code, "message": error["message"] });
        event(
            "response.failed",
            json!({ "response": failed, "sequence_number": 1_000_000 }),
        )
    }

    fn ping(&self) -> Option<Frame> {
        None
    }

    fn unknown_frame(&self) -> Frame {
        event(
            "response.hologram.delta",
            json!({ "delta": "?", "sequence_number": 0 }),
        )
    }

    fn violation(&self, violation: &Violation) -> Problem {
        let message = match violation {
            Violation::Unanswered { ids, .. } => {
                let id = ids.first().map_or("", String::as_str);
                format!("No tool output found for function call {id}.")
            }
            Violation::Orphan { id, .. } => {
                format!("No tool call found for function call output with call_id {id}.")
            }
            Violation::BadSeal { .. } => {
                let words = "The encrypted content could not be verified.";
                return Problem::invalid("input.encrypted_content", words);
            }
            Violation::SealMissing { id, .. } => format!(
                "Item '{id}' of type 'function_call' was provided without its required 'reasoning' item."
            ),
            other => words(other),
        };
        Problem {
            parameter: Some("input".to_owned()),
            ..Problem::new(Kind::Other(400), message)
        }
    }

    fn models(&self, script: &Script) -> Value {
        openai_models(script)
    }
}

fn event(name: &'static str, mut data: Value) -> Frame {
    data["type"] = name.into();
    frame(Some(name), &data)
}

/// Gives the events their numbers in order.
fn number(frames: Vec<Frame>) -> Vec<Frame> {
    let frames = frames.into_iter().enumerate();
    frames
        .map(|(number, made)| {
            let mut data: Value = serde_json::from_str(&made.data).unwrap_or_default();
            data["sequence_number"] = number.into();
            frame(made.event, &data)
        })
        .collect()
}

fn response(answer: &Answer, status: &str, output: &[Value]) -> Value {
    let incomplete = match answer.stop {
        _ if status != "incomplete" => None,
        Stop::ContentFilter => Some("content_filter"),
        _ => Some("max_output_tokens"),
    };
    let (code, message) = match answer.stop {
        Stop::Context => (
            "context_length_exceeded",
            "Your input exceeds the context window of this model.",
        ),
        _ => ("server_error", "The model produced invalid content."),
    };
    let error = (status == "failed").then(|| json!({ "code": code, "message": message }));
    json!({
        "id": answer.id("resp_", 0),
        "object": "response",
        "created_at": answer.created,
        "status": status,
        "error": error,
        "incomplete_details": incomplete.map(|reason| json!({ "reason": reason })),
        "instructions": null,
        "metadata": {},
        "model": answer.model,
        "output": output,
        "parallel_tool_calls": true,
        "temperature": null,
        "tool_choice": "auto",
        "tools": [],
        "top_p": null,
        "usage": null,
    })
}

fn usage(answer: &Answer) -> Option<Value> {
    let usage = answer.reported()?;
    let prompt = usage.prompt();
    Some(json!({
        "input_tokens": prompt,
        "input_tokens_details": {
            "cached_tokens": usage.cache_read,
            "cache_write_tokens": usage.cache_write,
        },
        "output_tokens": usage.output,
        "output_tokens_details": { "reasoning_tokens": usage.reasoning },
        "total_tokens": prompt.saturating_add(usage.output),
    }))
}

fn status(stop: Stop) -> &'static str {
    match stop {
        Stop::End | Stop::Calls | Stop::Refusal | Stop::StopSequence | Stop::Pause => "completed",
        Stop::MaxTokens | Stop::ContentFilter => "incomplete",
        Stop::Context | Stop::MalformedCall => "failed",
    }
}

/// The items as they are at the end.
fn items(answer: &Answer) -> Vec<Value> {
    let mut items = Vec::new();
    if let Some(thought) = &answer.thought {
        items.push(reasoning(answer, thought, true));
    }
    if answer.shape.unknown_block {
        items.push(
            json!({ "type": "hologram_call", "id": answer.id("ho_", 0), "status": "completed" }),
        );
    }
    if let Some(text) = &answer.text {
        items.push(said(answer, Some(text)));
    }
    let calls = answer.calls.iter().enumerate();
    items.extend(calls.map(|(nth, call)| {
        let status = if call.unfinished {
            "incomplete"
        } else {
            "completed"
        };
        function_call(answer, nth, call, &call.text(), status)
    }));
    items
}

fn reasoning(answer: &Answer, thought: &Thought, whole: bool) -> Value {
    let summary = if whole && !thought.redacted {
        json!([{ "type": "summary_text", "text": thought.text }])
    } else {
        json!([])
    };
    let sealed = (whole && answer.sealed).then(|| thought.seal(REASONING));
    json!({
        "type": "reasoning",
        "id": answer.id("rs_", 0),
        "summary": summary,
        "encrypted_content": sealed,
    })
}

/// The message, empty at its beginning.
fn said(answer: &Answer, text: Option<&str>) -> Value {
    let status = match (text, answer.stop) {
        (None, _) => "in_progress",
        (Some(_), Stop::MaxTokens) => "incomplete",
        (Some(_), _) => "completed",
    };
    let content: Vec<_> = text.iter().map(|text| part(answer, text)).collect();
    json!({
        "type": "message",
        "id": answer.id("msg_", 0),
        "role": "assistant",
        "status": status,
        "content": content,
    })
}

fn part(answer: &Answer, text: &str) -> Value {
    match answer.stop {
        Stop::Refusal => json!({ "type": "refusal", "refusal": text }),
        _ => json!({ "type": "output_text", "text": text, "annotations": [], "logprobs": [] }),
    }
}

fn function_call(answer: &Answer, nth: usize, call: &CallOut, text: &str, status: &str) -> Value {
    json!({
        "type": "function_call",
        "id": answer.id("fc_", nth),
        "call_id": call.id,
        "name": call.name,
        "arguments": text,
        "status": status,
    })
}

fn blocks(answer: &Answer) -> Vec<Block> {
    let mut blocks = Vec::new();
    let added = |index: usize, item: Value| {
        event(
            "response.output_item.added",
            json!({ "output_index": index, "item": item }),
        )
    };
    let done = |index: usize, item: Value| {
        event(
            "response.output_item.done",
            json!({ "output_index": index, "item": item }),
        )
    };
    if let Some(thought) = &answer.thought {
        let index = answer.number(blocks.len());
        blocks.push(Block {
            head: vec![added(index, reasoning(answer, thought, false))],
            pieces: summary(answer, thought, index),
            tail: vec![done(index, reasoning(answer, thought, true))],
        });
    }
    if answer.shape.unknown_block {
        let index = answer.number(blocks.len());
        let item =
            json!({ "type": "hologram_call", "id": answer.id("ho_", 0), "status": "completed" });
        blocks.push(Block {
            head: vec![added(index, item.clone())],
            pieces: Vec::new(),
            tail: vec![done(index, item)],
        });
    }
    if let Some(text) = &answer.text {
        let index = answer.number(blocks.len());
        blocks.push(Block {
            head: vec![added(index, said(answer, None))],
            pieces: text_events(answer, text, index),
            tail: vec![done(index, said(answer, Some(text)))],
        });
    }
    for (nth, call) in answer.calls.iter().enumerate() {
        let index = answer.number(blocks.len());
        blocks.push(call_events(answer, nth, call, index));
    }
    blocks
}

/// The summary of the thoughts, unless nobody may read it.
fn summary(answer: &Answer, thought: &Thought, index: usize) -> Vec<Frame> {
    if thought.redacted {
        return Vec::new();
    }
    let place = |mut more: Value| {
        more["item_id"] = answer.id("rs_", 0).into();
        more["output_index"] = index.into();
        more["summary_index"] = 0.into();
        more
    };
    let empty = json!({ "part": { "type": "summary_text", "text": "" } });
    let whole = json!({ "part": { "type": "summary_text", "text": thought.text } });
    let mut frames = vec![event("response.reasoning_summary_part.added", place(empty))];
    let texts = pieces(&thought.text).into_iter();
    frames.extend(texts.map(|text| {
        event(
            "response.reasoning_summary_text.delta",
            place(json!({ "delta": text })),
        )
    }));
    let text = place(json!({ "text": thought.text }));
    frames.push(event("response.reasoning_summary_text.done", text));
    frames.push(event("response.reasoning_summary_part.done", place(whole)));
    frames
}

fn text_events(answer: &Answer, text: &str, index: usize) -> Vec<Frame> {
    let refused = answer.stop == Stop::Refusal;
    let place = |mut more: Value| {
        more["item_id"] = answer.id("msg_", 0).into();
        more["output_index"] = index.into();
        more["content_index"] = 0.into();
        if !refused {
            more["logprobs"] = json!([]);
        }
        more
    };
    let (delta, done, field) = if refused {
        ("response.refusal.delta", "response.refusal.done", "refusal")
    } else {
        (
            "response.output_text.delta",
            "response.output_text.done",
            "text",
        )
    };
    let mut frames = vec![event(
        "response.content_part.added",
        place(json!({ "part": part(answer, "") })),
    )];
    let texts = pieces(text).into_iter();
    frames.extend(texts.map(|text| event(delta, place(json!({ "delta": text })))));
    if answer.stop != Stop::MaxTokens {
        frames.push(event(done, place(json!({ field: text }))));
        let part = place(json!({ "part": part(answer, text) }));
        frames.push(event("response.content_part.done", part));
    }
    frames
}

fn call_events(answer: &Answer, nth: usize, call: &CallOut, index: usize) -> Block {
    let item_id = answer.id("fc_", nth);
    let text = call.text();
    let begun = function_call(answer, nth, call, "", "in_progress");
    let pieces = answer.argument_pieces(&text).into_iter().map(|text| {
        event(
            "response.function_call_arguments.delta",
            json!({ "item_id": item_id, "output_index": index, "delta": text }),
        )
    });
    let done = event(
        "response.function_call_arguments.done",
        json!({ "item_id": item_id, "output_index": index, "name": call.name, "arguments": text }),
    );
    let item = function_call(answer, nth, call, &text, "completed");
    let ended = event(
        "response.output_item.done",
        json!({ "output_index": index, "item": item }),
    );
    Block {
        head: vec![event(
            "response.output_item.added",
            json!({ "output_index": index, "item": begun }),
        )],
        pieces: pieces.collect(),
        tail: if call.unfinished {
            Vec::new()
        } else {
            vec![done, ended]
        },
    }
}
