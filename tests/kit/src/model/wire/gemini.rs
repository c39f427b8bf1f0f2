//! Gemini's `generateContent` and `streamGenerateContent`.

mod read;

use serde_json::{Value, json};

use super::{Refusal, Wire, frame, plain, wait_headers, words};
use crate::model::answer::{Answer, CallOut, Frame, pieces};
use crate::model::asked::Asked;
use crate::model::history::Violation;
use crate::model::problem::{Kind, Problem};
use crate::model::script::{Script, Stop, Wait};
use crate::model::seal::seal;

pub(crate) struct Gemini;

impl Wire for Gemini {
    fn read(&self, body: &Value, model: Option<&str>) -> Result<Asked, Problem> {
        read::request(body, model.unwrap_or_default())
    }

    fn frames(&self, answer: &Answer) -> Vec<Frame> {
        let mut groups: Vec<Vec<Value>> = Vec::new();
        if let Some(thought) = answer.thought.iter().find(|thought| !thought.redacted) {
            let texts = pieces(&thought.text).into_iter();
            groups.extend(texts.map(|text| vec![json!({ "text": text, "thought": true })]));
        }
        if answer.shape.unknown_block {
            groups.push(vec![json!({ "hologram": { "data": "?" } })]);
        }
        if let Some(text) = &answer.text {
            let texts = pieces(text).into_iter();
            groups.extend(texts.map(|text| vec![json!({ "text": text })]));
        }
        if !answer.calls.is_empty() {
            groups.push(calls(answer));
        }
        if let Some(signature) = text_signature(answer) {
            groups.push(vec![json!({ "text": "", "thoughtSignature": signature })]);
        }
        let last = groups.len().saturating_sub(1);
        if groups.is_empty() {
            groups.push(Vec::new());
        }
        let groups = groups.into_iter().enumerate();
        groups
            .map(|(nth, parts)| frame(None, &response(answer, parts, nth == last)))
            .collect()
    }

    fn whole(&self, answer: &Answer) -> Value {
        let mut parts = Vec::new();
        if let Some(thought) = answer.thought.iter().find(|thought| !thought.redacted) {
            parts.push(json!({ "text": thought.text, "thought": true }));
        }
        if answer.shape.unknown_block {
            parts.push(json!({ "hologram": { "data": "?" } }));
        }
        if let Some(text) = &answer.text {
            let mut part = json!({ "text": text });
            if let Some(signature) = text_signature(answer) {
                part["thoughtSignature"] = signature.into();
            }
            parts.push(part);
        }
        parts.extend(calls(answer));
        response(answer, parts, true)
    }

    fn seals(&self, answer: &Answer) -> Vec<String> {
        let first = answer.calls.first();
        first
            .map(|call| signature(answer, call))
            .into_iter()
            .collect()
    }

    fn refusal(&self, problem: &Problem) -> Refusal {
        let (status, _) = kind(problem.kind);
        Refusal {
            status,
            headers: wait_headers(problem),
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
        let message = match violation {
            Violation::Empty | Violation::EmptyMessage { .. } => {
                "* GenerateContentRequest.contents: contents is not specified".to_owned()
            }
            Violation::Unanswered { .. } => {
                "Please ensure that the number of function response parts is equal to the number of \
                 function call parts of the function call turn."
                    .to_owned()
            }
            Violation::Orphan { .. } => {
                "Please ensure that function response turn comes immediately after a function call turn."
                    .to_owned()
            }
            Violation::FirstNotUser | Violation::NotAlternating { .. } => {
                "Please ensure that multiturn requests alternate between user and model.".to_owned()
            }
            Violation::LastNotUser => {
                "Please ensure that single turn requests end with a user role or a role with function \
                 response."
                    .to_owned()
            }
            Violation::BadSeal { .. } => "Thought signature is not valid.".to_owned(),
            Violation::Unsigned { name, .. } | Violation::SealMissing { id: name, .. } => format!(
                "Function call is missing a thought_signature in functionCall parts. This is required for \
                 tools to work correctly; function call: {name}."
            ),
            other => words(other),
        };
        Problem::new(Kind::Invalid, message)
    }

    fn models(&self, script: &Script) -> Value {
        let models = script.models.iter().map(|model| {
            json!({
                "name": format!("models/{}", model.name),
                "displayName": model.name,
                "version": "1",
                "inputTokenLimit": model.context,
                "outputTokenLimit": model.max_output,
                "supportedGenerationMethods": ["generateContent", "countTokens"],
            })
        });
        json!({ "models": models.collect::<Vec<_>>() })
    }
}

fn signature(answer: &Answer, call: &CallOut) -> String {
    seal(&call.name, &answer.seed)
}

/// Without calls, the signature of the thoughts comes on the text.
fn text_signature(answer: &Answer) -> Option<String> {
    let there = answer.thought.is_some() && answer.calls.is_empty() && answer.text.is_some();
    there.then(|| seal("", &answer.seed))
}

/// Calls that could not be finished are none; the first one is signed.
fn calls(answer: &Answer) -> Vec<Value> {
    let calls = answer.calls.iter().filter(|call| !call.unfinished);
    let calls = calls.enumerate().map(|(nth, call)| {
        let mut function = json!({ "name": call.name, "args": call.arguments.value() });
        if !answer.shape.without_ids {
            function["id"] = call.id.clone().into();
        }
        let mut part = json!({ "functionCall": function });
        if nth == 0 {
            part["thoughtSignature"] = signature(answer, call).into();
        }
        part
    });
    calls.collect()
}

fn response(answer: &Answer, parts: Vec<Value>, last: bool) -> Value {
    let mut candidate = json!({ "index": 0 });
    if !parts.is_empty() {
        candidate["content"] = json!({ "role": "model", "parts": parts });
    }
    if last {
        candidate["finishReason"] = stop(answer.stop).into();
    }
    let mut response = json!({
        "candidates": [candidate],
        "modelVersion": answer.model,
        "responseId": answer.id("r", 0),
    });
    if let Some(usage) = answer.reported() {
        // Early chunks know of no output yet.
        let output = if last { usage.output } else { 0 };
        let reasoning = if last { usage.reasoning } else { 0 };
        let mut counts = json!({
            "promptTokenCount": usage.prompt(),
            "candidatesTokenCount": output - reasoning,
            "totalTokenCount": usage.prompt().saturating_add(output),
        });
        if usage.cache_read > 0 {
            counts["cachedContentTokenCount"] = usage.cache_read.into();
        }
        if reasoning > 0 {
            counts["thoughtsTokenCount"] = reasoning.into();
        }
        response["usageMetadata"] = counts;
    }
    response
}

fn stop(stop: Stop) -> &'static str {
    match stop {
        Stop::End | Stop::Calls | Stop::StopSequence | Stop::Pause => "STOP",
        Stop::MaxTokens | Stop::Context => "MAX_TOKENS",
        Stop::Refusal => "SAFETY",
        Stop::ContentFilter => "PROHIBITED_CONTENT",
        Stop::MalformedCall => "MALFORMED_FUNCTION_CALL",
    }
}

fn kind(kind: Kind) -> (u16, &'static str) {
    match kind {
        // Google says so of a key that it does not know, too.
        Kind::Authentication
        | Kind::Invalid
        | Kind::UnknownParameter
        | Kind::Unsupported
        | Kind::ContextTooLong => (400, "INVALID_ARGUMENT"),
        Kind::NotFound => (404, "NOT_FOUND"),
        Kind::Conflict => (409, "ABORTED"),
        Kind::TooLarge => (413, "INVALID_ARGUMENT"),
        Kind::RateLimit | Kind::Quota => (429, "RESOURCE_EXHAUSTED"),
        Kind::Server => (500, "INTERNAL"),
        Kind::Overloaded => (503, "UNAVAILABLE"),
        Kind::Other(status) => (
            status,
            match status {
                401 => "UNAUTHENTICATED",
                403 => "PERMISSION_DENIED",
                499 => "CANCELLED",
                504 => "DEADLINE_EXCEEDED",
                _ => "UNKNOWN",
            },
        ),
    }
}

fn error(problem: &Problem) -> Value {
    let (code, status) = kind(problem.kind);
    let message = match (&problem.parameter, problem.kind) {
        (Some(name), Kind::UnknownParameter) => {
            format!("Invalid JSON payload received. Unknown name \"{name}\": Cannot find field.")
        }
        (Some(name), Kind::Invalid | Kind::Unsupported) => format!("{name}: {}", problem.message),
        (_, Kind::ContextTooLong) => {
            format!(
                "The input token count exceeds the maximum number of tokens allowed: {}",
                problem.message
            )
        }
        _ => problem.message.clone(),
    };
    let mut details = Vec::new();
    if let Some((Wait::RetryInfo | Wait::Reset, seconds)) = problem.wait {
        details.push(json!({
            "@type": "type.googleapis.com/google.rpc.RetryInfo",
            "retryDelay": format!("{}s", plain(seconds)),
        }));
    }
    if problem.kind == Kind::Authentication {
        details.push(json!({
            "@type": "type.googleapis.com/google.rpc.ErrorInfo",
            "reason": "API_KEY_INVALID",
            "domain": "googleapis.com",
        }));
    }
    let quota = match problem.kind {
        Kind::Quota => Some("GenerateRequestsPerDayPerProjectPerModel"),
        Kind::RateLimit => Some("GenerateRequestsPerMinutePerProjectPerModel"),
        _ => None,
    };
    if let Some(id) = quota {
        details.push(json!({
            "@type": "type.googleapis.com/google.rpc.QuotaFailure",
            "violations": [{ "quotaId": id, "quotaMetric": "generate_content_requests" }],
        }));
    }
    let mut error = json!({ "code": code, "message": message, "status": status });
    if !details.is_empty() {
        error["details"] = details.into();
    }
    json!({ "error": error })
}
