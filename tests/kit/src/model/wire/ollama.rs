//! Ollama's chat: lines of JSON.

mod read;

use serde_json::{Value, json};

use super::{Refusal, Wire, frame, wait_headers, words};
use crate::model::answer::{Answer, Frame, pieces};
use crate::model::asked::Asked;
use crate::model::history::Violation;
use crate::model::problem::{Kind, Problem};
use crate::model::script::{CallShape, Script, Stop, Wait};

pub(crate) struct Ollama;

impl Wire for Ollama {
    fn read(&self, body: &Value, _model: Option<&str>) -> Result<Asked, Problem> {
        read::request(body)
    }

    fn frames(&self, answer: &Answer) -> Vec<Frame> {
        let mut frames = Vec::new();
        let mut say = |message: Value| frames.push(frame(None, &line(answer, message)));
        if let Some(thought) = answer.thought.iter().find(|thought| !thought.redacted) {
            for text in pieces(&thought.text) {
                say(json!({ "role": "assistant", "content": "", "thinking": text }));
            }
        }
        if answer.shape.unknown_block {
            say(json!({ "role": "assistant", "content": "", "hologram": { "data": "?" } }));
        }
        let texts = answer.text.as_deref().map(|text| pieces(text));
        let mut texts = texts.unwrap_or_default().into_iter();
        let calls = calls(answer);
        // Calls may come in any line, also between two of the text.
        if answer.shape.calls == CallShape::Interleaved {
            for call in calls {
                let text = texts.next().unwrap_or_default();
                say(json!({ "role": "assistant", "content": text, "tool_calls": [call] }));
            }
        } else if !calls.is_empty() {
            for text in texts.by_ref() {
                say(json!({ "role": "assistant", "content": text }));
            }
            say(json!({ "role": "assistant", "content": "", "tool_calls": calls }));
        }
        for text in texts {
            say(json!({ "role": "assistant", "content": text }));
        }
        let mut last = line(answer, json!({ "role": "assistant", "content": "" }));
        if answer.reports_twice() {
            let mut early = last.clone();
            counts(answer, &mut early);
            frames.push(frame(None, &early));
        }
        end(answer, &mut last);
        frames.push(frame(None, &last));
        frames
    }

    fn whole(&self, answer: &Answer) -> Value {
        let text = answer.text.as_deref().unwrap_or_default();
        let mut message = json!({ "role": "assistant", "content": text });
        if let Some(thought) = answer.thought.iter().find(|thought| !thought.redacted) {
            message["thinking"] = thought.text.clone().into();
        }
        if answer.shape.unknown_block {
            message["hologram"] = json!({ "data": "?" });
        }
        let calls = calls(answer);
        if !calls.is_empty() {
            message["tool_calls"] = calls.into();
        }
        let mut whole = line(answer, message);
        end(answer, &mut whole);
        whole
    }

    fn seals(&self, _answer: &Answer) -> Vec<String> {
        Vec::new()
    }

    fn refusal(&self, problem: &Problem) -> Refusal {
        let status = match problem.kind {
            Kind::Invalid | Kind::UnknownParameter | Kind::Unsupported | Kind::ContextTooLong => {
                400
            }
            Kind::Authentication => 401,
            Kind::NotFound => 404,
            Kind::Conflict => 409,
            Kind::TooLarge => 413,
            Kind::RateLimit | Kind::Quota => 429,
            Kind::Server => 500,
            Kind::Overloaded => 503,
            Kind::Other(status) => status,
        };
        let mut headers = wait_headers(problem);
        if let Some((Wait::Reset, seconds)) = problem.wait {
            headers.push(("retry-after", super::plain(seconds)));
        }
        Refusal {
            status,
            headers,
            body: error(problem),
        }
    }

    fn error_frame(&self, problem: &Problem, _answer: &Answer) -> Frame {
        frame(None, &error(problem))
    }

    fn ping(&self) -> Option<Frame> {
        None
    }

    fn unknown_frame(&self) -> Frame {
        frame(None, &json!({ "hologram": { "data": "?" } }))
    }

    fn violation(&self, violation: &Violation) -> Problem {
        Problem::new(Kind::Invalid, words(violation))
    }

    fn models(&self, script: &Script) -> Value {
        let models = script.models.iter().map(|model| {
            json!({
                "name": model.name,
                "model": model.name,
                "modified_at": "2026-01-01T00:00:00Z",
                "size": 1_000_000,
                "digest": "0".repeat(64),
                "details": details(),
            })
        });
        json!({ "models": models.collect::<Vec<_>>() })
    }
}

/// What `/api/show` says of a model.
pub(crate) fn show(script: &Script, name: &str) -> Option<Value> {
    let model = script.model(name)?;
    let mut capabilities = vec!["completion"];
    if model.tools {
        capabilities.push("tools");
    }
    Some(json!({
        "modelfile": format!("FROM {name}"),
        "parameters": "",
        "template": "{{ .Prompt }}",
        "details": details(),
        "model_info": {
            "general.architecture": "simulated",
            "simulated.context_length": model.context,
        },
        "capabilities": capabilities,
        "modified_at": "2026-01-01T00:00:00Z",
    }))
}

fn details() -> Value {
    json!({
        "format": "gguf",
        "family": "simulated",
        "families": ["simulated"],
        "parameter_size": "1B",
        "quantization_level": "Q4_0",
    })
}

fn line(answer: &Answer, message: Value) -> Value {
    json!({
        "model": answer.model,
        "created_at": time(answer),
        "message": message,
        "done": false,
    })
}

fn time(answer: &Answer) -> String {
    let time = chrono::DateTime::from_timestamp(answer.created, 0).unwrap_or_default();
    time.to_rfc3339_opts(chrono::SecondsFormat::Secs, true)
}

fn calls(answer: &Answer) -> Vec<Value> {
    let calls = answer.calls.iter().filter(|call| !call.unfinished);
    let calls = calls.enumerate().map(|(nth, call)| {
        let function = json!({
            "index": answer.number(nth),
            "name": call.name,
            "arguments": call.arguments.value(),
        });
        if answer.shape.without_ids {
            json!({ "function": function })
        } else {
            json!({ "id": call.id, "function": function })
        }
    });
    calls.collect()
}

fn end(answer: &Answer, line: &mut Value) {
    line["done"] = true.into();
    line["done_reason"] = match answer.stop {
        Stop::MaxTokens | Stop::Context => "length",
        Stop::End
        | Stop::Calls
        | Stop::Refusal
        | Stop::ContentFilter
        | Stop::StopSequence
        | Stop::Pause
        | Stop::MalformedCall => "stop",
    }
    .into();
    line["total_duration"] = 1_000_000.into();
    line["load_duration"] = 1000.into();
    counts(answer, line);
}

/// Counts that are 0 are left out, as Ollama does.
fn counts(answer: &Answer, line: &mut Value) {
    let Some(usage) = answer.reported() else {
        return;
    };
    for (name, count) in [
        ("prompt_eval_count", usage.input),
        ("eval_count", usage.output),
    ] {
        if count > 0 {
            line[name] = count.into();
        }
    }
}

fn error(problem: &Problem) -> Value {
    let message = match &problem.parameter {
        Some(name) if problem.kind != Kind::NotFound => format!("{name}: {}", problem.message),
        _ => problem.message.clone(),
    };
    json!({ "error": message })
}
