//! Reading a request of Ollama's chat.

use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::{Map, Value};

use crate::model::asked::{Asked, CallPart, Message, Part, ResultPart, Role, read};
use crate::model::problem::Problem;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "named so that every other field is unknown")]
struct Request {
    model: String,
    #[serde(default)]
    messages: Vec<Written>,
    stream: Option<bool>,
    tools: Option<Vec<Tool>>,
    options: Option<Map<String, Value>>,
    format: Option<IgnoredAny>,
    keep_alive: Option<IgnoredAny>,
    think: Option<IgnoredAny>,
    truncate: Option<bool>,
    shift: Option<bool>,
    logprobs: Option<bool>,
    top_logprobs: Option<u64>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "named so that every other field is unknown")]
struct Written {
    role: String,
    #[serde(default)]
    content: String,
    thinking: Option<String>,
    images: Option<IgnoredAny>,
    tool_calls: Option<Vec<Call>>,
    tool_name: Option<String>,
    tool_call_id: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Call {
    id: Option<String>,
    function: CallFunction,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "named so that every other field is unknown")]
struct CallFunction {
    index: Option<u64>,
    name: String,
    arguments: Map<String, Value>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "named so that every other field is unknown")]
struct Tool {
    r#type: String,
    function: Function,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "named so that every other field is unknown")]
struct Function {
    name: String,
    description: Option<String>,
    parameters: Option<Value>,
}

/// What may stand among the options.
const OPTIONS: &[&str] = &[
    "num_ctx",
    "num_predict",
    "num_keep",
    "num_batch",
    "num_gpu",
    "num_thread",
    "main_gpu",
    "use_mmap",
    "seed",
    "stop",
    "temperature",
    "top_k",
    "top_p",
    "min_p",
    "typical_p",
    "repeat_last_n",
    "repeat_penalty",
    "presence_penalty",
    "frequency_penalty",
];
const SAMPLING: &[&str] = &["temperature", "top_k", "top_p", "min_p", "typical_p"];
/// The window when none is asked for.
const DEFAULT_WINDOW: u64 = 4096;

pub(super) fn request(body: &Value) -> Result<Asked, Problem> {
    let request: Request = read(body, "")?;
    let options = request.options.unwrap_or_default();
    if let Some(name) = options
        .keys()
        .find(|name| !OPTIONS.contains(&name.as_str()))
    {
        return Err(Problem::unknown_parameter(&format!("options.{name}")));
    }
    let sampling = SAMPLING.iter().copied();
    let number = |name: &str| options.get(name).and_then(Value::as_u64);
    let mut asked = Asked {
        model: request.model,
        stream: request.stream.unwrap_or(true),
        stream_usage: true,
        max_output: number("num_predict"),
        window: Some(number("num_ctx").unwrap_or(DEFAULT_WINDOW)),
        sampling: sampling
            .filter(|name| options.contains_key(*name))
            .collect(),
        ..Asked::default()
    };
    let tools = request.tools.into_iter().flatten();
    asked.tools = tools.map(|tool| tool.function.name).collect();
    for (at, written) in request.messages.into_iter().enumerate() {
        push(&mut asked, at, written)?;
    }
    Ok(asked)
}

fn push(asked: &mut Asked, at: usize, written: Written) -> Result<(), Problem> {
    let role = match written.role.as_str() {
        "system" => {
            asked.system = format!("{}\n{}", asked.system, written.content);
            return Ok(());
        }
        "user" => Role::User,
        "assistant" => Role::Assistant,
        "tool" => {
            result(asked, at, written);
            return Ok(());
        }
        _ => {
            let words = "invalid role: it is one of system, user, assistant, tool";
            return Err(Problem::invalid(&format!("messages[{at}].role"), words));
        }
    };
    let calls = written.tool_calls.unwrap_or_default();
    let after_results = |last: &Message| {
        last.role == Role::User && matches!(last.parts.last(), Some(Part::Result(_)))
    };
    if !(role == Role::User && asked.messages.last().is_some_and(after_results)) {
        asked.messages.push(Message::new(role));
    }
    let Some(message) = asked.messages.last_mut() else {
        return Ok(());
    };
    if !written.content.is_empty() || calls.is_empty() {
        message.parts.push(Part::Text(written.content));
    }
    for (nth, call) in calls.into_iter().enumerate() {
        let made = format!("{}#{nth}", call.function.name);
        message.parts.push(Part::Call(CallPart {
            id: call.id.unwrap_or(made),
            name: call.function.name,
            signed: false,
        }));
    }
    Ok(())
}

/// A result belongs to the call of its id, else to the next call of its name, else to the next.
fn result(asked: &mut Asked, at: usize, written: Written) {
    let in_row = asked
        .messages
        .last()
        .is_some_and(|last| last.role == Role::User);
    let before = if in_row {
        asked.messages.len().checked_sub(2)
    } else {
        asked.messages.len().checked_sub(1)
    };
    let calls = before.map(|at| asked.messages[at].calls().collect::<Vec<_>>());
    let done: Vec<_> = match asked.messages.last().filter(|_| in_row) {
        Some(last) => last.results().map(|result| result.id.as_str()).collect(),
        None => Vec::new(),
    };
    let open = calls.unwrap_or_default().into_iter();
    let mut open = open.filter(|call| !done.contains(&call.id.as_str()));
    let found = open.find(|call| match (&written.tool_call_id, &written.tool_name) {
        (Some(id), _) => call.id == *id,
        (None, Some(name)) => call.name == *name,
        (None, None) => true,
    });
    let id = match (found, written.tool_call_id, written.tool_name) {
        (Some(call), _, _) => call.id.clone(),
        (None, Some(other), _) | (None, None, Some(other)) => other,
        (None, None, None) => format!("messages[{at}]"),
    };
    let part = Part::Result(ResultPart {
        id,
        text: written.content,
    });
    match asked.messages.last_mut().filter(|_| in_row) {
        Some(last) => last.parts.push(part),
        None => asked.messages.push(Message {
            role: Role::User,
            parts: vec![part],
        }),
    }
}
