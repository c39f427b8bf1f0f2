//! `OpenAI`'s Chat Completions, and what compatible servers make of them.

mod read;

use serde_json::{Value, json};

use super::{Refusal, Wire, frame, openai_models, openai_refusal, words};
use crate::model::answer::{Answer, Block, CallOut, Frame, pieces};
use crate::model::asked::Asked;
use crate::model::history::Violation;
use crate::model::problem::{Kind, Problem};
use crate::model::script::{CallShape, Script, Stop};

pub(crate) struct Chat;

impl Wire for Chat {
    fn read(&self, body: &Value, _model: Option<&str>) -> Result<Asked, Problem> {
        read::request(body)
    }

    fn frames(&self, answer: &Answer) -> Vec<Frame> {
        let mut frames = vec![chunk(
            answer,
            json!({ "role": "assistant", "content": "" }),
            None,
        )];
        if let Some(thought) = answer.thought.iter().find(|thought| !thought.redacted) {
            let texts = pieces(&thought.text).into_iter();
            frames.extend(
                texts.map(|text| chunk(answer, json!({ "reasoning_content": text }), None)),
            );
        }
        if answer.shape.unknown_block {
            frames.push(chunk(answer, json!({ "hologram": { "data": "?" } }), None));
        }
        if let Some(text) = &answer.text {
            let field = field(answer);
            let texts = pieces(text).into_iter();
            frames.extend(texts.map(|text| chunk(answer, json!({ field: text }), None)));
        }
        let end = Some(stop(answer.stop));
        if answer.shape.calls == CallShape::AtOnce && !answer.calls.is_empty() {
            let calls = answer.calls.iter().enumerate();
            let calls: Vec<_> = calls
                .map(|(nth, call)| {
                    let mut made = whole_call(call);
                    made["index"] = answer.number(nth).into();
                    made
                })
                .collect();
            frames.push(chunk(answer, json!({ "tool_calls": calls }), end));
        } else {
            let calls = answer.calls.iter().enumerate();
            let blocks = calls.map(|(nth, call)| block(answer, nth, call)).collect();
            frames.extend(answer.mix(blocks));
            frames.push(chunk(answer, json!({}), end));
        }
        if answer.stream_usage
            && let Some(usage) = usage(answer)
        {
            let mut last = base(answer);
            last["choices"] = json!([]);
            last["usage"] = usage;
            let last = frame(None, &last);
            if answer.reports_twice() {
                frames.push(last.clone());
            }
            frames.push(last);
        }
        frames.push(Frame {
            event: None,
            data: "[DONE]".to_owned(),
        });
        frames
    }

    fn whole(&self, answer: &Answer) -> Value {
        let mut message = json!({ "role": "assistant", "content": null, "refusal": null });
        if let Some(thought) = answer.thought.iter().find(|thought| !thought.redacted) {
            message["reasoning_content"] = thought.text.clone().into();
        }
        if let Some(text) = &answer.text {
            message[field(answer)] = text.clone().into();
        }
        if answer.shape.unknown_block {
            message["hologram"] = json!({ "data": "?" });
        }
        if !answer.calls.is_empty() {
            let calls: Vec<_> = answer.calls.iter().map(whole_call).collect();
            message["tool_calls"] = calls.into();
        }
        let mut whole = base(answer);
        whole["object"] = "chat.completion".into();
        whole["choices"] = json!([{
            "index": 0,
            "message": message,
            "finish_reason": stop(answer.stop),
            "logprobs": null,
        }]);
        if let Some(usage) = usage(answer) {
            whole["usage"] = usage;
        }
        whole
    }

    fn seals(&self, _answer: &Answer) -> Vec<String> {
        Vec::new()
    }

    fn refusal(&self, problem: &Problem) -> Refusal {
        openai_refusal(problem)
    }

    fn error_frame(&self, problem: &Problem, _answer: &Answer) -> Frame {
        frame(None, &openai_refusal(problem).body)
    }

    fn ping(&self) -> Option<Frame> {
        None
    }

    fn unknown_frame(&self) -> Frame {
        frame(
            None,
            &json!({ "object": "hologram.chunk", "hologram": "?" }),
        )
    }

    fn violation(&self, violation: &Violation) -> Problem {
        let message = match violation {
            Violation::Unanswered { ids, .. } => format!(
                "An assistant message with 'tool_calls' must be followed by tool messages responding to each \
                 'tool_call_id'. The following tool_call_ids did not have response messages: {}",
                ids.join(", ")
            ),
            Violation::Orphan { id, .. } => format!(
                "Invalid parameter: messages with role 'tool' must be a response to a preceding message with \
                 'tool_calls'; {id} is of none."
            ),
            other => words(other),
        };
        Problem {
            parameter: Some("messages".to_owned()),
            ..Problem::new(Kind::Other(400), message)
        }
    }

    fn models(&self, script: &Script) -> Value {
        openai_models(script)
    }
}

fn base(answer: &Answer) -> Value {
    json!({
        "id": answer.id("chatcmpl-", 0),
        "object": "chat.completion.chunk",
        "created": answer.created,
        "model": answer.model,
        "system_fingerprint": "fp_simulated",
    })
}

fn chunk(answer: &Answer, delta: Value, finish: Option<&str>) -> Frame {
    let mut chunk = base(answer);
    chunk["choices"] = json!([{
        "index": 0,
        "delta": delta,
        "finish_reason": finish,
        "logprobs": null,
    }]);
    if answer.stream_usage {
        chunk["usage"] = Value::Null;
    }
    frame(None, &chunk)
}

/// Where what is said stands.
fn field(answer: &Answer) -> &'static str {
    if answer.stop == Stop::Refusal {
        "refusal"
    } else {
        "content"
    }
}

fn block(answer: &Answer, nth: usize, call: &CallOut) -> Block {
    let index = answer.number(nth);
    let begun = json!({ "tool_calls": [{
        "index": index,
        "id": call.id,
        "type": "function",
        "function": { "name": call.name, "arguments": "" },
    }]});
    let text = call.text();
    let pieces = pieces(&text).into_iter().map(|text| {
        let delta =
            json!({ "tool_calls": [{ "index": index, "function": { "arguments": text } }] });
        chunk(answer, delta, None)
    });
    Block {
        head: vec![chunk(answer, begun, None)],
        pieces: pieces.collect(),
        tail: Vec::new(),
    }
}

fn whole_call(call: &CallOut) -> Value {
    json!({
        "id": call.id,
        "type": "function",
        "function": { "name": call.name, "arguments": call.text() },
    })
}

fn usage(answer: &Answer) -> Option<Value> {
    let usage = answer.reported()?;
    let prompt = usage.prompt();
    Some(json!({
        "prompt_tokens": prompt,
        "completion_tokens": usage.output,
        "total_tokens": prompt.saturating_add(usage.output),
        "prompt_tokens_details": {
            "cached_tokens": usage.cache_read,
            "cache_write_tokens": usage.cache_write,
        },
        "completion_tokens_details": { "reasoning_tokens": usage.reasoning },
    }))
}

fn stop(stop: Stop) -> &'static str {
    match stop {
        Stop::End | Stop::Refusal | Stop::StopSequence | Stop::Pause | Stop::MalformedCall => {
            "stop"
        }
        Stop::Calls => "tool_calls",
        Stop::MaxTokens | Stop::Context => "length",
        Stop::ContentFilter => "content_filter",
    }
}
